# shellcheck shell=bash
# Shared by deploy-optimized.sh, rollback-deployment.sh, mongodb/*.sh and
# monitoring/deploy-monitoring.sh.

readonly SERVICE=globeco-portfolio-service
readonly K8S_DIR=${BASH_SOURCE[0]%/*}
# preStop.sleep, by which a pod leaves the Service before it drains, is on by default from here on.
readonly LEAST_KUBERNETES_MINOR=30

# Defaults of the options that the scripts share.
namespace=globeco
timeout=300
dry_run=false
assume_yes=false
skip_health_check=false

step() { printf '\n==> %s\n' "$*"; }

# fail WHAT NEXT...: says what failed and what to do next, one line each, and ends the script.
fail() {
  printf '\nFAILED: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  next: %s\n' "$@" >&2
  exit 1
}

# misuse MESSAGE: the command line is wrong; the caller defines usage.
misuse() {
  printf '%s\n\n' "$1" >&2
  usage >&2
  exit 2
}

# parse_shared_option "$@": takes one option that all scripts know; leaves how many words it took
# in `taken`, 0 where it is none of them.
# shellcheck disable=SC2034  # the scripts that source this file read the options
parse_shared_option() {
  taken=1
  case $1 in
    --dry-run) dry_run=true ;;
    --yes) assume_yes=true ;;
    --skip-health-check) skip_health_check=true ;;
    --namespace)
      [[ ${2:-} =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] || misuse "--namespace needs a name"
      namespace=$2 taken=2
      ;;
    --timeout)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || misuse "--timeout needs a number of seconds"
      timeout=$2 taken=2
      ;;
    -h | --help) usage && exit 0 ;;
    *) taken=0 ;;
  esac
}

# only_one WHAT FORMER NEW: refuses a second name where one is meant; the last one must not win.
only_one() { [ -z "$2" ] || misuse "two ${1}s: $2 and $3"; }

require_cluster() {
  command -v kubectl >/dev/null || fail "kubectl is not on PATH" "install kubectl, then try again"
  local version
  version=$(kubectl version -o json --request-timeout=10s 2>/dev/null) ||
    fail "the cluster does not answer" "check 'kubectl config current-context' and the network"
  version=${version#*serverVersion} # kubectl's own comes first
  local major='' minor=''
  [[ ! $version =~ \"major\":\ *\"([0-9]+) ]] || major=${BASH_REMATCH[1]}
  [[ ! $version =~ \"minor\":\ *\"([0-9]+) ]] || minor=${BASH_REMATCH[1]}
  [ -n "$major" ] && [ -n "$minor" ] ||
    fail "the cluster does not tell its version" "see kubectl version -o json"
  [ "$major" -gt 1 ] || [ "$minor" -ge "$LEAST_KUBERNETES_MINOR" ] ||
    fail "the cluster runs Kubernetes $major.$minor; the manifests need 1.$LEAST_KUBERNETES_MINOR or later" \
      "upgrade the cluster, or replace what it does not know: lifecycle.preStop.sleep in base/deployment.yaml"
  echo "cluster: $(kubectl config current-context), namespace: $namespace"
}

# require_environment ENV: refuses where another environment's deployment runs in the namespace.
require_environment() {
  local running
  running=$(kubectl get deployment "$SERVICE" -n "$namespace" --ignore-not-found \
    -o 'jsonpath={.metadata.labels.environment}') ||
    fail "cannot read deployment/$SERVICE" "check your rights: kubectl auth can-i get deployments -n $namespace"
  [ -z "$running" ] || [ "$running" = "$1" ] ||
    fail "namespace $namespace runs the environment '$running', not '$1'" \
      "check 'kubectl config current-context' and --namespace"
}

# require_adoptable: refuses where an apply over what runs would fail, or would scale it down.
require_adoptable() {
  local selector applied migrate="see docs/how-to/migrate.md, \"Take over the Deployment\""
  selector=$(kubectl get deployment "$SERVICE" -n "$namespace" --ignore-not-found \
    -o 'jsonpath={.spec.selector.matchLabels}') ||
    fail "cannot read deployment/$SERVICE" "check your rights: kubectl auth can-i get deployments -n $namespace"
  [ -n "$selector" ] || return 0
  [ "$selector" = "{\"app\":\"$SERVICE\"}" ] ||
    fail "deployment/$SERVICE selects its pods by $selector, which cannot be changed; nothing was changed" "$migrate"
  applied=$(kubectl get deployment "$SERVICE" -n "$namespace" --ignore-not-found \
    -o 'jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}') ||
    fail "cannot read deployment/$SERVICE" "check your rights: kubectl auth can-i get deployments -n $namespace"
  # What an earlier apply set and this one leaves out, kubectl removes: one pod until the HPA acts.
  [[ ! $applied =~ \"replicas\": ]] ||
    fail "deployment/$SERVICE was applied with spec.replicas, which the HPA owns now; applying would scale it to 1 first; nothing was changed" \
      "kubectl apply view-last-applied deployment/$SERVICE -n $namespace -o json | jq 'del(.spec.replicas)' | kubectl apply set-last-applied -f -" \
      "$migrate"
}

# tell_manual_variables: names what `kubectl patch` and `kubectl set env` have added to the Deployment.
# An apply leaves such variables, and they win over those of the ConfigMap.
tell_manual_variables() {
  local names name
  names=$(kubectl get deployment "$SERVICE" -n "$namespace" --ignore-not-found \
    -o 'jsonpath={.spec.template.spec.containers[0].env[*].name}') ||
    fail "cannot read deployment/$SERVICE" "check your rights: kubectl auth can-i get deployments -n $namespace"
  for name in $names; do
    grep -q "name: $name\$" "$manifests" ||
      echo "$name was set by hand and stays; to remove it: kubectl set env deployment/$SERVICE -n $namespace $name-"
  done
}

require_namespace() {
  kubectl get namespace "$namespace" >/dev/null 2>&1 ||
    kubectl create namespace "$namespace" ||
    fail "namespace $namespace cannot be made; nothing was changed" "have it made, then try again"
}

# require_secret NAME WHAT-IT-HOLDS NEXT...
require_secret() {
  local name=$1 holds=$2
  shift 2
  kubectl get secret "$name" -n "$namespace" >/dev/null 2>&1 ||
    fail "secret $name, which holds $holds, is not in namespace $namespace" "$@"
}

# confirm QUESTION: for production; --yes answers it, and without a terminal nobody can.
confirm() {
  [ "$assume_yes" = false ] || return 0
  local answer=
  printf '%s Type "yes" to go on: ' "$1"
  read -r answer || true
  [ "$answer" = yes ] || fail "not confirmed; nothing was changed" "answer yes, or pass --yes where no one can answer"
}

# render FOLDER [PATCH-YAML]: writes the manifests of a kustomization, in $namespace, to $manifests.
# A second, passing kustomization carries what the command line adds to what is in git.
render() {
  local folder=$1 extra=${2:-} work=$K8S_DIR/.render.$$
  # shellcheck disable=SC2064  # the folder as it is now, not as it may be at the end
  trap "rm -rf '$work'" EXIT
  mkdir -p "$work"
  cat >"$work/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $namespace
resources:
  - ../$folder
$extra
YAML
  manifests=$work/manifests.yaml
  kubectl kustomize "$work" >"$manifests" ||
    fail "the manifests of $folder do not build" "see kustomize's message above"
}

# apply_manifests: first asks the API server to check all of them, so that none is half applied.
apply_manifests() {
  kubectl apply --dry-run=server -f "$manifests" >/dev/null ||
    fail "the cluster refuses the manifests; nothing was changed" "see the API server's message above"
  kubectl apply -f "$manifests" ||
    fail "applying the manifests" "some may be in place: run the same command again, or roll back"
}

# prune_configmaps: removes the service's ConfigMaps that nothing refers to any more. Every content
# has a name of its own; those of the revisions that a rollback can reach stay.
prune_configmaps() {
  local names name users
  if ! names=$(kubectl get configmaps -n "$namespace" -l "app=$SERVICE" -o name) ||
    ! users=$(kubectl get deployments,replicasets,pods -n "$namespace" -l "app=$SERVICE" \
      -o 'jsonpath={..configMapRef.name}'); then
    echo "old ConfigMaps are left: they cannot be listed"
    return
  fi
  for name in ${names//configmap\//}; do
    [[ $name =~ ^$SERVICE-[a-z0-9]{10}$ && " ${users//$'\n'/ } " != *" $name "* ]] || continue
    kubectl delete configmap "$name" -n "$namespace" --ignore-not-found ||
      echo "configmap $name is left: it cannot be deleted"
  done
}

# show_changes: what apply_manifests would change.
show_changes() {
  local status=0
  kubectl diff -f "$manifests" || status=$?
  [ "$status" -le 1 ] ||
    fail "the cluster cannot compare the manifests; nothing was changed" \
      "see the API server's message above; does the namespace exist? kubectl create namespace $namespace"
  [ "$status" -eq 1 ] || echo "no changes"
}

# diagnose APP: what a person would look at first.
diagnose() {
  {
    printf '\n--- pods\n'
    kubectl get pods -n "$namespace" -l "app=$1" -o wide || true
    printf '\n--- events\n'
    kubectl get events -n "$namespace" --sort-by=.lastTimestamp | tail -n 20 || true
    printf '\n--- last lines of the log\n'
    kubectl logs -n "$namespace" -l "app=$1" --tail=20 --prefix || true
  } >&2
}

# wait_for_rollout KIND/NAME APP NEXT...
wait_for_rollout() {
  local workload=$1 app=$2
  shift 2
  kubectl rollout status "$workload" -n "$namespace" --timeout="${timeout}s" && return
  diagnose "$app"
  fail "$workload did not become ready within $timeout s" "$@"
}

# check_health NEXT...: asks the Service, through the API server, until it answers or time is up.
check_health() {
  local path url tries
  for path in /health/ready /health/detailed; do
    url=/api/v1/namespaces/$namespace/services/$SERVICE:http/proxy$path
    for ((tries = 10; tries > 0; tries--)); do
      kubectl get --raw "$url" >/dev/null && break
      sleep "${HEALTH_CHECK_INTERVAL:-3}"
    done
    if [ "$tries" -eq 0 ]; then
      diagnose "$SERVICE"
      fail "$path does not answer 200" "$@"
    fi
    echo "$path: 200"
  done
}
