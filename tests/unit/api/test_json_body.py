"""What a body costs: its parser has bounds, and nothing of it is kept that nobody uses."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient

from portfolio.errors import NotFound
from tests.support.calls import BULK, UNKNOWN, V1, V2, one

MIB = 1 << 20


def with_values(count: int, value: str = "1") -> str:
    """A portfolio of v1 with ``count`` values in it."""
    return f'{{"name": "Growth", "more": [{",".join([value] * (count - 2))}]}}'


def test_a_body_has_at_most_20_000_values(unit_client: FlaskClient) -> None:
    def post(path: str, body: str) -> tuple[int, str]:
        answer = unit_client.post(path, data=body, content_type="application/json")
        return answer.status_code, answer.json.get("code", "")

    assert post(V1, with_values(20_000)) == (201, "")
    assert post(V1, with_values(20_001)) == (422, "invalid_json")
    assert post(V2, f"[{with_values(20_000)}]") == (422, "invalid_json")
    assert post(BULK, f"[{with_values(20_000)}]") == (400, "invalid_json")
    for pair in ("[1]", '{"a": 1}'):  # two values each
        assert post(V1, with_values(10_001, pair)) == (201, "")
        assert post(V1, with_values(10_002, pair)) == (422, "invalid_json")


@pytest.mark.parametrize(
    ("method", "path", "use_case", "sent"),
    [
        ("POST", V1, "create", {"name": "Growth"}),
        ("PUT", one(UNKNOWN), "update", {"portfolioId": UNKNOWN, "name": "Growth", "version": 1}),
        ("POST", V2, "create_all", {"name": "Growth"}),
        ("POST", BULK, "create_all", {"name": "Growth"}),
        ("POST", f"{V1}/validate", "partition_existing", {"portfolioIds": [UNKNOWN]}),
        ("POST", f"{V2}/resolve", "resolve", {"ids": [UNKNOWN]}),
    ],
)
def test_what_nobody_uses_of_a_body_is_freed_before_mongodb_is_asked(
    unit_client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    use_case: str,
    sent: dict[str, Any],
) -> None:
    held = 0

    def measure(*_: Any, **__: Any) -> NoReturn:
        nonlocal held
        held = tracemalloc.get_traced_memory()[0]
        raise NotFound

    portfolios = unit_client.application.extensions["portfolio"].portfolios
    monkeypatch.setattr(portfolios, use_case, measure)
    # With one character that takes four bytes, each of a string does.
    body = sent | {"more": [f"{number}\N{GRINNING FACE}{'x' * 1000}" for number in range(900)]}
    data = json.dumps([body] if path in (V2, BULK) else body)
    tracemalloc.start()
    try:
        answer = unit_client.open(path, method=method, data=data, content_type="application/json")
    finally:
        tracemalloc.stop()
    assert answer.status_code == 404
    assert held < 2 * MIB


@pytest.mark.parametrize(
    ("header", "value"), [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")]
)
def test_a_refused_body_says_which_header_is_wrong(
    unit_client: FlaskClient, header: str, value: str
) -> None:
    headers = {"Content-Type": "application/json", header: value}
    refused = unit_client.post("/api/v1/portfolios", data="{}", headers=headers)
    assert refused.status_code == 415
    assert header in refused.json["detail"]
