"""The validation cache: verdicts on queries that were already checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_caching import Cache
from flask_caching.backends.base import BaseCache

from portfolio.models import Search
from portfolio.observability.metrics import CacheStatistics


class LRUBackend(BaseCache):
    """A Flask-Caching backend that holds immutable objects and drops the least recently used.

    Flask-Caching's own in-memory backend pickles each value, which costs more than it could save
    here, and does not count what it drops.

    Args:
        size: the most entries that are held.
    """

    def __init__(self, size: int) -> None:
        super().__init__(default_timeout=0)
        self.size = size
        self.entries: OrderedDict[str, Any] = OrderedDict()
        self.evictions = 0

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> LRUBackend:
        """Make the backend from Flask-Caching's configuration."""
        return cls(config["CACHE_THRESHOLD"])

    def get(self, key: str) -> Any:
        """Return the value stored under ``key``, or None."""
        value = self.entries.get(key)
        if value is not None:
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
    """Verdicts on search queries, name format included, for each worker.

    A name's format alone is not worth caching: the regular expression takes 0.4 microseconds, and a
    look-up 0.2 in this backend and 2.5 through Flask-Caching. The verdict on a whole query string,
    with its parsing and its Marshmallow schema, takes 35 to 43, and from the cache under 3;
    ``benchmarks/validation_cache.py`` measures all of these.
    Only accepted queries are kept.

    Args:
        app: the application whose Flask-Caching extension holds the verdicts.
        size: the most verdicts that are held.
        enabled: if not, every query is checked anew and nothing is counted.
    """

    # Longer query strings are rare and would let a client fill the memory.
    MAX_KEY_LENGTH = 512

    def __init__(self, app: Flask, size: int, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._hits = 0
        self._misses = 0
        cache = Cache()
        backend = f"{LRUBackend.__module__}.{LRUBackend.__qualname__}"
        cache.init_app(app, {"CACHE_TYPE": backend, "CACHE_THRESHOLD": size})
        self._backend: LRUBackend = app.extensions["cache"][cache]

    def get_or_parse(self, query_string: str, parse: Callable[[], Search]) -> Search:
        """Return the verdict on ``query_string``, or what ``parse`` returns where it is not cached.

        Raises:
            whatever ``parse`` raises for a query that is refused.
        """
        if not self.enabled or len(query_string) > self.MAX_KEY_LENGTH:
            return parse()
        known = self._backend.get(query_string)
        if known is not None:
            self._hits += 1
            return known  # type: ignore[no-any-return]
        self._misses += 1
        verdict = parse()
        self._backend.set(query_string, verdict)
        return verdict

    def statistics(self) -> CacheStatistics:
        """Return the counts for health and telemetry."""
        backend = self._backend
        return CacheStatistics(
            len(backend.entries), backend.size, self._hits, self._misses, backend.evictions
        )
