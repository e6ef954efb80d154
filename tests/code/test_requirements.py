"""Git and Python are all that the README's two commands need: nothing they install is compiled."""

from __future__ import annotations

import sys
from importlib.metadata import distribution

import pytest

from tests.support.gunicorn import ROOT
from tests.support.requirements import pins

INSTALLED = pins(ROOT / "requirements-dev.txt") | pins(ROOT / "requirements-deploy.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="the README promises it on Linux")
@pytest.mark.parametrize("name", INSTALLED)
def test_no_compiler_is_needed(name: str) -> None:
    wheel = distribution(name).read_text("WHEEL") or ""
    # Wheels of an index name a range of systems, as in manylinux_2_28_x86_64 or any.
    assert "-linux_" not in wheel, "it was compiled when it was installed"
