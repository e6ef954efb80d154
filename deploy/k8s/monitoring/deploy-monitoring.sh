#!/usr/bin/env bash
# Deploys the monitoring of the service: collector, Prometheus with the rules, Grafana with the
# dashboards, Alertmanager. Each part stands alone: skip what the cluster has already.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy-monitoring.sh [options]

  --skip-collector     leave out the OpenTelemetry collector
  --skip-rules         leave out Prometheus and its rules
  --skip-dashboard     leave out Grafana and its dashboards
  --skip-alerting      leave out Alertmanager
  --dry-run            change nothing: show what would change
  --namespace NS       default: globeco
  --timeout S          how long the rollout of each part may take; default: 300
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

parts=" collector alerting rules dashboards "
while [ $# -gt 0 ]; do
  parse_shared_option "$@"
  if [ "$taken" -eq 0 ]; then
    taken=1
    case $1 in
      --skip-collector | --skip-rules | --skip-alerting) parts=${parts/ ${1#--skip-} / } ;;
      --skip-dashboard) parts=${parts/ dashboards / } ;;
      *) misuse "unknown argument: $1" ;;
    esac
  fi
  shift "$taken"
done

workload() {
  case $1 in
    collector) echo deployment/otel-collector otel-collector ;;
    alerting) echo statefulset/alertmanager alertmanager ;;
    rules) echo statefulset/prometheus prometheus ;;
    dashboards) echo deployment/grafana grafana ;;
  esac
}

step "Checking the cluster"
require_cluster
[ "$dry_run" = true ] || require_namespace

for part in $parts; do
  step "$part"
  render "monitoring/$part"
  if [ "$dry_run" = true ]; then
    show_changes
    continue
  fi
  [ "$part" != alerting ] || require_secret alertmanager-smtp "the password of the mail account" \
    "kubectl create secret generic alertmanager-smtp -n $namespace --from-file=password=FILE" \
    "or leave it out: --skip-alerting"
  apply_manifests
  read -r name app <<<"$(workload "$part")"
  wait_for_rollout "$name" "$app" "see the pods, events and log above" \
    "run the same command again, with --skip-... for the parts that are done"
done

[ "$dry_run" = true ] || step "monitoring is deployed:${parts% }"
