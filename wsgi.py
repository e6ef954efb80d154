"""What a WSGI server serves: ``wsgi:app``."""

import logging
import os
from logging.config import dictConfig

from portfolio.app import create_app
from portfolio.cli.helpers import cli_environment, is_command
from portfolio.config import load_settings, server_settings
from portfolio.observability.logging import logging_config

# A flask command in a checkout may use the database of ``tox -e serve``.
_environment = cli_environment()
settings = server_settings() if _environment is os.environ else load_settings(_environment)
# The output of a command may be a file of portfolios.
dictConfig(logging_config(settings, "stderr" if is_command() else "stdout"))
if is_command():  # which ends with the reason of a failed call
    logging.getLogger("portfolio.storage.database").setLevel("ERROR")
app = create_app(settings)
