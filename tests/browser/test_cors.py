"""A page of another origin can read the API's responses in a real browser."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.browser import browser_command
from tests.support.server import Service


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_page_can_read_the_404_of_a_wrong_path(database_url: str) -> None:
    command = browser_command("cors.mjs")
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as frontend:
        threading.Thread(target=frontend.serve_forever, args=[0.01], daemon=True).start()
        origin = f"http://127.0.0.1:{frontend.server_port}"
        with Service(database_url, BETTER_AUTH_URL=origin) as service:
            base = f"http://127.0.0.1:{service.port}"
            urls = [f"{base}/api/tasks", f"{base}/tasks", f"{base}/api/alice/tasks"]
            done = subprocess.run([*command, f"{origin}/", *urls], check=False, capture_output=True, text=True, timeout=120)
        frontend.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == [[404, "Not Found"], [404, "Not Found"], [401, "Invalid or malformed token"]]
