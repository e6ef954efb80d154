"""Admission control: limits the requests in flight and rejects the rest in overload."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from portfolio.errors import ErrorCode
from portfolio.middleware.request_context import error_app
from portfolio.observability.metrics import ENDPOINT, REJECTED

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

# Where the WSGI environment holds a function that returns how many seconds the request has waited.
SECONDS_WAITED = "portfolio.seconds_waited"

# Tuned with benchmarks/pod.py at three times the capacity of a pod.
# Waits are examined in windows as long as the period of the kernel's CPU quota.
_WINDOW_S = 0.1
# Outside overload waits are sampled no more often: each takes a system call.
_SAMPLE_S = 0.005
# A throttled pod stands still for up to 90 ms. Only longer waits, in this many consecutive windows,
# are overload.
_LONG_WAIT_S = 0.12
_WINDOWS = 3
# The longest wait allowed in overload: a window with a longer one cuts the limit, others raise it.
_TARGET_S = 0.06
_CUT = 0.7
_RISE = 1.2
_MIN_LIMIT = 2.0

_reject = error_app(
    "503 SERVICE UNAVAILABLE",
    ErrorCode.OVERLOADED,
    "Too many requests are in flight",
    ("Retry-After", "1"),
)


class AdmissionMiddleware:
    """WSGI middleware that bounds how many API requests one worker has in flight.

    Up to ``max_in_flight`` run at once. A request that waits long before the worker reads it waits
    for the CPU, not for MongoDB. While such waits persist, the limit is lowered and requests that
    have already waited are rejected. Requests outside of the API always pass.

    Args:
        app: the application.
        max_in_flight: the highest limit.
        clock: returns the time in seconds.

    Attributes:
        limit: the current limit.
        in_flight: the admitted requests that have no response yet.
        rejected: the requests rejected since the last overload began.
        overloaded: whether the CPU cannot keep up with the requests.
    """

    def __init__(
        self, app: WSGIApplication, max_in_flight: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self.max_in_flight = max_in_flight
        self.limit = float(max_in_flight)
        self.in_flight = 0
        self.rejected = 0
        self.overloaded = False
        self._clock = clock
        self._window_began = clock()
        self._sample_at = 0.0
        self._longest_wait_s = 0.0
        self._admitted = 0
        self._long_windows = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not environ["PATH_INFO"].startswith("/api/"):
            return self._app(environ, start_response)
        now = self._clock()
        wait_s = 0.0
        if SECONDS_WAITED in environ and (self.overloaded or now >= self._sample_at):
            self._sample_at = now + _SAMPLE_S
            wait_s = environ[SECONDS_WAITED]()
            self._longest_wait_s = max(self._longest_wait_s, wait_s)
        if now - self._window_began >= _WINDOW_S:
            self._adjust_limit(now - self._window_began)
        if self.in_flight >= self.limit or (self.overloaded and wait_s > _TARGET_S):
            self.rejected += 1
            environ[ENDPOINT] = REJECTED
            return _reject(environ, start_response)
        self.in_flight += 1
        self._admitted += 1
        try:
            # Of a stream this has fetched the first part; the rest goes at the pace of its client.
            return self._app(environ, start_response)
        finally:
            self.in_flight -= 1

    def _adjust_limit(self, seconds: float) -> None:
        """Adjust the limit to the waits of the window that ends now, ``seconds`` long.

        The worker is overloaded while the limit is below ``max_in_flight``.
        """
        if self.overloaded:
            if self._longest_wait_s > _TARGET_S:
                self.limit = max(_MIN_LIMIT, self.limit * _CUT)
            else:
                # 100 windows raise the lowest limit to any other.
                rise = _RISE ** min(seconds / _WINDOW_S, 100.0)
                self.limit = min(float(self.max_in_flight), self.limit * rise)
        elif self._longest_wait_s <= _LONG_WAIT_S:
            self._long_windows = 0
        elif self._long_windows < _WINDOWS - 1:
            self._long_windows += 1
        else:
            # Little's law: the number in flight if each takes the target time.
            in_flight = self._admitted / seconds * _TARGET_S
            self.limit = min(self.limit, max(_MIN_LIMIT, in_flight))
            self._long_windows = 0
        was_overloaded, self.overloaded = self.overloaded, self.limit < self.max_in_flight
        if self.overloaded and not was_overloaded:
            self.rejected = 0
            log.warning("overloaded", extra={"wait_ms": round(self._longest_wait_s * 1000)})
        elif was_overloaded and not self.overloaded:
            log.warning("no longer overloaded", extra={"rejected": self.rejected})
        self._window_began += seconds
        self._longest_wait_s = 0.0
        self._admitted = 0
