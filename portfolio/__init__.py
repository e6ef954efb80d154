"""The GlobeCo Portfolio Service; this module is its application factory."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_cors import CORS

from portfolio.components import Components
from portfolio.config import Settings
from portfolio.database import Database
from portfolio.health.routes import blueprint as health
from portfolio.http.access import require_api_key
from portfolio.http.admission import Admission
from portfolio.http.answers import MAX_BODY_BYTES, register_error_handlers
from portfolio.http.envelope import wrap
from portfolio.portfolios.fast import blueprint as fast
from portfolio.portfolios.repository import PortfolioRepository
from portfolio.portfolios.service import PortfolioService
from portfolio.portfolios.v1 import blueprint as v1
from portfolio.portfolios.v2 import blueprint as v2
from portfolio.portfolios.validation import ValidationCache


def create_app(settings: Settings | None = None, client_factory: Any = None) -> Flask:
    """Build the application; it opens no connection and starts nothing before it is used.

    Args:
        settings: the configuration; read from the environment where not given.
        client_factory: makes the MongoDB client, in place of ``MongoClient``.

    Raises:
        ConfigurationError: the environment holds what the service can't use.
    """
    settings = settings or Settings.from_environment()
    app = Flask("portfolio", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    app.extensions["portfolio"] = _wire(app, settings, client_factory)
    for blueprint in (health, v1, v2, fast):
        app.register_blueprint(blueprint)

    wrap(app, settings)
    register_error_handlers(app)
    CORS(
        app,
        origins=list(settings.cors_origins),
        send_wildcard="*" in settings.cors_origins,
        always_send=False,
        max_age=600,
    )
    if settings.api_keys:
        require_api_key(app, settings.api_keys)
    return app


def _wire(app: Flask, settings: Settings, client_factory: Any) -> Components:
    database = Database(settings, client_factory)
    return Components(
        settings=settings,
        database=database,
        portfolios=PortfolioService(PortfolioRepository(database)),
        validation_cache=ValidationCache(
            app, settings.validation_cache_size, enabled=settings.enable_validation_caching
        ),
        admission=Admission(settings.max_requests_under_way),
    )
