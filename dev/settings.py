"""Reads `.env` for `make run` and `make psql`."""

import logging
from pathlib import Path

from dotenv import load_dotenv

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / ".env"


class _Stop(logging.Handler):
    """Raise SystemExit for a line that python-dotenv cannot read. It would only log a warning and skip the line."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(f"{FILE}: {record.getMessage()}; each line must be NAME=value, a comment or empty")


def load_settings() -> None:
    """Add the variables of `.env` to the environment, except those already set. Raise SystemExit if it cannot be read."""
    logging.getLogger("dotenv").addHandler(_Stop())
    try:
        load_dotenv(FILE, encoding="utf-8-sig")  # Windows editors add a byte order mark
    except UnicodeDecodeError:
        raise SystemExit(f"{FILE} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise SystemExit(f"{FILE} cannot be read: {error.strerror}") from None
