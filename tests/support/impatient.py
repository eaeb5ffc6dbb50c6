"""A worker whose limit for stalled clients a test can wait for. gunicorn imports it by name."""

from todo_api.worker import GracefulGeventWorker


class ImpatientWorker(GracefulGeventWorker):
    stall_seconds = 1
