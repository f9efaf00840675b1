#!/usr/bin/env bash
# Prepares what every build and test here needs, then runs the command given to it:  tests/tools/setup.sh cargo build
# From the distribution come a C compiler (zstd and AWS-LC are C) and the CA certificates: installed when root, named when not.
# NEED="command:package …" asks for more of the distribution's commands.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

packages=()
command -v cc >/dev/null || packages+=(gcc)
[ -e /usr/include/stdlib.h ] || packages+=(libc6-dev)
[ -n "${SSL_CERT_FILE:-}" ] || [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
for pair in make:make ${NEED:-}; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing ${packages[*]}" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq -y --no-install-recommends install "${packages[@]}"; } >&2
    else
        echo "setup: missing from the distribution: ${packages[*]} (sudo apt-get install ${packages[*]})" >&2
        exit 1
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "setup: no cargo on PATH: install a Rust toolchain (1.95 or newer, with clippy and rustfmt)" >&2
    exit 1
fi
# With an empty HOME a rustup proxy does not find its toolchains, which lie beside the proxy's own cargo home.
if ! cargo --version >/dev/null 2>&1; then
    beside=$(dirname "$(dirname "$(dirname "$(command -v cargo)")")")/.rustup
    [ -d "$beside/toolchains" ] && export RUSTUP_HOME=$beside
    cargo --version >/dev/null
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
eval "$("$root/tests/tools/fetch-protoc.sh")"
cd "$root"
exec "$@"
