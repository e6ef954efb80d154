"""What a WSGI server serves: ``wsgi:app``."""

from logging.config import dictConfig

from portfolio import create_app
from portfolio.cli import cli_environment
from portfolio.config import load_settings
from portfolio.telemetry.logging import logging_config

settings = load_settings(cli_environment())
dictConfig(logging_config(settings))
app = create_app(settings)
