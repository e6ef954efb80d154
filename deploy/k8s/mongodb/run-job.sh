#!/usr/bin/env bash
# Runs one of the database's jobs now, under a name of its own, and sees it end, well or not.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: run-job.sh init|backup|restore|restore-drill [options]

  init             initiate the replica set, add members, set the passwords of the Secret
  backup           back up now
  restore          put the database back to a backup, then set the passwords of the Secret
  restore-drill    restore the newest backup into a server of its own, and look at it

  --archive NAME   restore: this archive, not the newest
  --dry-run        show the job, change nothing
  --namespace NS   default: globeco
  --timeout S      how long to wait for its end; default: 7200
  --yes            do not ask for confirmation (restore)
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

timeout=7200
job=
archive=
while [ $# -gt 0 ]; do
  taken=1
  case $1 in
    init | backup | restore | restore-drill)
      only_one job "$job" "$1"
      job=$1
      ;;
    --archive)
      [[ ${2:-} =~ ^portfolio-[A-Za-z0-9-]+\.archive\.gz$ ]] || misuse "--archive needs the name of an archive"
      only_one archive "$archive" "$2"
      archive=$2 taken=2
      ;;
    --skip-health-check) misuse "unknown argument: $1" ;;
    *)
      parse_shared_option "$@"
      [ "$taken" -gt 0 ] || misuse "unknown argument: $1"
      ;;
  esac
  shift "$taken"
done
[ -n "$job" ] || misuse "which job?"
[ -z "$archive" ] || [ "$job" = restore ] || misuse "--archive is for restore"

# A name of its own each time: an old job's end must not be taken for this one's.
cron=$SERVICE-mongodb-$job
name=$cron-$(date -u +%Y%m%d-%H%M%S)

step "Checking the cluster"
require_cluster
kubectl get cronjob "$cron" -n "$namespace" -o name ||
  fail "there is no cronjob $cron in namespace $namespace" "kubectl apply -k k8s/mongodb/ENV"

if [ "$job" = restore ]; then
  # What is written while it restores is lost, or mixed into what comes back.
  replicas=$(kubectl get deployment "$SERVICE" -n "$namespace" --ignore-not-found -o 'jsonpath={.spec.replicas}') ||
    fail "cannot read deployment/$SERVICE" "check your rights: kubectl auth can-i get deployments -n $namespace"
  [ "${replicas:-0}" = 0 ] ||
    fail "the service still runs with $replicas pods; nothing was changed" \
      "kubectl scale deployment $SERVICE -n $namespace --replicas=0"
fi

manifest=$(kubectl create job "$name" -n "$namespace" --from="cronjob/$cron" --dry-run=client -o yaml) ||
  fail "no job can be made of cronjob $cron" "see kubectl's message above"
[ -z "$archive" ] || manifest=$(kubectl set env --local -f - "BACKUP=$archive" -o yaml <<<"$manifest") ||
  fail "the archive cannot be put into the job" "see kubectl's message above"

if [ "$dry_run" = true ]; then
  step "The job; nothing will be changed"
  echo "$manifest"
  exit 0
fi
[ "$job" != restore ] ||
  confirm "This replaces what the database in namespace $namespace holds by ${archive:-the newest backup}."

step "Starting $name"
kubectl create -f - <<<"$manifest" || fail "the job was refused; nothing was changed" "see the API server's message above"

step "Waiting for its end, at most $timeout s"
deadline=$((SECONDS + timeout))
ended=
while [[ ! $ended =~ Complete|Failed ]]; do
  if [ "$SECONDS" -ge "$deadline" ]; then
    kubectl logs -n "$namespace" "job/$name" --tail=50 >&2 || true
    fail "$name has not ended within $timeout s; it still runs" "kubectl logs -n $namespace job/$name -f"
  fi
  [ -z "$ended" ] || sleep "${JOB_CHECK_INTERVAL:-5}"
  ended=$(kubectl get job "$name" -n "$namespace" -o 'jsonpath=ended:{.status.conditions[?(@.status=="True")].type}') ||
    ended="ended: unknown"
done
kubectl logs -n "$namespace" "job/$name" --tail=50 || true
[[ ! $ended =~ Failed ]] ||
  fail "$name failed" "kubectl describe job/$name -n $namespace" "its log is above; a pod that was tried again has one of its own"
step "$name is complete"
