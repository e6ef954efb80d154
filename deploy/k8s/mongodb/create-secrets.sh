#!/usr/bin/env bash
# Makes the credentials of MongoDB and of the service, once, straight into the cluster: nothing is
# written to a file, shown, or put on a command line.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: create-secrets.sh development|staging|production [--namespace NS]

Creates the Secrets globeco-portfolio-service-mongodb-auth (the replica set's keyfile and the users'
passwords) and globeco-portfolio-service-mongodb (the service's MONGODB_URI). Refuses where one
exists: new passwords would lock out what runs.
USAGE
}

namespace=globeco
environment=
while [ $# -gt 0 ]; do
  case $1 in
    development | staging | production) environment=$1 ;;
    --namespace) namespace=${2:?--namespace needs a value} && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "unknown argument: $1" >&2 && usage >&2 && exit 2 ;;
  esac
  shift
done
[ -n "$environment" ] || { usage >&2 && exit 2; }

set_name=globeco-portfolio-service-mongodb
for secret in "$set_name" "$set_name-auth"; do
  if kubectl get secret "$secret" -n "$namespace" >/dev/null 2>&1; then
    echo "secret $secret exists in namespace $namespace: left as it is" >&2
    exit 1
  fi
done

members=3
[ "$environment" != development ] || members=1
hosts=
for ((i = 0; i < members; i++)); do
  hosts+="${hosts:+,}$set_name-$i.$set_name.$namespace.svc:27017"
done

# Hexadecimal digits need no escape in a URI and are valid in a keyfile.
password=$(openssl rand -hex 24)
kubectl create secret generic "$set_name-auth" -n "$namespace" --from-env-file=/dev/stdin <<SECRETS
keyfile=$(openssl rand -hex 256)
root-password=$(openssl rand -hex 24)
backup-password=$(openssl rand -hex 24)
portfolio-password=$password
SECRETS
kubectl create secret generic "$set_name" -n "$namespace" --from-env-file=/dev/stdin <<SECRETS
uri=mongodb://portfolio:$password@$hosts/portfolio?replicaSet=rs0&authSource=portfolio
SECRETS
