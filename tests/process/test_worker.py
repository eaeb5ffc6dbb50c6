"""The undocumented methods of gunicorn that todo_api/worker.py relies on. Other tests of this folder check the effects."""

import pytest
from gunicorn.config import Config

from todo_api.worker import freeze


def test_a_frozen_setting_is_read_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Config()
    cfg.set("keepalive", 75)
    freeze(cfg)
    monkeypatch.setattr(Config, "__getattr__", None)
    assert (cfg.keepalive, cfg.workers) == (75, 1)


def test_a_frozen_setting_cannot_change() -> None:
    cfg = Config()
    freeze(cfg)
    with pytest.raises(RuntimeError, match="keepalive cannot change"):
        cfg.set("keepalive", 75)
