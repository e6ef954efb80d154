"""A cluster to run the runbook's commands on: what kubectl asks of an API server, and no more.

It holds manifests, and the pods, revisions, metrics and events that would follow from them. So
kubectl itself says whether a command is well formed, and a name that does not exist is not found.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import HTTPServer, Reply, Request

Object = dict[str, Any]

# Per group and version: plural, kind, whether it lives in a namespace.
RESOURCES = {
    "v1": [
        ("pods", "Pod", True),
        ("services", "Service", True),
        ("secrets", "Secret", True),
        ("configmaps", "ConfigMap", True),
        ("events", "Event", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True),
        ("namespaces", "Namespace", False),
        ("nodes", "Node", False),
    ],
    "apps/v1": [
        ("deployments", "Deployment", True),
        ("statefulsets", "StatefulSet", True),
        ("replicasets", "ReplicaSet", True),
        ("daemonsets", "DaemonSet", True),
        ("controllerrevisions", "ControllerRevision", True),
    ],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True)],
    "batch/v1": [("jobs", "Job", True), ("cronjobs", "CronJob", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy", True)],
    "rbac.authorization.k8s.io/v1": [
        ("roles", "Role", True),
        ("rolebindings", "RoleBinding", True),
    ],
    "metrics.k8s.io/v1beta1": [("pods", "PodMetrics", True), ("nodes", "NodeMetrics", False)],
}
SHORT = {
    "horizontalpodautoscalers": ["hpa"],
    "persistentvolumeclaims": ["pvc"],
    "poddisruptionbudgets": ["pdb"],
}
VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
LOG = [
    {"ts": "2024-01-20T14:45:00.123Z", "level": "INFO", "msg": "ready"},
    {"ts": "2024-01-20T14:45:01.123Z", "level": "ERROR", "msg": "an error"},
]
# What is there beside the manifests.
SURROUNDINGS: list[Object] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "globeco"}},
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-1"},
        "status": {"allocatable": {"cpu": "2", "memory": "8Gi"}},
    },
    {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "NodeMetrics",
        "metadata": {"name": "node-1"},
        "timestamp": "2024-01-20T14:45:00Z",
        "window": "30s",
        "usage": {"cpu": "500m", "memory": "2Gi"},
    },
    {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "event-1", "namespace": "globeco"},
        "involvedObject": {"kind": "Pod", "name": "globeco-portfolio-service-6-0"},
        "lastTimestamp": "2024-01-20T14:45:00Z",
        "reason": "Started",
        "message": "Started container",
        "type": "Normal",
    },
]


class FakeCluster(HTTPServer):
    """An API server on the loopback interface, with objects in memory."""

    def __init__(self, manifests: Iterable[Object]) -> None:
        self.objects: dict[str, Object] = {"/version": VERSION}
        for thing in [*SURROUNDINGS, *manifests]:
            self.add(copy.deepcopy(thing))
        super().__init__(self._answer)

    @property
    def kubeconfig(self) -> str:
        """What kubectl needs to find it."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                "users": [{"name": "fake", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                "current-context": "fake",
            }
        )

    def add(self, thing: Object) -> None:
        """Hold an object, and what a cluster would make of it."""
        version, kind = thing["apiVersion"], thing["kind"]
        plural, in_namespace = next((p, n) for p, k, n in RESOURCES[version] if k == kind)
        meta = thing["metadata"]
        meta |= {"uid": f"uid-{kind}-{meta['name']}", "resourceVersion": "1", "generation": 1}
        meta.setdefault("creationTimestamp", "2024-01-20T14:45:00Z")
        root = "/api/" if version == "v1" else "/apis/"
        place = f"/namespaces/{meta['namespace']}" if in_namespace else ""
        self.objects[f"{root}{version}{place}/{plural}/{meta['name']}"] = thing
        if kind == "Deployment":
            self._roll_out(thing)
        elif kind == "StatefulSet":
            thing["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
            counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            thing["status"] = {"observedGeneration": 99} | dict.fromkeys(
                counts, thing["spec"]["replicas"]
            )
            for index in range(thing["spec"]["replicas"]):
                self._run_pod(thing, f"{meta['name']}-{index}")
                for claim in thing["spec"].get("volumeClaimTemplates", []):
                    name = f"{claim['metadata']['name']}-{meta['name']}-{index}"
                    where = {"name": name, "namespace": meta["namespace"]}
                    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
                    self.add(claim | kind | {"metadata": where})
        elif kind == "Job":
            thing["spec"].setdefault("selector", {"matchLabels": {"job-name": meta["name"]}})
            thing["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            self._run_pod(thing, f"{meta['name']}-x", {"job-name": meta["name"]})

    def _roll_out(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        revisions = (4, 5, 6)
        meta.setdefault("annotations", {}).update(
            {
                "deployment.kubernetes.io/revision": "6",
                "kubectl.kubernetes.io/last-applied-configuration": json.dumps(deployment),
            }
        )
        spec["replicas"] = 3
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        deployment["status"] = {"observedGeneration": 99} | dict.fromkeys(counts, 3)
        for revision in revisions:
            template = copy.deepcopy(spec["template"])
            template["metadata"]["labels"]["pod-template-hash"] = str(revision)
            self.add(
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "metadata": {
                        "name": f"{meta['name']}-{revision}",
                        "namespace": meta["namespace"],
                        "labels": template["metadata"]["labels"],
                        "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                        "ownerReferences": [
                            {
                                "apiVersion": "apps/v1",
                                "kind": "Deployment",
                                "name": meta["name"],
                                "uid": meta["uid"],
                                "controller": True,
                            }
                        ],
                    },
                    "spec": {"replicas": 0, "selector": spec["selector"], "template": template},
                }
            )
        for index in range(spec["replicas"]):
            self._run_pod(deployment, f"{meta['name']}-6-{index}")

    def _run_pod(self, owner: Object, name: str, labels: Object | None = None) -> None:
        namespace, template = owner["metadata"]["namespace"], owner["spec"]["template"]
        meta = {
            "name": name,
            "namespace": namespace,
            "labels": template["metadata"]["labels"] | (labels or {}),
        }
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "conditions": ready, "containerStatuses": []}
        self.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": dict(meta),
                "spec": template["spec"],
                "status": status,
            }
        )
        self.add(
            {
                "apiVersion": "metrics.k8s.io/v1beta1",
                "kind": "PodMetrics",
                "metadata": dict(meta),
                "timestamp": "2024-01-20T14:45:00Z",
                "window": "30s",
                "containers": [
                    {"name": container["name"], "usage": {"cpu": "50m", "memory": "90Mi"}}
                    for container in template["spec"]["containers"]
                ],
            }
        )

    def listed(self, path: str, query: dict[str, list[str]]) -> list[Object]:
        """The objects of a collection that a label selector lets through."""
        wanted = dict(
            pair.split("=", 1)
            for pair in query.get("labelSelector", [""])[0].replace("==", "=").split(",")
            if pair
        )
        return [
            thing
            for where, thing in self.objects.items()
            if where.rsplit("/", 1)[0] == path
            and wanted.items() <= thing["metadata"].get("labels", {}).items()
        ]

    def _answer(self, request: Request) -> Reply:
        url = urlsplit(request.path)
        path, query = url.path, parse_qs(url.query)
        if request.method == "POST":
            # Not Kubernetes' API: objects come through /keep, in JSON whatever kubectl speaks.
            self.add(json.loads(request.body))
            return as_json({})
        if log := re.fullmatch(r"(.*/pods/[^/]+)/log", path):
            text = "".join(json.dumps(line) + "\n" for line in LOG)
            return Reply(200 if log[1] in self.objects else 404, text.encode())
        if query.get("watch"):
            return Reply()
        return as_json(self._find(request.method, path, query) or not_found(path))

    def _find(self, method: str, path: str, query: dict[str, list[str]]) -> Object | None:
        if path in ("/api", "/apis") or version_in(path) in RESOURCES:
            return discovery(path)
        if "/proxy/" in path:
            service = re.sub(r":\w+/proxy/.*", "", path)
            return {"kind": "any"} if service in self.objects else None
        if path.endswith("/scale"):
            return scale(self.objects.get(path.removesuffix("/scale")))
        if method == "DELETE":
            return self.objects.pop(path, None)
        if path in self.objects or (listed := kind_in(path)) is None:
            return self.objects.get(path)
        return {
            "apiVersion": listed[0],
            "kind": f"{listed[1]}List",
            "metadata": {"resourceVersion": "1"},
            "items": self.listed(path, query),
        }


def as_json(thing: Object) -> Reply:
    headers = {"Content-Type": "application/json"}
    return Reply(thing.get("code", 200), json.dumps(thing).encode(), headers)


def version_in(path: str) -> str:
    return path.removeprefix("/apis/").removeprefix("/api/")


def discovery(path: str) -> Object:
    """What the server says of its groups and resources."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [version for version in RESOURCES if "/" in version]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": version.split("/")[0],
                    "versions": [{"groupVersion": version, "version": version.split("/")[1]}],
                    "preferredVersion": {
                        "groupVersion": version,
                        "version": version.split("/")[1],
                    },
                }
                for version in groups
            ],
        }
    version = version_in(path)
    verbs = ["get", "list", "watch", "create", "patch", "update", "delete"]
    resources = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": in_namespace,
            "kind": kind,
            "verbs": verbs,
            "shortNames": SHORT.get(plural, []),
        }
        for plural, kind, in_namespace in RESOURCES[version]
    ]
    if version == "apps/v1":
        resources.append(
            {
                "name": "deployments/scale",
                "namespaced": True,
                "kind": "Scale",
                "group": "autoscaling",
                "version": "v1",
                "verbs": verbs,
            }
        )
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def kind_in(path: str) -> tuple[str, str] | None:
    """The version and kind that a collection's path lists."""
    found = re.fullmatch(r"/apis?/(v1|[^/]+/[^/]+)/(?:namespaces/[^/]+/)?([^/]+)", path)
    if found is None:
        return None
    resources = RESOURCES.get(found[1], [])
    return next(((found[1], kind) for plural, kind, _ in resources if plural == found[2]), None)


def scale(thing: Object | None) -> Object | None:
    """The scale of a deployment."""
    return thing and {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: thing["metadata"][key] for key in ("name", "namespace", "uid")},
        "spec": {"replicas": thing["spec"]["replicas"]},
        "status": {"replicas": thing["spec"]["replicas"]},
    }


def not_found(path: str) -> Object:
    """The server's word for what is not there."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "message": f"{path} not found",
        "code": 404,
    }
