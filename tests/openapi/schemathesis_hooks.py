"""Loaded by Schemathesis: what its requests must keep to beyond the document."""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis

_KEY = "Idempotency-Key"


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, **kwargs: Any) -> None:
    """Name each creation anew: a key that stood for another body is refused, rightly."""
    key = (case.headers or {}).get(_KEY)
    if isinstance(key, str) and re.fullmatch("[ -~]{1,128}", key):
        case.headers[_KEY] = uuid.uuid4().hex
