"""Tools for development only: the embedded PostgreSQL, `make run` and `make psql`. Production does not install them."""
