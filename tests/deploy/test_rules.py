"""Each alert fires on the series that it is for, and stays silent beside them."""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
from pathlib import Path

import pytest
import yaml
from werkzeug.routing import Map, Rule

from portfolio.observability.metrics import initial_requests

from .conftest import (
    DEPLOY,
    ENVIRONMENTS,
    MONITORING,
    container_of,
    expressions,
    find,
    render,
    run,
    tool,
)
from .metrics import KUBE_STATE, RECORDED, names_outside_the_contract

RULES = MONITORING / "rules"
RUNBOOK = DEPLOY / "RUNBOOK.md"
# In the order in which they are evaluated: what alerts read is recorded first.
RULE_FILES = [RULES / f"{name}.rules.yaml" for name in ("recording", "alerts", "backup")]
GROUPS = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
ALL_RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in ALL_RULES if "alert" in rule]

Series = dict[str, str]


def series(name: str, values: str, pod: str = "pod-1", **labels: str) -> Series:
    """One time series of production, in promtool's notation: a value a minute."""
    labels = {
        "service": "globeco-portfolio-service",
        "environment": "production",
        "pod": pod,
        "service_instance_id": f"{pod}-1",
    } | labels
    inner = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {f"{name}{{{inner}}}": values}


def requests(status: str, values: str, endpoint: str = "/api/v2/portfolios", **more: str) -> Series:
    return series(
        "http_requests_total",
        values,
        endpoint=endpoint,
        **({"method": "GET", "status_code": status} | more),
    )


def durations(name: str, below: str, fast: int, slow: int, **labels: str) -> Series:
    """A histogram that gets `fast` observations up to `below` and `slow` above it, a minute."""
    return (
        series(f"{name}_bucket", "0+0x90", le="0.001", **labels)
        | series(f"{name}_bucket", f"0+{fast}x90", le=below, **labels)
        | series(f"{name}_bucket", f"0+{fast + slow}x90", le="1", **labels)
        | series(f"{name}_bucket", f"0+{fast + slow}x90", le="+Inf", **labels)
    )


def refused(status: str, values: str) -> Series:
    """Requests that were answered before they were routed."""
    return requests(status, values, endpoint="refused")


def ready_pods(*pods: str, values: str = "0+12x300", status: str = "200") -> Series:
    found: Series = {}
    for pod in pods:
        found |= requests(status, values, endpoint="/health/ready", pod=pod)
    return found


unready_pods = functools.partial(ready_pods, status="503")


def cron_job(name: str, created: str, succeeded: str | None = None) -> Series:
    """What kube-state-metrics tells of a job of MongoDB: Unix times, as Prometheus' values."""
    found: Series = {}
    told = {"created": created, "status_last_successful_time": succeeded}
    for metric, values in told.items():
        if values is not None:
            labels = f'namespace="globeco", cronjob="globeco-portfolio-service-mongodb-{name}"'
            found[f"kube_cronjob_{metric}{{{labels}}}"] = values
    return found


HTTP_DURATION = "http_request_duration_seconds"
BULK_DURATION = "portfolio_bulk_operation_duration_seconds"
GET_ONE = {"endpoint": "/api/v1/portfolio/<portfolio_id>", "method": "GET", "status_code": "200"}
LIST_ALL = {"endpoint": "/api/v1/portfolios", "method": "GET", "status_code": "200"}
READY = {"endpoint": "/health/ready", "method": "GET", "status_code": "200"}


@dataclasses.dataclass(frozen=True)
class Case:
    """Given these series, at this moment, an alert fires or not; a value comes every so often."""

    fires: bool
    given: str
    series: Series
    at: str
    every: str

    def __str__(self) -> str:
        return f"{'fires' if self.fires else 'is silent'} when {self.given}"


def case(fires: bool, given: str, *parts: Series, at: str = "60m", every: str = "1m") -> Case:
    return Case(fires, given, functools.reduce(operator.or_, parts), at, every)


fires, silent = functools.partial(case, True), functools.partial(case, False)

CASES: dict[str, list[Case]] = {
    "HealthCheckFailing": [
        fires("a pod refuses every check", unready_pods("pod-1")),
        silent("a pod answers", ready_pods("pod-1")),
        silent(
            "one check in twelve is refused",
            ready_pods("pod-1", values="0+11x200"),
            requests("503", "0+1x200", endpoint="/health/ready"),
        ),
        silent(
            "a pod is still starting",
            requests("503", "0+60x200", endpoint="/health/startup"),
            ready_pods("pod-1"),
        ),
        fires(
            "readiness fails while something polls liveness more often",
            unready_pods("pod-1"),
            requests("200", "0+18x200", endpoint="/health/live"),
            requests("503", "0x200", endpoint="/health/live"),
        ),
        silent(
            "only the series of a failure exists, at zero",
            ready_pods("pod-1"),
            requests("503", "0x200", endpoint="/health/ready"),
        ),
    ],
    "HighErrorRate": [
        fires(
            "one request in ten is answered with 500",
            requests("200", "0+90x90"),
            requests("500", "0+10x90"),
        ),
        silent(
            "one request in fifty is answered with 500",
            requests("200", "0+98x90"),
            requests("500", "0+2x90"),
        ),
        silent(
            "every request is a mistake of the client",
            requests("200", "0+1x90"),
            requests("404", "0+99x90"),
        ),
        fires(
            "nine requests in ten are refused for too much load",
            requests("200", "0+10x90"),
            refused("503", "0+90x90"),
        ),
        fires(
            "one request in ten is answered with 500, beside much that is no proper HTTP",
            requests("200", "0+90x90"),
            requests("500", "0+10x90"),
            refused("400", "0+900x90"),
        ),
        silent(
            "nine requests in ten are no proper HTTP",
            requests("200", "0+10x90"),
            refused("400", "0+60x90"),
            refused("501", "0+30x90"),
        ),
        silent(
            "health checks are refused, but no API request",
            requests("200", "0+60x90"),
            unready_pods("pod-1"),
        ),
        silent("the only two requests of ten minutes fail", requests("500", "0+0x50 1+0x4 2+0x20")),
    ],
    "LowAvailability": [
        fires(
            "one of three pods is not ready", ready_pods("pod-1", "pod-2"), unready_pods("pod-3")
        ),
        fires("only two of three pods run", ready_pods("pod-1", "pod-2")),
        fires(
            "everything fell silent half an hour ago",
            ready_pods("pod-1", "pod-2", "pod-3", values="0+12x30 stale"),
        ),
        silent("three pods of three are ready", ready_pods("pod-1", "pod-2", "pod-3")),
        silent(
            "one pod of ten is not ready",
            ready_pods(*[f"pod-{i}" for i in range(9)]),
            unready_pods("pod-9"),
        ),
        silent(
            "the HPA took two pods of five away",
            ready_pods("pod-1", "pod-2", "pod-3"),
            # Their last export stays in the collector for three minutes.
            ready_pods("pod-4", "pod-5", values="0+12x30 360+0x2 stale"),
            at="38m",
        ),
        silent(
            "this Prometheus never saw the service",
            series("http_requests_total", "0+1x90", service="another-service"),
        ),
    ],
    "BulkPerformanceRegression": [
        fires(
            "one bulk call in ten takes more than 200 ms",
            durations(BULK_DURATION, "0.2", 90, 10, api="v2", outcome="created"),
        ),
        silent(
            "one bulk call in fifty takes more than 200 ms",
            durations(BULK_DURATION, "0.2", 98, 2, api="v2", outcome="created"),
        ),
    ],
    "SingleOperationSlow": [
        fires(
            "one read in ten takes more than 50 ms",
            durations(HTTP_DURATION, "0.05", 90, 10, **GET_ONE),
        ),
        silent(
            "one read in fifty takes more than 50 ms",
            durations(HTTP_DURATION, "0.05", 98, 2, **GET_ONE),
        ),
        silent(
            "only the list of all portfolios is slow",
            durations(HTTP_DURATION, "0.05", 0, 100, **LIST_ALL),
        ),
        fires(
            "creating one portfolio is slow, on the path of the list",
            durations(HTTP_DURATION, "0.05", 0, 100, **(LIST_ALL | {"method": "POST"})),
        ),
    ],
    "HighMemoryUsage": [
        fires(
            "two workers hold 240 MiB together",
            series("process_memory_usage_bytes", f"{120 * 2**20}x90"),
            series(
                "process_memory_usage_bytes", f"{120 * 2**20}x90", service_instance_id="pod-1-2"
            ),
        ),
        silent(
            "two pods hold 120 MiB each",
            series("process_memory_usage_bytes", f"{120 * 2**20}x90"),
            series("process_memory_usage_bytes", f"{120 * 2**20}x90", pod="pod-2"),
        ),
    ],
    "HighCPUUsage": [
        fires(
            "user and system time together are 0.19 cores",
            series("process_cpu_time_seconds_total", "0+9x90", type="user"),
            series("process_cpu_time_seconds_total", "0+2.4x90", type="system"),
        ),
        silent("a pod uses 0.1 cores", series("process_cpu_time_seconds_total", "0+6x90")),
    ],
    "HealthCheckSlow": [
        fires(
            "one check in ten takes more than 10 ms",
            durations(HTTP_DURATION, "0.01", 90, 10, **READY),
        ),
        silent(
            "one check in fifty takes more than 10 ms",
            durations(HTTP_DURATION, "0.01", 98, 2, **READY),
        ),
    ],
    "CircuitBreakerOpen": [
        fires(
            "a breaker is open, and half open now and then",
            series(
                "circuit_breaker_state", "0x50 2 2 1 2 2 1 2 2 1 2 2 1 2", circuit_name="database"
            ),
        ),
        silent(
            "a breaker is closed again",
            series("circuit_breaker_state", "2x20 1 0x60", circuit_name="database"),
        ),
        silent(
            "only the exports of telemetry fail",
            series("circuit_breaker_state", "2x60", circuit_name="telemetry_metrics"),
        ),
    ],
    "DatabaseConnectionPoolExhausted": [
        fires(
            "nineteen of twenty connections are in use",
            series("mongodb_connection_pool_active", "19x90"),
            series("mongodb_connection_pool_max", "20x90"),
        ),
        fires("requests wait for a connection", series("mongodb_connection_pool_waiting", "3x90")),
        silent(
            "half of the connections are in use",
            series("mongodb_connection_pool_active", "10x90"),
            series("mongodb_connection_pool_max", "20x90"),
            series("mongodb_connection_pool_waiting", "0x90"),
        ),
    ],
    "LowCacheHitRate": [
        fires(
            "half of many look-ups hit",
            series("validation_cache_requests_total", "0+60x120"),
            series("validation_cache_hits_total", "0+30x120"),
            at="110m",
        ),
        silent(
            "nine look-ups in ten hit",
            series("validation_cache_requests_total", "0+60x120"),
            series("validation_cache_hits_total", "0+54x120"),
            at="110m",
        ),
        silent(
            "hardly anything is looked up",
            series("validation_cache_requests_total", "0+1x120"),
            series("validation_cache_hits_total", "0+0x120"),
            at="110m",
        ),
    ],
    "ErrorBudgetBurn": [
        fires(
            "a fifth of the requests fails for an hour",
            requests("200", "0+80x90"),
            requests("500", "0+20x90"),
        ),
        fires(
            "two requests in a hundred fail for three days",
            requests("200", "0+980x470"),
            requests("500", "0+20x470"),
            at="77h",
            every="10m",
        ),
        silent(
            "one request in two hundred fails, for days",
            requests("200", "0+1990x470"),
            requests("500", "0+10x470"),
            at="77h",
            every="10m",
        ),
        silent(
            "a burst of errors ended forty minutes ago",
            requests("200", "0+50x200"),
            requests("500", "0+0x85 0+50x15 750+0x90"),
            at="140m",
        ),
    ],
    **{
        f"EscalationLevel{level}": [
            fires(
                f"a critical alert has fired for {after + 5} minutes",
                unready_pods("pod-1"),
                at=f"{after + 8}m",
            ),
            silent(
                f"a critical alert has fired for {after - 5} minutes",
                unready_pods("pod-1"),
                at=f"{after - 2}m",
            ),
            *(
                silent(
                    f"a critical alert has fired for hours in {environment}",
                    requests("503", "0+12x300", endpoint="/health/ready", environment=environment),
                    at="299m",
                )
                for environment in ("staging", "development")
            ),
        ]
        # The alert itself needs about three minutes to fire.
        for level, after in ((2, 15), (3, 60), (4, 240))
    },
    "BackupStale": [
        fires(
            "the last backup succeeded 40 hours ago",
            cron_job("backup", created="0x300", succeeded="0x300"),
            at="40h",
            every="10m",
        ),
        fires(
            "no backup has succeeded since the CronJob was made 40 hours ago",
            cron_job("backup", created="0x300"),
            at="40h",
            every="10m",
        ),
        fires(
            "backups succeed and none was restored for 9 days",
            cron_job("backup", created="0x400", succeeded="0+3600x400"),
            cron_job("restore-drill", created="0x400", succeeded="0x400"),
            at="217h",
            every="1h",
        ),
        fires("nothing is known of the CronJob", ready_pods("pod-1"), at="80m"),
        silent(
            "last night's backup succeeded, and Sunday's drill",
            cron_job("backup", created="0x400", succeeded="0x60 72000x300"),
            cron_job("restore-drill", created="0x400", succeeded="0x400"),
            at="40h",
            every="10m",
        ),
        silent(
            "the CronJobs were made an hour ago",
            cron_job("backup", created="0x100"),
            cron_job("restore-drill", created="0x100"),
            at="60m",
        ),
    ],
}


def check(case: Case, expected: dict[str, list[float]], folder: Path) -> None:
    """Fail with what promtool says where expressions don't have these values, without labels."""
    test = {
        "rule_files": [str(path) for path in RULE_FILES],
        "evaluation_interval": case.every,
        # Any order otherwise, another in each run.
        "group_eval_order": [group["name"] for group in GROUPS],
        "tests": [
            {
                "interval": case.every,
                "input_series": [
                    {"series": name, "values": values} for name, values in case.series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": case.at,
                        "exp_samples": [{"labels": "{}", "value": value} for value in values],
                    }
                    for expression, values in expected.items()
                ],
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    done = run([tool("promtool"), "test", "rules", str(path)])
    assert done.returncode == 0, f"{case.given}\n{done.stdout}{done.stderr}"


def check_alert(name: str, case: Case, folder: Path) -> None:
    expression = f'group(ALERTS{{alertname="PortfolioService{name}", alertstate="firing"}})'
    check(case, {expression: [1] if case.fires else []}, folder)


@pytest.mark.parametrize(
    ("alert", "case"),
    [
        pytest.param(alert, case, id=f"{alert} {case}")
        for alert, cases in CASES.items()
        for case in cases
    ],
)
def test_alert(alert: str, case: Case, tmp_path: Path) -> None:
    check_alert(alert, case, tmp_path)


@pytest.mark.parametrize(
    ("method", "endpoint", "status"),
    [
        ("GET", "/api/v2/portfolios", "500"),
        ("POST", "/api/v1/portfolios", "503"),
        ("GET", "refused", "503"),
    ],
)
def test_the_first_errors_of_a_process_are_seen_though_they_come_in_one_burst(
    method: str, endpoint: str, status: str, tmp_path: Path
) -> None:
    """A series that first appears at 500 shows no increase: it must have been exported at 0."""
    # As the service says what it exports before it happens.
    paths = ("/api/v1/portfolios", "/api/v2/portfolios")
    routes = Map([Rule(path, methods=[method]) for path in paths])
    exported = (method, endpoint, status) in initial_requests(routes)
    before = "0" if exported else "_"
    burst = fires(
        f"500 requests are answered with {status} at once",
        requests("200", "0+60x90"),
        requests(status, f"{before}x50 500x40", endpoint=endpoint, method=method),
        at="53m",
    )
    check_alert("HighErrorRate", burst, tmp_path)


def test_dashboards_show_no_errors_as_zero_where_no_series_of_an_error_exists(
    tmp_path: Path,
) -> None:
    panels = [
        expression
        for path in MONITORING.glob("dashboards/*.json")
        for expression in expressions(path)
        if "error_ratio" in expression or "status_code=~" in expression
    ]
    assert len(panels) == 6
    healthy = silent("all is well", requests("200", "0+60x90"), ready_pods("pod-1"))
    check(healthy, {f"max({expression})": [0] for expression in panels}, tmp_path)


def test_every_file_of_rules_is_tested() -> None:
    assert set(RULE_FILES) == set(RULES.glob("*.rules.yaml"))


def test_every_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    assert {f"PortfolioService{alert}" for alert in CASES} == {rule["alert"] for rule in ALERTS}
    for alert, cases in CASES.items():
        assert {case.fires for case in cases} == {True, False}, alert


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path) -> None:
    done = run([tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(path)])
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    path = str(RULES / "prometheus.yml")
    done = run([tool("promtool"), "check", "config", "--syntax-only", path])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.get("alert") or r["record"])
def test_rule_uses_only_metrics_of_the_contract(rule: dict) -> None:
    others = RECORDED.keys() | KUBE_STATE | {"ALERTS"}  # Prometheus' own account of what fires
    assert not names_outside_the_contract(rule["expr"]) - others


def test_every_recorded_series_is_used() -> None:
    uses = [rule["expr"] for rule in ALL_RULES]
    uses += [path.read_text() for path in MONITORING.glob("dashboards/*.json")]
    for name in RECORDED:
        pattern = re.compile(rf"{re.escape(name)}(?![\w:])")
        assert any(pattern.search(use) for use in uses), name


@pytest.mark.parametrize("name", ["api_requests", "error_ratio"])
def test_windows_of_errors_differ_in_nothing_but_their_length(name: str) -> None:
    prefix = f"portfolio_service:{name}:rate"
    found = {
        record.removeprefix(prefix): expr for record, expr in RECORDED.items() if name in record
    }
    assert [*found] == ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
    forms = {
        expr.replace(f"[{window}]", "[window]").replace(f":rate{window}", ":rate")
        for window, expr in found.items()
    }
    assert len(forms) == 1, forms


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_what_it_is_and_where_the_runbook_has_it(rule: dict) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["team"] in {"devops", "performance", "database"}
    assert {"summary", "description", "runbook"} == set(rule["annotations"])
    alert = rule["alert"]
    heading = "## Escalation" if "EscalationLevel" in alert else f"### {alert}"
    assert f"\n{heading}\n" in RUNBOOK.read_text()
    anchor = heading.strip("# ").lower()
    assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{anchor}"


class TestLimitsAreThoseOfTheManifests:
    def test_memory_and_cpu(self) -> None:
        limits = container_of("overlays/production")["resources"]["limits"]
        memory = int(limits["memory"].removesuffix("Mi")) * 2**20
        cpu = int(limits["cpu"].removesuffix("m")) / 1000
        assert RECORDED["portfolio_service:memory_limit_bytes"] == f"vector({memory})"
        assert RECORDED["portfolio_service:cpu_limit_cores"] == f"vector({cpu})"

    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_least_number_of_pods(self, environment: str) -> None:
        hpa = find(render(f"overlays/{environment}"), "HorizontalPodAutoscaler")
        least = hpa["spec"]["minReplicas"]
        expected = f'label_replace(vector({least}), "environment", "{environment}", "", "")'
        assert expected in RECORDED["portfolio_service:pods_min"]
