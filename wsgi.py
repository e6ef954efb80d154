"""What a WSGI server serves: ``wsgi:app``."""

from logging.config import dictConfig

from portfolio import create_app
from portfolio.config import Settings
from portfolio.telemetry.logging import logging_config

settings = Settings.from_environment()
dictConfig(logging_config(settings))
app = create_app(settings)
