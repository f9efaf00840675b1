#!/usr/bin/env bash
# Brings the distribution's own tools for tests and measurements:  tests/tools/fetch-debian.sh etcdctl etcdutl age zstd sshd
# A tool that PATH has is good enough (etcdctl and etcdutl from 3.5 on); the others are unpacked into target/tools/bin out
# of the machine's own mirror, by an apt root of our own: nothing is installed, no root is needed. Fails, with one line for
# each tool that it cannot bring.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../../target}/tools
mkdir -p "$tools/bin"
tools=$(cd "$tools" && pwd)
export PATH=$tools/bin:$PATH:/usr/sbin
exec 9>"$tools/.debian.lock"
flock 9

works() {
    case $1 in
    etcdctl) grep -Eq '^etcdctl version: 3\.([5-9]|[1-9][0-9])\.' <<<"$(ETCDCTL_API=3 etcdctl version 2>&1)" ;;
    etcdutl) etcdutl version >/dev/null 2>&1 ;;
    sshd) [ "$(command -v sshd)" ] && grep -q OpenSSH_ <<<"$("$(command -v sshd)" '-?' 2>&1)" ;;
    ssh-keygen) command -v ssh-keygen >/dev/null ;;
    memcached) memcached -h >/dev/null 2>&1 ;;
    *) "$1" --version >/dev/null 2>&1 ;;
    esac
}

package_of() {
    case $1 in
    etcdctl) echo etcd-client ;;
    etcdutl) echo etcd-server ;;
    promtool) echo prometheus ;;
    age-plugin-*) echo age ;; # from 1.3 on, which brings its own age and age-keygen beside it
    sshd) echo openssh-server ;;
    ssh-keygen) echo openssh-client ;;
    *) echo "$1" ;;
    esac
}

# The suite to take a package from: the machine's own, unless that is too old to have etcdutl, or age's plugins.
suite_of() {
    [[ $2 = age-plugin-* && $ID = debian ]] && echo sid && return
    if [[ $1 = etcd-* ]]; then
        case $ID:${VERSION_ID:-rolling} in
        debian:1[0-2]) echo trixie && return ;;
        ubuntu:1?.* | ubuntu:2[0-4].*) echo resolute && return ;;
        esac
    fi
    echo "$VERSION_CODENAME"
}

# Unpacks one tool out of its package.
unpack() {
    local tool=$1 package suite apt mirror folder
    package=$(package_of "$tool")
    suite=$(suite_of "$package" "$tool")
    folder=$tools/debian-$package
    [ "$suite" = "$VERSION_CODENAME" ] || [[ $tool != age-plugin-* ]] || folder=$tools/debian-$tool
    apt=$tools/apt-$suite
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v own="$VERSION_CODENAME" '$3 == "main" && ($2 == own || $2 ~ /^(stable|testing|unstable|sid)$/) { print $1; exit }')
    [ -n "$mirror" ] || return 1
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    touch "$apt/state/status"
    echo "deb [signed-by=/usr/share/keyrings/$ID-archive-keyring.gpg] $mirror $suite main universe" >"$apt/sources.list"
    [ "$ID" = ubuntu ] || sed -i 's/ universe$//' "$apt/sources.list"
    local options=(-qq
        -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/state/status" -o "Dir::Cache=$apt/cache"
        -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    [ -e "$apt/updated" ] || apt-get "${options[@]}" update >&2 || return 1
    touch "$apt/updated"
    (cd "$apt/cache" && rm -f -- *.deb && apt-get "${options[@]}" download "$package" >&2) || return 1
    dpkg -x "$apt/cache/$package"_*.deb "$folder" || return 1
    if [ "$tool" = sshd ]; then
        unpack_with "$package" usr/sbin/sshd libwrap0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 \
            libkeyutils1 libwtmpdb0
        return
    fi
    if [ "$tool" = memcached ]; then
        unpack_with "$package" usr/bin/memcached libevent-2.1-7 libevent-2.1-7t64
        return
    fi
    ln -sf "$folder/usr/bin/$tool"* "$tools/bin/" # age brings age-keygen
}

# What is called by PATH finds the libraries beside it that this machine may not have, and keeps its own name.
unpack_with() {
    local root=$tools/debian-$1 path=$2 library triplet
    shift 2
    for library in "$@"; do
        (cd "$apt/cache" && apt-get "${options[@]}" download "$library" && dpkg -x "$library"_*.deb "$root") || true
    done
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -dumpmachine)
    {
        echo '#!/bin/sh'
        echo "export LD_LIBRARY_PATH=$root/lib/$triplet:$root/usr/lib/$triplet"
        echo "exec $root/$path \"\$@\""
    } >"$tools/bin/${path##*/}"
    chmod +x "$tools/bin/${path##*/}"
}

ID=unknown VERSION_CODENAME=unknown
[ -r /etc/os-release ] && . /etc/os-release
missing=0
for tool in "$@"; do
    works "$tool" && continue
    log=$tools/debian-$tool.log
    if ! { command -v apt-get && command -v dpkg && unpack "$tool"; } >"$log" 2>&1 || ! works "$tool"; then
        echo "fetch-debian: skipped: no usable $tool on PATH, and package $(package_of "$tool") could not be fetched (see $log)" >&2
        missing=1
    fi
done
exit $missing
