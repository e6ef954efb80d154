"""The metrics that the service sends, and which names a PromQL expression uses."""

from __future__ import annotations

import pytest
import yaml

from portfolio.observability.registry import HISTOGRAM, METRICS

from .conftest import MONITORING

promql_parser = pytest.importorskip("promql_parser", reason="requirements-deploy.txt has it")

# With what a histogram becomes in Prometheus.
CONTRACT = {
    each.prometheus_name + suffix
    for each in METRICS
    for suffix in (("_bucket", "_sum", "_count") if each.kind == HISTOGRAM else ("",))
}

# What rules record, and of which expression.
RECORDED = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load((MONITORING / "rules/recording.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
}

# What rules read beside the service's own: kube-state-metrics' word on the jobs of MongoDB.
KUBE_STATE = {"kube_cronjob_created", "kube_cronjob_status_last_successful_time"}


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression selects; ValueError where it is no PromQL."""
    names: set[str] = set()

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            names.add(node.name)
        elif isinstance(node, promql_parser.MatrixSelector):
            visit(node.vector_selector)
        elif isinstance(node, promql_parser.BinaryExpr):
            visit(node.lhs)
            visit(node.rhs)
        elif isinstance(node, promql_parser.Call):
            for argument in node.args:
                visit(argument)
        elif isinstance(
            node,
            promql_parser.AggregateExpr
            | promql_parser.ParenExpr
            | promql_parser.UnaryExpr
            | promql_parser.SubqueryExpr,
        ):
            visit(node.expr)

    visit(promql_parser.parse(expression))
    return names


def names_outside_the_contract(expression: str) -> set[str]:
    """The metrics of an expression that the service does not send."""
    return metric_names(expression) - CONTRACT
