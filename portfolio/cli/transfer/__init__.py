"""Portfolios from files and into files: what ``flask portfolios import`` and ``export`` do."""
