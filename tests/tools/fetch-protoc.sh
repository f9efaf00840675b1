#!/usr/bin/env bash
# Prints the environment in which the build finds protoc:  eval "$(tests/tools/fetch-protoc.sh)"
# Nothing to set when PROTOC is set already, or when the system has both protoc and the well-known types; else the compiler
# that a crate carries. The system's is preferred unset, so that plain `cargo build` and `make` share one build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../../target}/tools
if [ -n "${PROTOC:-}" ]; then
    exit 0
fi
if command -v protoc >/dev/null && [ -e /usr/include/google/protobuf/descriptor.proto ]; then
    exit 0
fi
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
if [ ! -x "$tools/protoc/bin/protoc" ]; then
    case $(uname -m) in
    x86_64) arch=x86_64 ;;
    aarch64) arch=aarch_64 ;;
    *)
        echo "fetch-protoc: install protoc first (sudo apt-get install protobuf-compiler libprotobuf-dev)" >&2
        exit 1
        ;;
    esac
    source=$("$here/crate-source.sh" "protoc-bin-vendored-linux-$arch" 3.3.0)
    new=$(mktemp -d "$tools/protoc.XXXXXX")
    cp -R "$source/bin" "$source/include" "$new/"
    chmod 755 "$new" "$new/bin/protoc"
    "$new/bin/protoc" --version >/dev/null
    mv -T "$new" "$tools/protoc" 2>/dev/null || rm -rf "$new" # another run was quicker
fi
printf 'export PROTOC=%q PROTOC_INCLUDE=%q\n' "$tools/protoc/bin/protoc" "$tools/protoc/include"
