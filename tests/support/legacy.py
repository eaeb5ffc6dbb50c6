"""The table of the FastAPI backend."""

# SQLModel 0.0.22 with SQLAlchemy 2.0 creates this table.
TABLE = """
CREATE TABLE task (
    title VARCHAR(200) NOT NULL,
    description VARCHAR(1000),
    completed BOOLEAN NOT NULL,
    id SERIAL NOT NULL,
    user_id VARCHAR NOT NULL,
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_task_user_id ON task (user_id);
"""
