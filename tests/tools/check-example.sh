#!/usr/bin/env bash
# Runs the shipped example through the real `lifeboat check`: refused with its sample recipient, right with a real one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
lifeboat=$target/debug/lifeboat
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
code=0
"$lifeboat" --config "$here/../../config.example.toml" check >/dev/null 2>&1 || code=$?
[ $code -eq 78 ] || { echo "the example with its sample recipient: exit code $code instead of 78"; exit 1; }
recipient=$("$lifeboat" keygen --identity "$work/key.txt" 2>/dev/null)
sed "s/^recipients = .*/recipients = [\"$recipient\"]/" "$here/../../config.example.toml" >"$work/config.toml"
"$lifeboat" --config "$work/config.toml" check
