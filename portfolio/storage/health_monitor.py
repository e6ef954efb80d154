"""Whether MongoDB is reachable, known at any time without a call to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pymongo.errors import NetworkTimeout

log = logging.getLogger(__name__)

# Readiness must change within 5 s after MongoDB goes away, hangs or comes back (CONTRACT.md,
# section 5): one ping a second with a timeout of two leaves room for a late start of either.
_PING_INTERVAL_S = 1.0
PING_TIMEOUT_S = 2.0
_FIRST_PING_TIMEOUT_S = 1.0
_STALE_AFTER_S = 4.0
# A ping costs a pod as much as a request: while calls succeed all the time, one in so many seconds
# is enough, to be timed.
_MAX_PAUSE_S = 10.0
# A failover takes a few seconds. Callers wait for its end, but not for that of a longer outage.
_FAIL_FAST_AFTER_S = 10.0
# Causes logged for one outage, at most.
_MAX_CAUSES = 3


class HealthMonitor:
    """Pings MongoDB in a thread, once a second unless another call has just succeeded.

    Args:
        ping: pings within the given seconds and returns the milliseconds that it took.
        explain: returns a sentence on why a ping failed.
        servers: returns PyMongo's descriptions of the servers.
        on_success: called after each successful ping; told whether it is the first, or the first
            after an outage.
        await_dns: the servers are named by DNS, whose lookup no deadline bounds: until the first
            success MongoDB counts as down, so that only this thread waits for the lookup.
        interval_s: the seconds between two pings.

    Attributes:
        ping_ms: the milliseconds that the last successful ping took.
        started: whether any ping has succeeded.
    """

    def __init__(
        self,
        ping: Callable[[float], float],
        explain: Callable[[BaseException], str],
        servers: Callable[[], Iterable[Any]],
        on_success: Callable[[bool], None],
        *,
        await_dns: bool,
        interval_s: float = _PING_INTERVAL_S,
    ) -> None:
        self.ping_ms = 0.0
        self.started = False
        self._ping = ping
        self._explain = explain
        self._servers = servers
        self._on_success = on_success
        self._await_dns = await_dns
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_success: float | None = None
        self._pinged_at = 0.0
        self._failing_since: float | None = None
        self._causes: set[str] = set()

    @property
    def reachable(self) -> bool:
        """Whether MongoDB has answered lately."""
        return (
            self._failing_since is None
            and self._last_success is not None
            and time.monotonic() - self._last_success < _STALE_AFTER_S
        )

    @property
    def fails_fast(self) -> bool:
        """Whether a call would be in vain: the monitor runs and knows that MongoDB is down."""
        return self._thread is not None and self._known_down()

    def start(self) -> None:
        """Start the thread, once in each process, and wait up to a second for its first ping.

        So a worker knows the state of MongoDB when its first request comes.
        """
        if self._thread is None:
            first_check_done = threading.Event()
            self._thread = threading.Thread(
                target=self._monitor, args=(first_check_done,), name="database-watch", daemon=True
            )
            self._thread.start()
            first_check_done.wait(_FIRST_PING_TIMEOUT_S)

    def stop(self) -> None:
        """Stop pinging."""
        self._stopped.set()

    def record_success(self) -> None:
        """Note that MongoDB has just answered a call."""
        self._last_success = time.monotonic()

    def _known_down(self) -> bool:
        if self._await_dns and self._last_success is None:
            return True
        if self._failing_since is None:
            return False
        if self._last_success is None and self._connection_refused():
            return True
        return time.monotonic() - self._failing_since > _FAIL_FAST_AFTER_S

    def _connection_refused(self) -> bool:
        """Whether every server refused the connection or has no address, rather than timed out."""
        return all(
            server.error is not None and not isinstance(server.error, NetworkTimeout)
            for server in self._servers()
        )

    def _monitor(self, first_check_done: threading.Event) -> None:
        self._check_health(_FIRST_PING_TIMEOUT_S)
        first_check_done.set()
        while not self._stopped.wait(self._interval_s):
            if not self._has_just_answered():
                self._check_health(PING_TIMEOUT_S)

    def _has_just_answered(self) -> bool:
        """Whether another call has shown just now what a ping would show."""
        now = time.monotonic()
        return (
            self._failing_since is None
            and now - (self._last_success or 0.0) < self._interval_s / 2
            and now - self._pinged_at < _MAX_PAUSE_S
        )

    def _check_health(self, timeout_s: float) -> None:
        begun = self._pinged_at = time.monotonic()
        try:
            self.ping_ms = self._ping(timeout_s)
        except Exception as error:  # of any kind: the monitor must go on
            if (self._last_success or 0.0) > begun:
                return  # another call succeeded meanwhile: this worker was slow, not MongoDB
            if not self._stopped.is_set():
                self._failing_since = self._failing_since or begun
                self._log_outage(error)
            return
        recovered = self._failing_since is not None or not self.started
        self._failing_since = None
        self._causes.clear()
        self.record_success()
        self.started = True
        self._on_success(recovered)

    def _log_outage(self, error: Exception) -> None:
        """Log each cause of an outage once, and a few at most.

        A later cause may tell more: "no answer in time" first, then that a server refuses.
        """
        sentence = self._explain(error)
        if sentence in self._causes or len(self._causes) >= _MAX_CAUSES:
            return
        self._causes.add(sentence)
        # Once MongoDB has answered, the URI is right.
        hint = "" if self.started else " Check MONGODB_URI."
        log.error("%s%s", sentence, hint)
