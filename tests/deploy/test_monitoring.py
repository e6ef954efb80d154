"""The collector, the dashboards and the routes of alerts hold together."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from portfolio.devserver.mongod import Mongod
from portfolio.observability.registry import METRICS, MetricSpec
from tests.support.collector import Collector, Series
from tests.support.gunicorn import running, wait_until

from .conftest import MONITORING, container_of, expressions, find, render, run, tool
from .metrics import RECORDED, metric_names, names_outside_the_contract

DASHBOARDS = MONITORING / "dashboards"
DASHBOARD_FILES = sorted(DASHBOARDS.glob("*.json"))
COLLECTOR = yaml.safe_load((MONITORING / "collector" / "config.yaml").read_text())
ALERTMANAGER = MONITORING / "alerting" / "alertmanager.yml"

# Components and settings that collectors before 0.147 knew and later ones refuse or warn about.
REMOVED_FROM_THE_COLLECTOR = {
    "logging",
    "jaeger",
    "opencensus",
    "memory_ballast",
    "spanmetrics",
    "add_metric_suffixes",
    "resource_to_telemetry_conversion",
    "ballast_size_mib",
    "check_collector_pipeline",
}


class TestCollector:
    def test_every_component_is_defined_and_used(self) -> None:
        pipelines = COLLECTOR["service"]["pipelines"].values()
        for kind in ("receivers", "processors", "exporters"):
            used = {name for pipeline in pipelines for name in pipeline[kind]}
            assert used == set(COLLECTOR[kind])
        assert COLLECTOR["service"]["extensions"] == list(COLLECTOR["extensions"])

    def test_memory_limiter_is_first_and_batch_last(self) -> None:
        for pipeline in COLLECTOR["service"]["pipelines"].values():
            assert pipeline["processors"][0] == "memory_limiter"
            assert pipeline["processors"][-1] == "batch"

    def test_uses_nothing_that_current_releases_removed(self) -> None:
        text = yaml.safe_dump(COLLECTOR)
        words = set(re.findall(r"^\s*-?\s*([\w/]+)", text, re.MULTILINE))
        assert not words & REMOVED_FROM_THE_COLLECTOR
        # Its own metrics: `address` gave way to `readers`.
        assert set(COLLECTOR["service"]["telemetry"]["metrics"]) == {"readers"}

    def test_spells_metrics_as_rules_and_dashboards_do(self) -> None:
        exporter = COLLECTOR["exporters"]["prometheus"]
        assert exporter["translation_strategy"] == "UnderscoreEscapingWithSuffixes"

    @pytest.mark.parametrize("label", ["service", "service_instance_id", "environment", "pod"])
    def test_gives_every_series_the_labels_of_the_rules(self, label: str) -> None:
        statements = COLLECTOR["processors"]["transform/labels"]["metric_statements"]
        assert any(f'datapoint.attributes["{label}"]' in statement for statement in statements)

    def test_keeps_series_longer_than_two_exports_of_the_service(self) -> None:
        production_export_interval = 60  # seconds
        minutes = re.fullmatch(r"(\d+)m", COLLECTOR["exporters"]["prometheus"]["metric_expiration"])
        assert minutes
        assert int(minutes[1]) * 60 > 2 * production_export_interval

    def test_sends_nothing_to_a_host_that_is_not_deployed(self) -> None:
        """Traces were sent to a Jaeger that no manifest deploys, and waited for it in memory."""
        container = container_of("monitoring/collector")
        named = yaml.safe_dump(COLLECTOR["exporters"]) + str(container["env"])
        hosts = re.findall(r"[\w.-]+(?=:\d{4,5}\b)", named)
        assert set(hosts) <= {"0.0.0.0"}
        assert "${env:" not in named
        # A sender whose traces are refused would hold them and try again.
        assert COLLECTOR["service"]["pipelines"]["traces"]["exporters"] == ["nop"]

    def test_pod_and_service_open_the_ports_that_it_listens_on(self) -> None:
        text = (MONITORING / "collector" / "config.yaml").read_text()
        listens = {int(port) for port in re.findall(r"0\.0\.0\.0:(\d+)", text)} | {8888}
        manifests = render("monitoring/collector")
        container = container_of("monitoring/collector")
        assert {port["containerPort"] for port in container["ports"]} == listens
        names = {port["name"] for port in container["ports"]}
        targets = {port["targetPort"] for port in find(manifests, "Service")["spec"]["ports"]}
        assert targets <= names

    def test_prometheus_scrapes_it_and_keeps_its_labels(self) -> None:
        prometheus = yaml.safe_load((MONITORING / "rules" / "prometheus.yml").read_text())
        port = COLLECTOR["exporters"]["prometheus"]["endpoint"].split(":")[1]
        job = prometheus["scrape_configs"][0]
        assert job["static_configs"] == [{"targets": [f"otel-collector:{port}"]}]
        assert job["honor_labels"] is True


class TestTraces:
    """The collector with traces.yaml added, as it merges the two: maps merge, lists replace."""

    added = yaml.safe_load((MONITORING / "collector-traces" / "traces.yaml").read_text())
    pipeline = added["service"]["pipelines"]["traces"]

    def test_the_pod_reads_both_files(self) -> None:
        manifests = render("monitoring/collector-traces")
        container = container_of("monitoring/collector-traces")
        files = [argument.rsplit("/", 1)[1] for argument in container["args"]]
        assert files == ["config.yaml", "traces.yaml"]
        assert set(find(manifests, "ConfigMap")["data"]) == set(files)
        assert "TRACES_OTLP_ENDPOINT" in {variable["name"] for variable in container["env"]}

    def test_every_component_of_the_pipeline_is_defined(self) -> None:
        for kind in ("receivers", "processors", "exporters"):
            defined = set(COLLECTOR[kind]) | set(self.added.get(kind, {}))
            assert set(self.pipeline[kind]) <= defined
        assert set(self.added["service"]["pipelines"]) == {"traces"}, "metrics are left alone"

    def test_a_backend_that_is_away_costs_a_bounded_part_of_the_memory(self) -> None:
        (exporter,) = self.added["exporters"].values()
        queue = exporter["sending_queue"]
        assert queue["sizer"] == "bytes"
        assert queue["block_on_overflow"] is False
        container = container_of("monitoring/collector")
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
        assert queue["queue_size"] <= limit / 10
        assert exporter["retry_on_failure"]["max_elapsed_time"] == "60s"

    def test_traces_are_refused_before_metrics_are(self) -> None:
        limiter = self.added["processors"][self.pipeline["processors"][0]]
        metrics = COLLECTOR["processors"]["memory_limiter"]
        soft, hard = (
            limits["limit_percentage"] - limits["spike_limit_percentage"]
            for limits in (limiter, metrics)
        )
        assert limiter["limit_percentage"] < metrics["limit_percentage"]
        assert soft < hard


# (metric, label): values that rules and dashboards select by, or leave out.
SELECTED = {
    ("http_requests_total", "endpoint"): {
        "/api/v1/portfolios",
        "/api/v2/portfolios",
        "/api/fast/portfolios/bulk",
        "/health/live",
        "/health/ready",
        "refused",
    },
    ("http_requests_total", "method"): {"GET", "POST"},
    ("http_requests_total", "status_code"): {"200", "201", "501"},
    ("portfolio_bulk_operation_duration_seconds", "api"): {"v2", "fast"},
    ("circuit_breaker_state", "circuit_name"): {
        "database",
        "telemetry_metrics",
        "telemetry_traces",
    },
}


@pytest.fixture(scope="module")
def sent(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[Series]]:
    """What a service exports that was asked for something of everything."""
    collector = Collector()
    environment = {
        "OTEL_SDK_DISABLED": "false",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.start_http(),
        "OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "0.5",
        "MONGODB_DB": "test-monitoring",
    }
    with running(tmp_path_factory.mktemp("gunicorn"), replica_set.uri, **environment) as service:
        for path in ("/api/v2/portfolios", "/api/fast/portfolios/bulk"):
            bulk = [{"name": f"Monitoring {path[5:7]}"}]
            requests.post(service.url + path, json=bulk, timeout=10)
        requests.post(f"{service.url}/api/v1/portfolios", json={"name": "Monitoring"}, timeout=10)
        requests.get(f"{service.url}/health/live", timeout=10)
        requests.get(service.url, headers={"Transfer-Encoding": ""}, timeout=10)
        # The last requests are in the next export, and every worker has one of its own.
        begun = collector.exports
        wait_until(lambda: collector.exports >= begun + 6, "three exports of both workers")
        yield set(collector.series)
    collector.stop()
    with replica_set.client() as client:
        client.drop_database("test-monitoring")


@pytest.mark.parametrize(("metric", "label"), SELECTED)
def test_the_service_sends_the_labels_that_rules_select_by(
    sent: set[Series], metric: str, label: str
) -> None:
    found = {dict(series.attributes).get(label) for series in sent if series.name == metric}
    assert found >= SELECTED[metric, label]


class TestDashboards:
    def test_are_what_the_generator_writes(self) -> None:
        done = run([sys.executable, str(DASHBOARDS / "generate.py"), "--check"])
        assert done.returncode == 0, f"{done.stderr}run {DASHBOARDS / 'generate.py'}"

    def test_are_the_four_of_the_runbook(self) -> None:
        assert {json.loads(path.read_text())["title"] for path in DASHBOARD_FILES} == {
            "Portfolio Service Performance Dashboard",
            "RED Metrics Dashboard",
            "Resource Utilization Dashboard",
            "Business Metrics Dashboard",
        }

    @pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
    def test_use_only_metrics_of_the_contract(self, path: Path) -> None:
        for expression in expressions(path):
            assert metric_names(expression), f"selects no metric: {expression}"
            assert not names_outside_the_contract(expression) - RECORDED.keys(), expression

    @pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
    def test_show_only_the_chosen_environment(self, path: Path) -> None:
        for expression in expressions(path):
            if "_limit_" not in expression:
                assert 'environment=~".*"' in expression, expression

    def test_refusals_count_as_requests_and_not_in_durations(self) -> None:
        for expression in expressions(DASHBOARDS / "red.json"):
            if "endpoint=~" in expression:
                assert ("|refused" in expression) == ("http_requests_total" in expression)

    @pytest.mark.parametrize("path", DASHBOARD_FILES, ids=lambda path: path.stem)
    def test_panels_neither_overlap_nor_leave_the_grid(self, path: Path) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24, panel["title"]
            taken |= cells

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
    def test_the_panel_that_the_registry_names_shows_the_metric(self, metric: MetricSpec) -> None:
        found = [
            target["expr"]
            for path in DASHBOARD_FILES
            for panel in json.loads(path.read_text())["panels"]
            if panel["title"] == metric.panel
            for target in panel["targets"]
        ]
        shown = "\n".join(found)
        shown += "\n".join(expr for name, expr in RECORDED.items() if name in shown)
        assert metric.prometheus_name in shown, f"{metric.panel}: {found}"

    def test_grafana_provisions_every_dashboard(self) -> None:
        manifests = render("monitoring/dashboards")
        config_maps = [m for m in manifests if m["kind"] == "ConfigMap"]
        provisioned = {name for config_map in config_maps for name in config_map["data"]}
        assert {path.name for path in DASHBOARD_FILES} <= provisioned


class TestAlertmanager:
    def test_accepts_the_configuration(self) -> None:
        done = run([tool("amtool"), "check-config", str(ALERTMANAGER)])
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("labels", "receiver"),
        [
            ("environment=production severity=critical team=devops", "level-1-on-call"),
            ("environment=production severity=critical team=database", "level-1-on-call"),
            (
                "environment=production severity=critical team=devops escalation=2",
                "level-2-devops-lead",
            ),
            (
                "environment=production severity=critical team=devops escalation=3",
                "level-3-engineering-manager-and-architect",
            ),
            ("environment=production severity=critical team=devops escalation=4", "level-4-cto"),
            *[
                (f"environment={environment} severity=critical {labels}", receiver)
                for environment in ("staging", "development")
                for labels, receiver in (
                    ("team=devops", "devops-team"),
                    ("team=database", "database-team"),
                    ("team=devops escalation=4", "devops-team"),
                )
            ],
            ("severity=warning team=database", "database-team"),
            ("severity=warning team=performance", "performance-team"),
            ("severity=info team=performance", "performance-team"),
            ("severity=warning team=devops", "devops-team"),
            ("severity=warning", "devops-team"),
        ],
    )
    def test_tells_the_right_people(self, labels: str, receiver: str) -> None:
        command = [tool("amtool"), "config", "routes", "test", f"--config.file={ALERTMANAGER}"]
        done = run([*command, f"--verify.receivers={receiver}", *labels.split()])
        assert done.returncode == 0, done.stdout + done.stderr

    def test_mails_the_contacts_of_the_runbook(self) -> None:
        text = ALERTMANAGER.read_text()
        for name in ("oncall", "devops", "performance-team", "database-team"):
            assert f"{name}@globeco.com" in text

    def test_holds_no_password(self) -> None:
        config = yaml.safe_load(ALERTMANAGER.read_text())
        assert "smtp_auth_password" not in config["global"]
        assert config["global"]["smtp_auth_password_file"].startswith("/etc/alertmanager/smtp/")
