#!/usr/bin/env bash
# Prints the path of a Python that has moto, an S3 server, installed through pip on first use:  tests/tools/fetch-moto.sh
# It is to run moto-server.py beside this.
# Its versions stand in moto.txt beside this. It lives in an environment of its own; nothing else of Python's is changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../../target}/tools
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
# Another list of versions is another environment.
place=$tools/moto-$(sha256sum "$here/moto.txt" | cut -c 1-12)

if [ ! -e "$place/.complete" ]; then
    exec 9>"$tools/.moto.lock"
    flock 9 # several tests may ask at once
fi
if [ ! -e "$place/.complete" ]; then
    # The distribution's Python makes no environments unless `python3-venv` is there.
    makes_environments() { command -v "$1" >/dev/null && "$1" -c 'import ensurepip, venv' 2>/dev/null; }
    if ! makes_environments python3 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq -y --no-install-recommends install python3-venv; } >&2
    fi
    python=
    for candidate in python3 /usr/bin/python3; do
        if makes_environments "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "fetch-moto: missing from the distribution: python3-venv (sudo apt-get install python3-venv)" >&2
        exit 1
    fi
    # The paths in an environment are absolute, so that it is made where it stays.
    rm -rf "$place"
    {
        "$python" -m venv "$place"
        "$place/bin/pip" --quiet --no-cache-dir --disable-pip-version-check install --requirement "$here/moto.txt"
    } >&2
    "$place/bin/python" "$here/moto-server.py" --help >/dev/null
    touch "$place/.complete"
fi
echo "$place/bin/python"
