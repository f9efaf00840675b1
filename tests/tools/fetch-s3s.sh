#!/usr/bin/env bash
# Builds an S3 server that keeps buckets in directories, and prints its path. For the benchmark: it takes as much of the
# processor as a store on the same machine has to, where moto takes several times as much.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
version=0.14.1
root=$target/tools/s3s-$version
if [ ! -x "$root/bin/s3s-fs" ]; then
    CARGO_TARGET_DIR=$root/build cargo install --quiet --locked --features binary --root "$root" "s3s-fs@$version" >&2
    rm -rf "$root/build"
fi
echo "$root/bin/s3s-fs"
