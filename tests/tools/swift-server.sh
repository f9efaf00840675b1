#!/usr/bin/env bash
# Starts an OpenStack Swift of one copy on loopback: swift-server.sh VENV FOLDER PORT [KEYSTONE-PORT]. The proxy is at PORT, the
# servers of accounts, containers and objects at the three ports after it, and the memcached at the fourth. Writes their pids
# to FOLDER/pids and goes on. Without Keystone, TempAuth lets in test:tester (all of the account) and test:writer (nothing
# but what a container lets him do), both by the key `testing`. TOKEN_LIFE is that of their tokens, in seconds.
set -euo pipefail
venv=$1 folder=$2 port=$3 keystone=${4:-}
bin=$venv/bin
mkdir -p "$folder"/{etc,srv/node/d1,run,log}
: >"$folder/pids"

memcached -u root -l 127.0.0.1 -p $((port + 4)) >"$folder/log/memcached" 2>&1 &
echo $! >>"$folder/pids"

cat >"$folder/etc/swift.conf" <<EOF
[swift-hash]
swift_hash_path_prefix = lifeboat
swift_hash_path_suffix = tests
[storage-policy:0]
name = gold
default = yes
EOF
number=1
for kind in account container object; do
    cat >"$folder/etc/$kind-server.conf" <<EOF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $((port + number))
workers = 0
devices = $folder/srv/node
mount_check = false
disable_fallocate = true
swift_dir = $folder/etc
user = $(id -un)
recon_cache_path = $folder/run
log_statsd_host =
[pipeline:main]
pipeline = $kind-server
[app:$kind-server]
use = egg:swift#$kind
[$kind-replicator]
[$kind-auditor]
EOF
    number=$((number + 1))
done
printf '[container-updater]\n[container-sync]\n' >>"$folder/etc/container-server.conf"
printf '[object-updater]\n[object-reconstructor]\n[object-expirer]\n' >>"$folder/etc/object-server.conf"

auth=tempauth
[ -z "$keystone" ] || auth='authtoken keystoneauth'
cat >"$folder/etc/proxy-server.conf" <<EOF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
workers = 0
swift_dir = $folder/etc
user = $(id -un)
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats $auth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test_writer = testing
token_life = ${TOKEN_LIFE:-86400}
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = http://127.0.0.1:$keystone
auth_url = http://127.0.0.1:$keystone
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = admin
username = admin
password = testing
delay_auth_decision = true
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin
reseller_admin_role = admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((port + 4))
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
EOF

cd "$folder/etc"
number=1
for kind in account container object; do
    "$bin/swift-ring-builder" $kind.builder create 4 1 1
    "$bin/swift-ring-builder" $kind.builder add "r1z1-127.0.0.1:$((port + number))/d1" 1
    "$bin/swift-ring-builder" $kind.builder rebalance
    number=$((number + 1))
done >"$folder/log/rings"
for kind in account container object proxy; do
    "$bin/python" "$bin/swift-$kind-server" "$folder/etc/$kind-server.conf" >"$folder/log/$kind" 2>&1 &
    echo $! >>"$folder/pids"
done
