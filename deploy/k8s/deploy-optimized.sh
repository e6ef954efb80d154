#!/usr/bin/env bash
# Deploys the service to one environment, and sees it healthy.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy-optimized.sh development|staging|production [options]

  --validate           change nothing: check the manifests against the cluster, and what runs there
  --dry-run            change nothing: show what would change
  --image VERSION      deploy this version of the image, not the one in git: TAG, sha256:DIGEST, or
                       TAG@sha256:DIGEST, of which the digest counts
  --namespace NS       default: globeco
  --timeout S          how long the rollout may take; default: 300
  --skip-health-check  do not ask the service for its health afterwards
  --yes                do not ask for confirmation (production)
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

environment=
validate=false
image=
tag='[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}'
digest='sha256:[0-9a-f]{64}'
while [ $# -gt 0 ]; do
  parse_shared_option "$@"
  if [ "$taken" -eq 0 ]; then
    taken=1
    case $1 in
      development | staging | production)
        only_one environment "$environment" "$1"
        environment=$1
        ;;
      --validate) validate=true ;;
      --image)
        [[ ${2:-} =~ ^($tag|$digest|$tag@$digest)$ && $2 != latest ]] ||
          misuse "--image needs a tag other than latest, sha256:DIGEST, or TAG@sha256:DIGEST"
        only_one image "$image" "$2"
        image=$2 taken=2
        ;;
      *) misuse "unknown argument: $1" ;;
    esac
  fi
  shift "$taken"
done
[ -n "$environment" ] || misuse "which environment?"

# The reason shows in `rollback-deployment.sh ENV --list`.
additions="
patches:
  - target: {kind: Deployment, name: $SERVICE}
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: $SERVICE
        annotations:
          kubernetes.io/change-cause: \"deploy $environment, image ${image:-as in git}, $(date -u +%Y-%m-%dT%H:%M:%SZ)\""
case $image in
  '') ;;
  *sha256:*) additions+="
images:
  - {name: globeco/$SERVICE, digest: \"${image#*@}\"}" ;;
  *) additions+="
images:
  - {name: globeco/$SERVICE, newTag: \"$image\"}" ;;
esac

look_at="k8s/rollback-deployment.sh $environment --list, then k8s/rollback-deployment.sh $environment"

step "Checking the cluster"
require_cluster
require_environment "$environment"
require_adoptable

step "Building the manifests of $environment"
render "overlays/$environment" "$additions"
images=$(sed -n 's/^ *-\{0,1\} *image: *//p' "$manifests" | sort -u)
echo "$images"
tell_manual_variables
# Nobody can tell what such a name ran, nor go back to it.
[ "$environment" != production ] ||
  [[ ! $images =~ (^|$'\n')([^@$'\n']*:latest|[^:@$'\n']+)($|$'\n') ]] ||
  fail "production needs an image by its version or digest, not: ${BASH_REMATCH[2]}" "--image VERSION, or the overlay in git"

if [ "$dry_run" = true ]; then
  step "Comparing with the cluster; nothing will be changed"
  show_changes
  exit 0
fi

if [ "$validate" = true ]; then
  step "Checking the manifests against the cluster; nothing will be changed"
  kubectl apply --dry-run=server -f "$manifests" ||
    fail "the cluster refuses the manifests" "see the API server's message above"
  step "Checking what runs"
  wait_for_rollout "deployment/$SERVICE" "$SERVICE" "$look_at"
  kubectl get deployment,hpa,pdb -n "$namespace" -l "app=$SERVICE"
  [ "$skip_health_check" = true ] || check_health "$look_at"
  step "$environment is valid"
  exit 0
fi

[ "$environment" != production ] || confirm "This deploys to PRODUCTION."

step "Checking what the service needs"
require_namespace
require_secret "$SERVICE-mongodb" MONGODB_URI \
  "k8s/mongodb/create-secrets.sh $environment --namespace $namespace" \
  "or, for a database elsewhere: kubectl create secret generic $SERVICE-mongodb -n $namespace --from-literal=uri=mongodb://..."

step "Applying"
apply_manifests

step "Waiting for the rollout"
wait_for_rollout "deployment/$SERVICE" "$SERVICE" \
  "pods of the former revision still serve" "$look_at"

if [ "$skip_health_check" = false ]; then
  step "Checking health"
  check_health "$look_at"
fi

step "Removing ConfigMaps that no revision needs"
prune_configmaps

step "$environment is deployed"
