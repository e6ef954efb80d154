"""Answers over 1 KiB are compressed, streamed ones too, where the client can read that.

Own code, since Flask-Compress lengthened a trivial request by a seventh, and more than doubled it
for a small answer to a browser; of this, neither is to be seen beside the noise of measuring.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.http import parse_accept_header
from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MIN_BYTES = 1024

_COMPRESSIBLE = ("application/json", "application/x-ndjson", "application/yaml", "text/")
# A thousand portfolios, 121 kB: level 4 makes 14.8 kB in 0.9 ms, the default 14.0 kB in 1.4 ms.
_GZIP_LEVEL = 4
_GZIP_FORMAT = 31
# 13.5 kB in 0.8 ms; the next takes 3.5 ms for 12.9 kB.
_BROTLI_QUALITY = 4
# Best first. Brotli's library is optional: without it, nobody is offered br.
_ENCODINGS = ("br", "gzip") if find_spec("brotli") else ("gzip",)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Compression:
    """A WSGI application around another, which must call ``start_response`` before it returns.

    An answer to a client that takes no compression carries no ``Vary``: every client can read it.

    Args:
        app: what answers the requests.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING")
        if not accepted or environ["REQUEST_METHOD"] == "HEAD":
            return self.app(environ, start_response)
        answer: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            answer[:] = status, headers, exc_info
            return _refuse_to_write

        body = self.app(environ, note)
        status, headers, exc_info = answer
        length = _value(headers, "Content-Length")
        if (length is None or int(length) >= MIN_BYTES) and _is_compressible(headers):
            headers.append(("Vary", "Accept-Encoding"))
            encoding = _choose(accepted)
            if encoding is not None:
                body = _compress(body, headers, encoding)
        start_response(status, headers, exc_info)
        return body


def _compress(
    body: Iterable[bytes], headers: list[tuple[str, str]], encoding: str
) -> Iterable[bytes]:
    close = getattr(body, "close", None)
    chunks = iter(body)
    begin, size = [], 0
    for chunk in chunks:
        begin.append(chunk)
        size += len(chunk)
        if size >= MIN_BYTES:
            break
    if size < MIN_BYTES:  # streamed, and at its end already
        return ClosingIterator(begin, close)
    headers[:] = [_fit(name, value) for name, value in headers if name != "Content-Length"]
    headers.append(("Content-Encoding", encoding))
    return ClosingIterator(_compressed(chain(begin, chunks), _compressor(encoding)), close)


def _compressed(chunks: Iterable[bytes], compressor: _Compressor) -> Iterator[bytes]:
    for chunk in chunks:
        compressed = compressor.compress(chunk)
        if compressed:
            yield compressed
    yield compressor.flush()


def _compressor(encoding: str) -> _Compressor:
    if encoding == "br":
        return _Brotli()
    return zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)


class _Brotli:
    def __init__(self) -> None:
        import brotli  # noqa: PLC0415 - optional, and 0.7 MiB that most workers never need

        self._compressor = brotli.Compressor(quality=_BROTLI_QUALITY)

    def compress(self, data: bytes, /) -> bytes:
        return bytes(self._compressor.process(data))

    def flush(self) -> bytes:
        return bytes(self._compressor.finish())


@lru_cache(maxsize=128)
def _choose(accepted: str) -> str | None:
    """Return the encoding that the client likes best, of those that can be had."""
    asked = parse_accept_header(accepted)
    qualities = {name.lower(): quality for name, quality in asked}
    offers = {name: qualities.get(name, qualities.get("*", 0)) for name in _ENCODINGS}
    best = max(_ENCODINGS, key=lambda name: offers[name])
    return best if offers[best] > 0 else None


def _is_compressible(headers: list[tuple[str, str]]) -> bool:
    kind = _value(headers, "Content-Type") or ""
    return kind.startswith(_COMPRESSIBLE) and _value(headers, "Content-Encoding") is None


def _value(headers: list[tuple[str, str]], name: str) -> str | None:
    return next((value for known, value in headers if known == name), None)


def _fit(name: str, value: str) -> tuple[str, str]:
    # Other bytes, so another representation: its tag stays good for If-None-Match alone.
    if name == "ETag" and not value.startswith("W/"):
        value = f"W/{value}"
    return name, value


def _refuse_to_write(_data: bytes) -> None:
    raise NotImplementedError("Flask returns its answers")
