"""The use cases. They know neither HTTP nor MongoDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import chain

from portfolio.errors import (
    BadRequest,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    NameConflict,
    NotFound,
)
from portfolio.models import (
    CreateResult,
    IdempotencyKey,
    IdempotencyRecord,
    Lookup,
    Page,
    Portfolio,
    PortfolioCreate,
    PortfolioUpdate,
    Resolution,
    Search,
    SortKey,
)
from portfolio.rules import check_bulk, check_lookup, normalize_name
from portfolio.storage.batching import BatchLoader
from portfolio.storage.documents import new_id
from portfolio.storage.inserts import KeyTakenError
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from portfolio.storage.writer import PortfolioWriter
from portfolio.timestamps import utc_now

# Longer than any request may take. A creation that is not done by then was abandoned.
_IN_FLIGHT_LIMIT = timedelta(seconds=15)
# Bounds the memory of one lookup: names are not unique.
MAX_NAMESAKES = 5000
_TOO_MANY_NAMESAKES = (
    f"More than {MAX_NAMESAKES} portfolios have these names: ask for fewer names, or search for "
    "one name page by page"
)
# The most searches for names in one query.
_MAX_SEARCHES = 32


class PortfolioService:
    """Reads and changes portfolios, and enforces the rules."""

    def __init__(
        self, repository: PortfolioRepository, search: PortfolioSearch, writer: PortfolioWriter
    ) -> None:
        self._repository = repository
        self._search = search
        self._writer = writer
        self._by_id = BatchLoader(repository.get_all)
        self._pages = BatchLoader(self._find_pages, max_callers=_MAX_SEARCHES)

    def list_all(self) -> Iterator[list[Portfolio]]:
        """Return all portfolios in the order of insertion, in batches.

        The first batch is read before this returns, so that an outage is an error response and not
        a truncated list.
        """
        batches = self._repository.batches()
        return chain([next(batches, [])], batches)

    def list_by_id(self, after: str | None = None) -> Iterator[list[Portfolio]]:
        """Return the portfolios with ids above ``after``, by default all, by id and in batches."""
        return self._repository.batches_by_id(after)

    def get(self, portfolio_id: str) -> Portfolio:
        """Return one portfolio; raise NotFound if there is none, or if the id is not one."""
        portfolio = self._by_id.get(portfolio_id.lower())
        if portfolio is None:
            raise NotFound
        return portfolio

    def create(self, new: PortfolioCreate, key: IdempotencyKey | None = None) -> CreateResult:
        """Store one portfolio; see ``create_all`` for ``key`` and the errors that it brings."""
        if key is not None:
            return self._create_all([new], key=key)
        portfolio = new.to_portfolio(new_id(), utc_now())
        self._writer.insert(portfolio)
        return CreateResult([portfolio])

    def create_all(
        self,
        bulk: Sequence[PortfolioCreate],
        *,
        new_names: bool = False,
        key: IdempotencyKey | None = None,
    ) -> CreateResult:
        """Store all portfolios of a bulk or none.

        Args:
            bulk: what to store.
            new_names: refuse names that are stored already, compared trimmed and without case.
            key: if a creation with this key was stored in the last day, store nothing and return
                what that one created.

        Raises:
            BadRequest: the bulk violates a rule of ``check_bulk``.
            NameConflict: names are stored already.
            IdempotencyKeyInUse: a creation with this key is in flight, or not yet on a majority of
                the replica set.
            IdempotencyKeyReused: the key was used for another request.
        """
        check_bulk(bulk)
        return self._create_all(bulk, new_names=new_names, key=key)

    def find_stored_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that are stored, in lower case."""
        return self._repository.existing_ids(ids)

    def partition_existing(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the ids that are stored and all others, both in the given order."""
        stored = self.find_stored_ids(ids)
        valid = [id for id in ids if id.lower() in stored]
        return valid, [id for id in ids if id.lower() not in stored]

    def store_missing(self, given: Sequence[PortfolioCreate]) -> None:
        """Store those of ``given``, which have ids, that are not stored yet.

        This is not atomic: after a failure some may be stored, and another call stores the rest.
        """
        now = utc_now()
        portfolios = [each.to_portfolio(each.id or new_id(), now) for each in given]
        self._writer.insert_missing(portfolios)

    def update(self, portfolio_id: str, update: PortfolioUpdate) -> Portfolio:
        """Update one portfolio and return it with its next version.

        Raises:
            NotFound: there is no such portfolio.
            VersionConflict: the stored version is another one.
        """
        return self._repository.update(portfolio_id, update)

    def delete(self, portfolio_id: str, version: int) -> None:
        """Delete one portfolio; raise what ``update`` raises."""
        self._repository.delete(portfolio_id, version)

    def search(self, search: Search) -> Page:
        """Return one page of the portfolios that match, newest first."""
        # First pages of names share a query; any other search shares one with its equals alone.
        group = None if search.name is not None and not search.offset else search
        page = self._pages.get(search, group)
        return page if page is not None else self._find_page(search)

    def search_after(
        self, search: Search, after: SortKey | None
    ) -> tuple[list[Portfolio], SortKey | None]:
        """Return the page after a sort key, and the key of its last portfolio if more follow.

        Portfolios that are created meanwhile are newer than the rest and shift nothing.
        """
        return self._search.find(search._replace(offset=0), after)

    def resolve(self, lookup: Lookup) -> Resolution:
        """Return the portfolios with the ids and the names of ``lookup``.

        They come in the order of the lookup, those of one name newest first. What is missing comes
        in that order too, each spelling once.

        Raises:
            UnprocessableEntity: the lookup is empty or too large.
            BadRequest: more than ``MAX_NAMESAKES`` portfolios have the names.
        """
        check_lookup(lookup)
        by_id = self._repository.get_all(lookup.ids)
        by_name, complete = self._find_by_names(lookup.names)
        if not complete:
            raise BadRequest(_TOO_MANY_NAMESAKES)
        found = {id: by_id[id] for id in map(str.lower, lookup.ids) if id in by_id}
        found |= {each.id: each for namesakes in by_name.values() for each in namesakes}
        missing_ids = [id for id in dict.fromkeys(lookup.ids) if id.lower() not in by_id]
        missing_names = [
            name for name in dict.fromkeys(lookup.names) if normalize_name(name) not in by_name
        ]
        return Resolution(list(found.values()), Lookup(missing_ids, missing_names))

    def _find_by_names(self, names: Sequence[str]) -> tuple[dict[str, list[Portfolio]], bool]:
        """Find the portfolios of ``names``, which are compared trimmed and without case.

        Returns:
            those of each normalized name that has any, newest first, and whether these are all.
        """
        wanted = {normalize_name(name): name.strip() for name in names}
        if not wanted:
            return {}, True
        read = self._search.find_by_names(list(wanted.values()), MAX_NAMESAKES + 1)
        read.sort(key=lambda each: (each.date_created, each.id), reverse=True)
        found: dict[str, list[Portfolio]] = {name: [] for name in wanted}
        for portfolio in read:
            # The index ignores all spaces; those inside a name count.
            namesakes = found.get(normalize_name(portfolio.name))
            if namesakes is not None:
                namesakes.append(portfolio)
        return {name: each for name, each in found.items() if each}, len(read) <= MAX_NAMESAKES

    def _create_all(
        self,
        bulk: Sequence[PortfolioCreate],
        *,
        new_names: bool = False,
        key: IdempotencyKey | None = None,
    ) -> CreateResult:
        if replay := self._find_replay(key):
            return replay
        if new_names:
            taken, complete = self._find_by_names([new.name for new in bulk])
            if taken:
                # Perhaps by a concurrent request with this very key.
                if replay := self._find_replay(key):
                    return replay
                raise NameConflict([namesakes[0].name.strip() for namesakes in taken.values()])
            if not complete:
                raise BadRequest(_TOO_MANY_NAMESAKES)
        now = utc_now()
        portfolios = [new.to_portfolio(new_id(), now) for new in bulk]
        if key is None:
            self._writer.insert_all(portfolios)
            return CreateResult(portfolios)
        try:
            self._writer.insert_once(IdempotencyRecord(key, portfolios, done=False, created=now))
        except KeyTakenError:
            # If it is still not found, a failover may yet undo the other creation.
            if replay := self._find_replay(key):
                return replay
            raise IdempotencyKeyInUse from None
        return CreateResult(portfolios)

    def _find_replay(self, key: IdempotencyKey | None) -> CreateResult | None:
        """Return what was created with this key in the last day, or None."""
        record = self._writer.find_record(key) if key is not None else None
        if record is None:
            return None
        if record.key != key:
            raise IdempotencyKeyReused
        if not record.done:
            if abs(utc_now() - record.created) < _IN_FLIGHT_LIMIT:
                raise IdempotencyKeyInUse
            # The process that began it has died or given up; this one finishes the creation.
            self._writer.complete(record)
        return CreateResult(record.portfolios, replayed=True)

    def _find_pages(self, searches: Sequence[Search]) -> dict[Search, Page]:
        """Return the pages of concurrent searches, without those that need a query of their own."""
        if len(searches) == 1:
            return {searches[0]: self._find_page(searches[0])}
        by_search = self._search.find_first_pages(searches)
        return {
            search: Page(found, len(found), has_next=False)
            for search, found in by_search.items()
            if len(found) <= search.limit
        }

    def _find_page(self, search: Search) -> Page:
        # A page that is not full tells the total; only otherwise are matches counted.
        found, end = self._search.find(search)
        total = search.offset + len(found)
        if end is not None:
            total = max(self._search.count(search), total + 1)
        elif not found and search.offset:
            total = self._search.count(search)
        return Page(found, total, has_next=end is not None)
