"""Compresses responses from 1 KiB on, streamed ones too, for clients that accept gzip.

Flask-Compress costs a noticeable part of a small request; this costs nothing measurable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

from werkzeug.http import parse_accept_header
from werkzeug.wsgi import ClosingIterator

MIN_BYTES = 1024

_COMPRESSIBLE = ("application/json", "application/x-ndjson", "application/yaml", "text/")
# Nearly as small as the default level, and much faster.
_GZIP_LEVEL = 4
_GZIP_FORMAT = 31


@lru_cache(maxsize=128)
def accepts_gzip(accepted: str) -> bool:
    """Return whether a client that sends this ``Accept-Encoding`` accepts gzip."""
    return parse_accept_header(accepted).quality("gzip") > 0


def compress(
    body: Iterable[bytes], headers: list[tuple[str, str]], accepted: str
) -> Iterable[bytes]:
    """Return ``body``, compressed if that pays and the client can read it.

    Args:
        body: that of a response.
        headers: those of the response; changed in place.
        accepted: what the client sends as ``Accept-Encoding``. Responses to clients without it need
            no ``Vary``: every client can read them.
    """
    given = dict(headers)
    if (
        int(given.get("Content-Length", MIN_BYTES)) < MIN_BYTES
        or not given.get("Content-Type", "").startswith(_COMPRESSIBLE)
        or "Content-Encoding" in given
    ):
        return body
    headers.append(("Vary", "Accept-Encoding"))
    if not accepts_gzip(accepted):
        return body
    close = getattr(body, "close", None)
    chunks = iter(body)
    begin: list[bytes] = []
    for chunk in chunks:
        begin.append(chunk)
        if sum(map(len, begin)) >= MIN_BYTES:
            break
    else:  # a short stream
        return ClosingIterator(begin, close)
    headers[:] = [
        # Another representation: its tag may only be compared weakly.
        (name, f"W/{value}" if name == "ETag" and value.startswith('"') else value)
        for name, value in headers
        if name != "Content-Length"
    ]
    headers.append(("Content-Encoding", "gzip"))
    return ClosingIterator(_compressed(chain(begin, chunks)), close)


def _compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    for chunk in chunks:
        compressed = compressor.compress(chunk)
        if compressed:
            yield compressed
    yield compressor.flush()
