#!/usr/bin/env bash
# Starts a Ceph of one monitor, one storage daemon in memory and one RADOS gateway on loopback:
#   ceph-server.sh ROOT FOLDER PORT MONITOR-PORT
# The Debian packages are unpacked into ROOT first, if that is not there yet; nothing is installed. Writes the pids to
# FOLDER/pids and goes on. S3 is at PORT for the key `test:tester` with the secret `testing`.
set -euo pipefail
root=$1 folder=$2 port=$3 monitor=$4

if [ ! -e "$root/ready" ]; then
    mkdir -p "$root/cache/archives/partial"
    apt-get -qq -y --download-only --no-install-recommends -o "Dir::Cache=$root/cache" -o Debug::NoLocking=1 \
        install ceph-mon ceph-osd radosgw >&2
    for package in "$root"/cache/archives/*.deb; do dpkg -x "$package" "$root"; done
    rm -rf "$root/cache"
    touch "$root/ready"
fi

triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -dumpmachine)
libraries=$root/usr/lib/$triplet
export LD_LIBRARY_PATH=$libraries:$root/lib/$triplet:$root/usr/lib:$root/usr/lib/ceph:$libraries/ceph
export PATH=$root/usr/bin:$root/usr/sbin:$PATH PYTHONPATH=$root/usr/lib/python3/dist-packages
export CEPH_CONF=$folder/ceph.conf
home_of() { dirname "$(find "$root" -name "$1" -print -quit)"; }

mkdir -p "$folder"/{mon,osd,run,log,rgw}
cd "$folder"
: >pids
begin() { "$@" >>"log/${1##*/}.out" 2>&1 & echo $! >>pids; }
cluster=$(cat /proc/sys/kernel/random/uuid)
cat >ceph.conf <<EOF
[global]
fsid = $cluster
mon host = v1:127.0.0.1:$monitor
mon initial members = a
monmap = $folder/monmap
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
osd objectstore = memstore
memstore device bytes = 4294967296
run dir = $folder/run
admin socket = $folder/run/\$name.\$pid.asok
pid file = $folder/run/\$name.pid
log file = $folder/log/\$name.log
mon cluster log file = $folder/log/cluster.log
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
erasure code dir = $(home_of libec_jerasure.so)
plugin dir = $(home_of libec_jerasure.so)
osd class dir = $(home_of libcls_rgw.so)
osd class update on start = false
osd crush update on start = false
osd class load list = *
osd class default list = *
debug ms = 0
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 16
EOF
monmaptool --create --addv a "[v1:127.0.0.1:$monitor]" --fsid "$cluster" monmap >log/monmap
ceph-mon --mkfs -i a --monmap monmap --mon-data mon
begin ceph-mon -f -i a
ask() { python3 "$root/usr/bin/ceph" --connect-timeout 60 "$@"; }
osd=$(cat /proc/sys/kernel/random/uuid)
ask osd new "$osd" 0 >log/new
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >log/mkfs 2>&1
ask osd crush add osd.0 1.0 root=default host=here >log/crush 2>&1
begin ceph-osd -f -i 0
begin radosgw -f -n client.rgw
for _ in $(seq 300); do
    curl -s -o /dev/null "http://127.0.0.1:$port/" && break
    sleep 0.2
done
curl -s -o /dev/null "http://127.0.0.1:$port/" || { cat log/*.out >&2; exit 1; }
radosgw-admin user create --uid=test --display-name=test --access-key=test:tester --secret=testing >log/user
