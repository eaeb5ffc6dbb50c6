"""The application for WSGI servers. gunicorn migrates the database first, in its master; run `flask migrate` for others."""

from todo_api import create_app

app = create_app()
