"""The commands `flask migrate`, `flask token` and `flask version`."""

import click
from flask import Flask

from todo_api import migrations, tokens
from todo_api.config import Config


def init_app(app: Flask, config: Config) -> None:
    @app.cli.command()
    def migrate() -> None:
        """Bring the database's schema up to date."""
        for version in migrations.migrate(config.database_url):
            click.echo(f"applied {version}")

    @app.cli.command()
    @click.option("--user", required=True, help="The user id that the token names.")
    @click.option("--minutes", default=60, show_default=True, type=click.IntRange(1), help="How long it is valid.")
    def token(user: str, minutes: int) -> None:
        """Print an HS256 token for a user."""
        click.echo(tokens.make_token(user, config.secret, minutes))

    @app.cli.command()
    def version() -> None:
        """Print the version of the service."""
        click.echo(f"todo_api {app.config['VERSION']}")
