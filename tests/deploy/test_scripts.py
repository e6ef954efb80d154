"""The scripts run end to end against a stand-in for kubectl: each option, failure and refusal."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.gunicorn import ROOT

from .conftest import DEPLOY, ENVIRONMENTS, copy_of_deploy, install_kubectl, run, tool

DEPLOY_SH = "k8s/deploy-optimized.sh"
ROLLBACK_SH = "k8s/rollback-deployment.sh"
MONITORING_SH = "k8s/monitoring/deploy-monitoring.sh"
SECRETS_SH = "k8s/mongodb/create-secrets.sh"
JOB_SH = "k8s/mongodb/run-job.sh"
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("deploy/**/*.sh", "tests/*/*.sh")
    for path in ROOT.glob(pattern)
)
ALWAYS = 1000
SELECTOR_OF = r"^get deployment .*jsonpath=\{\.spec\.selector"
LAST_APPLIED_OF = r"^get deployment .*last-applied-configuration"
# As `kubectl version -o json` has it, with a client of another age.
VERSION = json.dumps(
    {
        "clientVersion": {"major": "1", "minor": "40"},
        "serverVersion": {"major": "1", "minor": "MINOR"},
    },
    indent=2,
)


@dataclasses.dataclass
class Cluster:
    """A cluster that is not there: what it answers, and what it was asked."""

    folder: Path

    def answers(
        self, pattern: str, status: int = 0, text: str = "", *, times: int = ALWAYS
    ) -> None:
        """From now on, `times` command lines that match get this status and text."""
        path = self.folder / "answers.json"
        known = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([[pattern, status, text, times], *known]))

    def run(self, script: str, *arguments: str, typed: str = "", deploy: Path | None = None) -> Run:
        """Run a script of deploy/, from deploy/ or a copy of it, as the runbook does."""
        environment = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "STANDIN_DIR": str(self.folder),
            "REAL_KUBECTL": tool("kubectl"),
            "HEALTH_CHECK_INTERVAL": "0",
            "JOB_CHECK_INTERVAL": "0",
        }
        done = run([f"./{script}", *arguments], cwd=deploy or DEPLOY, env=environment, input=typed)
        return Run(done, [json.loads(line) for line in self.calls().splitlines()])

    def calls(self) -> str:
        path = self.folder / "calls.jsonl"
        return path.read_text() if path.exists() else ""


@dataclasses.dataclass
class Run:
    """What a script did."""

    done: subprocess.CompletedProcess[str]
    calls: list[dict[str, str]]

    @property
    def status(self) -> int:
        return self.done.returncode

    @property
    def output(self) -> str:
        return self.done.stdout + self.done.stderr

    def asked(self, pattern: str) -> list[str]:
        """The command lines that match."""
        return [call["line"] for call in self.calls if re.search(pattern, call["line"])]

    def changed(self) -> list[str]:
        """The command lines that change the cluster."""
        verbs = r"^(apply|create|delete|patch|scale|annotate|rollout (undo|restart))\b"
        return [line for line in self.asked(verbs) if "--dry-run" not in line]

    def applied(self) -> list[dict]:
        """The manifests that were applied."""
        texts = [call["manifests"] for call in self.calls if call["line"].startswith("apply -f")]
        return [manifest for text in texts for manifest in yaml.safe_load_all(text)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A cluster that says yes to everything."""
    install_kubectl(tmp_path, "kubectl_standin.py", "-IS")  # without site-packages: quicker
    cluster = Cluster(tmp_path)
    cluster.answers("^version", 0, VERSION.replace("MINOR", "36"))
    return cluster


def test_shellcheck_has_nothing_to_say() -> None:
    done = run([tool("shellcheck"), "--external-sources", *map(str, SCRIPTS)], cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", [DEPLOY_SH, ROLLBACK_SH, MONITORING_SH, SECRETS_SH, JOB_SH])
class TestEveryScript:
    def test_explains_itself(self, cluster: Cluster, script: str) -> None:
        result = cluster.run(script, "--help")
        assert result.status == 0
        assert result.done.stdout.startswith("usage: ")

    def test_refuses_what_it_does_not_know(self, cluster: Cluster, script: str) -> None:
        result = cluster.run(script, "production", "--force")
        assert result.status == 2
        assert "usage: " in result.done.stderr
        assert not result.changed()


@pytest.mark.parametrize(
    "arguments",
    [("--timeout", "soon"), ("--timeout",), ("--namespace", "No_Name"), ("--namespace",)],
)
def test_bad_values_are_refused(cluster: Cluster, arguments: tuple[str, ...]) -> None:
    result = cluster.run(DEPLOY_SH, *arguments)
    assert result.status == 2
    assert f"{arguments[0]} needs a" in result.done.stderr


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (DEPLOY_SH, ["staging"]),
        (ROLLBACK_SH, ["staging"]),
        (MONITORING_SH, []),
        (SECRETS_SH, ["production"]),
        (JOB_SH, ["backup"]),
    ],
)
def test_an_older_cluster_is_refused(cluster: Cluster, script: str, arguments: list[str]) -> None:
    cluster.answers("^version", 0, VERSION.replace("MINOR", "29+"))
    result = cluster.run(script, *arguments)
    assert result.status == 1
    assert "runs Kubernetes 1.29; the manifests need 1.30 or later" in result.done.stderr
    assert not result.changed()


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (1, "connection refused", "the cluster does not answer"),
        (0, "{}", "the cluster does not tell its version"),
    ],
)
def test_a_cluster_of_unknown_version_is_refused(
    cluster: Cluster, status: int, text: str, told: str
) -> None:
    cluster.answers("^version", status, text)
    result = cluster.run(DEPLOY_SH, "staging")
    assert result.status == 1
    assert f"FAILED: {told}" in result.done.stderr
    assert not result.changed()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (DEPLOY_SH, ["staging", "production", "--dry-run"]),
        (DEPLOY_SH, ["staging", "--image", "1", "--image", "2"]),
        (ROLLBACK_SH, ["staging", "production", "--list"]),
        (ROLLBACK_SH, ["staging", "4", "5", "--dry-run"]),
        (SECRETS_SH, ["development", "production"]),
        (JOB_SH, ["backup", "restore"]),
    ],
)
def test_a_second_name_is_refused(cluster: Cluster, script: str, arguments: list[str]) -> None:
    result = cluster.run(script, *arguments)
    assert result.status == 2
    assert "two " in result.done.stderr
    assert not result.calls, "nothing is asked of the cluster"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"), [(DEPLOY_SH, ["development"]), (MONITORING_SH, [])]
)
def test_makes_a_missing_namespace(cluster: Cluster, script: str, arguments: list[str]) -> None:
    cluster.answers("^get namespace", 1, "not found")
    result = cluster.run(script, *arguments)
    assert result.status == 0
    assert result.asked("^create namespace globeco$")


@pytest.mark.slow
class TestDeploy:
    def test_applies_waits_and_checks_health(self, cluster: Cluster) -> None:
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 0, result.output
        kinds = {manifest["kind"] for manifest in result.applied()}
        assert {"Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"} <= kinds
        order = ["apply --dry-run=server", "apply -f", "rollout status", "get --raw"]
        lines = [call["line"] for call in result.calls]
        firsts = [
            next(i for i, line in enumerate(lines) if line.startswith(start)) for start in order
        ]
        assert firsts == sorted(firsts)
        assert result.asked(
            r"get --raw .*/services/globeco-portfolio-service:http/proxy/health/ready"
        )

    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_deploys_the_overlay_of_the_environment(
        self, cluster: Cluster, environment: str
    ) -> None:
        result = cluster.run(DEPLOY_SH, environment, "--yes")
        config = next(m for m in result.applied() if m["kind"] == "ConfigMap")
        assert config["data"]["PORTFOLIO_SERVICE_ENV"] == environment

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            ("2.1.0", "globeco/globeco-portfolio-service:2.1.0"),
            ("sha256:" + "0" * 64, "globeco/globeco-portfolio-service@sha256:" + "0" * 64),
            ("2.1.0@sha256:" + "0" * 64, "globeco/globeco-portfolio-service@sha256:" + "0" * 64),
        ],
    )
    def test_image_is_the_one_asked_for(self, cluster: Cluster, image: str, expected: str) -> None:
        result = cluster.run(DEPLOY_SH, "staging", "--image", image)
        deployment = next(m for m in result.applied() if m["kind"] == "Deployment")
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == expected
        cause = deployment["metadata"]["annotations"]["kubernetes.io/change-cause"]
        assert image in cause, "the list of revisions must tell what was deployed"

    @pytest.mark.parametrize("image", ["latest", "a b", 'x"y', "-x", "", "sha256:0", "1@2"])
    def test_an_image_that_is_no_version_is_refused(self, cluster: Cluster, image: str) -> None:
        result = cluster.run(DEPLOY_SH, "staging", "--image", image)
        assert result.status == 2
        assert "--image needs a tag" in result.done.stderr

    @pytest.mark.parametrize("tag", ["latest", ""])
    def test_production_refuses_an_image_without_a_version_in_git(
        self, cluster: Cluster, tmp_path: Path, tag: str
    ) -> None:
        deploy = copy_of_deploy(tmp_path)
        base = deploy / "k8s/base/deployment.yaml"
        base.write_text(base.read_text().replace(":2.0.0", f":{tag}".removesuffix(":")))
        result = cluster.run(DEPLOY_SH, "production", "--yes", deploy=deploy)
        assert result.status == 1
        assert "production needs an image by its version or digest" in result.done.stderr
        assert not result.changed()
        assert cluster.run(
            DEPLOY_SH, "production", "--yes", "--image", "1", deploy=deploy
        ).applied()
        assert cluster.run(DEPLOY_SH, "development", deploy=deploy).status == 0

    def test_replicas_of_an_earlier_apply_are_refused_before_anything_changes(
        self, cluster: Cluster
    ) -> None:
        cluster.answers(SELECTOR_OF, 0, '{"app":"globeco-portfolio-service"}')
        cluster.answers(LAST_APPLIED_OF, 0, '{"spec":{"replicas":3,"selector":{}}}')
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert "spec.replicas, which the HPA owns now" in result.done.stderr
        assert "set-last-applied" in result.done.stderr
        assert "docs/how-to/migrate.md" in result.done.stderr
        assert not result.changed()

    def test_other_selectors_are_refused_before_anything_changes(self, cluster: Cluster) -> None:
        cluster.answers(SELECTOR_OF, 0, '{"app":"portfolio"}')
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert 'selects its pods by {"app":"portfolio"}' in result.done.stderr
        assert "docs/how-to/migrate.md" in result.done.stderr
        assert not result.changed()

    def test_its_own_deployment_is_deployed_over(self, cluster: Cluster) -> None:
        cluster.answers(SELECTOR_OF, 0, '{"app":"globeco-portfolio-service"}')
        cluster.answers(LAST_APPLIED_OF, 0, '{"spec":{"selector":{}}}')
        assert cluster.run(DEPLOY_SH, "staging").status == 0

    @pytest.mark.parametrize("option", ["--validate", "--dry-run", "--yes"])
    def test_variables_that_were_set_by_hand_are_named(self, cluster: Cluster, option: str) -> None:
        cluster.answers(r"^get deployment .*\.env\[\*\]\.name", 0, "MONGODB_URI LOG_LEVEL")
        result = cluster.run(DEPLOY_SH, "production", option)
        assert result.status == 0
        assert "MONGODB_URI was" not in result.output
        assert "LOG_LEVEL was set by hand and stays; to remove it: kubectl set env" in result.output

    def test_configmaps_that_no_revision_needs_are_removed(self, cluster: Cluster) -> None:
        used, unused, other = (f"globeco-portfolio-service-{c * 10}" for c in "abc")
        names = [used, unused, "globeco-portfolio-service-by-hand", "elsewhere-cccccccccc"]
        cluster.answers("^get configmaps", 0, "\n".join(f"configmap/{name}" for name in names))
        cluster.answers("^get deployments,replicasets,pods", 0, f"{used} {other}")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 0
        assert result.asked("^delete") == [
            f"delete configmap {unused} -n globeco --ignore-not-found"
        ]
        lines = [call["line"] for call in result.calls]
        last_wait = max(i for i, line in enumerate(lines) if line.startswith("rollout status"))
        assert lines.index(result.asked("^delete")[0]) > last_wait

    @pytest.mark.parametrize("listed", ["^get configmaps", "^get deployments,replicasets,pods"])
    def test_no_configmap_is_removed_where_its_users_cannot_be_listed(
        self, cluster: Cluster, listed: str
    ) -> None:
        cluster.answers("^get configmaps", 0, "configmap/globeco-portfolio-service-aaaaaaaaaa")
        cluster.answers(listed, 1, "forbidden")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 0
        assert not result.asked("^delete")

    def test_namespace_holds_for_everything(self, cluster: Cluster) -> None:
        result = cluster.run(DEPLOY_SH, "staging", "--namespace", "elsewhere")
        assert {m["metadata"]["namespace"] for m in result.applied()} == {"elsewhere"}
        assert not [line for line in result.asked(" -n ") if "-n elsewhere" not in line]
        assert result.asked("get --raw /api/v1/namespaces/elsewhere/")

    def test_leaves_no_file_behind(self, cluster: Cluster, tmp_path: Path) -> None:
        deploy = copy_of_deploy(tmp_path)
        before = set(deploy.rglob("*"))
        assert cluster.run(DEPLOY_SH, "staging", deploy=deploy).status == 0
        assert set(deploy.rglob("*")) == before

    def test_production_asks_and_takes_yes(self, cluster: Cluster) -> None:
        result = cluster.run(DEPLOY_SH, "production", typed="yes\n")
        assert result.status == 0
        assert result.applied()

    @pytest.mark.parametrize("typed", ["", "no\n", "y\n"])
    def test_production_goes_no_further_without_yes(self, cluster: Cluster, typed: str) -> None:
        result = cluster.run(DEPLOY_SH, "production", typed=typed)
        assert result.status == 1
        assert "not confirmed; nothing was changed" in result.done.stderr
        assert not result.changed()

    def test_dry_run_shows_the_difference_and_changes_nothing(self, cluster: Cluster) -> None:
        cluster.answers("^diff", 1, "+ image: new")
        result = cluster.run(DEPLOY_SH, "production", "--dry-run")
        assert result.status == 0
        assert "+ image: new" in result.output
        assert not result.changed()

    def test_dry_run_says_so_where_nothing_differs(self, cluster: Cluster) -> None:
        result = cluster.run(DEPLOY_SH, "staging", "--dry-run")
        assert result.status == 0
        assert "no changes" in result.output

    def test_dry_run_fails_where_the_cluster_cannot_compare(self, cluster: Cluster) -> None:
        cluster.answers("^diff", 2, "namespaces not found")
        result = cluster.run(DEPLOY_SH, "staging", "--dry-run")
        assert result.status == 1
        assert "kubectl create namespace" in result.done.stderr

    def test_validate_checks_what_runs_and_changes_nothing(self, cluster: Cluster) -> None:
        result = cluster.run(DEPLOY_SH, "production", "--validate")
        assert result.status == 0
        assert result.asked("^apply --dry-run=server")
        assert result.asked("^rollout status")
        assert result.asked("^get deployment,hpa,pdb")
        assert result.asked("health/ready")
        assert not result.changed()

    def test_validate_fails_where_the_service_is_ill(self, cluster: Cluster) -> None:
        cluster.answers("health/ready", 1, "503")
        result = cluster.run(DEPLOY_SH, "staging", "--validate")
        assert result.status == 1
        assert "/health/ready does not answer 200" in result.done.stderr

    def test_missing_secret_ends_it_before_anything_changes(self, cluster: Cluster) -> None:
        cluster.answers("^get secret", 1, "not found")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert "which holds MONGODB_URI" in result.done.stderr
        assert "next: k8s/mongodb/create-secrets.sh staging" in result.done.stderr
        assert not result.changed()

    def test_refused_manifests_are_not_half_applied(self, cluster: Cluster) -> None:
        cluster.answers("^apply --dry-run=server", 1, "admission webhook denied")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert "the cluster refuses the manifests; nothing was changed" in result.done.stderr
        assert not result.changed()

    def test_other_environment_in_the_namespace_is_not_overwritten(self, cluster: Cluster) -> None:
        cluster.answers("^get deployment .*labels.environment", 0, "production")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert "runs the environment 'production', not 'staging'" in result.done.stderr
        assert not result.changed()

    def test_stuck_rollout_shows_pods_the_last_events_the_log_and_what_next(
        self, cluster: Cluster
    ) -> None:
        cluster.answers("^rollout status", 1, "exceeded its progress deadline")
        cluster.answers("^get pods", 0, "pod-1 CrashLoopBackOff")
        cluster.answers("^get events", 0, "long ago\n" * 20 + "Back-off restarting")
        cluster.answers("^logs", 0, "MONGODB_URI is wrong")
        result = cluster.run(DEPLOY_SH, "staging", "--timeout", "7")
        assert result.status == 1
        assert result.asked("^rollout status .*--timeout=7s")
        assert "globeco-portfolio-service did not become ready within 7 s" in result.done.stderr
        assert "pod-1 CrashLoopBackOff" in result.done.stderr
        assert "Back-off restarting" in result.done.stderr
        assert result.done.stderr.count("long ago") == 19
        assert "MONGODB_URI is wrong" in result.done.stderr
        assert "next: k8s/rollback-deployment.sh staging" in result.done.stderr

    def test_health_is_asked_again_before_it_counts_as_failed(self, cluster: Cluster) -> None:
        cluster.answers("health/ready", 1, "503", times=3)
        assert cluster.run(DEPLOY_SH, "staging").status == 0

    def test_failed_health_check_shows_pods_and_what_next(self, cluster: Cluster) -> None:
        cluster.answers("health/detailed", 1, "503")
        result = cluster.run(DEPLOY_SH, "staging")
        assert result.status == 1
        assert "FAILED: /health/detailed does not answer 200" in result.done.stderr
        assert result.asked("^get pods")
        assert "rollback-deployment.sh staging" in result.done.stderr

    def test_health_check_can_be_left_out(self, cluster: Cluster) -> None:
        cluster.answers("get --raw", 1, "503")
        result = cluster.run(DEPLOY_SH, "staging", "--skip-health-check")
        assert result.status == 0
        assert not result.asked("get --raw")


@pytest.mark.slow
class TestRollback:
    def test_goes_back_one_revision_waits_and_checks_health(self, cluster: Cluster) -> None:
        result = cluster.run(ROLLBACK_SH, "staging")
        assert result.status == 0, result.output
        assert result.changed() == ["rollout undo deployment/globeco-portfolio-service -n globeco"]
        assert result.asked("^rollout status")
        assert result.asked("health/ready")

    def test_goes_back_to_the_revision_that_is_named(self, cluster: Cluster) -> None:
        result = cluster.run(ROLLBACK_SH, "staging", "5")
        assert result.asked("^rollout history .*--revision=5$")
        assert result.asked("^rollout undo .*--to-revision=5$")

    def test_unknown_revision_changes_nothing(self, cluster: Cluster) -> None:
        cluster.answers("--revision=99", 1, "unable to find")
        result = cluster.run(ROLLBACK_SH, "staging", "99")
        assert result.status == 1
        assert "there is no revision 99; nothing was changed" in result.done.stderr
        assert not result.changed()

    @pytest.mark.parametrize("revision", ["0", "-1", "five"])
    def test_a_revision_is_a_number_from_1(self, cluster: Cluster, revision: str) -> None:
        result = cluster.run(ROLLBACK_SH, "staging", revision)
        assert result.status == 2

    def test_list_shows_the_revisions_and_changes_nothing(self, cluster: Cluster) -> None:
        cluster.answers("^rollout history", 0, "4  deploy production, image 2.0.0")
        result = cluster.run(ROLLBACK_SH, "production", "--list")
        assert result.status == 0
        assert "4  deploy production, image 2.0.0" in result.output
        assert not result.changed()

    def test_list_fails_where_nothing_is_deployed(self, cluster: Cluster) -> None:
        cluster.answers("^rollout history", 1, "not found")
        result = cluster.run(ROLLBACK_SH, "staging", "--list")
        assert result.status == 1
        assert "has no history" in result.done.stderr

    def test_dry_run_changes_nothing(self, cluster: Cluster) -> None:
        result = cluster.run(ROLLBACK_SH, "production", "3", "--dry-run")
        assert result.status == 0
        assert result.asked("^rollout undo .*--to-revision=3 --dry-run=server$")
        assert not result.changed()

    def test_production_goes_no_further_without_yes(self, cluster: Cluster) -> None:
        result = cluster.run(ROLLBACK_SH, "production", typed="no\n")
        assert result.status == 1
        assert not result.changed()

    def test_yes_answers_for_production(self, cluster: Cluster) -> None:
        assert cluster.run(ROLLBACK_SH, "production", "--yes").changed()

    def test_refused_rollback_says_so(self, cluster: Cluster) -> None:
        cluster.answers("^rollout undo", 1, "no last revision")
        result = cluster.run(ROLLBACK_SH, "staging")
        assert result.status == 1
        assert "the rollback was refused; nothing was changed" in result.done.stderr

    def test_stuck_rollback_shows_pods_and_what_next(self, cluster: Cluster) -> None:
        cluster.answers("^rollout status", 1, "timed out")
        result = cluster.run(ROLLBACK_SH, "staging")
        assert result.status == 1
        assert result.asked("^get pods")
        assert "name an older revision" in result.done.stderr

    def test_failed_health_check_fails_it(self, cluster: Cluster) -> None:
        cluster.answers("health/ready", 1, "503")
        assert cluster.run(ROLLBACK_SH, "staging").status == 1
        assert cluster.run(ROLLBACK_SH, "staging", "--skip-health-check").status == 0

    def test_other_environment_in_the_namespace_is_left_alone(self, cluster: Cluster) -> None:
        cluster.answers("^get deployment .*labels.environment", 0, "production")
        result = cluster.run(ROLLBACK_SH, "staging")
        assert result.status == 1
        assert not result.changed()


MONITORING_PARTS = {
    "--skip-collector": "deployment/otel-collector",
    "--skip-alerting": "statefulset/alertmanager",
    "--skip-kube-state": "deployment/kube-state-metrics",
    "--skip-rules": "statefulset/prometheus",
    "--skip-dashboard": "deployment/grafana",
}


@pytest.mark.slow
class TestMonitoring:
    def test_deploys_all_parts_and_waits_for_each(self, cluster: Cluster) -> None:
        result = cluster.run(MONITORING_SH)
        assert result.status == 0, result.output
        assert [line.split()[2] for line in result.asked("^rollout status")] == list(
            MONITORING_PARTS.values()
        )
        names = {f"{m['kind'].lower()}/{m['metadata']['name']}" for m in result.applied()}
        assert names >= set(MONITORING_PARTS.values())

    @pytest.mark.parametrize("option", MONITORING_PARTS)
    def test_leaves_out_the_part_that_is_skipped(self, cluster: Cluster, option: str) -> None:
        result = cluster.run(MONITORING_SH, option)
        assert result.status == 0
        waited_for = {line.split()[2] for line in result.asked("^rollout status")}
        assert waited_for == set(MONITORING_PARTS.values()) - {MONITORING_PARTS[option]}

    def test_dry_run_changes_nothing(self, cluster: Cluster) -> None:
        result = cluster.run(MONITORING_SH, "--dry-run")
        assert result.status == 0
        assert len(result.asked("^diff")) == len(MONITORING_PARTS)
        assert not result.changed()

    def test_namespace_holds_for_everything(self, cluster: Cluster) -> None:
        result = cluster.run(MONITORING_SH, "--namespace", "monitoring")
        assert {m["metadata"]["namespace"] for m in result.applied()} == {"monitoring"}

    def test_alerting_needs_the_password_of_its_mail_account(self, cluster: Cluster) -> None:
        cluster.answers("^get secret alertmanager-smtp", 1, "not found")
        result = cluster.run(MONITORING_SH)
        assert result.status == 1
        assert "next: kubectl create secret generic alertmanager-smtp" in result.done.stderr
        assert cluster.run(MONITORING_SH, "--skip-alerting").status == 0

    def test_traces_go_where_it_is_told_and_nowhere_else(self, cluster: Cluster) -> None:
        result = cluster.run(MONITORING_SH, "--traces", "jaeger.tracing:4317")
        assert result.status == 0, result.output
        (collector,) = (
            m
            for m in result.applied()
            if m["metadata"]["name"] == "otel-collector" and "args" in str(m)
        )
        (container,) = collector["spec"]["template"]["spec"]["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables["TRACES_OTLP_ENDPOINT"] == "jaeger.tracing:4317"
        assert "--config=/etc/otelcol/traces.yaml" in container["args"]

    def test_without_a_backend_no_part_knows_of_one(self, cluster: Cluster) -> None:
        result = cluster.run(MONITORING_SH)
        assert "TRACES_OTLP_ENDPOINT" not in str(result.applied())

    @pytest.mark.parametrize("endpoint", [(), ("jaeger",), ("http://jaeger:4317",)])
    def test_an_endpoint_of_traces_that_is_none_is_refused(
        self, cluster: Cluster, endpoint: tuple[str, ...]
    ) -> None:
        result = cluster.run(MONITORING_SH, "--traces", *endpoint)
        assert result.status == 2
        assert "--traces needs a HOST:PORT" in result.done.stderr
        assert not result.changed()

    def test_earlier_versions_of_its_config_maps_go_once_the_rollout_is_done(
        self, cluster: Cluster
    ) -> None:
        first = cluster.run(MONITORING_SH)
        current = [m["metadata"]["name"] for m in first.applied() if m["kind"] == "ConfigMap"]
        old = ["prometheus-b2c4d6f8g2", "prometheus-rules-h2k4m6t8b2", "otel-collector-2222222222"]
        others = ["globeco-portfolio-service-b2c4d6f8g2", "prometheus-mine", "kube-root-ca.crt"]
        names = "\n".join(f"configmap/{name}" for name in [*current, *old, *others])
        cluster.answers("^get configmaps", 0, names)
        result = cluster.run(MONITORING_SH)
        assert result.status == 0, result.output
        deleted = [name for line in result.asked("^delete") for name in line.split()[3:]]
        assert sorted(deleted) == sorted(f"configmap/{name}" for name in old)
        lines = [call["line"] for call in result.calls]
        rollout = next(
            i
            for i, line in reversed(list(enumerate(lines)))
            if "prometheus" in line and "rollout" in line
        )
        delete = next(
            i for i, line in enumerate(lines) if line.startswith("delete") and "rules" in line
        )
        assert rollout < delete

    def test_a_service_that_has_an_address_is_made_again_without_one(
        self, cluster: Cluster
    ) -> None:
        cluster.answers("^get service prometheus .*clusterIP", 0, "10.0.0.7")
        preview = cluster.run(MONITORING_SH, "--dry-run")
        assert preview.status == 0, preview.output
        assert not preview.changed()
        assert "service/prometheus would be deleted" in preview.output
        result = cluster.run(MONITORING_SH)
        assert result.status == 0, result.output
        assert result.asked("^delete service") == ["delete service prometheus -n globeco"]

    def test_a_headless_service_is_left_alone(self, cluster: Cluster) -> None:
        cluster.answers("^get service .*clusterIP", 0, "None")
        result = cluster.run(MONITORING_SH)
        assert result.status == 0, result.output
        assert not result.asked("^delete")

    def test_failed_part_shows_its_pods_and_ends_it(self, cluster: Cluster) -> None:
        cluster.answers("^rollout status statefulset/alertmanager", 1, "timed out")
        result = cluster.run(MONITORING_SH)
        assert result.status == 1
        assert result.asked("^get pods .*app=alertmanager")
        assert not result.asked("^rollout status statefulset/prometheus")
        assert "--skip-..." in result.done.stderr


AUTH = "secret/globeco-portfolio-service-mongodb-auth"
URI = "secret/globeco-portfolio-service-mongodb"


class TestSecrets:
    @pytest.mark.parametrize(("environment", "members"), [("development", 1), ("production", 3)])
    def test_makes_credentials_that_fit_each_other(
        self, cluster: Cluster, environment: str, members: int
    ) -> None:
        result = cluster.run(SECRETS_SH, environment)
        assert result.status == 0, result.output
        database, service = (call["stdin"] for call in result.calls if "stdin" in call)
        secrets = dict(line.split("=", 1) for line in database.splitlines())
        assert set(secrets) == {
            "keyfile",
            "root-password",
            "backup-password",
            "portfolio-password",
        }
        assert len(set(secrets.values())) == len(secrets)
        assert 6 <= len(secrets["keyfile"]) <= 1024, "what mongod takes"
        assert service.startswith(f"uri=mongodb://portfolio:{secrets['portfolio-password']}@")
        assert service.count(":27017") == members

    def test_no_credential_is_shown_or_put_on_a_command_line(self, cluster: Cluster) -> None:
        result = cluster.run(SECRETS_SH, "production")
        database = next(call["stdin"] for call in result.calls if "stdin" in call)
        lines = "\n".join(call["line"] for call in result.calls)
        for line in database.splitlines():
            secret = line.split("=", 1)[1]
            assert secret not in lines + result.output

    def test_never_replaces_what_is_there(self, cluster: Cluster) -> None:
        cluster.answers("^get secret .*-auth", 0, AUTH)
        cluster.answers("^get secret .*mongodb -n", 0, URI)
        result = cluster.run(SECRETS_SH, "production")
        assert result.status == 1
        assert "left as they are" in result.done.stderr
        assert not result.changed()

    def test_goes_on_where_an_earlier_run_was_cut_off(self, cluster: Cluster) -> None:
        cluster.answers("^get secret .*-auth .*-o name", 0, AUTH)
        password = base64.b64encode(b"0123abcd").decode()
        cluster.answers("^get secret .*-auth .*portfolio-password", 0, password)
        result = cluster.run(SECRETS_SH, "production")
        assert result.status == 0, result.output
        (service,) = (call["stdin"] for call in result.calls if "stdin" in call)
        assert service.startswith("uri=mongodb://portfolio:0123abcd@")
        assert len(result.changed()) == 1
        assert "0123abcd" not in result.output + "".join(call["line"] for call in result.calls)

    def test_puts_no_password_of_another_making_into_a_uri(self, cluster: Cluster) -> None:
        cluster.answers("^get secret .*-auth .*-o name", 0, AUTH)
        password = base64.b64encode(b"p@ss/word").decode()
        cluster.answers("^get secret .*-auth .*portfolio-password", 0, password)
        result = cluster.run(SECRETS_SH, "production")
        assert result.status == 1
        assert "holds no portfolio-password of this script's making" in result.done.stderr
        assert not result.changed()

    def test_makes_no_second_password_for_a_uri_that_is_there(self, cluster: Cluster) -> None:
        cluster.answers("^get secret .*mongodb -n", 0, URI)
        result = cluster.run(SECRETS_SH, "production")
        assert result.status == 1
        assert "-auth does not: left as it is" in result.done.stderr
        assert not result.changed()

    def test_secrets_that_cannot_be_looked_for_end_it(self, cluster: Cluster) -> None:
        cluster.answers("^get secret", 1, "connection refused")
        result = cluster.run(SECRETS_SH, "production")
        assert result.status == 1
        assert "FAILED: cannot look for secret" in result.done.stderr
        assert not result.changed()

    def test_a_missing_namespace_is_named(self, cluster: Cluster) -> None:
        cluster.answers("^get namespace", 1, "not found")
        result = cluster.run(SECRETS_SH, "production", "--namespace", "elsewhere")
        assert result.status == 1
        assert "next: kubectl create namespace elsewhere" in result.done.stderr
        assert not result.changed()


JOBS = ["init", "backup", "restore", "restore-drill"]
CONDITIONS_OF = "^get job .*conditions"


@pytest.mark.slow
class TestJobs:
    @pytest.mark.parametrize("job", JOBS)
    def test_makes_a_job_of_a_dated_name_and_waits_for_its_end(
        self, cluster: Cluster, job: str
    ) -> None:
        cluster.answers(CONDITIONS_OF, 0, "ended:SuccessCriteriaMet Complete")
        cluster.answers(CONDITIONS_OF, 0, "ended:", times=3)
        result = cluster.run(JOB_SH, job, "--yes")
        assert result.status == 0, result.output
        (created,) = result.asked("^create job")
        cron = f"globeco-portfolio-service-mongodb-{job}"
        name = created.split()[2]
        assert re.fullmatch(rf"{cron}-\d{{8}}-\d{{6}}", name)
        assert len(name) <= 63, "the name becomes a label of its pods"
        assert f"--from=cronjob/{cron}" in created
        assert len(result.asked(CONDITIONS_OF)) == 4
        assert result.asked(f"^logs .*job/{name}")

    @pytest.mark.parametrize("job", JOBS)
    def test_a_job_that_fails_ends_the_wait(self, cluster: Cluster, job: str) -> None:
        cluster.answers(CONDITIONS_OF, 0, "ended:FailureTarget Failed")
        cluster.answers("^logs", 0, "no space left on device")
        result = cluster.run(JOB_SH, job, "--yes")
        assert result.status == 1
        assert "no space left on device" in result.output
        assert "FAILED: globeco-portfolio-service-mongodb-" in result.done.stderr

    def test_a_job_that_does_not_end_is_not_waited_for_without_bound(
        self, cluster: Cluster
    ) -> None:
        cluster.answers(CONDITIONS_OF, 0, "ended:")
        result = cluster.run(JOB_SH, "backup", "--timeout", "1")
        assert result.status == 1
        assert "has not ended within 1 s; it still runs" in result.done.stderr

    @pytest.mark.parametrize("moment", ["20240120T020000Z", "before-migration"])
    def test_restores_the_archive_that_is_named(self, cluster: Cluster, moment: str) -> None:
        cluster.answers(CONDITIONS_OF, 0, "ended:Complete")
        archive = f"portfolio-{moment}.archive.gz"
        result = cluster.run(JOB_SH, "restore", "--archive", archive, "--yes")
        assert result.asked(f"^set env --local -f - BACKUP={archive} -o yaml$")

    @pytest.mark.parametrize(
        ("job", "archive"),
        [
            ("restore", "../x"),
            ("restore", "portfolio-1"),
            ("restore", ""),
            ("backup", "portfolio-1.archive.gz"),
        ],
    )
    def test_only_a_restore_takes_an_archive_and_as_backups_name_it(
        self, cluster: Cluster, job: str, archive: str
    ) -> None:
        result = cluster.run(JOB_SH, job, "--archive", archive, "--yes")
        assert result.status == 2
        assert not result.calls

    def test_restore_goes_no_further_without_yes(self, cluster: Cluster) -> None:
        result = cluster.run(JOB_SH, "restore", typed="no\n")
        assert result.status == 1
        assert "not confirmed; nothing was changed" in result.done.stderr
        assert not result.changed()

    def test_restore_is_refused_while_the_service_may_write(self, cluster: Cluster) -> None:
        cluster.answers("^get deployment .*replicas", 0, "3")
        result = cluster.run(JOB_SH, "restore", "--yes")
        assert result.status == 1
        assert "still runs with 3 pods; nothing was changed" in result.done.stderr
        assert "--replicas=0" in result.done.stderr

    def test_dry_run_shows_the_job_and_changes_nothing(self, cluster: Cluster) -> None:
        cluster.answers("^create job", 0, "kind: Job")
        result = cluster.run(JOB_SH, "restore", "--dry-run")
        assert result.status == 0
        assert "kind: Job" in result.output
        assert not result.changed()

    def test_says_what_is_missing_where_there_is_no_such_job(self, cluster: Cluster) -> None:
        cluster.answers("^get cronjob", 1, "not found")
        result = cluster.run(JOB_SH, "backup")
        assert result.status == 1
        assert "next: kubectl apply -k k8s/mongodb/ENV" in result.done.stderr
        assert not result.changed()
