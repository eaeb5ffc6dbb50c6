"""Runs a real Prometheus that scrapes a service, with the alert rules of `deploy/prometheus/`."""

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
    """Prometheus. It runs inside a `with` block. It scrapes every 4 seconds. Alerts fire after 1 second of a true condition."""

    def __init__(self, service_port: int) -> None:
        super().__init__()
        self.service_port = service_port

    def configure(self) -> None:
        (self.home / "prometheus.yml").write_text(CONFIG.format(port=self.service_port, timeout="4s"))
        (self.home / "rules.yml").write_text(re.sub(r"\bfor: \w+", "for: 1s", RULES.read_text()))
        options = [f"--storage.tsdb.path={self.home}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.command = [executable("prometheus"), f"--config.file={self.home}/prometheus.yml", *options]

    def responds(self) -> bool:
        """Return whether its API lists the scrape target."""
        return bool(self.get("targets")["activeTargets"])

    def get(self, path: str, **parameters: str) -> Any:
        """Send a request to the HTTP API and return the response's data."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}
