"""Uses the generated Python client as a caller does; ``test_generated_clients`` runs it."""

from __future__ import annotations

import sys
import uuid

from portfolio_client import AuthenticatedClient
from portfolio_client.api.portfolios_v1 import (
    create_portfolio,
    delete_portfolio,
    get_portfolio,
    update_portfolio,
)
from portfolio_client.api.portfolios_v2 import (
    create_portfolios,
    resolve_portfolios,
    search_portfolios,
)
from portfolio_client.models import (
    CursorPagination,
    Error,
    ErrorCode,
    Lookup,
    PartialPortfolioPage,
    Portfolio,
    PortfolioCreate,
    PortfolioPage,
    PortfolioResolution,
    PortfolioUpdate,
    StrictPortfolioCreate,
)


def main(url: str, word: str) -> None:
    """Create, read, update, search by cursor, resolve and delete."""
    client = AuthenticatedClient(url, token="secret", raise_on_unexpected_status=True)

    key = str(uuid.uuid4())
    body = PortfolioCreate(name=f"{word} one")
    created = create_portfolio.sync(client=client, body=body, idempotency_key=key)
    assert isinstance(created, Portfolio)
    assert create_portfolio.sync(client=client, body=body, idempotency_key=key) == created
    bulk = create_portfolios.sync(
        client=client,
        body=[StrictPortfolioCreate(name=f"{word} {number}") for number in ("two", "three")],
        idempotency_key=str(uuid.uuid4()),
    )
    assert isinstance(bulk, list)

    assert get_portfolio.sync(created.portfolio_id, client=client) == created
    missing = get_portfolio.sync("nonsense", client=client)
    assert isinstance(missing, Error)
    assert missing.code is ErrorCode.NOT_FOUND

    change = PortfolioUpdate(created.portfolio_id, f"{word} new", created.version)
    updated = update_portfolio.sync(created.portfolio_id, client=client, body=change)
    assert isinstance(updated, Portfolio)
    assert (updated.name, updated.version) == (f"{word} new", 2)
    assert updated.date_created == created.date_created
    conflict = update_portfolio.sync(created.portfolio_id, client=client, body=change)
    assert isinstance(conflict, Error)
    assert conflict.code is ErrorCode.VERSION_CONFLICT

    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = search_portfolios.sync(client=client, name_like=word, limit=2, cursor=cursor)
        assert isinstance(page, PortfolioPage)
        assert isinstance(page.pagination, CursorPagination)
        names += [portfolio.name for portfolio in page.portfolios]
        cursor = page.pagination.next_cursor
    assert sorted(names) == [f"{word} new", f"{word} three", f"{word} two"]

    partial = search_portfolios.sync(client=client, fields="name", name_like=word, limit=1)
    assert isinstance(partial, PartialPortfolioPage)

    wanted = Lookup(ids=[created.portfolio_id, "nonsense"], names=[f"{word} TWO"])
    resolved = resolve_portfolios.sync(client=client, body=wanted)
    assert isinstance(resolved, PortfolioResolution)
    assert [portfolio.name for portfolio in resolved.portfolios] == [f"{word} new", f"{word} two"]
    assert resolved.missing.ids == ["nonsense"]

    deleted = delete_portfolio.sync_detailed(created.portfolio_id, client=client, version=2)
    assert deleted.status_code == 204


main(*sys.argv[1:])
