#!/usr/bin/env bash
# Takes an encrypted backup of a real etcd, destroys the data, lays it out again without any etcd tool, and compares.
# Needs the binaries that `make demo` builds first. Leaves nothing behind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
target=$(cd "$target" && pwd)
version=3.6.15
keys=3000 value_bytes=1024 changes=1000
. "$here/etcd-server.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/lifeboat-demo.XXXXXX")
etcd_pid=
clean_up() {
    local code=$?
    stop_etcd KILL
    rm -rf "$work"
    [ $code = 0 ] || echo "FAILED: the demo ended with exit code $code." >&2
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() { printf '\n# %s\n' "$1"; }
# Shows a command as a user would type it, then runs it.
show() {
    printf '$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}
# The same, and keeps what the command printed in $printed.
keep() {
    show "$@" >"$work/printed"
    cat "$work/printed"
    printed=$(tail -n 1 "$work/printed")
}

show_etcd() { printf '$ etcd --name demo --data-dir etcd --listen-client-urls %s … &\n' "$client_url"; }

PATH=$target/debug:$PATH
export STATE_DIRECTORY=$work/state
mkdir "$work/state"
etcd=$("$here/fetch-etcd.sh" $version)
cd "$work"
started=$SECONDS

step "An etcd $version with $keys keys, then $changes changes"
pick_ports
show_etcd
start_etcd
show etcd-load fill --endpoint "$client_url" --keys $keys --value-bytes $value_bytes
show etcd-load churn --endpoint "$client_url" --keys $keys --changes $changes --value-bytes $value_bytes
keep etcd-load hash --endpoint "$client_url"
before=$printed

step "A key pair and a configuration"
keep lifeboat keygen --identity key.txt
recipient=$printed
cat >config.toml <<CONFIG
[cluster]
name = "demo"
[members.demo]
client_urls = ["$client_url"]
peer_urls = ["$peer_url"]
[encryption]
recipients = ["$recipient"]
[destinations.local]
url = "file://$work/backups"
CONFIG
show cat config.toml

step "A backup: compressed, encrypted, read back"
show mkdir backups
show lifeboat --config config.toml backup
show lifeboat --config config.toml list

step "The disaster"
show du -sh etcd
printf '$ kill -9 %s; rm -r etcd\n' "$etcd_pid"
stop_etcd KILL
rm -r etcd

step "The same data directory again, without any etcd tool"
show lifeboat --config config.toml rebuild latest --identity key.txt --data-dir etcd --name demo \
    --initial-cluster "demo=$peer_url" --initial-cluster-token restored-1 --initial-advertise-peer-urls "$peer_url"

step "etcd starts on it and serves the same"
show_etcd
start_etcd
keep etcd-load hash --endpoint "$client_url"
after=$printed

step "and takes writes"
show etcd-load churn --endpoint "$client_url" --keys $keys --changes 20 --value-bytes $value_bytes
show etcd-load hash --endpoint "$client_url"

echo
if [ "$before" = "$after" ]; then
    echo "EQUAL: revision, HashKV and keys are those from before the disaster ($((SECONDS - started)) s)."
else
    echo "DIFFERENT: before the disaster $before"
    echo "           now                 $after"
    exit 1
fi
