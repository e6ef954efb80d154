"""The application factory: the one place that builds the parts and nests the middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask
from pymongo import MongoClient

from portfolio.api.docs.routes import blueprint as pages
from portfolio.api.fast import blueprint as fast
from portfolio.api.flask_app import Application
from portfolio.api.health import blueprint as health
from portfolio.api.pagination import CursorCodec
from portfolio.api.responses import register_error_handlers
from portfolio.api.services import Services
from portfolio.api.v1 import blueprint as v1
from portfolio.api.v2 import blueprint as v2
from portfolio.api.validation_cache import ValidationCache
from portfolio.cli import Commands
from portfolio.config import Settings
from portfolio.middleware.admission import AdmissionMiddleware
from portfolio.middleware.auth import require_api_key
from portfolio.middleware.request_context import RequestContextMiddleware
from portfolio.observability.health_report import HealthReport
from portfolio.observability.logging import LogLevelController
from portfolio.observability.metrics import Metrics, initial_requests
from portfolio.observability.shared_state import WorkerCoordinator
from portfolio.service import PortfolioService
from portfolio.storage.database import Database
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from portfolio.storage.writer import PortfolioWriter

if TYPE_CHECKING:
    from portfolio.observability.sdk import Telemetry


def create_app(settings: Settings | None = None, client_factory: Any = None) -> Flask:
    """Build the application; it opens no connection and starts nothing before it is used.

    Args:
        settings: the configuration; read from the environment where not given.
        client_factory: makes the MongoDB client, in place of ``MongoClient``.

    Raises:
        ConfigurationError: the environment holds what the service can't use.
    """
    settings = settings or Settings.from_environment()
    app = Application("portfolio", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    services = app.extensions["portfolio"] = _build_services(app, settings, client_factory)
    for blueprint in (health, v1, v2, fast):
        app.register_blueprint(blueprint)
    if settings.enable_docs:
        app.register_blueprint(pages)
    services.metrics.initial_requests = initial_requests(app.url_map)

    app.cli = Commands(app.name)

    register_error_handlers(app)
    if settings.api_keys:
        require_api_key(app, settings.api_keys)
    app.wsgi_app = RequestContextMiddleware(  # type: ignore[method-assign]
        services.admission, settings, services.metrics, services.log_level_controller
    )
    return app


def _client_factory(uri: str) -> Any:
    if not uri.startswith("mongomock:"):
        return MongoClient
    # Deferred: only a local run without mongod has mongomock installed.
    from portfolio.devserver.mongomock_client import MongomockClient  # noqa: PLC0415

    return MongomockClient


def _build_services(app: Flask, settings: Settings, client_factory: Any) -> Services:
    database = Database(settings, client_factory or _client_factory(settings.mongodb_uri))
    cache = ValidationCache.of(
        app, settings.validation_cache_size, enabled=settings.enable_validation_caching
    )
    metrics = Metrics(database, cache.statistics)
    if "metrics" in settings.signals:
        database.on_attempt = metrics.attempted
    log_level_controller = LogLevelController(settings)
    coordinator = WorkerCoordinator(settings, log_level_controller)
    telemetry = _build_telemetry(app, settings, metrics)
    flask_app = (telemetry and telemetry.tracing) or app.wsgi_app
    return Services(
        settings=settings,
        database=database,
        portfolios=PortfolioService(
            PortfolioRepository(database), PortfolioSearch(database), PortfolioWriter(database)
        ),
        cursors=CursorCodec(settings),
        validation_cache=cache,
        admission=AdmissionMiddleware(flask_app, settings.max_requests_in_flight),
        metrics=metrics,
        log_level_controller=log_level_controller,
        coordinator=coordinator,
        telemetry=telemetry,
        health=HealthReport(settings, metrics, log_level_controller, coordinator.shared.others),
    )


def _build_telemetry(app: Flask, settings: Settings, metrics: Metrics) -> Telemetry | None:
    if not settings.signals:
        return None
    # Deferred: loading OpenTelemetry takes time, which is spent only where it is used.
    from portfolio.observability.sdk import Telemetry  # noqa: PLC0415

    tracing = None
    if "traces" in settings.signals:
        from portfolio.observability.tracing import TracingMiddleware  # noqa: PLC0415

        tracing = TracingMiddleware(app, settings, metrics.database.listeners)
    return Telemetry(settings, metrics, tracing)
