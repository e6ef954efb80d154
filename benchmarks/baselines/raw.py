"""Raw WSGI and PyMongo: one function under Gunicorn, the limit of what a framework can reach.

It reads as the service does, by plain ``find`` commands of one batch: PyMongo's ``find_one`` takes
half as long again, and a limit that could be beaten by calling the driver otherwise would be none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from bson import ObjectId
from pymongo import MongoClient

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

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_PORTFOLIO = "/api/v1/portfolio/"

client: MongoClient[dict[str, Any]] = MongoClient(os.environ["MONGODB_URI"], connect=False)
database = client.get_database(os.environ["MONGODB_DB"], write_concern=SAFE)
collection = database[COLLECTION]


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request."""
    status, payload = _answer(environ)
    body = orjson.dumps(payload)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


def _answer(environ: WSGIEnvironment) -> tuple[str, Any]:
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        length = int(environ["CONTENT_LENGTH"])
        return "201 Created", _create(path, orjson.loads(environ["wsgi.input"].read(length)))
    if path.startswith(_PORTFOLIO):
        found = _find({"_id": ObjectId(path[len(_PORTFOLIO) :])}, limit=1)
        return ("200 OK", from_document(found[0])) if found else ("404 Not Found", {})
    if path == "/api/v2/portfolios":
        return "200 OK", _search(parse_qs(environ["QUERY_STRING"]))
    return "200 OK", live()


def _create(path: str, body: Any) -> Any:
    if path == "/api/v1/portfolios":
        document = to_document(body)
        collection.insert_one(document)
        return from_document(document)
    documents = [to_document(fields) for fields in body]
    # All or none, as the contract promises.
    with client.start_session() as session, session.start_transaction(write_concern=SAFE):
        collection.insert_many(documents, session=session)
    return [from_document(document) for document in documents]


def _search(query: dict[str, list[str]]) -> dict[str, Any]:
    limit = int(query.get("limit", ["50"])[0])
    if "name" in query:
        equal = {"name": query["name"][0]}
        found = _find(equal, collation=CASE_INSENSITIVE, sort=NEWEST_FIRST, limit=limit + 1)
        return page(found, len(found), limit)
    found = _find({}, sort=NEWEST_FIRST, limit=limit + 1)
    return page(found, collection.estimated_document_count(), limit)


def _find(filter: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    reply = database.command("find", COLLECTION, filter=filter, singleBatch=True, **options)
    found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
    return found
