"""Development tools: the embedded PostgreSQL, `make run`, `make token` and `make psql`. Production does not install them."""
