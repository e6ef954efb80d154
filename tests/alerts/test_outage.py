"""MongoDB ends under load and comes back: who is told, when, of what; real time, real programs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.alerts.conftest import EXPECTED, RESOLVED_WITHIN_S, Outage

pytestmark = pytest.mark.slow

PAGED = [key for key in EXPECTED if key[0] == "production"]
Record = Callable[[str, object], None]


def test_nobody_is_paged_while_all_is_well(outage: Outage) -> None:
    assert not outage.healthy_alerts
    before = [told for told in outage.inbox.received if told.at < outage.begun]
    assert not [told for told in before if told.labels["severity"] == "critical"]


@pytest.mark.parametrize("dashboard", ["business", "performance", "red", "resources"])
def test_every_panel_of_a_healthy_service_has_data(
    dashboard: str, outage: Outage, record_property: Record
) -> None:
    assert not outage.empty_panels[dashboard]
    if dashboard == "business":  # once is enough
        record_property("note", f"all {outage.panels} expressions of the dashboards have data")


@pytest.mark.parametrize(("environment", "alert"), EXPECTED, ids=map(" ".join, EXPECTED))
def test_an_outage_is_told_in_time_to_whom_it_concerns(
    environment: str, alert: str, outage: Outage, record_property: Record
) -> None:
    receiver, within_s = EXPECTED[environment, alert]
    told = outage.inbox.first("firing", environment, alert)
    assert told, f"nobody was told; alerts: {outage.inbox.received}"
    took_s = told.at - outage.begun
    resolved = outage.inbox.first("resolved", environment, alert)
    to_resolve = f"{resolved.at - outage.ended:.0f}" if resolved else "not told"
    record_property(
        "alert",
        (
            environment,
            alert,
            told.labels["severity"],
            told.receiver,
            f"{took_s:.0f}",
            str(within_s),
            to_resolve,
        ),
    )
    assert told.receiver == receiver
    assert told.labels["severity"] == "critical"
    assert took_s <= within_s


@pytest.mark.parametrize(("environment", "alert"), PAGED, ids=map(" ".join, PAGED))
def test_who_was_paged_hears_that_it_is_over(environment: str, alert: str, outage: Outage) -> None:
    told = outage.inbox.first("resolved", environment, alert)
    assert told, "not resolved"
    assert told.at > outage.ended, "it was resolved while MongoDB was away"
    assert told.at - outage.ended <= RESOLVED_WITHIN_S
    assert told.receiver == "level-1-on-call"


def test_only_production_pages_and_nobody_is_told_of_more_than_the_outage(outage: Outage) -> None:
    critical = [told for told in outage.inbox.received if told.labels["severity"] == "critical"]
    paged = [told for told in critical if told.receiver.startswith("level-")]
    assert {told.labels["environment"] for told in paged} == {"production"}
    # The outage is over before anybody further up is concerned.
    assert {told.receiver for told in paged} == {"level-1-on-call"}
    names = {told.name for told in critical}
    # So short a history makes the hour's error budget burn in minutes.
    assert names - {"ErrorBudgetBurn"} == {alert for _, alert in EXPECTED}


def test_readiness_fails_and_liveness_does_not(outage: Outage) -> None:
    failing = [told for told in outage.inbox.received if told.name == "HealthCheckFailing"]
    assert {told.labels["endpoint"] for told in failing} == {"/health/ready"}
