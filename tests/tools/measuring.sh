# To be sourced: what bench.sh and bench-deltas.sh measure with. Expects $here (this folder), $target and $version (of etcd);
# makes $work, a directory that goes with the script, and works in it. `helpers` names processes that end with the script.
# shellcheck shell=bash
: "${BENCH_DIR:=$target}"
. "$here/etcd-server.sh"

work=$(mktemp -d "$BENCH_DIR/bench.XXXXXX")
etcd_pid= cgroup= helpers=()
clean_up() {
    local pid
    for pid in "${helpers[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    stop_etcd KILL
    [ -z "$cgroup" ] || rmdir "$cgroup" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
say() { printf 'bench: %s\n' "$*" >&2; }

NEED="/usr/bin/time:time" "$here/setup.sh" true
"$here/fetch-debian.sh" etcdctl etcdutl age zstd
export PATH=$target/release:$target/tools/bin:$PATH
export ETCDCTL_API=3 STATE_DIRECTORY=$work/state
etcd=$("$here/fetch-etcd.sh" $version)
cd "$work"

# Writes config.toml: full backups so often ($1) of the member that runs into a directory, for $recipient; more of it comes
# from standard input.
configure() {
    cat - >more.toml
    cat - more.toml >config.toml <<CONFIG
[cluster]
name = "bench"
[members.demo]
client_urls = ["$client_url"]
peer_urls = ["$peer_url"]
[encryption]
recipients = ["$recipient"]
[schedules.$1]
kind = "full"
when = "$1"
jitter = "0s"
[destinations.local]
url = "file://$work/backups"
CONFIG
}

# Runs a command under the name of a row; wall seconds and peak KiB go to NAME.runs, one line a run.
measure() {
    local name=$1
    shift
    sync
    if ! /usr/bin/time -f '%e %M' -o one-run "$@" >output 2>&1; then
        say "$name failed: $*"
        tail -n 20 output >&2
        return 1
    fi
    cat one-run >>"$name.runs"
    say "$name: $(cat one-run) (s, KiB)"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
# The median over the rounds of this run's time by its peer's of the same round.
ratio() { paste -d ' ' "$1.runs" "$2.runs" | awk '{ print $1 / $3 }' | median; }

wall() { printf '%.2f s' "$(cut -d ' ' -f 1 "$1.runs" | median)"; }
peak() { awk '{ print $2 / 1024 }' "$1.runs" | sort -n | awk 'END { printf "%.0f MiB", $1 }'; }
row() { # $1 work, $2 row, $3 peer, $4 target
    printf '| %s | %s | %s | %s | %s |\n' "$1" "$(wall "$2")" "$(peak "$2")" \
        "${3:+$(printf '%.2f × %s' "$(ratio "$2" "$3")" "$3")}" "$4"
}

# The machine in a line.
describe_machine() { echo "Machine: $(nproc) × $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(uname -sr)."; }
