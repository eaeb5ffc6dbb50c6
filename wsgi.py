"""The application for WSGI servers. gunicorn migrates the database. Before you start another server, run `flask migrate`."""

from todo_api import create_app

app = create_app()
