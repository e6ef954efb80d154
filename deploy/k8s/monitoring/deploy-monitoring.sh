#!/usr/bin/env bash
# Deploys the monitoring of the service: collector, Alertmanager, kube-state-metrics, Prometheus with the
# rules, Grafana with the dashboards. Each part stands alone: skip what the cluster has already.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy-monitoring.sh [options]

  --skip-collector     leave out the OpenTelemetry collector
  --skip-kube-state    leave out kube-state-metrics, which tells of the backups
  --skip-rules         leave out Prometheus and its rules
  --skip-dashboard     leave out Grafana and its dashboards
  --skip-alerting      leave out Alertmanager
  --traces HOST:PORT   send traces on to this OTLP/gRPC endpoint; default: accept and drop them
  --dry-run            change nothing: show what would change
  --namespace NS       default: globeco
  --timeout S          how long the rollout of each part may take; default: 300
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

parts=" collector alerting kube-state rules dashboards "
traces=
while [ $# -gt 0 ]; do
  parse_shared_option "$@"
  if [ "$taken" -eq 0 ]; then
    taken=1
    case $1 in
      --skip-collector | --skip-kube-state | --skip-rules | --skip-alerting)
        parts=${parts/ ${1#--skip-} / }
        ;;
      --skip-dashboard) parts=${parts/ dashboards / } ;;
      --traces)
        [[ ${2:-} =~ ^[A-Za-z0-9.-]+:[0-9]+$ ]] || misuse "--traces needs a HOST:PORT"
        traces=$2 taken=2
        ;;
      *) misuse "unknown argument: $1" ;;
    esac
  fi
  shift "$taken"
done

workload() {
  case $1 in
    collector) echo deployment/otel-collector otel-collector ;;
    alerting) echo statefulset/alertmanager alertmanager ;;
    kube-state) echo deployment/kube-state-metrics kube-state-metrics ;;
    rules) echo statefulset/prometheus prometheus ;;
    dashboards) echo deployment/grafana grafana ;;
  esac
}

# render_part PART: writes its manifests to $manifests.
render_part() {
  if [ "$1" != collector ] || [ -z "$traces" ]; then
    render "monitoring/$1"
    return
  fi
  render monitoring/collector-traces "
patches:
  - patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: otel-collector
      spec:
        template:
          spec:
            containers:
              - name: otel-collector
                env:
                  - name: TRACES_OTLP_ENDPOINT
                    value: '$traces'"
}

# address_to_take NAME: the cluster IP of a Service that is to have none. It cannot be changed, so the
# Service is deleted and made again; earlier releases gave it one.
address_to_take() {
  local address
  address=$(kubectl get service "$1" -n "$namespace" --ignore-not-found -o 'jsonpath={.spec.clusterIP}') ||
    fail "cannot read service/$1" "check your rights: kubectl auth can-i get services -n $namespace"
  [ "$address" = None ] || echo "$address"
}

# prune_config_maps: deletes earlier versions of the ConfigMaps in $manifests, which nothing mounts once
# the rollout is done. Their names end in a hash of their content. The way back is git, not a revision.
prune_config_maps() {
  local hash='[bcdfghkmt2456789]{10}' current there old=()
  there=$(kubectl get configmaps -n "$namespace" -o name) || {
    echo "old ConfigMaps are left: they cannot be listed"
    return 0
  }
  while read -r current; do
    while read -r found; do
      [[ ! $found =~ ^configmap/${current%-*}-$hash$ ]] || [ "$found" = "configmap/$current" ] || old+=("$found")
    done <<<"$there"
  done < <(sed -nE "s/^  name: (.*-$hash)\$/\1/p" "$manifests")
  [ "${#old[@]}" -eq 0 ] || kubectl delete -n "$namespace" "${old[@]}" || echo "old ConfigMaps are left: ${old[*]}"
}

step "Checking the cluster"
require_cluster
[ "$dry_run" = true ] || require_namespace

for part in $parts; do
  step "$part"
  render_part "$part"
  read -r name app <<<"$(workload "$part")"
  address=
  case $part in alerting | rules) address=$(address_to_take "$app") ;; esac
  if [ "$dry_run" = true ]; then
    if [ -n "$address" ]; then
      echo "service/$app would be deleted and made again without a cluster IP; other changes show after that"
    else
      show_changes
    fi
    continue
  fi
  [ "$part" != alerting ] || require_secret alertmanager-smtp "the password of the mail account" \
    "kubectl create secret generic alertmanager-smtp -n $namespace --from-file=password=FILE" \
    "or leave it out: --skip-alerting"
  [ -z "$address" ] || kubectl delete service "$app" -n "$namespace" ||
    fail "cannot delete service/$app" "check your rights: kubectl auth can-i delete services -n $namespace"
  apply_manifests
  wait_for_rollout "$name" "$app" "see the pods, events and log above" \
    "run the same command again, with --skip-... for the parts that are done"
  prune_config_maps
done

[ "$dry_run" = true ] || step "monitoring is deployed:${parts% }"
