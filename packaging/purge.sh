# When the package is purged: forgets what the agent remembers. Only files that it makes are removed, each by its name: a
# destination may lie in the same folder. Backups, the data that a restore kept, its ledger and the user stay.
lifeboat_purged() {
    for cluster in /var/lib/lifeboat/*/; do
        for memory in stores chains schedules; do
            rm -f "$cluster$memory"/*.json
            rmdir "$cluster$memory" 2>/dev/null || true
        done
        rm -f "${cluster}jobs.lock" "${cluster}agent.lock" "${cluster}status.json"
        rmdir "$cluster" 2>/dev/null || true
    done
    rm -f /var/lib/lifeboat/_configurations/*.json
    rmdir /var/lib/lifeboat/_configurations /var/lib/lifeboat 2>/dev/null || true
}
