"""The parts of the application, as routes and commands get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import current_app

from portfolio.api.pagination import CursorCodec
from portfolio.api.validation_cache import ValidationCache
from portfolio.config import Settings
from portfolio.middleware.admission import AdmissionMiddleware
from portfolio.observability.health_report import HealthReport
from portfolio.observability.logging import LogLevelController
from portfolio.observability.metrics import Metrics
from portfolio.observability.shared_state import WorkerCoordinator
from portfolio.service import PortfolioService
from portfolio.storage.database import Database

if TYPE_CHECKING:
    from portfolio.observability.sdk import Telemetry


@dataclass(frozen=True)
class Services:
    """What one application consists of; ``create_app`` builds it."""

    settings: Settings
    database: Database
    portfolios: PortfolioService
    cursors: CursorCodec
    validation_cache: ValidationCache
    admission: AdmissionMiddleware
    metrics: Metrics
    log_level_controller: LogLevelController
    coordinator: WorkerCoordinator
    telemetry: Telemetry | None
    health: HealthReport

    def reset_breaker(self, name: str) -> None:
        """Close the circuit breaker with this name, if there is one."""
        for breaker in self.metrics.breakers:
            if breaker.name == name:
                breaker.reset()

    def start(self) -> None:
        """Start the background work; call it in each worker, after the fork."""
        if self.telemetry is not None:
            self.telemetry.start()
        self.database.start()
        self.coordinator.start(self.health.describe, self.reset_breaker)

    def stop(self) -> None:
        """Stop the background work and close connections."""
        self.coordinator.unregister()
        self.database.close()
        if self.telemetry is not None:
            self.telemetry.stop()


def services() -> Services:
    """Return the services of the current application."""
    return current_app.extensions["portfolio"]  # type: ignore[no-any-return]
