#!/usr/bin/env bash
# Measures what deltas cost a running etcd and how fast they are applied, and prints tables in Markdown. Needs the binaries
# that `make bench` builds first. SMALL=1 for a quick run; KEYS, VALUE_BYTES, CHANGES (behind the large full backup), MANY
# (behind a small one), CATCH_UP (that nobody captured as they came), RATE, PACE_SECONDS, RUNS, PROBE_SECONDS and BENCH_DIR for others.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
target=$(cd "$target" && pwd)
if [ -n "${SMALL:-}" ]; then
    : "${KEYS:=20000}" "${CHANGES:=10000}" "${MANY:=100000}" "${RUNS:=3}" "${PROBE_SECONDS:=3}" "${PACE_SECONDS:=5}" "${CATCH_UP:=10000}"
fi
: "${KEYS:=200000}" "${VALUE_BYTES:=4096}" "${CHANGES:=100000}" "${MANY:=1000000}" "${CATCH_UP:=100000}" "${RUNS:=5}" "${PROBE_SECONDS:=15}"
: "${RATE:=2000}" "${PACE_SECONDS:=30}"
version=${ETCD:-3.5.34}

. "$here/measuring.sh"

# An etcd with nothing in it, and a lifeboat that has never seen it.
begin_anew() {
    stop_etcd
    rm -rf etcd backups state key.txt
    mkdir backups state
    start_etcd --quota-backend-bytes 17179869184 "$@"
    recipient=$(lifeboat keygen --identity key.txt)
    configure monthly <<MORE
[deltas]
enabled = true
every = "1s"
MORE
}
start_agent() {
    # As its unit has it: etcd comes first.
    nice -n 19 lifeboat --config config.toml agent 2>>agent.log &
    agent_pid=$!
    helpers=("$agent_pid")
}
stop_agent() {
    kill "$agent_pid"
    wait "$agent_pid"
    helpers=()
}
revision() { etcd-load hash --endpoint "$client_url" | sed 's/^revision=\([0-9]*\) .*/\1/'; }
# The last revision that is stored.
stored_to() {
    find backups -name '*.delta' -o -name '*.pack' | sed 's|.*/0*[0-9]*-0*\([0-9]*\)\.[0-9]*\.[a-z]*$|\1|' | sort -n | tail -n 1
}
until_stored() {
    while [ "$(stored_to)" != "$1" ]; do
        kill -0 "$agent_pid"
        sleep 0.1
    done
}
kib_of() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$1/status"; }
full_id() { lifeboat --config config.toml --json list | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p' | head -n 1; }
layout() { # the flags that etcdutl and lifeboat share
    echo --data-dir restored --name demo --initial-cluster "demo=$peer_url" --initial-cluster-token demo \
        --initial-advertise-peer-urls "$peer_url"
}

pick_ports
read -r -a flags <<<"$(layout)"

say "a small full backup, and $MANY changes of 1 KiB that an agent captures as they come"
begin_anew --unsafe-no-fsync
etcd-load fill --endpoint "$client_url" --keys 10000 --value-bytes 1024
lifeboat --config config.toml backup --pace off >&2
full=$(full_id)
start_agent
sleep 2
etcd-load churn --endpoint "$client_url" --keys 10000 --changes "$MANY" --value-bytes 1024
many_to=$(revision)
until_stored "$many_to"
stop_agent

say "$CATCH_UP more, and an agent that comes then"
etcd-load churn --endpoint "$client_url" --keys 10000 --changes "$CATCH_UP" --value-bytes 1024
end=$(revision)
sleep 2
before=$(kib_of "$etcd_pid" VmRSS)
echo 5 >"/proc/$etcd_pid/clear_refs" # what it takes at most is counted from here on
begun=$(date +%s%N)
start_agent
until_stored "$end"
catch_up=$((($(date +%s%N) - begun) / 1000000))
highest=$(kib_of "$etcd_pid" VmHWM)
agent_peak=$(kib_of "$agent_pid" VmHWM)
stop_agent
stop_etcd
for _ in $(seq "$RUNS"); do
    measure small-full lifeboat --config config.toml rebuild "$full" --identity key.txt "${flags[@]}"
    rm -r restored
    measure many-changes lifeboat --config config.toml rebuild "$full:$many_to" --identity key.txt "${flags[@]}"
    [ -e limit.zst ] || zstd -q -3 -T0 restored/member/snap/db -o limit.zst
    size=$(stat -c %s restored/member/snap/db)
    rm -r restored
    measure disk bash -c 'zstd -q -dc limit.zst >copied.db'
    rm copied.db
done
rm limit.zst

say "$KEYS × $VALUE_BYTES bytes, and $CHANGES changes of 1 KiB behind it"
begin_anew --unsafe-no-fsync
etcd-load fill --endpoint "$client_url" --keys "$KEYS" --value-bytes "$VALUE_BYTES"
stop_etcd
start_etcd --quota-backend-bytes 17179869184
lifeboat --config config.toml backup --pace off >&2
etcdctl --endpoints "$client_url" snapshot save plain.db >&2
start_agent
etcd-load churn --endpoint "$client_url" --keys "$KEYS" --changes "$CHANGES" --value-bytes 1024
changed_to=$(revision)
until_stored "$changed_to"
stop_agent
full=$(full_id)

say "how long puts take while changes are captured"
put_latency() { etcd-load probe --endpoint "$client_url" --seconds "$PROBE_SECONDS" | sed 's/.*p99_ms=\([0-9.]*\).*/\1/'; }
for _ in $(seq "$RUNS"); do
    put_latency >>idle.puts
    start_agent
    sleep 2
    put_latency >>capture.puts
    stop_agent
    say "p99 of puts, idle and captured: $(tail -qn 1 idle.puts capture.puts | paste -sd ' ') ms"
done

say "how long a change is on its way to the directory at $RATE writes a second"
start_agent
sleep 2
etcd-load pace --endpoint "$client_url" --rate "$RATE" --seconds "$PACE_SECONDS" --value-bytes 1024 >written
until_stored "$(revision)"
stop_agent
# A name appears by a link, which is when the file was changed last. A pack holds what has been there.
find backups -name '*.delta' -printf '%C@ %f\n' | sed 's/\.[0-9]*\.delta$//; s/ 0*\([0-9]*\)-0*/ \1 /' | sort -k2 -n >there
awk 'NR == FNR { at[NR] = $1; to[NR] = $3; n = NR; next }
    { while (i < n && to[i] < $1) i++; if (to[i] >= $1) print at[i] - $2 }' i=1 there <(sort -n written) | sort -n >lags
written=$(wc -l <written)
took=$(awk 'NR == 1 { low = $2 } { if ($2 > high) high = $2; if ($2 < low) low = $2 } END { print high - low }' written)
[ "$(wc -l <lags)" = "$written" ] || say "$(wc -l <lags) of $written changes were found"
quantile() { sed -n "$((($(wc -l <lags) * $1 + 99) / 100))p" lags | xargs printf '%.2f s'; }
stop_etcd

for _ in $(seq "$RUNS"); do
    measure etcdutl etcdutl snapshot restore plain.db "${flags[@]}"
    rm -r restored
    measure large-full lifeboat --config config.toml rebuild "$full" --identity key.txt "${flags[@]}"
    rm -r restored
    measure large-changes lifeboat --config config.toml rebuild "$full:$changed_to" --identity key.txt "${flags[@]}"
    rm -r restored
done

# How much longer the first takes than the second, by the medians.
longer() { paste -d ' ' "$1.runs" "$2.runs" | awk '{ print $1 - $3 }' | median; }

describe_machine
echo "etcd $version. $RUNS rounds, one after the other in each; wall is the median, peak memory the maximum, a ratio the median of the rounds' ratios."
echo
echo '| work | wall | peak memory | ratio | target |'
echo '|---|---|---|---|---|'
row "\`lifeboat rebuild\` of a full backup of 10 000 keys" small-full '' ''
row "the same and $MANY changes of 1 KiB behind it, a database of $size bytes" many-changes '' ''
row "the machine's limit: \`zstd -dc\` of that database into a file (disk)" disk '' ''
awk -v changes="$MANY" -v took="$(longer many-changes small-full)" -v size="$size" \
    'BEGIN { printf "| the changes alone | %.2f s | | %.0f revisions/s, %.0f MB/s | ≥ 500 000/s, ≥ 250 MB/s |\n", took, changes / took, size / took / 1e6 }'
row "\`etcdutl snapshot restore\` of $KEYS objects of $VALUE_BYTES bytes (etcdutl)" etcdutl '' ''
row '`lifeboat rebuild` of the stored full backup of the same' large-full etcdutl ''
row "the same and $CHANGES changes of 1 KiB behind it" large-changes etcdutl ''
echo
awk -v changes="$CATCH_UP" -v ms="$catch_up" -v before="$before" -v highest="$highest" -v agent="$agent_peak" 'BEGIN {
    printf "Catching up with %d changes took %.1f s (%.0f a second); etcd took %.0f MiB before and %.0f MiB at most meanwhile (%+.1f %%; target ≤ 10 %%), the agent %.0f MiB.\n",
        changes, ms / 1000, changes / ms * 1000, before / 1024, highest / 1024, (highest / before - 1) * 100, agent / 1024 }'
echo
awk -v n="$written" -v took="$took" 'BEGIN { printf "At %.0f writes a second", n / took }'
echo " and \`every = \"1s\"\` a change was stored after $(quantile 50) (median), $(quantile 99) (99 of 100), $(quantile 100) (all; target ≤ 2 s)."
echo
echo "p99 of puts: $(median <idle.puts) ms idle, $(median <capture.puts) ms with capture," \
    "$(paste -d ' ' capture.puts idle.puts | awk '{ print $1 / $2 }' | median | xargs printf '%.2f') × (target ≤ 1.05)."
