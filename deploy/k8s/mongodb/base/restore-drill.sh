#!/bin/bash
# Proves the newest backup: restores it into a mongod of its own that ends with the job, and looks
# at what came back. A backup that was never restored is a hope; one that is older than
# MAX_AGE_HOURS means that the daily backup has failed since.
set -euo pipefail

: "${BACKUP_DIR:=/backup}" "${SCRATCH_DIR:=/scratch}" "${MAX_AGE_HOURS:=36}"

log=$SCRATCH_DIR/mongod.log
finish() {
  status=$?
  mongod --dbpath="$SCRATCH_DIR" --shutdown || true
  # The log ends with the pod.
  if [ "$status" -ne 0 ] && [ -f "$log" ]; then
    echo "the drill failed; the end of mongod's log:" >&2
    tail -n 50 "$log" >&2
  fi
  exit "$status"
}
trap finish EXIT

mongod --dbpath="$SCRATCH_DIR" --bind_ip=127.0.0.1 --port=27017 --unixSocketPrefix="$SCRATCH_DIR" \
  --wiredTigerCacheSizeGB=0.25 --fork --logpath="$log"

MONGODB_URI=mongodb://127.0.0.1:27017 SECRETS_DIR='' bash "$(dirname "$0")/restore.sh"

# shellcheck disable=SC2016  # the ${...} are JavaScript's
mongosh --quiet --norc mongodb://127.0.0.1:27017/portfolio --eval '
  const found = db.portfolio.validate({ full: true });
  print(`portfolio: ${found.nrecords} documents, ${found.nIndexes} indexes, valid: ${found.valid}`);
  quit(found.valid && found.nrecords > 0 ? 0 : 1);
'

newest=$(find "$BACKUP_DIR" -name 'portfolio-[0-9]*T[0-9]*Z.archive.gz' -printf '%f\n' | sort | tail -n 1)
oldest=portfolio-$(date -u -d "$MAX_AGE_HOURS hours ago" +%Y%m%dT%H%M%SZ).archive.gz
if [[ $newest < $oldest ]]; then
  echo "the newest backup, $newest, can be restored but is older than $MAX_AGE_HOURS hours: see the jobs of the backup" >&2
  exit 1
fi
echo "the drill succeeded"
