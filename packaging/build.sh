#!/usr/bin/env bash
# Makes the .deb and the .rpm from one list of files (packaging/files) and the same scripts, into target/packages.
#   packaging/build.sh [BINARY]      BINARY: the program to pack (default: target/release/lifeboat)
# For tests, in the environment: OUT, a directory for the packages that is emptied before; KINDS, deb or rpm only; VERSION,
# to have one to upgrade to; UNRELEASED=1, for this machine's C library and hardly compressed.
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
    sed -e "s/@VERSION@/$version-1/" -e "s/@ARCH@/$arch/" -e "s/@MAINTAINER@/$maintainer/" \
        -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" packaging/deb/control >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
    dpkg-deb --root-owner-group "-Z$compression" --build "$root" "$out/etcd-lifeboat_$version-1_$arch.deb" >/dev/null
}

rpm_package() {
    local top=$out/rpm
    mkdir -p "$top"
    cp -a "$out/root" "$top/root"
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
    } >"$top/files"
    script packaging/rpm/etcd-lifeboat.spec |
        sed -e "s/@VERSION@/$version/" -e "s/@MAINTAINER@/$maintainer/" \
            -e "s/@DATE@/$(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')/" -e "/@FILES@/{r $top/files
d}" >"$top/etcd-lifeboat.spec"
    rpmbuild -bb --quiet --buildroot "$top/root" \
        --define "_topdir $top" --define "_rpmdir $out" --define "_build_id_links none" \
        --define "_binary_payload $payload" --define "_rpmfilename %{name}-%{version}-%{release}.%{_arch}.rpm" --define "__os_install_post %{nil}" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        "$top/etcd-lifeboat.spec" >"$top/log" 2>&1 || { cat "$top/log" >&2; exit 1; }
}

for kind in ${KINDS:-deb rpm}; do
    case $kind in
        deb) deb ;;
        rpm) rpm_package ;;
    esac
done
rm -rf "$out/deb" "$out/rpm" "$root" "$stage"
find "$out" -name '*.deb' -o -name '*.rpm'
