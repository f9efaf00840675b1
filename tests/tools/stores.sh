#!/usr/bin/env bash
# Runs what every store promises and the whole life of a backup on real servers and emulators: moto and Ceph's RADOS gateway
# (S3), moto behind a translator of headers (OSS), azurite (Azure Blob), gcp-storage-emulator (GCS), OpenStack's Swift with
# TempAuth and with Keystone. Installs them beside the other tools, starts them on loopback, and ends them.
set -euo pipefail
tools=$CARGO_TARGET_DIR/tools/stores
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$tools"

if [ ! -e "$tools/ready" ]; then
    python3 -m venv "$tools/python" 2>/dev/null || {
        [ "$(id -u)" = 0 ] && apt-get -qq -y --no-install-recommends install python3-venv >&2
        python3 -m venv "$tools/python"
    }
    "$tools/python/bin/pip" install -q 'moto[s3,server]==5.2.5' gcp-storage-emulator==2026.7.19 azure-storage-blob
    (cd "$tools" && npm install --silent azurite@3.37.0)
    touch "$tools/ready"
fi
if [ ! -e "$tools/ready-swift" ]; then
    python3 -m venv "$tools/swift"
    "$tools/swift/bin/pip" install -q swift==2.38.3 keystonemiddleware==13.0.1 'setuptools<81'
    python3 -m venv "$tools/keystone"
    "$tools/keystone/bin/pip" install -q keystone==30.0.0
    touch "$tools/ready-swift"
fi
"$here/fetch-debian.sh" memcached
export PATH=$CARGO_TARGET_DIR/tools/bin:$PATH

work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}" $(cat "$work"/*/pids 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap end EXIT
trap 'echo "stores.sh: line $LINENO failed" >&2' ERR

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
begin() { (cd "$work" && exec "$@") >>"$work/log" 2>&1 & pids+=($!); }
serves() {
    for _ in $(seq 300); do
        curl -s -o /dev/null "http://127.0.0.1:$1/" && return
        sleep 0.2
    done
    cat "$work/log" >&2
    exit 1
}

s3=$(port); oss=$(port); azure=$(port); gcs=$(port); rgw=$(port)
begin "$tools/python/bin/moto_server" -H 127.0.0.1 -p "$s3"
begin "$tools/python/bin/python" "$here/oss.py" "$oss"
begin "$tools/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$azure" --inMemoryPersistence \
    --disableTelemetry --skipApiVersionCheck
begin "$tools/python/bin/gcp-storage-emulator" start --host=127.0.0.1 --port="$gcs" --in-memory --default-bucket=backups
"$here/ceph-server.sh" "$tools/ceph" "$work/ceph" "$rgw" "$(port)"
for one in "$s3" "$oss" "$azure" "$gcs" "$rgw"; do serves "$one"; done
account=http://127.0.0.1:$azure/devstoreaccount1
export LIFEBOAT_TEST_PYTHON=$tools/python/bin/python
for one in "s3 http://127.0.0.1:$s3" "s3 http://127.0.0.1:$rgw" "oss http://127.0.0.1:$oss" "azblob $account"; do
    # shellcheck disable=SC2086 # two words
    "$LIFEBOAT_TEST_PYTHON" "$here/bucket.py" make $one
done

# Four ports follow those of the proxies.
tempauth=$((20000 + RANDOM % 2000 * 5)) proxy=$((30000 + RANDOM % 400 * 5)) keystone=$(port)
TOKEN_LIFE=10 "$here/swift-server.sh" "$tools/swift" "$work/tempauth" $tempauth
"$here/swift-server.sh" "$tools/swift" "$work/proxy" $proxy "$keystone"
"$here/keystone-server.sh" "$tools/keystone" "$work/keystone" "$keystone" "http://127.0.0.1:$proxy"
for one in $tempauth $proxy "$keystone"; do serves "$one"; done
export LIFEBOAT_TEST_SWIFT="http://127.0.0.1:$tempauth/auth/v1.0,http://127.0.0.1:$keystone/v3,$work/keystone/credential"

export LIFEBOAT_TEST_STORES="s3=http://127.0.0.1:$s3,s3=http://127.0.0.1:$rgw,oss=http://127.0.0.1:$oss,azblob=$account,gs=http://127.0.0.1:$gcs"
cargo test --locked --test it -- --ignored --nocapture real_servers
