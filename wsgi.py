"""The application for WSGI servers. gunicorn's master migrates the database; before any other server, run `flask migrate`."""

from todo_api import create_app

app = create_app()
