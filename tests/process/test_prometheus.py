"""The files of `deploy/prometheus/` and `deploy/grafana.json` work with a real Prometheus."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from dev.postgres import Postgres
from tests.support.client import Client
from tests.support.key_server import Key, KeyServer
from tests.support.load import writing
from tests.support.prometheus import RULES, Prometheus
from tests.support.server import ROOT, Service, executable, wait_until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run([executable("promtool"), *arguments], check=False, capture_output=True, text=True, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "todo_api.test.yml")


def test_each_alert_has_a_test() -> None:
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    tests = yaml.safe_load((RULES.parent / "todo_api.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == alerts


@pytest.mark.long
def test_a_database_that_stops_under_load_is_logged_counted_and_alerted(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.create("todo")
    with Service(url, METRICS="true", TMPDIR=str(tmp_path)) as service, Prometheus(service.port) as prometheus:
        alice = service.client("alice")
        with writing(alice) as writes:
            wait_until(lambda: prometheus.query("todo_api_database_up == 1"), "the database is up")
            assert "TodoApiDatabaseUnavailable" not in prometheus.firing()
            postgres.stop()
            wait_until(lambda: prometheus.query("todo_api_database_up == 0"), "the database is down", 60)
            wait_until(lambda: prometheus.firing() >= {"TodoApiDatabaseUnavailable", "TodoApiServerErrors"}, "alerts fire", 90)
            wait_until(lambda: service.logs("database still unavailable"), "the outage is summed up", 60)
            postgres.start()
            writes.wait_for_more()
            wait_until(lambda: "TodoApiDatabaseUnavailable" not in prometheus.firing(), "the alert ends", 60)
        assert set(writes.refusals) == {503}
        begins, ends = service.logs("database unavailable"), service.logs("database available again")
        assert {record["pid"] for record in begins} == {record["pid"] for record in ends} == set(service.workers())
        assert all(record["cause"] and record["host"] == str(postgres.socket) for record in begins)
        # /metrics also queries the database, so there may be more failures than refused creates.
        assert sum(record["failed_requests"] for record in ends) >= len(writes.refusals)
        summaries = service.logs("database still unavailable")
        assert all("connection to server on socket" in record["cause"] for record in summaries)
        assert len(summaries) <= sum(record["seconds"] for record in ends) / 10
        assert service.logs("unhandled error") == []


@pytest.mark.long
def test_each_query_of_the_dashboard_finds_something(database_url: str, tmp_path: Path) -> None:
    key = Key("EdDSA", "one")
    with KeyServer(key) as server:
        env = {"METRICS": "true", "TMPDIR": str(tmp_path), "BETTER_AUTH_URL": server.origin}
        with Service(database_url, **env) as service, Prometheus(service.port) as prometheus:
            alice: Client = service.client(f"alice-{os.getpid()}")
            alice.headers = {"Authorization": f"Bearer {key.token(server, {'sub': alice.user_id})}"}

            def missing() -> list[str]:
                alice.create()
                alice.call("GET", headers={"Authorization": ""})
                assert service.send("GET", "/ready", {}, None).status == 200
                queries = [query.replace("$__rate_interval", "1m").replace("$instance", ".*") for query in QUERIES]
                # The series of 5xx responses do not exist without a server error.
                return [query for query in queries if "5.." not in query and not prometheus.query(query)]

            wait_until(lambda: not missing(), "each query finds something", 60)
            assert not prometheus.firing()
