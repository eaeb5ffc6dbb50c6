"""The commands `flask migrate`, `flask token` and `flask version`."""

from pathlib import Path

import click
from flask import Flask

from todo_api import migrations, tokens
from todo_api.config import Config

# Valid settings to create the application for `flask --help` and `flask version`, which must not need any setting.
PLACEHOLDERS = {"BETTER_AUTH_SECRET": "?" * 32, "NEON_DATABASE_URL": "postgresql://", "BETTER_AUTH_URL": "http://localhost"}


def needs_no_setting(arguments: list[str]) -> bool:
    """Return whether this command line asks only for help or for the version."""
    program, *command = arguments
    if not command:  # flask prints its help; another program runs the service
        return Path(program).name == "flask"
    return command == ["version"] or command[-1] == "--help"


def init_app(app: Flask, config: Config) -> None:
    @app.cli.command()
    def migrate() -> None:
        """Create or migrate the tables."""
        for version in migrations.migrate(config.database_url):
            click.echo(f"applied {version}")

    @app.cli.command()
    @click.option("--user", required=True, help="User id in the token.")
    @click.option("--minutes", default=60, show_default=True, type=click.IntRange(1), help="Minutes until the token expires.")
    def token(user: str, minutes: int) -> None:
        """Print an HS256 token for a user, signed with BETTER_AUTH_SECRET."""
        click.echo(tokens.make_token(user, config.secret, minutes))

    @app.cli.command()
    def version() -> None:
        """Print the version of the service."""
        click.echo(f"todo_api {app.config['VERSION']}")
