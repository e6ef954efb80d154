#!/usr/bin/env python3
"""Writes the four Grafana dashboards beside this file; `--check` only compares them.

A dashboard is a list of rows, a row a list of panels; Grafana's own form, with its grid and its
numbering, follows from that. Metrics of the registry (portfolio/observability/registry.py) whose
panel is not written here get a plain one, on the business dashboard.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[3]))

from portfolio.observability.registry import (  # noqa: E402
    COUNTER,
    HISTOGRAM,
    METRICS,
    MetricSpec,
)

WIDTH = 24  # Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}

# What every expression selects: the environment that is chosen at the top of the dashboard.
ENVIRONMENT = 'environment=~"$environment"'
SERVICE = f'service="globeco-portfolio-service", {ENVIRONMENT}'
POOL = "mongodb_connection_pool"
API = f'{SERVICE}, endpoint=~"/api/.*"'
# With what was refused before it was routed, as in overload. Not for durations: refusals count as
# 0 s, and the more there were, the faster the service would seem.
REQUESTS = f'{SERVICE}, endpoint=~"/api/.*|refused"'

Panel = dict[str, Any]


def panel(
    title: str,
    *queries: tuple[str, str],
    unit: str = "short",
    kind: str = "timeseries",
    limit: float | None = None,
    description: str = "",
    **defaults: Any,
) -> Panel:
    """One panel.

    queries: (PromQL, legend). unit: Grafana's name of it. limit: from here on the value is red, the
    threshold of the alert that belongs to the panel.
    """
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if limit is not None:
        steps.append({"color": "red", "value": limit})
    custom = {"thresholdsStyle": {"mode": "line"}} if limit is not None else {}
    if kind == "timeseries":
        defaults["custom"] = custom | {"fillOpacity": 10, "showPoints": "never"}
    return {
        "title": title,
        "description": description,
        "type": kind,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
            }
            | defaults,
            "overrides": [],
        },
        "targets": [
            {
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "refId": chr(ord("A") + index),
            }
            for index, (expression, legend) in enumerate(queries)
        ],
    }


def stat(title: str, expression: str, **options: Any) -> Panel:
    """One number."""
    return panel(title, (expression, "{{environment}}"), kind="stat", **options)


def quantile(q: float, histogram: str, by: str, selector: str) -> str:
    """The PromQL for a quantile of a histogram, by some labels."""
    rate = f"rate({histogram}_bucket{{{selector}}}[$__rate_interval])"
    return f"histogram_quantile({q}, sum by ({by}, le) ({rate}))"


def rate(by: str, counter: str, selector: str) -> str:
    """The PromQL for what a counter gains a second, by some labels."""
    return f"sum by ({by}) (rate({counter}{{{selector}}}[$__rate_interval]))"


def rate_or_none(by: str, counter: str, selector: str, every: str) -> str:
    """The PromQL for what a counter gains where it gains something, else 0 for the status "none".

    every: selects what exists also where all is well, so that the panel is not without data.
    """
    none = (
        f'label_replace(0 * {rate("environment", counter, every)}, "status_code", "none", "", "")'
    )
    return f"{rate(by, counter, selector)} > 0 or {none}"


BREAKER_STATES = [
    {
        "type": "value",
        "options": {
            "0": {"text": "closed", "color": "green"},
            "1": {"text": "half open", "color": "yellow"},
            "2": {"text": "open", "color": "red"},
        },
    }
]

PERFORMANCE = [
    [
        stat(
            "Pods ready",
            f"portfolio_service:pods_ready{{{ENVIRONMENT}}}",
            description="Pods that answer the kubelet's readiness checks with 200.",
        ),
        stat(
            "Requests a second",
            f"sum by (environment) (portfolio_service:requests:rate5m{{{ENVIRONMENT}}})",
            unit="reqps",
        ),
        stat(
            "Errors, 5 minutes",
            f"portfolio_service:error_ratio:rate5m{{{ENVIRONMENT}}}",
            unit="percentunit",
            limit=0.05,
        ),
        stat(
            "Error budget used, 3 days",
            f"portfolio_service:error_ratio:rate3d{{{ENVIRONMENT}}} / 0.01",
            unit="percentunit",
            limit=1,
            description="Above 100%, the budget of 30 days does not last 30 days.",
        ),
    ],
    [
        panel(
            "Single operations, P95",
            (
                f"portfolio_service:single_operation_duration_seconds:p95{{{ENVIRONMENT}}}",
                "{{method}} {{endpoint}}",
            ),
            unit="s",
            limit=0.05,
        ),
        panel(
            "Bulk operations, P95",
            (f"portfolio_service:bulk_operation_duration_seconds:p95{{{ENVIRONMENT}}}", "{{api}}"),
            unit="s",
            limit=0.2,
        ),
    ],
    [
        panel(
            "Health checks, P95",
            (
                f"portfolio_service:health_check_duration_seconds:p95{{{ENVIRONMENT}}}",
                "{{endpoint}}",
            ),
            unit="s",
            limit=0.01,
        ),
        panel(
            "Requests in flight",
            (f"sum by (pod) (http_requests_in_flight{{{SERVICE}}})", "{{pod}}"),
        ),
    ],
    [
        panel(
            "Circuit breakers",
            (
                f"max by (circuit_name, pod) (circuit_breaker_state{{{SERVICE}}})",
                "{{circuit_name}} {{pod}}",
            ),
            kind="state-timeline",
            mappings=BREAKER_STATES,
        ),
        panel(
            "Calls through the circuit breakers",
            (
                rate("circuit_name, outcome", "circuit_breaker_requests_total", SERVICE),
                "{{circuit_name}} {{outcome}}",
            ),
            unit="reqps",
        ),
    ],
]

RED = [
    [
        panel(
            "Rate, by endpoint",
            (rate("method, endpoint", "http_requests_total", REQUESTS), "{{method}} {{endpoint}}"),
            unit="reqps",
        ),
        panel(
            "Rate, by status",
            (rate("status_code", "http_requests_total", REQUESTS), "{{status_code}}"),
            unit="reqps",
        ),
    ],
    [
        panel(
            "Errors of the service (5xx), share of all",
            (f"portfolio_service:error_ratio:rate5m{{{ENVIRONMENT}}}", "5 minutes"),
            (f"portfolio_service:error_ratio:rate1h{{{ENVIRONMENT}}}", "1 hour"),
            unit="percentunit",
            limit=0.05,
        ),
        panel(
            "Errors, by endpoint and status",
            (
                rate_or_none(
                    "method, endpoint, status_code",
                    "http_requests_total",
                    f'{REQUESTS}, status_code=~"[45].."',
                    every=REQUESTS,
                ),
                "{{status_code}} {{method}} {{endpoint}}",
            ),
            unit="reqps",
        ),
    ],
    [
        panel(
            "Duration, all API requests",
            *[
                (
                    quantile(q, "http_request_duration_seconds", "environment", API),
                    f"P{q * 100:g}",
                )
                for q in (0.5, 0.95, 0.99)
            ],
            unit="s",
            description="Of those that were let in: refusals are not counted.",
        ),
        panel(
            "Duration, P95 by endpoint",
            (
                quantile(0.95, "http_request_duration_seconds", "method, endpoint", API),
                "{{method}} {{endpoint}}",
            ),
            unit="s",
        ),
    ],
]

RESOURCES = [
    [
        panel(
            "CPU of each pod",
            (f"portfolio_service:cpu_cores:rate5m{{{ENVIRONMENT}}}", "{{pod}}"),
            ("portfolio_service:cpu_limit_cores", "limit"),
            description="In cores. The alert fires at 90% of the limit.",
        ),
        panel(
            "Memory of each pod",
            (f"portfolio_service:memory_bytes{{{ENVIRONMENT}}}", "{{pod}}"),
            ("portfolio_service:memory_limit_bytes", "limit"),
            unit="bytes",
            description="Resident memory, summed over the workers: pages that they share count "
            "once for each. The alert fires at 90% of the limit.",
        ),
    ],
    [
        panel(
            "Database connections, share in use",
            (f"max by (pod) ({POOL}_active{{{SERVICE}}} / {POOL}_max{{{SERVICE}}})", "{{pod}}"),
            unit="percentunit",
            limit=0.9,
            description="The fullest pool of each pod; every worker has its own.",
        ),
        panel(
            "Database connections",
            (f"sum by (pod) ({POOL}_active{{{SERVICE}}})", "{{pod}} in use"),
            (f"sum by (pod) ({POOL}_available{{{SERVICE}}})", "{{pod}} available"),
            (f"sum by (pod) ({POOL}_waiting{{{SERVICE}}})", "{{pod}} waited for"),
        ),
    ],
    [
        panel(
            "Database operations, P95",
            (
                quantile(0.95, "mongodb_operation_duration_seconds", "operation", SERVICE),
                "{{operation}}",
            ),
            unit="s",
        ),
        panel(
            "Database operations, by outcome",
            (
                rate("operation, outcome", "mongodb_operation_duration_seconds_count", SERVICE),
                "{{operation}} {{outcome}}",
            ),
            unit="ops",
        ),
    ],
    [
        panel(
            "Garbage collections",
            (
                f"sum by (pod) (rate(cpython_gc_collections_total{{{SERVICE}}}[$__rate_interval]))",
                "{{pod}}",
            ),
            unit="ops",
        ),
        panel(
            "Open files and connections",
            (f"sum by (pod) (process_open_file_descriptor_count{{{SERVICE}}})", "{{pod}}"),
        ),
    ],
]

BUSINESS = [
    [
        stat(
            "Portfolios created, 24 hours",
            f"sum by (environment) (increase(portfolio_creations_total{{{SERVICE}}}[1d]))",
            decimals=0,
        ),
        stat(
            "Bulk operations, 24 hours",
            "sum by (environment) "
            f"(increase(portfolio_bulk_operation_duration_seconds_count{{{SERVICE}}}[1d]))",
            decimals=0,
        ),
        stat(
            "Validation cache hit rate, 30 minutes",
            f"portfolio_service:validation_cache_hit_ratio:rate30m{{{ENVIRONMENT}}}",
            unit="percentunit",
        ),
    ],
    [
        panel(
            "Portfolios created",
            (rate("api", "portfolio_creations_total", SERVICE), "{{api}}"),
            unit="cps",
        ),
        panel(
            "Bulk operations, by outcome",
            (
                rate("api, outcome", "portfolio_bulk_operation_duration_seconds_count", SERVICE),
                "{{api}} {{outcome}}",
            ),
            unit="ops",
        ),
    ],
    [
        panel(
            "Refused by validation (400, 422) and by conflict (409)",
            (
                rate_or_none(
                    "status_code",
                    "http_requests_total",
                    f'{API}, status_code=~"400|409|422"',
                    every=API,
                ),
                "{{status_code}}",
            ),
            unit="reqps",
        ),
        panel(
            "Validation cache",
            (rate("environment", "validation_cache_requests_total", SERVICE), "look-ups"),
            (rate("environment", "validation_cache_hits_total", SERVICE), "hits"),
            unit="ops",
        ),
    ],
    [
        panel(
            "Validation cache hit rate of each process",
            (
                f"max by (service_instance_id) (validation_cache_hit_rate{{{SERVICE}}})",
                "{{service_instance_id}}",
            ),
            unit="percentunit",
        ),
    ],
]


def plain_panel(metric: MetricSpec) -> Panel:
    """A panel for a metric by its attributes: rate of a counter, P95 of a histogram, or value."""
    name = metric.prometheus_name
    by = ", ".join(metric.attributes) or "environment"
    legend = " ".join(f"{{{{{attribute}}}}}" for attribute in by.split(", "))
    if metric.kind == COUNTER:
        return panel(metric.panel, (rate(by, name, SERVICE), legend), unit="ops")
    if metric.kind == HISTOGRAM:
        return panel(metric.panel, (quantile(0.95, name, by, SERVICE), legend), unit="s")
    return panel(metric.panel, (f"sum by ({by}) ({name}{{{SERVICE}}})", legend))


ROWS = (*PERFORMANCE, *RED, *RESOURCES, *BUSINESS)
WRITTEN = {each["title"] for row in ROWS for each in row}
BUSINESS += [[plain_panel(metric)] for metric in METRICS if metric.panel not in WRITTEN]

DASHBOARDS = {
    "performance": ("Portfolio Service Performance Dashboard", PERFORMANCE),
    "red": ("RED Metrics Dashboard", RED),
    "resources": ("Resource Utilization Dashboard", RESOURCES),
    "business": ("Business Metrics Dashboard", BUSINESS),
}

ENVIRONMENT_VARIABLE = {
    "name": "environment",
    "label": "Environment",
    "type": "query",
    "datasource": DATASOURCE,
    "query": {"query": "label_values(http_requests_total, environment)", "refId": "environment"},
    "refresh": 2,
    "includeAll": True,
    "multi": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
}


def dashboard(name: str, title: str, rows: list[list[Panel]]) -> dict[str, Any]:
    """Grafana's form of a dashboard: panels in a grid, as wide as their row allows."""
    panels: list[Panel] = []
    y = 0
    for row in rows:
        height = 4 if all(panel["type"] == "stat" for panel in row) else 8
        width = WIDTH // len(row)
        for index, each in enumerate(row):
            position = {"x": index * width, "y": y, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": position} | each)
        y += height
    return {
        "uid": f"portfolio-service-{name}",
        "title": title,
        "tags": ["globeco", "portfolio-service"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [ENVIRONMENT_VARIABLE]},
        "annotations": {"list": []},
        "panels": panels,
    }


def main(check: bool) -> None:
    """Write the dashboards; with `check` end with status 1 where what is there differs."""
    for name, (title, rows) in DASHBOARDS.items():
        path = HERE / f"{name}.json"
        text = json.dumps(dashboard(name, title, rows), indent=2) + "\n"
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.name} is not current")


if __name__ == "__main__":
    main(check=sys.argv[1:] == ["--check"])
