#!/bin/bash
# Puts the replica set back to the moment of a backup: BACKUP, the name of an archive, or the newest.
# What the archive holds replaces what is there; --drop removes only collections that it holds.
set -euo pipefail

: "${MONGODB_URI:?}" "${BACKUP_DIR:=/backup}" "${BACKUP:=}"

if [ -z "$BACKUP" ]; then
  BACKUP=$(find "$BACKUP_DIR" -name 'portfolio-*.archive.gz' -printf '%f\n' | sort | tail -n 1)
fi
if [ ! -f "$BACKUP_DIR/$BACKUP" ] || [ -z "$BACKUP" ]; then
  echo "no such backup: '$BACKUP'; $BACKUP_DIR holds:" >&2
  ls -l "$BACKUP_DIR" >&2
  exit 1
fi

umask 077
config=$(mktemp)
printf 'uri: %s\n' "$MONGODB_URI" >"$config"

echo "restoring $BACKUP"
mongorestore --config="$config" --drop --oplogReplay --gzip --archive="$BACKUP_DIR/$BACKUP"
echo "restored $BACKUP"
