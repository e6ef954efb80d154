#!/usr/bin/env bash
# Installs what builds and runs a container image without a daemon, where this is a Debian and we are
# root. Elsewhere it installs nothing, and the tests say what is missing when they skip.
set -euo pipefail

tools=(buildah runc mmdebstrap)
missing=()
for tool in "${tools[@]}"; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, for want of root or apt-get: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
install=(apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends)
"${install[@]}" "${missing[@]}" || { apt-get update && "${install[@]}" "${missing[@]}"; }
