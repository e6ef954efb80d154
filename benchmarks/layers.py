"""Where the CPU time of a request goes, layer by layer. ``python -m benchmarks.layers``.

One caller in one process, patched by gevent as a worker is, without Gunicorn in front. Each line
includes the ones that are indented below it.
"""

from __future__ import annotations

from portfolio.server.patches import freeze, stock_is_owned

# isort: split

import io
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bson
import orjson
from flask import Flask
from gunicorn.config import Config
from gunicorn.http import RequestParser
from pymongo import MongoClient
from pymongo.database import Database
from werkzeug import Request, Response
from werkzeug.routing import Map, Rule

from benchmarks.arena import Arena, arena
from benchmarks.operations import GET_ONE, LIVE, PAGE, Operation, identity
from benchmarks.report import table
from benchmarks.servers import EVERY_FEATURE
from benchmarks.timing import cpu_microseconds
from portfolio.api.responses import to_json
from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.models import Search
from portfolio.storage.connection import COLLECTION

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_DATABASE = "layers"
_DOCUMENTS = 1000
_OP_MSG = 2013
_HEADER = struct.Struct("<iiiiIB")
_CONFIG = Config()
_HEAD = (
    b"GET /api/v1/portfolio/000000000000000000000000 HTTP/1.1\r\n"
    b"Host: localhost:8000\r\nUser-Agent: client/1.0\r\nAccept: application/json\r\n\r\n"
)


def measure(place: Arena) -> dict[str, float]:
    """Return CPU microseconds for each layer, the outermost first."""
    place.seed(_DATABASE, _DOCUMENTS)
    variables = {"MONGODB_URI": place.mongod.uri, "MONGODB_DB": _DATABASE}
    os.environ.update(variables)
    # Deferred: it reads the variables.
    from benchmarks.baselines.raw import app as raw  # noqa: PLC0415

    app = create_app(Settings.from_environment(EVERY_FEATURE | variables | {"LOG_LEVEL": "ERROR"}))
    services = app.extensions["portfolio"]
    services.database.start()
    while not services.database.health.reachable:
        time.sleep(0.01)
    one = identity(500)
    find_one = {"find": COLLECTION, "filter": {"_id": one}, "limit": 1, "singleBatch": True}
    find_page: dict[str, Any] = {
        "find": COLLECTION,
        "filter": {},
        "sort": {"dateCreated": -1, "_id": -1},
        "limit": 51,
        "singleBatch": True,
    }
    database = MongoClient[dict[str, Any]](place.mongod.uri)[_DATABASE]
    bare = _Bare(place.mongod.port)
    service = services.portfolios
    looking = threading.Condition._is_owned  # type: ignore[attr-defined]

    def with_stock_conditions() -> None:
        _set_conditions(stock_is_owned)
        database.command(find_one)
        _set_conditions(looking)

    stored = service.get(str(one))
    page = service.search(Search())._asdict()

    freeze()
    return cpu_microseconds(
        {
            "Gunicorn's parser, in C": _parse,
            "Werkzeug alone: a request, one route, a response": _request(_werkzeug(), LIVE),
            "Flask alone: the same": _request(_flask(), LIVE),
            "liveness": _request(app, LIVE),
            "GET one": _request(app, GET_ONE),
            "  service": lambda: service.get(str(one)),
            "    deadline, breaker, retries": lambda: services.database.run(int, retry=True),
            "    PyMongo": lambda: database.command(find_one),
            "    PyMongo, conditions as threading has them": with_stock_conditions,
            "      the same bytes on a bare socket": lambda: bare.command(find_one),
            "      BSON: the command and its answer": _bson(database, find_one),
            "  JSON: the answer": lambda: orjson.dumps(stored, to_json),
            "  raw WSGI and PyMongo": _request(raw, GET_ONE),
            "page of 50": _request(app, PAGE),
            "  service ": lambda: service.search(Search()),
            "    PyMongo: the documents": lambda: database.command(find_page),
            "      the same bytes on a bare socket ": lambda: bare.command(find_page),
            "      BSON: the command and its answer ": _bson(database, find_page),
            "    PyMongo: the count": database[COLLECTION].estimated_document_count,
            "  JSON: the answer ": lambda: orjson.dumps(page, to_json),
            "  raw WSGI and PyMongo ": _request(raw, PAGE),
        }
    )


def _parse() -> None:
    next(RequestParser(_CONFIG, iter([_HEAD]), None))


def _werkzeug() -> WSGIApplication:
    routes = Map([Rule(LIVE.target(0), endpoint="live")])

    @Request.application
    def app(request: Request) -> Response:
        routes.bind_to_environ(request.environ).match()
        return Response(b"{}", mimetype="application/json")

    return app


def _flask() -> WSGIApplication:
    app = Flask(__name__)
    app.add_url_rule(LIVE.target(0), view_func=lambda: Response(b"{}", mimetype="application/json"))
    return app


def _bson(database: Database[dict[str, Any]], command: dict[str, Any]) -> Callable[[], None]:
    answer = bson.encode(database.command(command))

    def convert() -> None:
        bson.encode(command)
        bson.decode(answer)

    return convert


def _set_conditions(is_owned: Callable[[Any], Any]) -> None:
    threading.Condition._is_owned = is_owned  # type: ignore[attr-defined]


class _Bare:
    """A connection to MongoDB that does no more than it must."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        body = bson.encode(command | {"$db": _DATABASE})
        size = _HEADER.size + len(body)
        self._socket.sendall(_HEADER.pack(size, 1, 0, _OP_MSG, 0, 0) + body)
        reply = self._socket.recv(65536)
        size = int.from_bytes(reply[:4], "little")
        while len(reply) < size:
            reply += self._socket.recv(65536)
        return bson.decode(reply[_HEADER.size :])


def _request(app: WSGIApplication, operation: Operation) -> Callable[[], None]:
    path, _, query = operation.target(500).partition("?")
    environment: WSGIEnvironment = {
        "REQUEST_METHOD": operation.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost:8000",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }

    def start_response(status: str, *_: Any) -> Any:
        if status != "200 OK":
            raise RuntimeError(f"{operation.title}: {status}")

    def call() -> None:
        answer = app(environment | {"wsgi.input": io.BytesIO()}, start_response)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()

    return call


def main() -> None:
    """Print the table."""
    with arena() as place:
        rows = [["CPU microseconds, one caller", ""]]
        rows += [[title, f"{spent:.0f}"] for title, spent in measure(place).items()]
    print(table(rows))


if __name__ == "__main__":
    main()
