# Before removal, not before an upgrade; part of the scripts of both packages. Backups, state and configuration stay, and
# so does what a restore needs: its ledger, the data that it kept and etcd's settings.
lifeboat_removed() {
    # Only this program can end an open restore, and its guard keeps etcd from starting meanwhile.
    if [ -e /var/lib/lifeboat-restore/ledger.json ]; then
        echo "etcd-lifeboat is not removed: a restore of etcd is open on this host." >&2
        echo "Finish it with \`lifeboat restore --wait\`, or take it back with \`lifeboat rollback\`, then remove the package." >&2
        exit 1
    fi
    # So does what was taken back to where there was nothing before.
    if [ -e /var/lib/lifeboat-restore/held ]; then
        echo "etcd-lifeboat is not removed: etcd is kept from starting here, since a restore was taken back that had found no data." >&2
        echo "Restore a backup, or let etcd start again with \`lifeboat release\`, then remove the package." >&2
        exit 1
    fi
    if [ -d /run/systemd/system ]; then
        systemctl disable --now lifeboat.service || true
    fi
}
