"""Moved to ``portfolio.devserver.mongod``."""

from portfolio.devserver.mongod import Mongod, MongodError, find_mongod, free_port

__all__ = ["Mongod", "MongodError", "find_mongod", "free_port"]
