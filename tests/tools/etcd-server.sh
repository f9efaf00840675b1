# To be sourced: an etcd server of our own on random free ports, for demo.sh and bench.sh.
# Expects $etcd (the server) and $work (a directory of ours). Sets $client_url, $peer_url and $etcd_pid.
# shellcheck shell=bash

# Sets the two URLs to ports that nobody listens on, below the range that outgoing connections take theirs from.
pick_ports() {
    local -a ports=()
    while [ ${#ports[@]} -lt 2 ]; do
        local port=$((20000 + RANDOM % 12000))
        grep -qs "$(printf ':%04X 00000000:0000 0A' $port)" /proc/net/tcp || ports+=("$port")
    done
    client_url=http://127.0.0.1:${ports[0]} peer_url=http://127.0.0.1:${ports[1]}
}

# Whether our server holds the listening socket of its client port: before that, nothing is said to the port.
is_listening() {
    local port inode
    port=$(printf '%04X' "${client_url##*:}")
    inode=$(awk -v local=":$port" '$4 == "0A" && index($2, local) { print $10 }' /proc/net/tcp)
    [ -n "$inode" ] && ls -l "/proc/$etcd_pid/fd" 2>/dev/null | grep -qF "socket:[$inode]"
}

# Starts the server over whatever $work/etcd holds; further arguments are given to it.
start_etcd() {
    "$etcd" --name demo --data-dir "$work/etcd" \
        --listen-client-urls "$client_url" --advertise-client-urls "$client_url" \
        --listen-peer-urls "$peer_url" --initial-advertise-peer-urls "$peer_url" \
        --initial-cluster "demo=$peer_url" --initial-cluster-token demo "$@" >>"$work/etcd.log" 2>&1 &
    etcd_pid=$!
    disown "$etcd_pid" # the shell then does not comment on its end
    local deadline=$((SECONDS + 60))
    until is_listening; do
        if ! kill -0 "$etcd_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            echo "etcd did not start:" >&2
            tail -n 5 "$work/etcd.log" >&2
            return 1
        fi
        sleep 0.05
    done
}

# Ends the server with a signal (TERM unless given) and waits until it is gone.
stop_etcd() {
    if [ -n "${etcd_pid:-}" ]; then
        kill "-${1:-TERM}" "$etcd_pid" 2>/dev/null || true
        while kill -0 "$etcd_pid" 2>/dev/null; do sleep 0.02; done
        etcd_pid=
    fi
}
