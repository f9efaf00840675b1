#!/usr/bin/env bash
# Starts an OpenStack Keystone on loopback: keystone-server.sh VENV FOLDER PORT SWIFT-URL. Its database is a file in FOLDER, its
# user `admin` has the password `testing`; project `backups` with user `keeper` (the same password) is for the tests, and the
# catalog has the Swift. Writes its pid to FOLDER/pids, and an application credential of `keeper` to FOLDER/credential.
set -euo pipefail
venv=$1 folder=$2 port=$3 swift=$4
mkdir -p "$folder"
cat >"$folder/keystone.conf" <<EOF
[database]
connection = sqlite:///$folder/keystone.db
[fernet_tokens]
key_repository = $folder/fernet
[fernet_receipts]
key_repository = $folder/fernet
[credential]
key_repository = $folder/credentials
EOF
manage() { "$venv/bin/keystone-manage" --config-file "$folder/keystone.conf" "$@"; }
{
    mkdir -m 0700 "$folder/fernet" "$folder/credentials"
    manage db_sync
    # As the user that this runs as.
    manage fernet_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)"
    manage credential_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)"
    manage bootstrap --bootstrap-password testing --bootstrap-admin-url "http://127.0.0.1:$port/v3" \
        --bootstrap-internal-url "http://127.0.0.1:$port/v3" --bootstrap-public-url "http://127.0.0.1:$port/v3" \
        --bootstrap-region-id here
} >"$folder/log" 2>&1

cat >"$folder/serve.py" <<EOF
import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

sys.argv = ["keystone", "--config-file", "$folder/keystone.conf"]
from keystone.server.wsgi import initialize_public_application


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


application = initialize_public_application()
make_server("127.0.0.1", $port, application, Threaded, Quiet).serve_forever()
EOF
OS_KEYSTONE_CONFIG_FILES="$folder/keystone.conf" OS_KEYSTONE_CONFIG_DIR="$folder" \
    "$venv/bin/python" "$folder/serve.py" >>"$folder/log" 2>&1 &
echo $! >"$folder/pids"
for _ in $(seq 150); do
    curl -s -o /dev/null "http://127.0.0.1:$port/v3" && break
    sleep 0.2
done

"$venv/bin/python" - "$port" "$swift" >"$folder/credential" <<'EOF'
import json, sys, urllib.request

port, swift = sys.argv[1:]
base = f"http://127.0.0.1:{port}/v3"


def ask(path, body=None, token=None, method=None):
    request = urllib.request.Request(base + path, method=method or ("POST" if body else "GET"))
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("X-Auth-Token", token)
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(request, data) as reply:
        text = reply.read()
        return reply.headers.get("X-Subject-Token"), json.loads(text) if text else None


def login(user, project):
    password = {"user": {"name": user, "domain": {"id": "default"}, "password": "testing"}}
    identity = {"methods": ["password"], "password": password}
    scope = {"project": {"name": project, "domain": {"id": "default"}}}
    return ask("/auth/tokens", {"auth": {"identity": identity, "scope": scope}})


token, _ = login("admin", "admin")
made = lambda kind, body: ask(f"/{kind}s", {kind: body}, token)[1][kind]["id"]
project = made("project", {"name": "backups", "domain_id": "default"})
user = made("user", {"name": "keeper", "domain_id": "default", "password": "testing"})
roles = {role["name"]: role["id"] for role in ask("/roles", token=token)[1]["roles"]}
ask(f"/projects/{project}/users/{user}/roles/{roles['admin']}", token=token, method="PUT")
service = made("service", {"type": "object-store", "name": "swift"})
for interface in ["public", "internal", "admin"]:
    url = f"{swift}/v1/AUTH_%(project_id)s"
    made("endpoint", {"service_id": service, "interface": interface, "region_id": "here", "url": url})
token, body = login("keeper", "backups")
credential = ask(f"/users/{user}/application_credentials", {"application_credential": {"name": "lifeboat"}}, token)
credential = credential[1]["application_credential"]
print(f"OS_APPLICATION_CREDENTIAL_ID={credential['id']}")
print(f"OS_APPLICATION_CREDENTIAL_SECRET={credential['secret']}")
EOF
