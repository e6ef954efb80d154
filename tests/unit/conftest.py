"""What unit tests share."""

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.support.parts import mongomock_app

# A busy machine is no fault of the code: no example has a time limit.
hypothesis_settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("unit")


@pytest.fixture(scope="module")
def unit_client() -> FlaskClient:
    """A client of an application on mongomock, for a module that minds nothing stored before."""
    return mongomock_app().test_client()
