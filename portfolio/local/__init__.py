"""Moved to ``portfolio.devserver``; these names stay until all callers have followed."""
