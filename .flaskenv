# The application that the flask command uses.
FLASK_APP=todo_api
