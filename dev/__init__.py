"""What development needs and production never installs: an embedded PostgreSQL and the demo."""
