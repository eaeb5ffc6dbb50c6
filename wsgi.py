"""For WSGI servers: the application, on a database whose schema is up to date.

gunicorn imports this once, in its master. Other servers may import it in each process: they migrate one after the other.
"""

import os

from todo_api import create_app, startup
from todo_api.config import Config

config = Config.from_env(os.environ)
app = create_app(config)
startup.prepare(config)
