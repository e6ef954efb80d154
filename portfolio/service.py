"""The rules for portfolios, shared by every API; no HTTP and no query is known here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import cast

from bson import ObjectId

from portfolio.errors import Conflict, LocatedError, NotFound, UnprocessableEntity
from portfolio.models import (
    CreateResult,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    Portfolio,
    PortfolioCreate,
    PortfolioUpdate,
    Search,
    SortKey,
    from_document,
    to_document,
    utc_now,
)
from portfolio.rules import check_bulk
from portfolio.storage.batching import SingleFlight
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.writer import KeyTakenError, PortfolioWriter

KEY_IN_FLIGHT = "A request with this Idempotency-Key is in flight"
KEY_REUSED = LocatedError(
    loc=["body"],
    msg="Idempotency-Key was used for another request",
    type="idempotency_key_reused",
)
# Longer than any request may take: after that, a creation that is not done will not get done.
_IN_FLIGHT_LIMIT = timedelta(seconds=15)


class PortfolioService:
    """What can be done with portfolios.

    Args:
        repository: where they are stored.
        creations: how they come to be stored.
    """

    def __init__(self, repository: PortfolioRepository, creations: PortfolioWriter) -> None:
        self._repository = repository
        self._creations = creations
        self._pages = SingleFlight(self._search)

    def list_all(self) -> Iterator[list[Portfolio]]:
        """Return every portfolio in the order of insertion, in lists.

        The first list is read before this returns, so that an outage is an error and not a torn
        answer.
        """
        batches = self._repository.batches()
        return _resume(next(batches, []), batches)

    def list_by_id(self, after: ObjectId | None = None) -> Iterator[list[Portfolio]]:
        """Return every portfolio in the order of ids, in lists, so that one can go on later.

        Args:
            after: the id of the last portfolio that was seen; None begins at the lowest.
        """
        return self._repository.batches_by_id(after)

    def get(self, portfolio_id: str) -> Portfolio:
        """Return one portfolio.

        Raises:
            NotFound: there is none, or ``portfolio_id`` can't be an id at all.
        """
        portfolio = self._repository.get(_identity(portfolio_id))
        if portfolio is None:
            raise NotFound
        return portfolio

    def create(self, draft: PortfolioCreate, key: IdempotencyKey | None = None) -> CreateResult:
        """Store one portfolio; ``create_all`` tells what an idempotency key does."""
        if key is not None:
            return self._create_all([draft], key=key)
        document = to_document(draft, utc_now())
        self._creations.insert(document)
        return CreateResult([from_document(document)])

    def create_all(
        self,
        drafts: Sequence[PortfolioCreate],
        *,
        new_names: bool = False,
        key: IdempotencyKey | None = None,
    ) -> CreateResult:
        """Store a bulk: all of it or nothing.

        Args:
            drafts: what to store.
            new_names: refuse names that are stored already, without regard to case.
            key: store nothing where a creation with this key was stored in the last day; what it
                created is returned again.

        Raises:
            BadRequest: the bulk violates a rule of ``check_bulk``.
            Conflict: names are stored already, or a creation with this key is in flight or not yet
                on a majority of the replica set.
            UnprocessableEntity: the key was used for something else.
        """
        check_bulk(drafts)
        return self._create_all(drafts, new_names=new_names, key=key)

    def _create_all(
        self,
        drafts: Sequence[PortfolioCreate],
        *,
        new_names: bool = False,
        key: IdempotencyKey | None = None,
    ) -> CreateResult:
        if replay := self._find_replay(key):
            return replay
        if new_names:
            taken = self._repository.existing_names([draft.name for draft in drafts])
            if taken:
                # Perhaps by a rival with this very key, since it was looked for.
                if replay := self._find_replay(key):
                    return replay
                raise Conflict(f"Portfolio names already exist: {', '.join(sorted(taken))}")
        now = utc_now()
        documents = [to_document(draft, now) for draft in drafts]
        if key is None:
            self._creations.insert_all(documents)
        else:
            record = IdempotencyRecord(key, documents, done=False, created=now)
            try:
                self._creations.insert_once(record)
            except KeyTakenError:
                # Not found although it is taken: its creation may still be undone by a failover.
                if replay := self._find_replay(key):
                    return replay
                raise Conflict(KEY_IN_FLIGHT) from None
        return CreateResult([from_document(document) for document in documents])

    def find_stored_ids(self, identities: Sequence[ObjectId]) -> set[ObjectId]:
        """Return those of ``identities`` that are stored."""
        return self._repository.existing_ids(identities)

    def store_missing(self, drafts: Sequence[PortfolioCreate]) -> None:
        """Store those of ``drafts``, which carry ids, that are not stored: each for itself.

        What is stored by somebody else meanwhile is left alone. Where this fails, some may be
        stored; trying again stores the rest.
        """
        now = utc_now()
        self._creations.insert_missing([to_document(draft, now) for draft in drafts])

    def update(self, portfolio_id: str, change: PortfolioUpdate) -> Portfolio:
        """Change one portfolio and return it with its next version.

        Raises:
            NotFound: there is no such portfolio.
            Conflict: the version is not the stored one.
        """
        identity = _identity(portfolio_id)
        portfolio = self._repository.update(change, identity)
        if portfolio is None:
            raise self._missed(identity)
        return portfolio

    def delete(self, portfolio_id: str, version: int) -> None:
        """Delete one portfolio.

        Raises:
            NotFound: there is no such portfolio.
            Conflict: the version is not the stored one.
        """
        identity = _identity(portfolio_id)
        if not self._repository.delete(identity, version):
            raise self._missed(identity)

    def search(self, search: Search) -> Page:
        """Return one page of the portfolios that match, newest first."""
        return cast(Page, self._pages.get(search))  # every search has a page

    def _search(self, searches: Sequence[Search]) -> dict[Search, Page]:
        return {search: self._page(search) for search in searches}

    def _page(self, search: Search) -> Page:
        # One more than the page holds tells whether a row lies beyond it, and a page that is not
        # full tells the total: only the rest has to be counted.
        found = self._repository.find(search, search.limit + 1)
        seen = search.offset + len(found)
        has_next = len(found) > search.limit
        if has_next or (not found and search.offset):
            total = self._repository.count(search)
            if has_next:
                total = max(total, seen)
            return Page(found[: search.limit], total, has_next)
        return Page(found, seen, has_next)

    def search_after(
        self, search: Search, after: SortKey | None
    ) -> tuple[list[Portfolio], SortKey | None]:
        """Return the page of portfolios after a position, and where it ends if more lie beyond.

        What is created meanwhile is newer than all that is yet to come, and moves nothing.
        """
        return self._repository.find_after(search, after)

    def partition_existing(self, portfolio_ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the ids that name a portfolio and those that don't, both in the given order."""
        identities = {text: ObjectId(text) for text in portfolio_ids if ObjectId.is_valid(text)}
        existing = self._repository.existing_ids(list(identities.values())) if identities else set()
        valid = [text for text in portfolio_ids if identities.get(text) in existing]
        return valid, [text for text in portfolio_ids if identities.get(text) not in existing]

    def _find_replay(self, key: IdempotencyKey | None) -> CreateResult | None:
        """Return what was created with this key in the last day, or None."""
        record = self._creations.find_record(key) if key is not None else None
        if record is None:
            return None
        if record.key != key:
            raise UnprocessableEntity([KEY_REUSED])
        if not record.done:
            if utc_now() - record.created < _IN_FLIGHT_LIMIT:
                raise Conflict(KEY_IN_FLIGHT)
            # Whoever began this has given up, or died: what it promised is kept all the same.
            self._creations.complete(record)
        return CreateResult([from_document(each) for each in record.documents], replayed=True)

    def _missed(self, identity: ObjectId) -> NotFound | Conflict:
        exists = self._repository.existing_ids([identity])
        return Conflict("Version conflict") if exists else NotFound()


def _identity(portfolio_id: str) -> ObjectId:
    if not ObjectId.is_valid(portfolio_id):
        raise NotFound
    return ObjectId(portfolio_id)


def _resume(first: list[Portfolio], rest: Iterator[list[Portfolio]]) -> Iterator[list[Portfolio]]:
    yield first
    yield from rest
