"""Compresses responses from 1 KiB on, streamed ones too, for clients that accept gzip.

Flask-Compress costs a noticeable part of a small request; this costs nothing measurable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from werkzeug.http import parse_accept_header
from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MIN_BYTES = 1024

_COMPRESSIBLE = ("application/json", "application/x-ndjson", "application/yaml", "text/")
# Nearly as small as the default level, and much faster.
_GZIP_LEVEL = 4
_GZIP_FORMAT = 31


class CompressionMiddleware:
    """WSGI middleware that compresses responses.

    Responses to clients that accept no compression carry no ``Vary``: every client can read them.
    The wrapped application must call ``start_response`` before it returns, and must not ``write``.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING")
        if not accepted or environ["REQUEST_METHOD"] == "HEAD":
            return self.app(environ, start_response)
        started: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = status, headers, exc_info

        body = self.app(environ, note)
        status, headers, exc_info = started
        given = dict(headers)
        is_long = int(given.get("Content-Length", MIN_BYTES)) >= MIN_BYTES
        is_compressible = given.get("Content-Type", "").startswith(_COMPRESSIBLE)
        if is_long and is_compressible and "Content-Encoding" not in given:
            headers.append(("Vary", "Accept-Encoding"))
            if accepts_gzip(accepted):
                body = _compress(body, headers)
        start_response(status, headers, exc_info)
        return body


@lru_cache(maxsize=128)
def accepts_gzip(accepted: str) -> bool:
    """Return whether a client that sends this ``Accept-Encoding`` accepts gzip."""
    return parse_accept_header(accepted).quality("gzip") > 0


def _compress(body: Iterable[bytes], headers: list[tuple[str, str]]) -> Iterable[bytes]:
    close = getattr(body, "close", None)
    chunks = iter(body)
    begin, size = [], 0
    for chunk in chunks:
        begin.append(chunk)
        size += len(chunk)
        if size >= MIN_BYTES:
            break
    if size < MIN_BYTES:  # a short stream
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
