"""Moved to ``portfolio.devserver.mongomock_client``."""

from portfolio.devserver.mongomock_client import MongomockClient as StandInClient

__all__ = ["StandInClient"]
