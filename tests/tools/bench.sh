#!/usr/bin/env bash
# Measures backup and rebuild against etcd's own tools, alternately on the same data, and prints a table in Markdown.
# Needs the binaries that `make bench` builds first. SMALL=1 for a quick run; KEYS, VALUE_BYTES, CHANGES, RUNS,
# PROBE_SECONDS and BENCH_DIR for others. The memory limit is measured when root may make a cgroup. REST_MINUTES=10
# measures how much an agent takes that has nothing to do, for so long.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
target=$(cd "$target" && pwd)
if [ -n "${SMALL:-}" ]; then
    : "${KEYS:=20000}" "${CHANGES:=10000}" "${RUNS:=3}" "${PROBE_SECONDS:=3}"
fi
: "${KEYS:=200000}" "${VALUE_BYTES:=4096}" "${CHANGES:=100000}" "${RUNS:=5}" "${PROBE_SECONDS:=15}"
version=3.5.34
limit=$((128 << 20))

. "$here/measuring.sh"

save() { etcdctl --endpoints "$client_url" snapshot save "$1"; }
save_encrypted() { # what a careful user has in a script today, with its plain temporary file
    etcdctl --endpoints "$client_url" snapshot save plain.tmp &&
        zstd -q -3 -T2 -c plain.tmp | age -r "$recipient" -o pipeline.db.zst.age && rm plain.tmp
}
backup() { lifeboat --config config.toml backup --pace off; }
# As the agent takes it: paced, and with the unit's Nice=.
agents_backup() { nice -n 19 lifeboat --config config.toml backup; }
hurried_agents_backup() { nice -n 19 lifeboat --config config.toml backup --pace off; }
layout() { # the flags that etcdutl and lifeboat share
    echo --data-dir restored --name demo --initial-cluster "demo=$peer_url" --initial-cluster-token demo \
        --initial-advertise-peer-urls "$peer_url"
}
# A backup, until the directory has it; the command itself may go on.
until_local() {
    /usr/bin/time -f '%e' -o whole lifeboat --config slow.toml backup --pace off "$@" >slow.log 2>&1 &
    until compgen -G 'backups/*/*/*/full-*.json' >/dev/null; do
        kill -0 $!
        sleep 0.01
    done
}
until_it_ends() {
    while [ ! -s whole ]; do sleep 0.1; done
    say "the command ended after $(cat whole) s"
    rm whole
}
export -f save save_encrypted until_local
export client_url peer_url recipient

say "filling etcd $version with $KEYS × $VALUE_BYTES bytes, then $CHANGES changes"
pick_ports
start_etcd --quota-backend-bytes 17179869184 --unsafe-no-fsync
etcd-load fill --endpoint "$client_url" --keys "$KEYS" --value-bytes "$VALUE_BYTES"
etcd-load churn --endpoint "$client_url" --keys "$KEYS" --changes "$CHANGES" --value-bytes 1024
stop_etcd
start_etcd --quota-backend-bytes 17179869184
etcd-load hash --endpoint "$client_url" >&2

recipient=$(lifeboat keygen --identity key.txt)
configure daily <<MORE
[metrics]
listen = "$work/metrics.socket"
MORE

for _ in $(seq "$RUNS"); do
    rm -f plain.db pipeline.db.zst.age
    rm -rf backups state
    mkdir backups state
    measure etcdctl bash -c 'save plain.db'
    measure pipeline bash -c save_encrypted
    measure backup lifeboat --config config.toml backup --pace off
    measure nice nice -n 19 lifeboat --config config.toml backup --pace off
    measure paced nice -n 19 lifeboat --config config.toml backup
done

# The same to a bucket of a server on this machine that keeps it in a directory as well, alternately with the directory.
if s3=$(CARGO_TARGET_DIR=$target "$here/fetch-s3s.sh"); then
    say "a bucket on this machine"
    free_port() { perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport'; }
    empty_bucket() {
        rm -rf bucket
        mkdir -p bucket/bench
    }
    s3_port=$(free_port)
    empty_bucket
    RUST_LOG=error "$s3" --host 127.0.0.1 --port "$s3_port" --access-key bench --secret-key bench bucket >s3.log 2>&1 &
    s3_pid=$!
    helpers+=("$s3_pid")
    until curl --silent --output /dev/null "http://127.0.0.1:$s3_port/"; do
        kill -0 "$s3_pid"
        sleep 0.2
    done
    printf 'aws_access_key_id = bench\naws_secret_access_key = bench\n' >s3-keys
    chmod 0600 s3-keys
    cat config.toml - >bucket.toml <<CONFIG
[destinations.bucket]
url = "s3://bench/etcd"
endpoint = "http://127.0.0.1:$s3_port"
credentials = { file = "$work/s3-keys" }
CONFIG
    for _ in $(seq "$RUNS"); do
        rm -rf backups state
        mkdir backups state
        empty_bucket
        measure directory lifeboat --config bucket.toml backup --pace off --to local
        measure bucket lifeboat --config bucket.toml backup --pace off --to bucket
    done
    say "a slow destination beside a local one"
    line_port=$(free_port)
    python3 "$here/slow-line.py" "$line_port" "$s3_port" 5000000 >line.log 2>&1 &
    line_pid=$!
    helpers+=("$line_pid")
    sed "s|http://127.0.0.1:$s3_port|http://127.0.0.1:$line_port|" bucket.toml >slow.toml
    for _ in $(seq "$RUNS"); do
        rm -rf backups state
        mkdir backups state
        empty_bucket
        measure alone bash -c 'until_local --to local'
        until_it_ends
        rm -rf backups state
        mkdir backups state
        measure beside bash -c 'until_local --to local --to bucket'
        until_it_ends
        # It was brought there afterwards.
        lifeboat --config slow.toml --json list --destination bucket | grep -q '"id"'
    done
    kill "$line_pid" "$s3_pid"
    wait "$line_pid" "$s3_pid" || true
    helpers=()
else
    say "no S3 server: no bucket is measured"
fi

say "how long puts take meanwhile"
# Prints the 99th percentile of puts while a command is run again and again.
put_latency() {
    etcd-load probe --endpoint "$client_url" --seconds "$PROBE_SECONDS" >probe &
    local probe=$!
    while [ $# -gt 0 ] && kill -0 $probe 2>/dev/null; do "$@" >output 2>&1; done
    wait $probe
    sed 's/.*p99_ms=\([0-9.]*\).*/\1/' probe
}
again_etcdctl() { rm -f again.db && save again.db; }
# The work of the rows, one after the other in each round; NAME.puts gets one line a round.
for _ in $(seq "$RUNS"); do
    for work_of in idle: etcdctl:again_etcdctl backup:backup nice:hurried_agents_backup paced:agents_backup; do
        command=${work_of#*:}
        put_latency ${command:+"$command"} >>"${work_of%%:*}.puts"
        say "p99 of puts, ${work_of%%:*}: $(tail -n 1 "${work_of%%:*}.puts") ms"
    done
done
rm -f again.db
stop_etcd

rest=
if [ -n "${REST_MINUTES:-}" ]; then
    say "an agent at rest for $REST_MINUTES minutes"
    rm -rf rest-state
    mkdir rest-state
    begun=$(date +%s%N)
    STATE_DIRECTORY=$work/rest-state lifeboat --config config.toml agent 2>agent.log &
    agent_pid=$!
    # It is ready when it has said how it is.
    until [ -e rest-state/bench/status.json ]; do
        kill -0 "$agent_pid"
        sleep 0.002
    done
    ready=$((($(date +%s%N) - begun) / 1000000))
    sleep 5
    nanoseconds() { cat "/proc/$agent_pid/task/"*/schedstat | awk '{ sum += $1 } END { print sum }'; }
    before=$(nanoseconds)
    sleep $((REST_MINUTES * 60))
    after=$(nanoseconds)
    rest="ready within $ready ms, $(awk '$1 == "VmRSS:" { printf "%.1f MiB", $2 / 1024 }' "/proc/$agent_pid/status")"
    rest+=", $(awk -v used=$((after - before)) -v minutes="$REST_MINUTES" \
        'BEGIN { printf "%.3f %% of a core", used / 1e9 / (minutes * 60) * 100 }')"
    kill "$agent_pid"
    wait "$agent_pid"
fi

zstd -q -3 -T0 plain.db -o plain.db.zst
read -r -a flags <<<"$(layout)"
for _ in $(seq "$RUNS"); do
    measure etcdutl etcdutl snapshot restore plain.db "${flags[@]}"
    rm -r restored
    measure rebuild lifeboat rebuild ./plain.db "${flags[@]}"
    rm -r restored
    measure rebuild-stored lifeboat --config config.toml rebuild latest --identity key.txt "${flags[@]}"
    rm -r restored
    measure disk bash -c 'zstd -q -dc plain.db.zst >copied.db'
    rm copied.db
done

# The rebuild in a cgroup of 128 MiB, by whichever version of cgroups is here.
limited="not measured (needs root and a memory cgroup)"
for parent in /sys/fs/cgroup /sys/fs/cgroup/memory; do
    # Version 1 has a plain file system at the first place; version 2 may not hand the memory controller down.
    { [ -e "$parent/cgroup.procs" ] && mkdir "$parent/lifeboat-bench.$$"; } 2>/dev/null || continue
    cgroup=$parent/lifeboat-bench.$$
    for file in memory.max memory.limit_in_bytes; do
        [ -e "$cgroup/$file" ] || continue
        echo $limit >"$cgroup/$file"
        [ ! -e "$cgroup/memory.swap.max" ] || echo 0 >"$cgroup/memory.swap.max"
        if measure rebuild-limited bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$cgroup" \
            lifeboat rebuild ./plain.db "${flags[@]}"; then
            limited="done in $(cut -d ' ' -f 1 rebuild-limited.runs) s"
        else
            limited="**failed**"
        fi
        rm -rf restored
        break 2
    done
    rmdir "$cgroup"
    cgroup=
done

puts() { # $1 row, $2 peer, $3 target
    local ratio=
    [ -z "$2" ] || ratio="$(paste -d ' ' "$1.puts" "$2.puts" | awk '{ print $1 / $2 }' | median | xargs printf '%.2f') × $2"
    echo "$(median <"$1.puts") | $ratio | $3 |"
}

describe_machine
echo "Data: etcd $version, $KEYS objects of $VALUE_BYTES bytes, then $CHANGES changes of 1 KiB (1 in 20 a delete);" \
    "the snapshot is $(stat -c %s plain.db) bytes, the stored backup" \
    "$(find backups -name '*.age' -size +64k -printf '%s\n' | sort -n | tail -n 1) bytes."
echo "Peers: $(etcdutl version | head -n 1), $(zstd --version | grep -o 'v[0-9.]*' | head -n 1) of zstd, age $(age --version)."
echo "$RUNS rounds, one after the other in each; wall is the median, peak memory the maximum, a ratio the median of the rounds' ratios."
echo
echo '| work | wall | peak memory | ratio | target |'
echo '|---|---|---|---|---|'
row 'snapshot, plain: `etcdctl snapshot save` (etcdctl)' etcdctl '' ''
row 'snapshot, encrypted: `etcdctl snapshot save`, `zstd -3 -T2`, `age` (pipeline)' pipeline '' ''
row '`lifeboat backup --pace off`' backup pipeline '≤ 0.70; ≤ 64 MiB'
row 'the same with `nice -n 19` (nice)' nice '' ''
row "\`lifeboat backup\` as the agent takes it: paced, \`nice -n 19\`" paced nice '≤ 1.5'
if [ -e bucket.runs ]; then
    row '`lifeboat backup --pace off` to a directory alone (directory)' directory '' ''
    row 'the same to a bucket of s3s-fs on this machine' bucket directory '≤ 1.15; ≤ 96 MiB'
    row 'the same, until the directory has it (alone)' alone '' ''
    row 'the same beside a bucket at the end of a line of 5 MB/s, which has it afterwards' beside alone '≤ 1.0'
fi
row 'data directory: `etcdutl snapshot restore` (etcdutl)' etcdutl '' ''
row '`lifeboat rebuild` of the plain snapshot' rebuild etcdutl '≤ 0.60'
row '`lifeboat rebuild` of the stored backup' rebuild-stored etcdutl '≤ 1.0'
row "the machine's limit: \`zstd -dc\` of the snapshot into a file" disk etcdutl ''
echo "| \`lifeboat rebuild\` of the plain snapshot in a memory cgroup of 128 MiB | $limited | | | succeeds |"
echo
echo '| p99 of puts of 0.5 KiB on the same machine | ms | ratio | target |'
echo '|---|---|---|---|'
echo "| idle | $(puts idle '' '')"
echo "| during \`etcdctl snapshot save\` (etcdctl) | $(puts etcdctl '' '')"
echo "| during \`lifeboat backup --pace off\` | $(puts backup etcdctl '')"
echo "| the same with \`nice -n 19\` | $(puts nice etcdctl '')"
echo "| during \`lifeboat backup\` as the agent takes it | $(puts paced etcdctl '≤ 0.5')"
[ -z "$rest" ] || printf '\nThe agent at rest: %s.\n' "$rest"
