#!/usr/bin/env bash
# Puts programs into a folder, for tests that skip without them: promtool, amtool and mongosh, or those
# that are named. Debian's packages are unpacked, not installed: no daemon is started, and an ordinary
# user may do it.
# usage: fetch-tools.sh FOLDER [PROGRAM...]
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$folder/bin"
shift
[ $# -gt 0 ] || set -- promtool amtool mongosh

fetch_deb() { # PACKAGE PROGRAM
  command -v "$2" >/dev/null || [ -x "$folder/bin/$2" ] || (
    cd "$folder"
    [ -d "$1" ] || {
      apt-get download "$1" || { apt-get update && apt-get download "$1"; }
      dpkg-deb --extract "$1"_*.deb "$1"
    }
    ln -sf "../$1/usr/bin/$2" "bin/$2"
  ) || echo "no $2: the tests that need it will be skipped" >&2
}

# Debian's Alertmanager does not start without its templates, at a path that is compiled in.
place_templates() {
  local folder_of_templates=/usr/share/prometheus/alertmanager
  for name in default.tmpl email.tmpl; do
    [ -f "$folder_of_templates/$name" ] ||
      install -D -m 0644 -t "$folder_of_templates" \
        "$folder/prometheus-alertmanager$folder_of_templates/$name" ||
      echo "no $folder_of_templates/$name: the tests that need it will be skipped" >&2
  done
}

fetch_mongosh() {
  # Without its optional parts, which would be compiled.
  command -v mongosh >/dev/null || [ -x "$folder/bin/mongosh" ] || {
    timeout 300 npm install --prefix "$folder/npm" --no-save --no-audit --no-fund \
      --ignore-scripts --omit=optional mongosh@2.12.0 &&
      ln -sf "../npm/node_modules/.bin/mongosh" "$folder/bin/mongosh"
  } || echo "no mongosh: the tests that need it will be skipped" >&2
}

for program in "$@"; do
  case $program in
    promtool | prometheus) fetch_deb prometheus "$program" ;;
    amtool) fetch_deb prometheus-alertmanager amtool ;;
    prometheus-alertmanager)
      fetch_deb prometheus-alertmanager prometheus-alertmanager
      place_templates
      ;;
    mongosh) fetch_mongosh ;;
    *) echo "fetch-tools.sh does not know $program" >&2 && exit 2 ;;
  esac
done
