"""A real Prometheus that scrapes a service, with the alert rules of `deploy/prometheus/`."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any
from urllib.parse import urlencode

from tests.support.server import ROOT, Server, executable

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


class Prometheus(Server):
    """Runs inside a `with` block. It scrapes every few seconds, and alerts fire one second after their condition holds."""

    def __init__(self, service_port: int) -> None:
        super().__init__()
        self.service_port = service_port

    def configure(self) -> None:
        (self.home / "prometheus.yml").write_text(CONFIG.format(port=self.service_port, timeout="4s"))
        (self.home / "rules.yml").write_text(re.sub(r"\bfor: \w+", "for: 1s", RULES.read_text()))
        options = [f"--storage.tsdb.path={self.home}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.command = [executable("prometheus"), f"--config.file={self.home}/prometheus.yml", *options]

    def responds(self) -> bool:
        """Whether its API knows what to scrape."""
        return bool(self.get("targets")["activeTargets"])

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
