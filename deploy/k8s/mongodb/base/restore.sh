#!/bin/bash
# Puts the replica set back to the moment of a backup: the archive that BACKUP names, or the newest of
# those that bear a moment in their name. What the archive holds replaces what is there; --drop removes
# only collections that it holds.
#
# The archive holds the users too, with the passwords of its day. Where SECRETS_DIR names the folder
# of the passwords that hold now, they are set again directly afterwards: until then nobody could log
# in. The restore itself then authenticates by the keyfile, as the members do among themselves: the
# passwords change under it, and it must be possible to try again.
set -euo pipefail

: "${MONGODB_URI:?}" "${BACKUP_DIR:=/backup}" "${BACKUP:=}" "${SECRETS_DIR:=}"

if [ -z "$BACKUP" ]; then
  BACKUP=$(find "$BACKUP_DIR" -name 'portfolio-[0-9]*T[0-9]*Z.archive.gz' -printf '%f\n' | sort | tail -n 1)
fi
if [ ! -f "$BACKUP_DIR/$BACKUP" ] || [ -z "$BACKUP" ]; then
  echo "no such backup: '$BACKUP'; $BACKUP_DIR holds:" >&2
  ls -l "$BACKUP_DIR" >&2
  exit 1
fi

if [ -n "$SECRETS_DIR" ]; then
  # What base64 has beside letters and digits is not allowed in a URI as it is.
  key=$(tr -d '[:space:]' <"$SECRETS_DIR/keyfile" | sed 's/+/%2B/g; s:/:%2F:g; s/=/%3D/g')
  MONGODB_URI=${MONGODB_URI/#mongodb:\/\//mongodb:\/\/__system:$key@}
fi
umask 077
config=$(mktemp)
trap 'rm -f "$config"' EXIT
printf 'uri: %s\n' "$MONGODB_URI" >"$config"

echo "restoring $BACKUP"
mongorestore --config="$config" --drop --oplogReplay --gzip --archive="$BACKUP_DIR/$BACKUP"
rm -f "$config"
echo "restored $BACKUP"

if [ -n "$SECRETS_DIR" ]; then
  echo "setting the passwords"
  mongosh --nodb --quiet --norc --file "$(dirname "$0")/init.js"
fi
