# The flask command makes the application itself: wsgi.py would want the database for every command.
FLASK_APP=todo_api
