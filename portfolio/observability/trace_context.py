"""The trace that a request belongs to: W3C Trace Context, version 00, without OpenTelemetry.

Requests that are not sampled need only their ids, in the log and in the response.
"""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from typing import NamedTuple

# A version after 00 may append fields; ff and ids of zeros are invalid by the specification.
_TRACEPARENT = re.compile(
    r"(?!ff)(?!00-.{52}.)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})"
    r"-([0-9a-f]{2})(?:-.*)?"
)
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """A span of a trace: ids in lower-case hexadecimal, and whether the trace is sampled."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The ``traceparent`` header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


trace_context: ContextVar[TraceContext | None] = ContextVar("trace_context", default=None)


def parse(traceparent: str) -> TraceContext | None:
    """Parse a ``traceparent`` header; return None if it is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def unsampled(parent: TraceContext | None) -> TraceContext:
    """Return an unsampled child of ``parent``, or the root of a new trace."""
    span_id = f"{random.getrandbits(64) or 1:016x}"
    if parent is not None:
        return TraceContext(parent.trace_id, span_id, False)
    return TraceContext(f"{random.getrandbits(128) or 1:032x}", span_id, False)
