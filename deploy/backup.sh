#!/bin/sh
# Writes a dump of the database in NEON_DATABASE_URL to $STATE_DIRECTORY and deletes dumps that are older than 14 days.
set -eu
umask 077
file="$STATE_DIRECTORY/todo-$(date -u +%Y-%m-%dT%H%M%SZ).dump"
pg_dump --format=custom --file="$file.part" "$NEON_DATABASE_URL"
pg_restore --list "$file.part" >/dev/null # fails if the dump is not readable
mv "$file.part" "$file"
find "$STATE_DIRECTORY" -name 'todo-*.dump*' -mtime +14 -delete
echo "$file"
