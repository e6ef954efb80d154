"""What carries OTLP over HTTP: urllib3 alone where it is enough."""

from __future__ import annotations

from typing import Any
from urllib.request import getproxies

# PRIVATE API: opentelemetry-exporter-otlp-proto-http==1.45.1, the argument _transport of the
# exporters, and the module _urllib3 of opentelemetry-exporter-http-transport. The default goes by
# ``requests``, which knows proxies, certificates and credentials; to a collector over plain HTTP
# urllib3 is enough, and a start takes 4 to 6% less CPU.
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport


def transport_arguments(endpoint: str) -> dict[str, Any]:
    """Return the exporter's arguments for the transport to ``endpoint``, where not the default."""
    return {"_transport": Urllib3HTTPTransport()} if _is_plain(endpoint) else {}


def transport_module(endpoint: str) -> str:
    """Return the name of the module that the transport to ``endpoint`` imports on first use."""
    return "urllib3" if _is_plain(endpoint) else "requests"


def _is_plain(endpoint: str) -> bool:
    return endpoint.startswith("http://") and not getproxies()
