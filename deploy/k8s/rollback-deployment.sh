#!/usr/bin/env bash
# Puts the service back to an earlier revision: image and configuration together, because every
# revision refers to a ConfigMap of its own.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: rollback-deployment.sh development|staging|production [REVISION] [options]

  REVISION             a number that --list shows; default: the one before the current
  --list               show the revisions, change nothing
  --dry-run            show what the revision holds, change nothing
  --namespace NS       default: globeco
  --timeout S          how long the rollout may take; default: 300
  --skip-health-check  do not ask the service for its health afterwards
  --yes                do not ask for confirmation (production)
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

environment=
revision=
list=false
while [ $# -gt 0 ]; do
  parse_shared_option "$@"
  if [ "$taken" -eq 0 ]; then
    taken=1
    case $1 in
      development | staging | production)
        only_one environment "$environment" "$1"
        environment=$1
        ;;
      --list) list=true ;;
      *[!0-9]* | 0*) misuse "unknown argument: $1" ;;
      *)
        only_one revision "$revision" "$1"
        revision=$1
        ;;
    esac
  fi
  shift "$taken"
done
[ -n "$environment" ] || misuse "which environment?"

revisions() { kubectl rollout history "deployment/$SERVICE" -n "$namespace" "$@"; }

step "Checking the cluster"
require_cluster
require_environment "$environment"

step "Revisions"
revisions || fail "deployment/$SERVICE has no history in namespace $namespace" "is it deployed? kubectl get deployments -n $namespace"
[ "$list" = false ] || exit 0

undo=(kubectl rollout undo "deployment/$SERVICE" -n "$namespace")
if [ -n "$revision" ]; then
  step "Revision $revision"
  revisions --revision="$revision" ||
    fail "there is no revision $revision; nothing was changed" "k8s/rollback-deployment.sh $environment --list"
  undo+=(--to-revision="$revision")
fi

if [ "$dry_run" = true ]; then
  step "Trying; nothing will be changed"
  "${undo[@]}" --dry-run=server || fail "the cluster refuses to roll back" "see the message above"
  exit 0
fi

[ "$environment" != production ] || confirm "This rolls PRODUCTION back to ${revision:-the previous revision}."

step "Rolling back"
"${undo[@]}" ||
  fail "the rollback was refused; nothing was changed" "k8s/rollback-deployment.sh $environment --list, then name a revision"

step "Waiting for the rollout"
look_at="the database may be the cause: see RUNBOOK.md, PortfolioServiceHealthCheckFailing"
wait_for_rollout "deployment/$SERVICE" "$SERVICE" "name an older revision: k8s/rollback-deployment.sh $environment --list" "$look_at"

if [ "$skip_health_check" = false ]; then
  step "Checking health"
  check_health "$look_at"
fi

step "$environment is rolled back; git still holds what was rolled back: change it before the next deployment"
