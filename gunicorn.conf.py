"""gunicorn's settings. Options on its command line override them."""

from gevent import monkey

monkey.patch_all()  # before other imports, so that they use gevent's sockets and locks

from todo_api import master, worker
from todo_api.logs import ServerLogger

settings = master.read_settings()

bind = settings.bind
workers = settings.workers
# Each client connection has a greenlet, not a thread. So hundreds of slow clients, or of requests that wait for a locked row, do
# not block others.
worker_class = worker.GracefulGeventWorker
# The master imports the application once, and exits if that fails. Otherwise each worker would import it, and gunicorn would
# replace failing workers for ever.
preload_app = True

keepalive = 75  # seconds; proxies keep an idle connection for 60
timeout = 30  # seconds without a heartbeat after which a worker is killed
graceful_timeout = 25  # seconds for requests to finish after a stop
limit_request_line = 8190  # bytes, gunicorn's maximum: the longest valid user_id and search need 5,500

# The service uses nothing that a proxy says about its client, so it trusts no address.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}  # gunicorn trusts every client of a Unix socket, so no header may set the scheme
forwarder_headers = ""
sendfile = False  # BufferedSocket would send the file before the response's head; only /docs sends files
control_socket_disable = True

logger_class = ServerLogger
loglevel = settings.log_level or ("debug" if settings.debug else "info")

nworkers_changed = master.migrate_at_start
when_ready = on_reload = master.freeze_memory
