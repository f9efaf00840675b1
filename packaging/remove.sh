# Before removal, not before an upgrade; part of the scripts of both packages. Backups, state and configuration stay, and
# so does what a restore needs: its ledger, the data that it kept and etcd's settings.
lifeboat_removed() {
    if [ -d /run/systemd/system ]; then
        systemctl disable --now lifeboat.service || true
    fi
}
