"""Published keys: once one worker has fetched them, all workers know them."""

import os
import signal
import uuid
from contextlib import ExitStack

from tests.support.client import SECRET, Client, token
from tests.support.key_server import Key, KeyServer
from tests.support.load import both_workers
from tests.support.server import Service, run_to_end, wait_until

KEY = Key("EdDSA", "published")


def statuses(service: Service, server: KeyServer, requests: int = 30) -> set[int]:
    """Send that many requests, each from another user on a new connection. Return the set of statuses."""

    def status() -> int:
        client = Client(service.send, str(uuid.uuid4()))
        client.headers["Authorization"] = f"Bearer {KEY.token(server, {'sub': client.user_id})}"
        return client.call("GET").status

    return {status() for _ in range(requests)}


def test_all_workers_accept_known_keys_while_the_auth_server_is_down(database_url: str) -> None:
    with ExitStack() as auth:
        server = auth.enter_context(KeyServer(KEY))
        with Service(database_url, BETTER_AUTH_URL=server.origin) as service:
            first = both_workers(service)
            assert statuses(service, server, 1) == {200}
            auth.close()
            assert statuses(service, server) == {200}
            for pid in first:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: pid not in service.workers(), "the worker is gone")  # type: ignore[misc]
                assert statuses(service, server) == {200}
            wait_until(lambda: len(service.workers()) == 2, "both workers are replaced")
            assert statuses(service, server) == {200}
            second = both_workers(service)
            service.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda: len(service.workers()) == 2 and not set(second) & set(service.workers()), "the workers are reloaded"
            )
            assert statuses(service, server) == {200}
            assert server.fetches == 1


def test_tokens_with_a_key_get_a_503_if_the_auth_server_never_responded(database_url: str) -> None:
    with KeyServer(KEY) as server:
        pass
    with Service(database_url, BETTER_AUTH_URL=server.origin) as service:
        assert statuses(service, server, 4) == {503}
        assert Client(service.send, str(uuid.uuid4())).call("GET").status == 200


def test_a_jwks_url_with_a_password_prevents_the_start(database_url: str) -> None:
    done = run_to_end(database_url, BETTER_AUTH_JWKS_URL="http://svc:hunter2@127.0.0.1/api/auth/jwks")
    output = done.stdout + done.stderr
    assert done.returncode > 0
    assert output.startswith("todo_api cannot start: BETTER_AUTH_JWKS_URL must be an http:// or https:// URL")
    assert (output.count("\n"), "hunter2" in output) == (1, False)


def test_a_trailing_newline_is_part_of_the_secret(database_url: str) -> None:
    secret = f"{SECRET}\n"
    with Service(database_url, BETTER_AUTH_SECRET=secret) as service:
        alice = Client(service.send, str(uuid.uuid4()))
        assert alice.call("GET").status == 401
        alice.headers["Authorization"] = f"Bearer {token({'sub': alice.user_id}, secret)}"
        assert alice.call("GET").status == 200
