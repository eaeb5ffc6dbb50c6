"""`make token` prints a token that `make run` accepts."""

import os
import sys

from dev.demo import DAY, secret
from dev.settings import load_settings
from todo_api.tokens import make_token


def main(user: str = "alice") -> None:
    """Print a token for the user, valid for one day."""
    load_settings()
    print(make_token(user, os.environ.get("BETTER_AUTH_SECRET") or secret(), DAY))


if __name__ == "__main__":
    main(*sys.argv[1:2])
