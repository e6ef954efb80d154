"""What lives as long as the application does; it hangs on the application, not on a module."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from portfolio.config import Settings
from portfolio.database import Database
from portfolio.http.admission import Admission
from portfolio.portfolios.service import PortfolioService
from portfolio.portfolios.validation import ValidationCache
from portfolio.resilience import Breaker


@dataclass
class Components:
    """The parts of one application, wired by ``create_app``."""

    settings: Settings
    database: Database
    portfolios: PortfolioService
    validation_cache: ValidationCache
    admission: Admission
    draining: bool = False

    @property
    def breakers(self) -> list[Breaker]:
        """The circuit breakers that are switched on."""
        return [breaker for breaker in (self.database.breaker,) if breaker is not None]

    def start(self) -> None:
        """Begin what runs in the background; to be called in each worker, after the fork."""
        self.database.start()
        self.admission.start()

    def stop(self) -> None:
        """End what runs in the background and close connections."""
        self.admission.stop()
        self.database.close()


def components() -> Components:
    """Return the parts of the current application."""
    return current_app.extensions["portfolio"]  # type: ignore[no-any-return]
