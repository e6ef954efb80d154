"""Moved to ``portfolio.devserver``."""

from portfolio.devserver.mongod import Mongod, MongodError, find_mongod
from portfolio.devserver.processes import free_port

__all__ = ["Mongod", "MongodError", "find_mongod", "free_port"]
