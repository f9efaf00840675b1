//! A key in the table that nobody reads would be accepted and do nothing.

use super::*;

/// A key in the table that nobody reads would be accepted and ignored.
#[test]
fn every_key_is_read() {
    let with_schedule = &format!(
        "{LEAST}[schedules.b]\nkind = 'full'\nwhen = 'daily'\n[destinations.far]\nurl = 's3://bucket'\n\
                  [destinations.vault]\nurl = 'sftp://u@h/x'\nkey = {{ env = 'K' }}\n"
    );
    let defaults = valid(&[with_schedule]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recipients");
    std::fs::write(&file, SAMPLE_RECIPIENT).unwrap();
    let recipients_file = format!("encryption.recipients_file = {:?}", file);
    let changes = [
        ("cluster.name", "cluster.name = 'other'"),
        ("cluster.tls.ca", "cluster.tls.ca = { env = 'A' }"),
        (
            "cluster.tls.cert",
            "cluster.tls = { cert = { env = 'A' }, key = { env = 'B' } }",
        ),
        (
            "cluster.tls.key",
            "cluster.tls = { cert = { env = 'A' }, key = { env = 'B' } }",
        ),
        ("cluster.tls.server_name", "cluster.tls.server_name = 'etcd'"),
        (
            "cluster.auth.user",
            "cluster.auth = { user = 'a', password = { env = 'B' } }",
        ),
        (
            "cluster.auth.password",
            "cluster.auth = { user = 'a', password = { env = 'B' } }",
        ),
        ("members.*.client_urls", "members.m1.client_urls = ['http://h:1']"),
        ("members.*.peer_urls", "members.m1.peer_urls = ['http://h:1']"),
        ("members.*.enabled", "members.m2.enabled = false"),
        ("host.member", "host.member = 'm1'"),
        ("host.unit", "host.unit = 'other.service'"),
        ("host.data_dir", "host.data_dir = '/data'"),
        ("host.wal_dir", "host.wal_dir = '/wal'"),
        ("host.settings", "host.settings = 'flags'"),
        ("host.etcd_version", "host.etcd_version = '3.5'"),
        (
            "encryption.recipients",
            &format!("encryption.recipients = ['{SAMPLE_RECIPIENT}']"),
        ),
        ("encryption.recipients_file", &recipients_file),
        ("encryption.identity", "encryption.identity = { env = 'A' }"),
        ("encryption.identity_note", "encryption.identity_note = 'in the safe'"),
        ("encryption.plugins", "encryption.plugins = '/opt/plugins'"),
        ("signing.key", "signing.key = { env = 'A' }"),
        (
            "signing.trusted",
            "signing.trusted = ['lifeboat-signer13jxyrs06haqvrvpxzs2nu2nhpnpsqucnv6slkcwkdxxxnkjh3esqudqgk9', 'lifeboat-root1pzejt30yuztxzak52uarykq02tvnugaswtjmdjnn6fkapyf6wlnsewv732']",
        ),
        ("compression.level", "compression.level = 19"),
        ("compression.threads", "compression.threads = 64"),
        ("backup.member", "backup.member = 'm1'"),
        ("backup.hash_kv", "backup.hash_kv = 'never'"),
        ("backup.require", "backup.require = 'content'"),
        ("backup.idle_timeout", "backup.idle_timeout = '1h'"),
        ("backup.finish_within", "backup.finish_within = '1h'"),
        ("backup.pace", "backup.pace = 'off'"),
        ("deltas.enabled", "deltas.enabled = true"),
        ("deltas.every", "deltas.every = '1s'"),
        ("deltas.max_bytes", "deltas.max_bytes = '1 MiB'"),
        ("deltas.destinations", "deltas.destinations = ['local']"),
        ("deltas.spool", "deltas.spool = '2 GiB'"),
        ("deltas.mark_every", "deltas.mark_every = '5m'"),
        ("deltas.pack_after", "deltas.pack_after = '2h'"),
        ("deltas.hash_kv_every", "deltas.hash_kv_every = '24h'"),
        ("restore.health_timeout", "restore.health_timeout = '1h'"),
        ("restore.bump_revision", "restore.bump_revision = 'never'"),
        ("schedules.*.kind", "schedules.a = { kind = 'full', every = '6h' }"),
        ("schedules.*.when", "schedules.a = { kind = 'full', when = 'hourly' }"),
        ("schedules.*.every", "schedules.a = { kind = 'full', every = '6h' }"),
        ("schedules.*.jitter", "schedules.b.jitter = '1h'"),
        ("schedules.*.catch_up", "schedules.b.catch_up = false"),
        ("schedules.*.late_after", "schedules.b.late_after = '2h'"),
        (
            "schedules.*.destinations",
            "schedules.b.destinations = ['local']\ndestinations.two.url = 'file:///two'",
        ),
        ("schedules.*.enabled", "schedules.b.enabled = false"),
        ("destinations.*.url", "destinations.local.url = 'file:///other'"),
        ("destinations.*.shared", "destinations.local.shared = true"),
        (
            "destinations.*.enabled",
            "destinations.local.enabled = false\ndestinations.two.url = 'file:///two'",
        ),
        (
            "destinations.*.retention.keep_last",
            "destinations.local.retention.keep_last = 3",
        ),
        (
            "destinations.*.retention.keep_within",
            "destinations.local.retention.keep_within = '2 days'",
        ),
        (
            "destinations.*.retention.pitr_window",
            "destinations.local.retention.pitr_window = '7 days'",
        ),
        (
            "destinations.*.retention.keep_hourly",
            "destinations.local.retention.keep_hourly = 3",
        ),
        (
            "destinations.*.retention.keep_daily",
            "destinations.local.retention.keep_daily = 3",
        ),
        (
            "destinations.*.retention.keep_weekly",
            "destinations.local.retention.keep_weekly = 3",
        ),
        (
            "destinations.*.retention.keep_monthly",
            "destinations.local.retention.keep_monthly = 3",
        ),
        (
            "destinations.*.retention.keep_yearly",
            "destinations.local.retention.keep_yearly = 3",
        ),
        (
            "destinations.*.retention.max_bytes",
            "destinations.local.retention.max_bytes = '3 GiB'",
        ),
        (
            "destinations.*.retention.min_backups",
            "destinations.local.retention.min_backups = 3",
        ),
        (
            "destinations.*.credentials",
            "destinations.far.credentials = { env = 'A' }",
        ),
        (
            "destinations.*.credentials_note",
            "destinations.far.credentials_note = 'in the safe'",
        ),
        (
            "destinations.*.endpoint",
            "destinations.far.endpoint = 'https://s3.example.com'",
        ),
        ("destinations.*.region", "destinations.far.region = 'eu-central-1'"),
        ("destinations.*.ca", "destinations.far.ca = { env = 'A' }"),
        ("destinations.*.path_style", "destinations.far.path_style = false"),
        ("destinations.*.checksum", "destinations.far.checksum = 'md5'"),
        ("destinations.*.concurrency", "destinations.far.concurrency = 2"),
        ("destinations.*.part_size", "destinations.far.part_size = '9 MiB'"),
        ("destinations.*.read_back", "destinations.far.read_back = 'never'"),
        ("destinations.*.object_lock", "destinations.far.object_lock = '30d'"),
        ("destinations.*.bandwidth", "destinations.far.bandwidth = '20MiB/s'"),
        (
            "destinations.*.host_key",
            "destinations.vault.host_key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN'",
        ),
        (
            "destinations.*.known_hosts",
            "destinations.vault.known_hosts = { file = '/etc/ssh/ssh_known_hosts' }",
        ),
        ("destinations.*.key", "destinations.vault.key = { env = 'A' }"),
        (
            "destinations.*.passphrase",
            "destinations.vault.passphrase = { env = 'A' }",
        ),
        ("destinations.*.password", "destinations.vault.password = { env = 'A' }"),
        ("notify.on_failure", "notify.on_failure = ['/bin/true']"),
        ("notify.heartbeat", "notify.heartbeat = 'https://example.com/'"),
        ("notify.heartbeat_every", "notify.heartbeat_every = '1m'"),
        ("metrics.listen", "metrics.listen = '127.0.0.1:9379'"),
        ("metrics.textfile", "metrics.textfile = '/var/lib/node/lifeboat.prom'"),
    ];
    assert_eq!(
        changes.map(|(path, _)| path).as_slice(),
        known_keys::KEYS.iter().map(|key| key.path).collect::<Vec<_>>()
    );
    for (path, text) in changes {
        assert_ne!(valid(&[with_schedule, text]), defaults, "{path}");
    }
}
