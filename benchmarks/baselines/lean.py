"""Lean FastAPI and PyMongo's async client, for uvicorn with uvloop and httptools.

Answers go out as ready-made responses: FastAPI's own serialisation would only slow it down.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from bson import ObjectId
from fastapi import FastAPI, Request, Response
from pymongo import AsyncMongoClient

from benchmarks.baselines.portfolio import (
    CASE_INSENSITIVE,
    COLLECTION,
    NEWEST_FIRST,
    SAFE,
    from_document,
    live,
    page,
    to_document,
)


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncMongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
        app.state.client = client
        app.state.database = client.get_database(os.environ["MONGODB_DB"], write_concern=SAFE)
        app.state.collection = app.state.database[COLLECTION]
        yield


app = FastAPI(lifespan=_connected, openapi_url=None)


@app.get("/health/live")
async def alive() -> Response:
    """Tell that the process answers."""
    return _json(live())


@app.get("/api/v1/portfolio/{portfolio_id}")
async def get_portfolio(portfolio_id: str) -> Response:
    """One portfolio."""
    found = await _find({"_id": ObjectId(portfolio_id)}, limit=1)
    return _json(from_document(found[0])) if found else _json({}, 404)


@app.get("/api/v2/portfolios")
async def search_portfolios(name: str | None = None, limit: int = 50) -> Response:
    """The first page of the portfolios that match."""
    if name is not None:
        equal = {"name": name}
        found = await _find(equal, collation=CASE_INSENSITIVE, sort=NEWEST_FIRST, limit=limit + 1)
        return _json(page(found, len(found), limit))
    found = await _find({}, sort=NEWEST_FIRST, limit=limit + 1)
    return _json(page(found, await app.state.collection.estimated_document_count(), limit))


@app.post("/api/v1/portfolios")
async def create_portfolio(request: Request) -> Response:
    """Create one portfolio."""
    document = to_document(orjson.loads(await request.body()))
    await app.state.collection.insert_one(document)
    return _json(from_document(document), 201)


@app.post("/api/v2/portfolios")
async def create_portfolios(request: Request) -> Response:
    """Create several portfolios."""
    documents = [to_document(fields) for fields in orjson.loads(await request.body())]
    # All or none, as the contract promises.
    async with (
        app.state.client.start_session() as session,
        await session.start_transaction(write_concern=SAFE),
    ):
        await app.state.collection.insert_many(documents, session=session)
    return _json([from_document(document) for document in documents], 201)


async def _find(filter: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    reply = await app.state.database.command(
        "find", COLLECTION, filter=filter, singleBatch=True, **options
    )
    found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
    return found


def _json(payload: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(payload), status, media_type="application/json")
