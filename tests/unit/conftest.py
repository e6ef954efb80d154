"""What unit tests share."""

from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: no example has a time limit.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
