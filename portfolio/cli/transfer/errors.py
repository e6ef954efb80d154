"""What stops a transfer, as the one line that the user reads."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


class TransferError(click.ClickException):
    """The transfer can't go on; the message says why and what to do."""


@contextmanager
def file_errors(file: Path) -> Iterator[None]:
    """Turn an error of the file system into one line that names the file.

    Args:
        file: what is named where the error itself names no file.

    Raises:
        TransferError: a missing folder, a full disk, missing permission and the like.
    """
    try:
        yield
    except OSError as error:
        # The reader of a pipe went away: that ends the command in silence, as it ends others.
        if error.errno == errno.EPIPE:
            raise
        name = error.filename or file
        raise TransferError(f"{name}: {error.strerror or error}") from error
