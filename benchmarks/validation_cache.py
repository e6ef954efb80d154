"""Does the validation cache cost less than it saves? ``python -m benchmarks.validation_cache``."""

from __future__ import annotations

from urllib.parse import urlencode

from werkzeug.test import EnvironBuilder

from benchmarks.report import table
from benchmarks.timing import cpu_microseconds
from portfolio.api.pagination import PageQuery
from portfolio.api.validation_cache import ValidationCache
from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongomock_client import MongomockClient
from portfolio.rules import is_strict_name

_NAME = "Growth fund 0000500"
_QUERY = urlencode({"name": _NAME, "limit": 50})


def measure() -> dict[str, float]:
    """Return CPU microseconds: of the check of a name, a look-up, and a query with and without."""
    applications = {
        cached: create_app(
            Settings.from_environment(
                {
                    "MONGODB_URI": "mongomock://localhost",
                    "ENABLE_VALIDATION_CACHING": str(cached),
                }
            ),
            MongomockClient,
        )
        for cached in (False, True)
    }
    cache = ValidationCache.of(applications[True], 10)
    cache.set(_QUERY, _NAME)

    environment = EnvironBuilder(query_string=_QUERY).get_environ()

    # A request of its own each time, since it keeps what it has parsed.
    def make_request(cached: bool) -> None:
        with applications[cached].request_context(environment.copy()):
            pass

    def check_query(cached: bool) -> PageQuery:
        cache = applications[cached].extensions["portfolio"].validation_cache
        with applications[cached].request_context(environment.copy()):
            return PageQuery.parse(cache)

    return cpu_microseconds(
        {
            "format of a name, the regular expression": lambda: is_strict_name(_NAME),
            "look-up in the cache": lambda: cache.get(_QUERY),
            "making a request, in both below": lambda: make_request(cached=True),
            "query checked anew": lambda: check_query(cached=False),
            "query from the cache": lambda: check_query(cached=True),
        }
    )


def main() -> None:
    """Print the table."""
    rows = [["CPU microseconds", ""]]
    rows += [[title, f"{spent:.1f}"] for title, spent in measure().items()]
    print(table(rows))


if __name__ == "__main__":
    main()
