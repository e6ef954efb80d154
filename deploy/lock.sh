#!/usr/bin/env bash
# Writes what the image is built from, each file by its hash: requirements.lock, all that
# requirements-image.txt pulls in; requirements-grpc.lock, the same with OTLP over gRPC; and
# build-requirements.lock, what compiles the one of them that has no wheel for Linux (gunicorn_h1c).
# Needs uv (pip install uv); options go on to it.
set -euo pipefail
cd "$(dirname "$0")"

lock() { # TARGET SOURCE... [OPTION...]
  uv pip compile "${@:2}" --no-config --quiet --generate-hashes --no-annotate \
    --python-version 3.14 --python-platform linux --custom-compile-command deploy/lock.sh \
    --output-file "$1"
}

lock requirements.lock requirements-image.txt "$@"
lock requirements-grpc.lock requirements-image.txt requirements-grpc.txt \
  --constraints requirements.lock "$@"
lock build-requirements.lock - "$@" <<<setuptools
