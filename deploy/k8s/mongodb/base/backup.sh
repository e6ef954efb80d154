#!/bin/bash
# Dumps the whole replica set, with the oplog of the time that the dump takes, to one archive that
# stands for a single moment, and bears it in its name. Archives of more than KEEP_DAYS ago go, but
# only once a newer one is whole.
set -euo pipefail

: "${MONGODB_URI:?}" "${BACKUP_DIR:=/backup}" "${KEEP_DAYS:=14}"

config='' partial='' dump=''
finish() {
  # A shell that is told to end leaves what it started behind.
  [ -z "$dump" ] || kill "$dump" 2>/dev/null || true
  rm -f ${config:+"$config"} ${partial:+"$partial"}
}
trap finish EXIT
trap 'exit 143' TERM INT

# One at a time: a backup by hand may meet the daily one, and whoever holds the lock may clean up.
exec 9>"$BACKUP_DIR/.lock"
flock --nonblock 9 || { echo "another backup is running" >&2 && exit 1; }
# First, not last: what a killed backup left behind must not fill the volume for the next.
find "$BACKUP_DIR" -name 'portfolio-*.partial' -print -delete

# On the command line the credentials would show in the list of processes.
umask 077
config=$(mktemp)
printf 'uri: %s\n' "$MONGODB_URI" >"$config"

archive="$BACKUP_DIR/portfolio-$(date -u +%Y%m%dT%H%M%SZ).archive.gz"
partial=$archive.partial
mongodump --config="$config" --oplog --readPreference=secondaryPreferred --gzip --archive="$partial" &
dump=$!
wait "$dump"
dump=''
gzip --test "$partial"
mv "$partial" "$archive"
echo "wrote $archive ($(stat -c %s "$archive") bytes)"

# By the moment in the name: a file's time is that of its copy.
oldest=$(date -u -d "$KEEP_DAYS days ago" +%Y%m%dT%H%M%SZ)
for archive in "$BACKUP_DIR"/portfolio-*.archive.gz; do
  moment=${archive##*/portfolio-}
  moment=${moment%.archive.gz}
  if [[ $moment =~ ^[0-9]{8}T[0-9]{6}Z$ && $moment < $oldest ]]; then
    rm -v "$archive"
  fi
done
