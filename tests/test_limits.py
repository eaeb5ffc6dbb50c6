"""The order in which waiting requests get a connection."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
from psycopg_pool import TooManyRequests

from tests.support.server import wait_until
from todo_api.limits import Limits


def wait_in_thread(limits: Limits, user_id: str, then: Callable[[], object], *, may_block: bool = False) -> threading.Thread:
    """Start a request that must wait, and return its thread once it waits."""
    before, groups = len(limits.waiting), limits.groups(user_id, may_block=may_block)

    def request() -> None:
        limits.acquire(groups, 30)
        then()
        limits.release(groups)

    thread = threading.Thread(target=request)
    thread.start()
    wait_until(lambda: len(limits.waiting) > before, "the request waits")
    return thread


def test_requests_are_admitted_in_order_of_arrival() -> None:
    limits, order = Limits(1), list[int]()
    first = limits.groups("alice", may_block=False)
    limits.acquire(first, 0)
    threads = [wait_in_thread(limits, f"user-{n}", partial(order.append, n)) for n in range(5)]
    limits.release(first)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    assert (limits.used, limits.waiting) == ({}, {})


def test_a_new_request_does_not_overtake_one_that_waits() -> None:
    limits, done = Limits(1), threading.Event()
    first = limits.groups("alice", may_block=False)
    limits.acquire(first, 0)
    thread = wait_in_thread(limits, "bob", done.wait)
    limits.release(first)
    with pytest.raises(TooManyRequests):
        limits.acquire(limits.groups("carol", may_block=False), 0)
    done.set()
    thread.join()


def test_a_request_overtakes_those_whose_limit_is_reached() -> None:
    limits = Limits(4)
    blocking = [limits.groups(f"user-{n}", may_block=True) for n in range(3)]
    for groups in blocking:
        limits.acquire(groups, 0)
    thread = wait_in_thread(limits, "alice", int, may_block=True)
    read = limits.groups("bob", may_block=False)
    limits.acquire(read, 0)
    limits.release(read)
    assert thread.is_alive()
    limits.release(blocking[0])
    thread.join()


def test_one_release_admits_all_requests_that_now_fit() -> None:
    limits = Limits(9)
    held = [limits.groups(user_id, may_block=True) for user_id in "aaaabbbb"]  # as many as may block
    for groups in held:
        limits.acquire(groups, 0)
    done = threading.Event()
    read = wait_in_thread(limits, "a", done.wait)
    change = wait_in_thread(limits, "c", int, may_block=True)
    limits.release(held[0])
    change.join(10)
    assert not change.is_alive()
    done.set()
    read.join()


def test_the_error_names_the_limit_that_is_reached() -> None:
    limits = Limits(4)
    groups = limits.groups("alice", may_block=True)
    for _ in range(2):
        limits.acquire(groups, 0)
    with pytest.raises(TooManyRequests, match=r"^no connection was free in time; limits reached: user alice$"):
        limits.acquire(groups, 0.01)
    assert not limits.waiting


def test_a_killed_request_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: threading.Event, __: float) -> bool:
        raise KeyboardInterrupt

    limits = Limits(1)
    first = limits.groups("alice", may_block=False)
    limits.acquire(first, 0)
    monkeypatch.setattr(threading.Event, "wait", killed)
    with pytest.raises(KeyboardInterrupt):
        limits.acquire(limits.groups("bob", may_block=False), 30)
    limits.release(first)
    assert (limits.used, limits.waiting) == ({}, {})
