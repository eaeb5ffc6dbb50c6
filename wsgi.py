"""The application for gunicorn and the flask command."""

from todo_api import create_app

app = create_app()
