"""The validation cache: query strings of searches that were parsed and accepted before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask
from flask_caching import Cache
from flask_caching.backends.base import BaseCache

from portfolio.observability.metrics import CacheStatistics

T = TypeVar("T")


class ValidationCache(BaseCache):
    """What the query strings of searches mean, for one worker; the least recently used is evicted.

    Only accepted queries are kept: a rejected one is parsed again each time.
    ``benchmarks/validation_cache.py`` measures what a hit saves.

    This is a backend of Flask-Caching, whose own in-memory backend pickles each value, which costs
    more than the cache saves, and counts nothing.
    """

    # Longer query strings are rare and would let a client fill the memory.
    MAX_QUERY_LENGTH = 512

    def __init__(self, size: int, enabled: bool) -> None:
        super().__init__(default_timeout=0)
        self.size = size
        # If not, every query is parsed and nothing is counted.
        self.enabled = enabled
        self.entries: OrderedDict[str, Any] = OrderedDict()
        self.hits = self.misses = self.evictions = 0

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> ValidationCache:
        """Make the backend; called by Flask-Caching."""
        return cls(*args)

    @classmethod
    def of(cls, app: Flask, size: int, *, enabled: bool = True) -> ValidationCache:
        """Return a new cache of ``app``, of at most ``size`` query strings."""
        backend = f"{cls.__module__}.{cls.__qualname__}"
        made = Cache(app, config={"CACHE_TYPE": backend, "CACHE_ARGS": [size, enabled]})
        return made.cache  # type: ignore[return-value]

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
        """Store ``value``, which is immutable; it never expires."""
        self.entries[key] = value
        if len(self.entries) > self.size:
            self.entries.popitem(last=False)
            self.evictions += 1
        return True

    def get_or_parse(self, query: str, parse: Callable[[], T]) -> T:
        """Return what the query string was parsed to before, or else what ``parse`` returns now.

        What ``parse`` raises passes through and is not cached.
        """
        if not self.enabled or len(query) > self.MAX_QUERY_LENGTH:
            return parse()
        parsed = self.get(query)
        if parsed is None:
            parsed = parse()
            self.set(query, parsed)
        return parsed  # type: ignore[no-any-return]

    def statistics(self) -> CacheStatistics:
        """Return the counts for health and telemetry."""
        return CacheStatistics(len(self.entries), self.size, self.hits, self.misses, self.evictions)
