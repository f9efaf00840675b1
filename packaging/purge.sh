# When the package is purged: forgets what the agent remembers. Only files that it makes are removed, each by its name: a
# destination may lie in the same folder. Backups, the data that a restore kept, its ledger and the user stay.
lifeboat_purged() {
    # By the user whose folders these are: a link that this user has put there leads root nowhere.
    if id -u lifeboat >/dev/null 2>&1; then
        setpriv --reuid=lifeboat --regid=lifeboat --clear-groups --no-new-privs sh -c '
            for cluster in /var/lib/lifeboat/*/; do
                for memory in stores chains schedules; do
                    rm -f "$cluster$memory"/*.json
                    rmdir "$cluster$memory"
                done
                rm -f "$cluster"documents/*
                rmdir "$cluster"documents
                for file in jobs.lock agent.lock news.json status.json recipients.json behind.json clock.json tips.json \
                    destinations.json last-word.json seen.lock signing.key signer.json signers.json seen-signers.json; do
                    rm -f "$cluster$file"
                done
                # What waits there for a destination stays.
                rm -f "$cluster"deltas/*/beside.json "$cluster"deltas/*/epoch.json "$cluster"deltas/*/set-aside.json
                find "$cluster"deltas -depth -type d -empty -delete
                rmdir "$cluster"
            done
            rm -f /var/lib/lifeboat/_configurations/*.json
            rmdir /var/lib/lifeboat/_configurations
        ' </dev/null >/dev/null 2>&1 || true
    fi
    rmdir /var/lib/lifeboat 2>/dev/null || true
}
