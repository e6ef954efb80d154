"""The validation cache: query strings that were parsed and accepted before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Flask
from flask_caching import Cache
from flask_caching.backends.base import BaseCache
from marshmallow import Schema

from portfolio.observability.metrics import CacheStatistics

T = TypeVar("T")


class LRUBackend(BaseCache):
    """A Flask-Caching backend that holds immutable objects and evicts the least recently used.

    Flask-Caching's own in-memory backend pickles each value, which costs more than the cache saves,
    and counts nothing.
    """

    def __init__(self, size: int) -> None:
        super().__init__(default_timeout=0)
        self.size = size
        self.entries: OrderedDict[str, Any] = OrderedDict()
        self.hits = self.misses = self.evictions = 0

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> LRUBackend:
        """Make the backend from Flask-Caching's configuration."""
        return cls(config["CACHE_THRESHOLD"])

    def get(self, key: str) -> Any:
        """Return the value stored under ``key``, or None."""
        value = self.entries.get(key)
        if value is None:
            self.misses += 1
        else:
            self.hits += 1
            self.entries.move_to_end(key)
        return value

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Store ``value``; it never expires."""
        self.entries[key] = value
        if len(self.entries) > self.size:
            self.entries.popitem(last=False)
            self.evictions += 1
        return True


class ValidationCache:
    """What query strings were parsed to, for one worker.

    Only accepted queries are kept: a rejected one is parsed again each time.
    ``benchmarks/validation_cache.py`` measures what a hit saves.

    If it is not ``enabled``, every query is parsed and nothing is counted.
    """

    # Longer query strings are rare and would let a client fill the memory.
    MAX_QUERY_LENGTH = 512

    def __init__(self, app: Flask, size: int, *, enabled: bool = True) -> None:
        self.enabled = enabled
        backend = f"{LRUBackend.__module__}.{LRUBackend.__qualname__}"
        self._cache = Cache(app, config={"CACHE_TYPE": backend, "CACHE_THRESHOLD": size})

    def get_or_parse(self, schema: Schema, query: str, parse: Callable[[], T]) -> T:
        """Return what the query string was parsed to before, or else what ``parse`` returns now.

        ``parse`` validates with ``schema``: the same query means something else to another. What it
        raises passes through and is not cached.
        """
        if not self.enabled or len(query) > self.MAX_QUERY_LENGTH:
            return parse()
        key = f"{type(schema).__name__}?{query}"
        parsed = self._cache.get(key)
        if parsed is None:
            parsed = parse()
            self._cache.set(key, parsed)
        return parsed  # type: ignore[no-any-return]

    def statistics(self) -> CacheStatistics:
        """Return the counts for health and telemetry."""
        backend = cast(LRUBackend, self._cache.cache)
        return CacheStatistics(
            len(backend.entries), backend.size, backend.hits, backend.misses, backend.evictions
        )
