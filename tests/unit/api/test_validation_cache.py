"""The validation cache: bounded, counted, and never wrong."""

from __future__ import annotations

import pytest
from flask import Flask

from portfolio.api.validation_cache import ValidationCache
from portfolio.errors import BadRequest
from portfolio.models import Search
from tests.support.parts import mongomock_app


def cache(size: int = 3, *, enabled: bool = True) -> ValidationCache:
    return ValidationCache.of(Flask("test"), size, enabled=enabled)


def ask(cache: ValidationCache, query: str) -> Search:
    return cache.get_or_parse(query, lambda: Search(name=query))


def test_a_parsed_query_is_found_again_and_both_look_ups_are_counted() -> None:
    queries = cache()
    assert ask(queries, "a") == ask(queries, "a") == Search(name="a")
    assert ask(queries, "b") == Search(name="b")
    found = queries.statistics()
    assert (found.size, found.hits, found.misses, found.evictions) == (2, 1, 2, 0)
    assert found.hit_rate == pytest.approx(1 / 3)


def test_the_least_recently_used_query_is_evicted() -> None:
    queries = cache(size=3)
    for query in ("a", "b", "c", "a", "d"):
        ask(queries, query)
    assert queries.statistics().evictions == 1
    assert queries.statistics().size == queries.statistics().max_size == 3
    before = queries.statistics().hits
    for query in ("a", "c", "d"):
        ask(queries, query)
    assert queries.statistics().hits == before + 3
    ask(queries, "b")
    assert queries.statistics().hits == before + 3


def test_a_rejected_query_is_not_cached() -> None:
    queries = cache()

    def refuse() -> Search:
        raise BadRequest("no")

    for _ in range(2):
        with pytest.raises(BadRequest):
            queries.get_or_parse("a", refuse)
    assert queries.statistics().size == 0
    assert queries.statistics().misses == 2


def test_a_query_of_excessive_length_takes_no_memory() -> None:
    queries = cache()
    ask(queries, "x" * (ValidationCache.MAX_QUERY_LENGTH + 1))
    assert queries.statistics().size == 0


def test_a_cache_that_is_switched_off_keeps_and_counts_nothing() -> None:
    queries = cache(enabled=False)
    assert ask(queries, "a") == ask(queries, "a")
    assert queries.statistics() == (0, 3, 0, 0, 0)
    assert queries.statistics().hit_rate == 0.0


def test_each_application_has_a_cache_of_its_own_and_of_its_configured_size() -> None:
    first, second = (mongomock_app(VALIDATION_CACHE_SIZE="7") for _ in range(2))
    for path in ("/api/v2/portfolios?limit=3", "/api/fast/portfolios/search?limit=3"):
        assert first.test_client().get(path).status_code == 200
    found = first.extensions["portfolio"].validation_cache.statistics()
    assert (found.max_size, found.hits, found.misses) == (7, 1, 1)
    assert second.extensions["portfolio"].validation_cache.statistics().misses == 0
