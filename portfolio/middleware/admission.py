"""Admission control: limits the requests in flight and rejects the rest in overload."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from werkzeug.wsgi import ClosingIterator

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


class Permit:
    """Allows one request to be in flight until it is released."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission

    def release(self) -> None:
        """Return the permit. Releasing it again has no effect."""
        if self._admission is not None:
            self._admission.in_flight -= 1
            self._admission = None


class Admission:
    """Bounds how many requests one worker has in flight.

    Up to ``max_in_flight`` run at once. A request that waits long before the worker reads it waits
    for the CPU, not for MongoDB. While such waits persist, the limit is lowered and requests that
    have already waited are rejected.

    Args:
        max_in_flight: the highest limit.
        clock: returns the time in seconds.

    Attributes:
        limit: the current limit.
        in_flight: the requests that hold a permit.
        rejected: the requests rejected so far.
    """

    def __init__(self, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_in_flight = max_in_flight
        self.limit = float(max_in_flight)
        self.in_flight = 0
        self.rejected = 0
        self._clock = clock
        self._window_began = clock()
        self._sample_at = 0.0
        self._longest_wait_s = 0.0
        self._admitted = 0
        self._long_windows = 0
        self._rejected_before = 0

    @property
    def overloaded(self) -> bool:
        """Whether the CPU cannot keep up with the requests."""
        return self.limit < self.max_in_flight

    def try_acquire(self, waited_s: Callable[[], float]) -> Permit | None:
        """Return a permit for a request, or None if it is to be rejected.

        Args:
            waited_s: returns the seconds since the request came in. Called only where needed,
                since it takes a system call.
        """
        now = self._clock()
        wait_s = 0.0
        if self.overloaded or now >= self._sample_at:
            self._sample_at = now + _SAMPLE_S
            wait_s = waited_s()
            self._longest_wait_s = max(self._longest_wait_s, wait_s)
        if now - self._window_began >= _WINDOW_S:
            self._adjust_limit(now - self._window_began)
        if self.in_flight >= self.limit or (self.overloaded and wait_s > _TARGET_S):
            self.rejected += 1
            return None
        self.in_flight += 1
        self._admitted += 1
        return Permit(self)

    def _adjust_limit(self, seconds: float) -> None:
        """Adjust the limit to the waits of the window that ends now, ``seconds`` long."""
        if self.overloaded:
            if self._longest_wait_s > _TARGET_S:
                self.limit = max(_MIN_LIMIT, self.limit * _CUT)
            else:
                self._raise(seconds / _WINDOW_S)
        elif self._longest_wait_s > _LONG_WAIT_S:
            self._long_windows += 1
            if self._long_windows >= _WINDOWS:
                self._begin_to_reject(self._admitted / seconds)
        else:
            self._long_windows = 0
        self._window_began += seconds
        self._longest_wait_s = 0.0
        self._admitted = 0

    def _begin_to_reject(self, rate: float) -> None:
        # Little's law: the number in flight if each takes the target time.
        self.limit = min(self.limit, max(_MIN_LIMIT, rate * _TARGET_S))
        self._long_windows = 0
        self._rejected_before = self.rejected
        log.warning("overloaded", extra={"wait_ms": round(self._longest_wait_s * 1000)})

    def _raise(self, windows: float) -> None:
        # 100 windows raise the lowest limit to any other.
        self.limit = min(float(self.max_in_flight), self.limit * _RISE ** min(windows, 100.0))
        if not self.overloaded:
            rejected = self.rejected - self._rejected_before
            log.warning("no longer overloaded", extra={"rejected": rejected})


class AdmissionMiddleware:
    """WSGI middleware that passes API requests on only with a permit; others always pass.

    Args:
        app: the wrapped WSGI application.
        admission: gives the permits.
    """

    def __init__(self, app: WSGIApplication, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not environ["PATH_INFO"].startswith("/api/"):
            return self._app(environ, start_response)
        permit = self._admission.try_acquire(environ.get(SECONDS_WAITED, _not_at_all))
        if permit is None:
            environ[ENDPOINT] = REJECTED
            return _reject(environ, start_response)
        try:
            body = self._app(environ, start_response)
        except BaseException:
            permit.release()
            raise
        if isinstance(body, list):  # it is complete
            permit.release()
            return body
        close = getattr(body, "close", permit.release)
        return ClosingIterator(_release_after_first(body, permit), [permit.release, close])


def _release_after_first(body: Iterable[bytes], permit: Permit) -> Iterator[bytes]:
    """Yield the parts of a stream; all but the first go at the pace of its client."""
    for part in body:
        yield part
        permit.release()


def _not_at_all() -> float:
    return 0.0
