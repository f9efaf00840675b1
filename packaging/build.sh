#!/usr/bin/env bash
# Makes the .deb and the .rpm from one list of files (packaging/files) and the same scripts, into target/packages; the
# program in them is stripped, and its debug symbols are a package of their own.
#   packaging/build.sh [BINARY]      BINARY: the program to pack (default: target/release/lifeboat)
# For tests, in the environment: OUT, a directory for the packages that is emptied before; KINDS, deb or rpm only; VERSION,
# to have one to upgrade to; UNRELEASED=1, for this machine's C library, hardly compressed, and without debug symbols.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}
binary=${1:-$target/release/lifeboat}
newest_glibc=2.34 # that of RHEL 9; Debian 12 and Ubuntu 22.04 have newer ones
out=$(realpath -m "${OUT:-$target/packages}")
stage=$out/stage
root=$out/root
maintainer="etcd-lifeboat maintainers <maintainers@etcd-lifeboat.invalid>"
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
compression=xz
payload=w9.gzdio
if [ -n "${UNRELEASED:-}" ]; then
    compression=none
    payload=w1.gzdio
fi
# Two builds of one commit give the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

die() { echo "packages: $*" >&2; exit 1; }
[ -x "$binary" ] || die "there is no $binary: run \`make packages\`"

# What the program needs of the C library decides on which hosts it runs.
needs=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
[ -n "${UNRELEASED:-}" ] || [ "$(printf '%s\n%s\n' "$needs" "$newest_glibc" | sort -V | tail -1)" = "$newest_glibc" ] ||
    die "$binary needs glibc $needs, newer than $newest_glibc: $(objdump -T "$binary" | grep -F "GLIBC_$needs" | awk '{print $NF}' | tr '\n' ' ')"
others=$(objdump -p "$binary" | awk '/NEEDED/ {print $2}' | grep -vE '^(libc|libm|libgcc_s|ld-linux-.*|ld-linux.*)\.so' || true)
[ -z "$others" ] || die "$binary needs $others, which the packages do not depend on"

rm -rf "$out"
mkdir -p "$stage/man"
install -m 0755 "$binary" "$stage/lifeboat"
# Where gdb, perf and systemd-coredump look for the symbols of a program.
build_id=$(readelf -n "$binary" | sed -n 's/.*Build ID: //p')
symbols=usr/lib/debug/.build-id/${build_id:0:2}/${build_id:2}.debug
if [ -z "${UNRELEASED:-}" ]; then
    [ -n "$build_id" ] || die "$binary has no build id: link it with --build-id"
    objcopy --only-keep-debug --compress-debug-sections "$binary" "$stage/lifeboat.debug"
    chmod 0644 "$stage/lifeboat.debug"
fi
strip "$stage/lifeboat"
"$binary" completions bash >"$stage/lifeboat.bash"
"$binary" completions zsh >"$stage/_lifeboat"
"$binary" completions fish >"$stage/lifeboat.fish"
"$binary" manual "$stage/man"
install -m 0644 packaging/man/* "$stage/man/"
gzip -9n "$stage"/man/*
files() { # mode source path kind
    sed -e '/^#/d' -e '/^$/d' -e "s|STAGE/|$stage/|" packaging/files
    for page in "$stage"/man/*; do
        section=${page%.gz}
        echo "0644 $page usr/share/man/man${section##*.}/${page##*/}"
    done
}
while read -r mode source path _; do
    install -D -m "$mode" "$source" "$root/$path"
done < <(files)
install -d -m 0755 "$root/etc/lifeboat/config.d"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# A script of a package: lines `#name.sh#` stand for packaging/name.sh.
script() { sed -e '/^#[a-z]*\.sh#$/{s|^#\(.*\)#$|packaging/\1|;s|.*|cat &|e' -e '}' "$1"; }

# Fills in what a control file leaves open, for the files below $1.
control() {
    sed -e "s/@VERSION@/$version-1/" -e "s/@ARCH@/$(dpkg --print-architecture)/" -e "s/@MAINTAINER@/$maintainer/" \
        -e "s/@BUILD_ID@/$build_id/" -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$1" | cut -f1)/"
}

deb() {
    local root=$out/deb arch
    arch=$(dpkg --print-architecture)
    cp -a "$out/root" "$root"
    mkdir -p "$root/DEBIAN" "$root/usr/share/doc/etcd-lifeboat"
    install -m 0644 packaging/deb/copyright "$root/usr/share/doc/etcd-lifeboat/copyright"
    gzip -9nc CHANGELOG.md >"$root/usr/share/doc/etcd-lifeboat/changelog.gz"
    printf 'etcd-lifeboat (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" "$maintainer" \
        "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9nc >"$root/usr/share/doc/etcd-lifeboat/changelog.Debian.gz"
    for script in postinst prerm postrm; do
        script packaging/deb/$script >"$root/DEBIAN/$script"
        chmod 0755 "$root/DEBIAN/$script"
    done
    files | awk '$4 == "config" {print "/" $3}' >"$root/DEBIAN/conffiles"
    control "$root" <packaging/deb/control >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
    dpkg-deb --root-owner-group "-Z$compression" --build "$root" "$out/etcd-lifeboat_$version-1_$arch.deb" >/dev/null
}

deb_symbols() {
    local root=$out/deb-symbols arch
    arch=$(dpkg --print-architecture)
    install -D -m 0644 "$stage/lifeboat.debug" "$root/$symbols"
    mkdir -p "$root/DEBIAN" "$root/usr/share/doc"
    ln -s etcd-lifeboat "$root/usr/share/doc/etcd-lifeboat-dbgsym"
    control "$root" <packaging/deb/control-dbgsym >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
    find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group "-Z$compression" --build "$root" "$out/etcd-lifeboat-dbgsym_$version-1_$arch.deb" >/dev/null
}

rpm_package() {
    local top=$out/rpm
    mkdir -p "$top"
    cp -a "$out/root" "$top/root"
    : >"$top/symbols"
    if [ -z "${UNRELEASED:-}" ]; then
        install -D -m 0644 "$stage/lifeboat.debug" "$top/root/$symbols"
        find "$top/root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
        sed "s|@SYMBOLS@|/$symbols|" packaging/rpm/debuginfo.spec >"$top/symbols"
    fi
    # Elsewhere than on Debian, zsh looks here.
    mkdir -p "$top/root/usr/share/zsh/site-functions"
    mv "$top/root/usr/share/zsh/vendor-completions/_lifeboat" "$top/root/usr/share/zsh/site-functions/"
    rmdir "$top/root/usr/share/zsh/vendor-completions"
    {
        files | awk '{ path = "/" $3; sub("vendor-completions", "site-functions", path) }
            $4 == "config" { print "%config(noreplace) %attr(" $1 ",root,root) " path; next }
            { print (path ~ "^/usr/share/doc" ? "%doc " : "") "%attr(" $1 ",root,root) " path }'
        echo "%dir %attr(0755,root,root) /etc/lifeboat"
        echo "%dir %attr(0755,root,root) /etc/lifeboat/config.d"
        echo "%dir %attr(0755,root,root) /usr/share/doc/etcd-lifeboat"
        echo "%dir %attr(0755,root,root) /usr/share/doc/etcd-lifeboat/docs"
        for folder in "" /grafana /prometheus; do
            echo "%dir %attr(0755,root,root) /usr/share/etcd-lifeboat$folder"
        done
    } >"$top/files"
    script packaging/rpm/etcd-lifeboat.spec |
        sed -e "s/@VERSION@/$version/" -e "s/@MAINTAINER@/$maintainer/" \
            -e "s/@DATE@/$(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')/" -e "/@FILES@/{r $top/files
d}" -e "/@DEBUGINFO@/{r $top/symbols
d}" >"$top/etcd-lifeboat.spec"
    rpmbuild -bb --quiet --buildroot "$top/root" \
        --define "debug_package %{nil}" --define "_topdir $top" --define "_rpmdir $out" --define "_build_id_links none" \
        --define "_binary_payload $payload" --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" --define "__os_install_post %{nil}" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        "$top/etcd-lifeboat.spec" >"$top/log" 2>&1 || { cat "$top/log" >&2; exit 1; }
}

for kind in ${KINDS:-deb rpm}; do
    case $kind in
        deb)
            deb
            [ -n "${UNRELEASED:-}" ] || deb_symbols
            ;;
        rpm) rpm_package ;;
    esac
done
rm -rf "$out/deb" "$out/deb-symbols" "$out/rpm" "$root" "$stage"
find "$out" -name '*.deb' -o -name '*.rpm'
