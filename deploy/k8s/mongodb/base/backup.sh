#!/bin/bash
# Dumps the whole replica set, with the oplog of the time that the dump takes, to one archive that
# stands for a single moment. Archives older than KEEP_DAYS go, but only once a newer one is whole.
set -euo pipefail

: "${MONGODB_URI:?}" "${BACKUP_DIR:=/backup}" "${KEEP_DAYS:=14}"

# On the command line the credentials would show in the list of processes.
umask 077
config=$(mktemp)
printf 'uri: %s\n' "$MONGODB_URI" >"$config"

archive="$BACKUP_DIR/portfolio-$(date -u +%Y%m%dT%H%M%SZ).archive.gz"
mongodump --config="$config" --oplog --readPreference=secondaryPreferred --gzip --archive="$archive.partial"
gzip --test "$archive.partial"
mv "$archive.partial" "$archive"
echo "wrote $archive ($(stat -c %s "$archive") bytes)"

find "$BACKUP_DIR" -name 'portfolio-*.archive.gz' -mtime "+$KEEP_DAYS" -print -delete
find "$BACKUP_DIR" -name '*.partial' -mtime +1 -print -delete
