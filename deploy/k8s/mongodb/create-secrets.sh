#!/usr/bin/env bash
# Makes the credentials of MongoDB and of the service, once, straight into the cluster: nothing is
# written to a file, shown, or put on a command line.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: create-secrets.sh development|staging|production [--namespace NS]

Creates the Secrets globeco-portfolio-service-mongodb-auth (the replica set's keyfile and the users'
passwords) and globeco-portfolio-service-mongodb (the service's MONGODB_URI). What exists is left as
it is: new passwords would lock out what runs. Where only the first exists, because an earlier run
was cut off, the second is made to fit it.
USAGE
}

# shellcheck source=deploy/k8s/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

environment=
while [ $# -gt 0 ]; do
  taken=1
  case $1 in
    development | staging | production)
      only_one environment "$environment" "$1"
      environment=$1
      ;;
    --namespace | -h | --help) parse_shared_option "$@" ;;
    *) misuse "unknown argument: $1" ;;
  esac
  shift "$taken"
done
[ -n "$environment" ] || misuse "which environment?"

# exists NAME: whether a Secret is there; a cluster that does not answer is no "no".
exists() {
  local found
  found=$(kubectl get secret "$1" -n "$namespace" --ignore-not-found -o name) ||
    fail "cannot look for secret $1; nothing was changed" "check your rights: kubectl auth can-i get secrets -n $namespace"
  [ -n "$found" ]
}

require_cluster
kubectl get namespace "$namespace" >/dev/null ||
  fail "there is no namespace $namespace; nothing was changed" "kubectl create namespace $namespace"

set_name=globeco-portfolio-service-mongodb
auth=false
uri=false
exists "$set_name-auth" && auth=true
exists "$set_name" && uri=true
if [ "$auth$uri" = truetrue ]; then
  fail "secrets $set_name and $set_name-auth exist in namespace $namespace: left as they are" \
    "new passwords: see RUNBOOK.md, Rotating passwords"
elif [ "$uri" = true ]; then
  fail "secret $set_name exists in namespace $namespace, $set_name-auth does not: left as it is" \
    "for a database of another owner nothing is missing" \
    "else: kubectl delete secret $set_name -n $namespace, and run this again"
fi

members=3
[ "$environment" != development ] || members=1
hosts=
for ((i = 0; i < members; i++)); do
  hosts+="${hosts:+,}$set_name-$i.$set_name.$namespace.svc:27017"
done

if [ "$auth" = true ]; then
  echo "secret $set_name-auth exists: taking the service's password from it"
  password=$(kubectl get secret "$set_name-auth" -n "$namespace" -o 'jsonpath={.data.portfolio-password}' | base64 -d)
  [[ $password =~ ^[0-9a-f]+$ ]] ||
    fail "secret $set_name-auth holds no portfolio-password of this script's making" "make secret $set_name by hand"
else
  # Hexadecimal digits need no escape in a URI and are valid in a keyfile.
  password=$(openssl rand -hex 24)
  kubectl create secret generic "$set_name-auth" -n "$namespace" --from-env-file=/dev/stdin <<SECRETS
keyfile=$(openssl rand -hex 256)
root-password=$(openssl rand -hex 24)
backup-password=$(openssl rand -hex 24)
portfolio-password=$password
SECRETS
fi
kubectl create secret generic "$set_name" -n "$namespace" --from-env-file=/dev/stdin <<SECRETS
uri=mongodb://portfolio:$password@$hosts/portfolio?replicaSet=rs0&authSource=portfolio
SECRETS
