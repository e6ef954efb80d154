"""The ports that tests give to servers are theirs until they start."""

from __future__ import annotations

import socket

import pytest

from portfolio.devserver.processes import free_port


def test_a_free_port_is_kept_for_the_server_that_names_it() -> None:
    address = ("127.0.0.1", free_port())
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(address)
    for _ in range(2):
        with socket.create_server(address), socket.create_connection(address, timeout=5):
            pass
