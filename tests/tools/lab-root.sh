#!/usr/bin/env bash
# Prints the root directory of a Debian with systemd and etcd, made on first use:  tests/tools/lab-root.sh trixie|bookworm
# Hosts of the lab lay their own files over it; nothing ever writes into it. It is made anew when this script changes.
set -euo pipefail
suite=$1
here=$(cd "$(dirname "$0")" && pwd)
lab=${CARGO_TARGET_DIR:-$here/../../target}/lab
mkdir -p "$lab"
lab=$(cd "$lab" && pwd)
root=$lab/root-$suite
recipe=$(sha256sum "${BASH_SOURCE[0]}" | cut -c 1-16)

made() { [ "$(cat "$root.recipe" 2>/dev/null)" = "$recipe" ]; }

packages=systemd,systemd-sysv,dbus,polkitd,etcd-server,etcd-client,iproute2,procps,ca-certificates,openssl,strace,age,zstd

# The machine's own mirror, where that is one of Debian's.
mirror() {
    [ -r /etc/os-release ] && . /etc/os-release
    [ "${ID:-}" = debian ] || return 0
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v own="${VERSION_CODENAME:-}" '$3 == "main" && ($2 == own || $2 ~ /^(stable|testing|unstable|sid)$/) { print $1; exit }'
}

if ! made; then
    exec 9>"$root.lock"
    flock 9 # several runs may ask at once
fi
if ! made; then
    echo "lab: making the $suite root, once" >&2
    rm -rf "$root" "$root.new"
    if ! mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root.new" $(mirror) >"$root.log" 2>&1; then
        rm -rf "$root.new"
        echo "lab: no $suite root, see $root.log: $(grep -E '^E:' "$root.log" | head -1)" >&2
        exit 1
    fi
    # etcd starts when a test has configured it. Nothing is done at times of the distribution's choice.
    rm -f "$root.new"/etc/systemd/system/{multi-user.target.wants/etcd.service,etcd2.service}
    rm -rf "$root.new"/etc/systemd/system/timers.target.wants
    # Written through at once, so that the journal of a host whose power was cut can be read.
    mkdir -p "$root.new/var/log/journal" "$root.new/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$root.new/etc/systemd/journald.conf.d/lab.conf"
    mv "$root.new" "$root"
    echo "$recipe" >"$root.recipe"
fi
echo "$root"
