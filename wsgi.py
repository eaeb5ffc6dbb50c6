"""For WSGI servers: the application, on a database whose schema is up to date.

gunicorn imports this once, in its master. Servers that import it in each process are fine too: one after the other migrates.
"""

from todo_api import create_app, migrations

app = create_app()
migrations.migrate(app.extensions["pool"].conninfo)
