"""What a WSGI server serves: ``wsgi:app``."""

from logging.config import dictConfig

from portfolio.app import create_app
from portfolio.cli.operations import cli_environment
from portfolio.config import load_settings
from portfolio.observability.logging import logging_config

settings = load_settings(cli_environment())
dictConfig(logging_config(settings))
app = create_app(settings)
