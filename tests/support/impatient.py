"""A worker with a short limit for stalled clients, so that a test can wait for it. gunicorn imports it by name."""

from todo_api.worker import GracefulGeventWorker


class ImpatientWorker(GracefulGeventWorker):
    stall_seconds = 1
