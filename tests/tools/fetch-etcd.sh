#!/usr/bin/env bash
# Prints the path of an upstream etcd server, fetched through cargo on first use:  tests/tools/fetch-etcd.sh VERSION [DEST]
# The lines that we test against are pinned by the SHA-256 of the binary.
set -euo pipefail
version=$1
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../../target}/tools
dest=${2:-$tools}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
binary=$dest/etcd-$version

pinned() {
    case $1 in
    amd64-3.4.45) echo 659aae9096ba5a8073480bf3239dc1e98f46e3ebecd471aa52fa8a40262efc52 ;;
    amd64-3.5.34) echo 235b5c632c16933ea7daa8bea36f0b19639a6ba22751cf073e48b10a5cf74839 ;;
    amd64-3.6.15) echo 75fb09e834e9f14aaf2d06bfefdb94c5a31c1e2418a26612973f66e318da46c5 ;;
    amd64-3.7.2) echo 7a0c00e4ee33bea9bdec0c8abd771ef4e1685deb134a17cf58c11985d2fe51ca ;;
    arm64-3.4.45) echo 2cc188323f723e4723b502082a89961e39c85849dce97a1f150f3763e5c26452 ;;
    arm64-3.5.34) echo a5873c70479adfaa274382118e1103f8f381604ac685761cc2769e0248ed0545 ;;
    arm64-3.6.15) echo 117cc09981c0f1eb378e7520be6969756c2d6a762f376944e53f7bc9800c0c59 ;;
    arm64-3.7.2) echo 17122293e6713e3d8b14b33964af8f6eae0a83af03e87487f34731ee0e28112d ;;
    esac
}

if [ ! -x "$binary" ]; then
    exec 9>"$dest/.etcd-$version.lock"
    flock 9 # several tests may ask at once
fi
if [ ! -x "$binary" ]; then
    case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *)
        echo "fetch-etcd: no etcd server is published as a crate for $(uname -m)" >&2
        exit 1
        ;;
    esac
    source=$("$here/crate-source.sh" "etcd-bin-vendored-linux-$arch" "$version")
    install -m 755 "$source/bin/etcd" "$binary.new"
    expected=$(pinned "$arch-$version")
    actual=$(sha256sum "$binary.new" | cut -d ' ' -f 1)
    if [ -n "$expected" ] && [ "$expected" != "$actual" ]; then
        rm -f "$binary.new"
        echo "fetch-etcd: etcd $version has SHA-256 $actual, expected $expected" >&2
        exit 1
    fi
    said=$("$binary.new" --version 2>&1) || true
    if ! grep -qFx "etcd Version: $version" <<<"$said"; then
        rm -f "$binary.new"
        echo "fetch-etcd: the binary fetched for etcd $version does not run as that version" >&2
        exit 1
    fi
    mv "$binary.new" "$binary"
fi
echo "$binary"
