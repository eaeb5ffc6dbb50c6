"""Shares the database connections of a process between its requests, so that no group of requests takes all of them."""

import threading
from time import monotonic

from psycopg_pool import TooManyRequests

ALL, BLOCKING, SLOW = "all requests", "requests that may block", "slow users"  # the log shows these names
Groups = tuple[str, ...]
SLOW_USER_SECONDS = 60  # how long a user counts as slow after a statement ran into a time limit


class Limits:
    """Admits a request if each of its groups uses fewer connections than it may. Other requests wait in order of arrival.

    All requests may together use all connections, those that may wait for a locked row all but one, those of slow users a
    quarter, and those of one user half.

    Attributes:
        used: the number of connections that each group uses.
        waiting: an event for each request that waits, in order of arrival, and its groups. Setting the event admits the request.
            While the lock is free, none of these requests can be admitted. So a new request that is admitted overtakes no other.
    """

    def __init__(self, connections: int) -> None:
        self.maximum = {ALL: connections, BLOCKING: max(1, connections - 1), SLOW: max(1, connections // 4)}
        self.maximum_per_user = max(1, connections // 2)
        self.used: dict[str, int] = {}
        self.waiting: dict[threading.Event, Groups] = {}
        self.lock = threading.Lock()
        self.slow_users: dict[str, float] = {}  # monotonic time until which each counts as slow

    def groups(self, user_id: str, *, may_block: bool) -> Groups:
        """Return the groups of a request."""
        blocking = (BLOCKING,) if may_block else ()
        slow = (SLOW,) if self.slow_users.get(user_id, 0) > monotonic() else ()
        return (ALL, f"user {user_id}", *blocking, *slow)

    def acquire(self, groups: Groups, timeout: float) -> None:
        """Wait until a connection may be used. `release` ends the use.

        Raises:
            TooManyRequests: that took longer than the timeout, in seconds.
        """
        with self.lock:
            if self._admit(groups):
                return
            admitted = threading.Event()
            self.waiting[admitted] = groups
        try:
            admitted.wait(timeout)
        finally:
            with self.lock:
                self.waiting.pop(admitted, None)  # it is still there if the request was not admitted
        if not admitted.is_set():
            reached = ", ".join(group for group in groups if self._is_full(group))
            raise TooManyRequests(f"no connection was free in time; limits reached: {reached}")

    def release(self, groups: Groups) -> None:
        with self.lock:
            for group in groups:
                self.used[group] -= 1
                if not self.used[group]:
                    del self.used[group]
            still_full: set[Groups] = set()  # thousands of requests of one user may wait, so try their groups only once
            for admitted, waiting_groups in list(self.waiting.items()):
                if self._is_full(ALL):
                    break
                if waiting_groups in still_full:
                    continue
                if self._admit(waiting_groups):
                    del self.waiting[admitted]
                    admitted.set()
                else:
                    still_full.add(waiting_groups)

    def _admit(self, groups: Groups) -> bool:
        if any(map(self._is_full, groups)):
            return False
        for group in groups:
            self.used[group] = self.used.get(group, 0) + 1
        return True

    def _is_full(self, group: str) -> bool:
        return self.used.get(group, 0) >= self.maximum.get(group, self.maximum_per_user)

    def remember_slow(self, user_id: str) -> None:
        """Count the user as slow, because a statement ran into a time limit. Health checks have no user and are never slow."""
        now = monotonic()
        self.slow_users = {user: until for user, until in list(self.slow_users.items()) if until > now}
        if user_id:
            self.slow_users[user_id] = now + SLOW_USER_SECONDS

    def forget_slow(self, user_id: str) -> None:
        """Count the user as slow no longer, because a statement succeeded."""
        self.slow_users.pop(user_id, None)
