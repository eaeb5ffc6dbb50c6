"""A real Prometheus that scrapes a service, with the alert rules of `deploy/prometheus/`."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.server import ROOT, executable, free_port, wait_until

RULES = ROOT / "deploy" / "prometheus" / "todo_api.rules.yml"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: todo_api
    scrape_timeout: {timeout}
    scrape_interval: {timeout}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Runs inside a `with` block. It scrapes every few seconds, and alerts fire one second after their condition holds."""

    def __init__(self, folder: Path, service_port: int) -> None:
        self.program = executable("prometheus")
        self.folder, self.port = folder, free_port()
        (folder / "prometheus.yml").write_text(CONFIG.format(port=service_port, timeout="4s"))
        (folder / "rules.yml").write_text(re.sub(r"\bfor: \w+", "for: 1s", RULES.read_text()))

    def __enter__(self) -> Self:
        options = [f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        command = [self.program, f"--config.file={self.folder}/prometheus.yml", *options]
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(self.is_ready, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()
        try:
            return bool(self.get("targets")["activeTargets"])
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of a response of the HTTP API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}
