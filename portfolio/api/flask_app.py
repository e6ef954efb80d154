"""Flask, without the parts that a JSON API pays for and never uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

from portfolio.observability.metrics import ENDPOINT, route_template

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class _NoSessions(SessionInterface):
    """Every request has the same empty session, which nothing reads and nothing can write."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class _Adapter(MapAdapter):
    """Routes one request, and notes the template of its route in the environ.

    Flask forgets the request before the WSGI middleware gets its response.
    """

    def __init__(self, environ: WSGIEnvironment, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._environ = environ

    def match(self, *args: Any, **kwargs: Any) -> Any:
        matched = super().match(*args, **kwargs)
        self._environ[ENDPOINT] = route_template(matched[0].rule)
        return matched


class Application(Flask):
    """The Flask application; routes, blueprints, hooks and error handlers are Flask's own.

    It leaves the route template of a request in its environ, under ``ENDPOINT``. What is overridden
    takes a fifth of the time that Flask spends on a static JSON answer;
    ``benchmarks/layers.py`` measures it.
    """

    session_interface = _NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Bind the routes to a request by its path alone: no route depends on host or subdomain."""
        if request is None:
            return super().create_url_adapter(request)
        return _Adapter(
            request.environ,
            self.url_map,
            server_name="localhost",
            script_name="/",
            subdomain="",
            url_scheme="http",
            path_info=request.path,
            default_method=request.method,
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``func``: no view or hook is a coroutine, so none need be asked each time."""
        return func
