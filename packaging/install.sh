# After installation and upgrade; part of the scripts of both packages. Enables nothing and starts nothing. Works in a
# chroot without systemd as well.
lifeboat_installed() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers lifeboat.conf
    elif ! getent passwd lifeboat >/dev/null; then
        useradd --system --user-group --no-create-home --home-dir /var/lib/lifeboat \
            --shell /usr/sbin/nologin --comment etcd-lifeboat lifeboat
    fi
    # It refuses to work where /proc is not mounted, as in a root that an image is made of.
    if [ ! -e /proc/self ] || ! command -v systemd-tmpfiles >/dev/null || ! systemd-tmpfiles --create lifeboat.conf; then
        install -d -m 0750 -o lifeboat -g lifeboat /var/backups/lifeboat
        install -d -m 0755 -o lifeboat -g lifeboat /var/lib/lifeboat
    fi
    # A running agent ends by itself once it is idle and its program was replaced; systemd then starts the new one.
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
    fi
}
