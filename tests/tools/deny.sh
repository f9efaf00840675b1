#!/usr/bin/env bash
# Holds the dependency tree to deny.toml. Installs cargo-deny on first use, without optimisation: a build of a minute and a
# half instead of many, for a run of seconds.
set -euo pipefail
version=0.20.2
root=$(cd "$(dirname "$0")/../.." && pwd)
tools=${CARGO_TARGET_DIR:-$root/target}/tools
export PATH=$tools/bin:$PATH
if ! cargo deny --version >/dev/null 2>&1; then
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/cargo-deny-build \
        cargo install --quiet --locked --debug "cargo-deny@$version" --root "$tools"
    rm -rf "$tools/cargo-deny-build"
fi
cd "$root"
exec cargo deny --locked check bans licenses sources
