#!/usr/bin/env bash
# Puts promtool, amtool and mongosh into a folder, for tests that skip without them. Debian's packages
# are unpacked, not installed: no daemon is started, and an ordinary user may do it.
# usage: fetch-tools.sh FOLDER
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$folder/bin"

fetch_deb() { # PACKAGE PROGRAM
  command -v "$2" >/dev/null || [ -x "$folder/bin/$2" ] || (
    cd "$folder"
    apt-get download "$1" || { apt-get update && apt-get download "$1"; }
    dpkg-deb --extract "$1"_*.deb "$1"
    ln -sf "../$1/usr/bin/$2" "bin/$2"
  ) || echo "no $2: the tests that need it will be skipped" >&2
}

fetch_deb prometheus promtool
fetch_deb prometheus-alertmanager amtool
# Without its optional parts, which would be compiled.
command -v mongosh >/dev/null || [ -x "$folder/bin/mongosh" ] || {
  timeout 300 npm install --prefix "$folder/npm" --no-save --no-audit --no-fund \
    --ignore-scripts --omit=optional mongosh@2.12.0 &&
    ln -sf "../npm/node_modules/.bin/mongosh" "$folder/bin/mongosh"
} || echo "no mongosh: the tests that need it will be skipped" >&2
