"""The undocumented methods of gunicorn that todo_api/worker.py relies on. Other tests of this folder check the effects."""

import pytest
from gunicorn.config import Config

from todo_api.worker import freeze_settings


def test_a_setting_is_read_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Config()
    cfg.set("keepalive", 75)
    freeze_settings(cfg)
    monkeypatch.setattr(Config, "__getattr__", None)
    assert (cfg.keepalive, cfg.workers) == (75, 1)


def test_a_setting_cannot_change() -> None:
    cfg = Config()
    freeze_settings(cfg)
    with pytest.raises(RuntimeError, match="keepalive cannot change"):
        cfg.set("keepalive", 75)
