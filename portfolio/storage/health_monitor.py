"""Whether MongoDB is reachable, known at any time without a call to it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from pymongo.errors import NetworkTimeout

from portfolio.storage.connection import PING_TIMEOUT_S, Connection

log = logging.getLogger(__name__)

# Readiness must change within 5 s after MongoDB goes away, hangs or comes back (CONTRACT.md,
# section 5): one ping a second with a timeout of two leaves room for a late start of either.
PING_INTERVAL_S = 1.0
_FIRST_PING_TIMEOUT_S = 1.0
_STALE_AFTER_S = 4.0
# A ping costs a pod as much as a request: while calls succeed all the time, one in so many seconds
# is enough, to be timed.
_MAX_PAUSE_S = 10.0
# A failover takes a few seconds. Callers wait for its end, but not for that of a longer outage.
_FAIL_FAST_AFTER_S = 10.0
# Causes logged for one outage, at most.
_MAX_CAUSES = 3
_NEVER = -math.inf


class HealthMonitor:
    """Pings MongoDB in a thread, once a second unless another call has just succeeded.

    Args:
        on_success: called after each successful ping.

    Attributes:
        ping_ms: the milliseconds that the last successful ping took.
        started: whether any ping has succeeded.
        last_success: when MongoDB last answered any call, by the monotonic clock.
        fails_fast: whether calls should fail at once, since MongoDB is known to be down.
    """

    def __init__(self, connection: Connection, on_success: Callable[[], None]) -> None:
        self.ping_ms = 0.0
        self.started = False
        self.last_success = _NEVER
        self.fails_fast = False
        self._connection = connection
        self._on_success = on_success
        self._first_check_done = threading.Event()
        self._stopped = threading.Event()
        self._pinged_at = _NEVER
        self._failing_since: float | None = None
        self._causes: set[str] = set()

    @property
    def reachable(self) -> bool:
        """Whether MongoDB has answered lately."""
        is_recent = time.monotonic() - self.last_success < _STALE_AFTER_S
        return self._failing_since is None and is_recent

    def start(self) -> None:
        """Start the thread and wait up to a second for its first ping; call it once a process.

        So a worker knows the state of MongoDB when its first request comes.
        """
        if self._connection.in_dns:
            # No deadline bounds the lookup: only the thread waits for it.
            self.fails_fast = True
            self._failing_since = _NEVER
        threading.Thread(target=self._monitor, name="database-watch", daemon=True).start()
        self._first_check_done.wait(_FIRST_PING_TIMEOUT_S)

    def stop(self) -> None:
        """Stop pinging."""
        self._stopped.set()

    def _connection_refused(self) -> bool:
        """Whether every server refused the connection or has no address, rather than timed out."""
        return all(
            server.error is not None and not isinstance(server.error, NetworkTimeout)
            for server in self._connection.servers()
        )

    def _monitor(self) -> None:
        self._check_health(_FIRST_PING_TIMEOUT_S)
        self._first_check_done.set()
        while not self._stopped.wait(PING_INTERVAL_S):
            if not self._has_just_answered():
                self._check_health(PING_TIMEOUT_S)

    def _has_just_answered(self) -> bool:
        """Whether another call has shown just now what a ping would show."""
        now = time.monotonic()
        return (
            self._failing_since is None
            and now - self.last_success < PING_INTERVAL_S / 2
            and now - self._pinged_at < _MAX_PAUSE_S
        )

    def _check_health(self, timeout_s: float) -> None:
        begun = self._pinged_at = time.monotonic()
        try:
            self.ping_ms = self._connection.ping(timeout_s)
        except Exception as error:  # of any kind: the monitor must go on
            # If another call succeeded meanwhile, this worker was slow, not MongoDB.
            if self.last_success <= begun and not self._stopped.is_set():
                self._failing_since = self._failing_since or begun
                self.fails_fast = time.monotonic() - self._failing_since > _FAIL_FAST_AFTER_S or (
                    self.last_success == _NEVER and self._connection_refused()
                )
                self._log_outage(error)
            return
        if self._failing_since is not None or not self.started:
            # The end of an outage that was logged is logged in production too.
            level = logging.WARNING if self._causes else logging.INFO
            log.log(level, "MongoDB answers", extra={"topology": self._connection.topology})
        self._failing_since = None
        self.fails_fast = False
        self._causes.clear()
        self.last_success = time.monotonic()
        self.started = True
        self._on_success()

    def _log_outage(self, error: Exception) -> None:
        """Log each cause of an outage once, and a few at most.

        A later cause may tell more: "no answer in time" first, then that a server refuses.
        """
        sentence = self._connection.explain(error)
        if sentence in self._causes or len(self._causes) >= _MAX_CAUSES:
            return
        self._causes.add(sentence)
        # Once MongoDB has answered, the URI is right.
        hint = "" if self.started else " Check MONGODB_URI."
        log.error("%s%s", sentence, hint)
