#!/usr/bin/env bash
# Prints the directory of one crate's unpacked source, fetched by cargo:  tests/tools/crate-source.sh NAME VERSION
# A throw-away manifest of its own, because two versions of one major cannot stand in one Cargo.lock.
set -euo pipefail
name=$1 version=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
tools=${CARGO_TARGET_DIR:-$root/target}/tools
mkdir -p "$tools"
manifest_dir=$(mktemp -d "$tools/fetch.XXXXXX")
trap 'rm -rf "$manifest_dir"' EXIT
mkdir "$manifest_dir/src"
: >"$manifest_dir/src/lib.rs"
cat >"$manifest_dir/Cargo.toml" <<MANIFEST
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"

[dependencies]
$name = "=$version"

[workspace]
MANIFEST
cd "$manifest_dir"
cargo fetch --quiet >&2
cargo metadata --format-version 1 --offline |
    grep -o "\"manifest_path\":\"[^\"]*/$name[^/\"]*/Cargo.toml\"" | head -n 1 |
    sed 's/^"manifest_path":"//; s,/Cargo.toml"$,,' | grep .
