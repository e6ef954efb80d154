"""Every manifest is valid for the API server, and keeps the rules that the service is run by."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest

from tests.support.gunicorn import ROOT

from .conftest import (
    ENVIRONMENTS,
    KUSTOMIZATIONS,
    MONGODB,
    MONITORING,
    MONITORING_PARTS,
    OVERLAYS,
    Manifest,
    container_of,
    containers,
    find,
    pod_of,
    pod_templates,
    render,
)

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="requirements-deploy.txt has it"
)

# The oldest that the scripts accept, and the newest.
KUBERNETES_VERSIONS = ["1.30", "1.37"]
NAME = "globeco-portfolio-service"
GUNICORN_CONF = ROOT / "gunicorn.conf.py"


@pytest.fixture(scope="module")
def schemas() -> Iterator[None]:
    """Each schema is parsed once, and not for each manifest."""
    utils = kubernetes_validate.utils
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_manifests_pass_strict_validation(folder: str, version: str) -> None:
    for manifest in render(folder):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
class TestEveryPod:
    def test_is_in_the_namespace(self, folder: str) -> None:
        for manifest in render(folder):
            assert manifest["metadata"]["namespace"] == "globeco", manifest["metadata"]["name"]

    def test_requests_and_limits_cpu_and_memory(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            for container in containers(template):
                for bound in ("requests", "limits"):
                    assert set(container["resources"][bound]) == {"cpu", "memory"}, name

    def test_runs_without_privileges(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            pod = template["spec"]["securityContext"]
            assert pod["runAsNonRoot"] is True, name
            assert pod["runAsUser"] > 0, name
            assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for container in containers(template):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, name

    def test_holds_no_token_of_the_cluster(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            # What tells of CronJobs must ask the API server; see TestMonitoring for its rights.
            needed = name == "Deployment/kube-state-metrics"
            assert template["spec"]["automountServiceAccountToken"] is needed, name

    def test_names_an_image_and_its_version(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            for container in containers(template):
                assert re.search(r":v?\d+\.\d+\.\d+$", container["image"]), name

    def test_long_running_containers_are_probed(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            if name.startswith(("Deployment/", "StatefulSet/")):
                for container in template["spec"]["containers"]:
                    assert {"readinessProbe", "livenessProbe"} <= set(container), name

    def test_mounts_only_volumes_that_it_has(self, folder: str) -> None:
        for name, template in pod_templates(render(folder)):
            volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
            # A StatefulSet's claims are volumes too.
            for manifest in render(folder):
                if name == f"StatefulSet/{manifest['metadata']['name']}":
                    claims = manifest["spec"].get("volumeClaimTemplates", [])
                    volumes |= {claim["metadata"]["name"] for claim in claims}
            for container in containers(template):
                mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
                assert mounts <= volumes, name

    def test_variables_refer_only_to_earlier_ones(self, folder: str) -> None:
        """Kubernetes leaves $(NAME) as it stands where NAME is defined further down."""
        for name, template in pod_templates(render(folder)):
            for container in containers(template):
                known: set[str] = set()
                for variable in container.get("env", []):
                    for used in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                        assert used in known, f"{name}: {variable['name']} uses {used}"
                    known.add(variable["name"])

    def test_no_secret_value_is_in_git(self, folder: str) -> None:
        secret = re.compile(r"://[^/\s:@]+:(?!\$\(|\$\{)[^@\s/]+@|PASSWORD\s*=|BEGIN [A-Z ]*KEY")
        for manifest in render(folder):
            assert manifest["kind"] != "Secret", manifest["metadata"]["name"]
            assert not secret.search(str(manifest)), manifest["metadata"]["name"]

    def test_selectors_find_the_pods(self, folder: str) -> None:
        labels = [template["metadata"]["labels"] for _, template in pod_templates(render(folder))]
        for manifest in render(folder):
            spec = manifest.get("spec", {})
            selector = {
                "Service": spec.get("selector"),
                "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
                "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
            }.get(manifest["kind"])
            if selector is not None:
                assert any(selector.items() <= found.items() for found in labels), selector


@pytest.mark.parametrize("folder", OVERLAYS)
class TestService:
    def test_deployment_never_has_fewer_pods_than_before_while_it_rolls(self, folder: str) -> None:
        spec = find(render(folder), "Deployment", NAME)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert "replicas" not in spec, "the HPA owns the number of pods"

    def test_an_outage_of_mongodb_takes_pods_out_and_restarts_none(self, folder: str) -> None:
        container = container_of(folder)
        assert container["name"] == NAME, "as commands of the runbook have it"
        for probe, path in {
            "startupProbe": "/health/live",
            "livenessProbe": "/health/live",
            "readinessProbe": "/health/ready",
        }.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert container["ports"] == [{"name": "http", "containerPort": 8000}]

    def test_grace_period_covers_the_pre_stop_sleep_and_the_drain(self, folder: str) -> None:
        drain = re.search(r"^graceful_timeout = (\d+)$", GUNICORN_CONF.read_text(), re.MULTILINE)
        assert drain is not None
        last_export_s = 2
        sleep = container_of(folder)["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = pod_of(folder)["terminationGracePeriodSeconds"]
        assert sleep + int(drain[1]) + last_export_s < grace

    def test_profile_is_that_of_the_overlay(self, folder: str) -> None:
        environment = folder.removeprefix("overlays/")
        config = find(render(folder), "ConfigMap")
        assert config["data"]["PORTFOLIO_SERVICE_ENV"] == environment
        reference = container_of(folder)["envFrom"][0]["configMapRef"]["name"]
        assert reference == config["metadata"]["name"]

    def test_database_uri_comes_from_a_secret(self, folder: str) -> None:
        variables = {v["name"]: v for v in container_of(folder)["env"]}
        reference = variables["MONGODB_URI"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": f"{NAME}-mongodb", "key": "uri"}

    def test_writes_only_to_the_runtime_folder(self, folder: str) -> None:
        data = find(render(folder), "ConfigMap")["data"]
        mounts = container_of(folder)["volumeMounts"]
        assert [mount["mountPath"] for mount in mounts] == [data["PORTFOLIO_RUNTIME_DIR"]]
        # Python ends at once where it finds no folder for temporary files.
        assert data["TMPDIR"] == data["PORTFOLIO_RUNTIME_DIR"]
        assert pod_of(folder)["volumes"][0]["emptyDir"]["medium"] == "Memory"

    def test_nodes_are_drained_of_one_pod_at_a_time(self, folder: str) -> None:
        budget = find(render(folder), "PodDisruptionBudget", NAME)["spec"]
        assert budget["maxUnavailable"] == 1

    def test_pods_spread_over_nodes_and_zones(self, folder: str) -> None:
        spreads = pod_of(folder)["topologySpreadConstraints"]
        keys = [spread["topologyKey"] for spread in spreads]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]

    def test_network_lets_in_the_port_and_out_the_database_the_collector_and_dns(
        self, folder: str
    ) -> None:
        spec = find(render(folder), "NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8000}]}]
        out = {
            (port["protocol"], port["port"]) for rule in spec["egress"] for port in rule["ports"]
        }
        assert out == {("TCP", 27017), ("TCP", 4317), ("TCP", 4318), ("UDP", 53), ("TCP", 53)}
        assert all(rule["to"] for rule in spec["egress"]), "an empty `to` is everywhere"

    def test_hpa_holds_cpu_at_70_percent_and_memory_at_80_percent_of_the_limit(
        self, folder: str
    ) -> None:
        hpa = find(render(folder), "HorizontalPodAutoscaler", f"{NAME}-hpa")
        assert hpa["spec"]["scaleTargetRef"]["name"] == NAME
        limit = int(container_of(folder)["resources"]["limits"]["memory"].removesuffix("Mi"))
        targets = {
            metric["resource"]["name"]: metric["resource"]["target"]
            for metric in hpa["spec"]["metrics"]
        }
        assert targets == {
            "cpu": {"type": "Utilization", "averageUtilization": 70},
            "memory": {"type": "AverageValue", "averageValue": f"{round(0.8 * limit)}Mi"},
        }
        assert {"scaleUp", "scaleDown"} <= set(hpa["spec"]["behavior"])


def test_production_runs_three_to_ten_pods_of_the_size_in_the_runbook() -> None:
    manifests = render("overlays/production")
    hpa = find(manifests, "HorizontalPodAutoscaler")["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (3, 10)
    assert container_of("overlays/production")["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "200m", "memory": "256Mi"},
    }


def test_overlays_differ_only_in_profile_and_scale() -> None:
    """What ran in staging is what runs in production: same pods, same policies."""
    pods = []
    for environment in ENVIRONMENTS:
        pod = pod_of(f"overlays/{environment}")
        pods.append(re.sub(rf"{NAME}-[0-9a-z]{{10}}\b", "CONFIG", str(pod)))
    assert pods[0] == pods[1] == pods[2]


class TestMongoDB:
    @pytest.mark.parametrize(
        ("folder", "members"), [("mongodb/development", 1), ("mongodb/production", 3)]
    )
    def test_jobs_know_every_member(self, folder: str, members: int) -> None:
        stateful_set = find(render(folder), "StatefulSet")
        assert stateful_set["spec"]["replicas"] == members
        name = stateful_set["metadata"]["name"]
        for job in ("init", "restore"):
            env = {v["name"]: v for v in self.job_container(folder, job)["env"]}
            assert env["MONGODB_HOSTS"]["value"].split(",") == [
                f"{name}-{i}.{stateful_set['spec']['serviceName']}.$(POD_NAMESPACE).svc:27017"
                for i in range(members)
            ]

    @staticmethod
    def job_container(folder: str, job: str) -> Manifest:
        cron = find(render(folder), "CronJob", f"{NAME}-mongodb-{job}")
        (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        return container

    def test_restore_logs_in_by_the_keyfile_and_sets_the_passwords_afterwards(self) -> None:
        """The archive brings the passwords of its day, and it must be possible to try again."""
        container = self.job_container("mongodb/production", "restore")
        env = {v["name"]: v.get("value") for v in container["env"]}
        assert "@" not in env["MONGODB_URI"]
        assert env["MONGODB_URI"].endswith("authSource=local")
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {env["SECRETS_DIR"], "/scripts", "/backup"} <= mounts

    @pytest.mark.parametrize("folder", ["mongodb/development", "mongodb/production"])
    def test_every_job_is_made_of_a_cron_job_and_goes_by_itself(self, folder: str) -> None:
        """A job of a fixed name would be met again by the next one, which could not be made."""
        kinds = [manifest["kind"] for manifest in render(folder)]
        assert "Job" not in kinds
        assert kinds.count("CronJob") == 4
        for manifest in render(folder):
            if manifest["kind"] == "CronJob":
                spec = manifest["spec"]["jobTemplate"]["spec"]
                assert 86400 <= spec["ttlSecondsAfterFinished"] <= 7 * 86400
                assert spec["activeDeadlineSeconds"] <= 7200

    def test_drill_minds_the_age_of_the_newest_backup(self) -> None:
        env = self.job_container("mongodb/production", "restore-drill")["env"]
        assert {"name": "MAX_AGE_HOURS", "value": "36"} in env

    def test_members_authenticate_each_other_and_store_durably(self) -> None:
        stateful_set = find(render("mongodb/production"), "StatefulSet")["spec"]
        command = stateful_set["template"]["spec"]["containers"][0]["command"]
        assert "--replSet=rs0" in command
        assert "--keyFile=/keyfile/keyfile" in command
        assert not any("nojournal" in argument for argument in command)
        assert stateful_set["volumeClaimTemplates"][0]["metadata"]["name"] == "data"

    def test_two_members_never_share_a_node(self) -> None:
        by_node = pod_of("mongodb/production", "StatefulSet")["topologySpreadConstraints"][0]
        assert by_node["topologyKey"] == "kubernetes.io/hostname"
        assert by_node["whenUnsatisfiable"] == "DoNotSchedule"

    def test_backup_is_daily_the_drill_weekly_and_the_restore_by_hand(self) -> None:
        crons = {
            manifest["metadata"]["name"].removeprefix(f"{NAME}-mongodb-"): manifest["spec"]
            for manifest in render("mongodb/production")
            if manifest["kind"] == "CronJob"
        }
        assert crons["backup"]["schedule"] == "0 2 * * *"
        assert crons["restore-drill"]["schedule"] == "0 4 * * 0"
        assert crons["restore"]["suspend"] is True
        assert crons["init"]["suspend"] is True
        assert not crons["backup"].get("suspend")

    def test_members_let_in_only_the_service_each_other_and_the_jobs(self) -> None:
        manifests = render("mongodb/production")
        policy = find(manifests, "NetworkPolicy")["spec"]
        (source,) = policy["ingress"][0]["from"]
        allowed = source["podSelector"]["matchExpressions"][0]["values"]
        labels = {template["metadata"]["labels"]["app"] for _, template in pod_templates(manifests)}
        assert set(allowed) == labels | {NAME}


class TestMonitoring:
    @pytest.mark.parametrize(
        ("folder", "app", "allowed"),
        [
            ("rules", "prometheus", {("grafana", 9090)}),
            ("alerting", "alertmanager", {("prometheus", 9093)}),
            ("dashboards", "grafana", set()),
            ("kube-state", "kube-state-metrics", {("prometheus", 8080)}),
        ],
    )
    def test_lets_in_only_who_asks_it(
        self, folder: str, app: str, allowed: set[tuple[str, int]]
    ) -> None:
        policy = find(render(f"monitoring/{folder}"), "NetworkPolicy")["spec"]
        assert policy["podSelector"] == {"matchLabels": {"app": app}}
        assert policy["policyTypes"] == ["Ingress"]
        assert allowed == {
            (source["podSelector"]["matchLabels"]["app"], port["port"])
            for rule in policy.get("ingress", [])
            for source in rule["from"]
            for port in rule["ports"]
        }

    @pytest.mark.parametrize("folder", ["monitoring/rules", "monitoring/alerting", *MONGODB])
    def test_a_stateful_set_names_a_headless_service(self, folder: str) -> None:
        stateful_set = find(render(folder), "StatefulSet")["spec"]
        service = find(render(folder), "Service", stateful_set["serviceName"])["spec"]
        assert service["clusterIP"] == "None"
        assert service["selector"] == stateful_set["selector"]["matchLabels"]

    def test_kube_state_metrics_may_watch_cron_jobs_of_its_namespace_and_nothing_else(
        self,
    ) -> None:
        manifests = render("monitoring/kube-state")
        assert find(manifests, "Role")["rules"] == [
            {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["list", "watch"]}
        ]
        assert {m["kind"] for m in manifests}.isdisjoint({"ClusterRole", "ClusterRoleBinding"})
        arguments = container_of("monitoring/kube-state")["args"]
        assert arguments == ["--resources=cronjobs", "--namespaces=$(POD_NAMESPACE)"]

    def test_prometheus_scrapes_only_services_that_are_deployed(self) -> None:
        manifests = [m for part in MONITORING_PARTS for m in render(part)]
        services = {
            f"{manifest['metadata']['name']}:{port['port']}"
            for manifest in manifests
            if manifest["kind"] == "Service"
            for port in manifest["spec"]["ports"]
        }
        (config,) = (
            manifest["data"]["prometheus.yml"]
            for manifest in manifests
            if manifest["kind"] == "ConfigMap" and "prometheus.yml" in manifest["data"]
        )
        targets = set(re.findall(r"targets: \[([^\]]+)\]", config))
        assert targets <= services
        assert "kube-state-metrics:8080" in targets

    def test_alerts_on_the_cron_jobs_that_are_deployed(self) -> None:
        crons = {
            manifest["metadata"]["name"]
            for manifest in render("mongodb/production")
            if manifest["kind"] == "CronJob"
        }
        rules = (MONITORING / "rules" / "backup.rules.yaml").read_text()
        assert set(re.findall(r'cronjob="([^"]+)"', rules)) < crons
