"""Flask, without the parts that a JSON API pays for and never uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter


class _NoSessions(SessionInterface):
    """Every request has the same empty session, which nothing reads and nothing can write."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class Application(Flask):
    """The Flask application; routes, blueprints, hooks and error handlers are Flask's own.

    What is overridden takes a fifth of the time that Flask spends on a static JSON answer;
    ``benchmarks/layers.py`` measures it.
    """

    session_interface = _NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Bind the routes to a request by its path alone: no route depends on host or subdomain."""
        if request is None:
            return super().create_url_adapter(request)
        return MapAdapter(
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
