#!/bin/bash
# Proves the newest backup: restores it into a mongod of its own that ends with the job, and looks
# at what came back. A backup that was never restored is a hope.
set -euo pipefail

: "${BACKUP_DIR:=/backup}" "${SCRATCH_DIR:=/scratch}"

mongod --dbpath="$SCRATCH_DIR" --bind_ip=127.0.0.1 --port=27017 --unixSocketPrefix="$SCRATCH_DIR" \
  --wiredTigerCacheSizeGB=0.25 --fork --logpath="$SCRATCH_DIR/mongod.log"
trap 'mongod --dbpath="$SCRATCH_DIR" --shutdown' EXIT

MONGODB_URI=mongodb://127.0.0.1:27017 bash "$(dirname "$0")/restore.sh"

# shellcheck disable=SC2016  # the ${...} are JavaScript's
mongosh --quiet --norc mongodb://127.0.0.1:27017/portfolio --eval '
  const found = db.portfolio.validate({ full: true });
  print(`portfolio: ${found.nrecords} documents, ${found.nIndexes} indexes, valid: ${found.valid}`);
  quit(found.valid && found.nrecords > 0 ? 0 : 1);
'
echo "the drill succeeded"
