//! The table of all keys of a configuration file: what each looks like, in the order of the example file.
//!
//! Source: the section Configuration of the contract.

/// A key of this version.
pub(super) struct Key {
    /// Dotted; `*` stands for a name.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// What a value must be, to follow "is not".
    pub(super) expected: &'static str,
}

/// What a value looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Texts,
    Switch,
    Integer,
    /// An integer or "auto".
    IntegerOrAuto,
    Duration,
    /// A table that says where to find a secret.
    Secret,
    /// The same, or the secret itself.
    SecretText,
}

const SECRET: &str = "where to find it: { file = \"/path\" }, { credential = \"name\" } or { env = \"NAME\" }";
const URLS: &str = "a list of URLs, such as [\"https://10.0.0.1:2379\"]";
const SWITCH: &str = "true or false";
const NOTE: &str = "a line of at most 400 characters, such as \"in the safe at the office\"";
const COUNT: &str = "a whole number from 0 to 1000000";

/// Every key of this version, in the order of the example file.
pub(super) const KEYS: &[Key] = &[
    key("cluster.name", Kind::Text, "a name, such as \"prod\""),
    key("cluster.tls.ca", Kind::Secret, SECRET),
    key("cluster.tls.cert", Kind::Secret, SECRET),
    key("cluster.tls.key", Kind::Secret, SECRET),
    key("cluster.tls.server_name", Kind::Text, "a host name"),
    key("cluster.auth.user", Kind::Text, "a user of etcd"),
    key("cluster.auth.password", Kind::Secret, SECRET),
    key("members.*.client_urls", Kind::Texts, URLS),
    key("members.*.peer_urls", Kind::Texts, URLS),
    key("members.*.enabled", Kind::Switch, SWITCH),
    key("host.member", Kind::Text, "the name of a member"),
    key("host.unit", Kind::Text, "the name of a unit, such as \"etcd.service\""),
    key("host.data_dir", Kind::Text, "a path that starts with `/`"),
    key("host.wal_dir", Kind::Text, "a path that starts with `/`"),
    key(
        "host.settings",
        Kind::Text,
        "\"auto\", \"flags\", or the path of etcd's environment file or YAML file",
    ),
    key("host.etcd_version", Kind::Text, "\"3.4\", \"3.5\", \"3.6\" or \"3.7\""),
    key(
        "encryption.recipients",
        Kind::Texts,
        "a list of recipients (\"age1…\", \"ssh-ed25519 …\" or \"ssh-rsa …\")",
    ),
    key("encryption.recipients_file", Kind::Text, "a path that starts with `/`"),
    key("encryption.identity", Kind::Secret, SECRET),
    key("encryption.identity_note", Kind::Text, NOTE),
    key("encryption.plugins", Kind::Text, "a path that starts with `/`"),
    key("signing.key", Kind::Secret, SECRET),
    key(
        "signing.trusted",
        Kind::Texts,
        "a list of keys of signers (\"lifeboat-signer1…\") or of roots (\"lifeboat-root1…\")",
    ),
    key("compression.level", Kind::Integer, "a whole number from 1 to 19"),
    key(
        "compression.threads",
        Kind::IntegerOrAuto,
        "\"auto\" or a whole number from 1 to 64",
    ),
    key(
        "backup.member",
        Kind::Text,
        "\"auto\", \"local\" or the name of a member",
    ),
    key("backup.hash_kv", Kind::Text, "\"auto\", \"always\" or \"never\""),
    key(
        "backup.require",
        Kind::Text,
        "\"acknowledged\", \"stored\", \"content\" or \"hash_kv\"",
    ),
    key(
        "backup.idle_timeout",
        Kind::Duration,
        "a duration with a unit, from \"1s\" to \"1h\"",
    ),
    key(
        "backup.finish_within",
        Kind::Duration,
        "a duration with a unit, from \"1m\" to \"168h\"",
    ),
    key(
        "backup.pace",
        Kind::Text,
        "\"auto\", \"off\" or a rate, such as \"100 MiB/s\"",
    ),
    key("deltas.enabled", Kind::Switch, SWITCH),
    key(
        "deltas.every",
        Kind::Duration,
        "a duration with a unit, from \"1s\" to \"1h\"",
    ),
    key(
        "deltas.max_bytes",
        Kind::Text,
        "a size with a unit, from \"64 KiB\" to \"64 MiB\"",
    ),
    key("deltas.destinations", Kind::Texts, "a list of names of destinations"),
    key(
        "deltas.spool",
        Kind::Text,
        "a size with a unit, from \"16 MiB\" to \"1 TiB\"",
    ),
    key(
        "deltas.mark_every",
        Kind::Duration,
        "a duration with a unit, from \"1s\" to \"1h\"",
    ),
    key(
        "deltas.pack_after",
        Kind::Duration,
        "a duration with a unit, from \"1m\" to \"168h\"",
    ),
    key(
        "deltas.hash_kv_every",
        Kind::Duration,
        "a duration with a unit, from \"1m\" to \"168h\"",
    ),
    key(
        "restore.health_timeout",
        Kind::Duration,
        "a duration with a unit, from \"10s\" to \"24h\"",
    ),
    key(
        "restore.bump_revision",
        Kind::IntegerOrAuto,
        "\"auto\", \"never\" or a whole number from 1",
    ),
    key("schedules.*.kind", Kind::Text, "\"full\", \"verify\" or \"prune\""),
    key(
        "schedules.*.when",
        Kind::Text,
        "a calendar expression of systemd, such as \"hourly\" or \"Mon..Fri 02:30\" (or `every`, a period such as \"6h\")",
    ),
    key(
        "schedules.*.every",
        Kind::Duration,
        "a period with a unit, from \"1s\" to \"8784h\"",
    ),
    key(
        "schedules.*.jitter",
        Kind::Duration,
        "a duration with a unit, from \"0s\" to \"24h\"",
    ),
    key("schedules.*.catch_up", Kind::Switch, SWITCH),
    key(
        "schedules.*.late_after",
        Kind::Duration,
        "a duration with a unit, from \"1s\" to \"30 days\"",
    ),
    key(
        "schedules.*.destinations",
        Kind::Texts,
        "a list of names of destinations",
    ),
    key("schedules.*.enabled", Kind::Switch, SWITCH),
    key(
        "destinations.*.url",
        Kind::Text,
        "a URL, such as \"file:///var/backups/lifeboat\" or \"s3://bucket/prefix\"",
    ),
    key("destinations.*.shared", Kind::Switch, SWITCH),
    key("destinations.*.enabled", Kind::Switch, SWITCH),
    key("destinations.*.retention.keep_last", Kind::Integer, COUNT),
    key(
        "destinations.*.retention.keep_within",
        Kind::Duration,
        "a duration with a unit, such as \"48h\" or \"14 days\"",
    ),
    key(
        "destinations.*.retention.pitr_window",
        Kind::Duration,
        "a duration with a unit, such as \"7 days\"",
    ),
    key("destinations.*.retention.keep_hourly", Kind::Integer, COUNT),
    key("destinations.*.retention.keep_daily", Kind::Integer, COUNT),
    key("destinations.*.retention.keep_weekly", Kind::Integer, COUNT),
    key("destinations.*.retention.keep_monthly", Kind::Integer, COUNT),
    key("destinations.*.retention.keep_yearly", Kind::Integer, COUNT),
    key(
        "destinations.*.retention.max_bytes",
        Kind::Text,
        "a size with a unit, such as \"50 GiB\"",
    ),
    key("destinations.*.retention.min_backups", Kind::Integer, COUNT),
    key("destinations.*.credentials", Kind::Secret, SECRET),
    key("destinations.*.credentials_note", Kind::Text, NOTE),
    key(
        "destinations.*.endpoint",
        Kind::Text,
        "the URL of a server without user, query and fragment, such as \"https://s3.example.com\"",
    ),
    key(
        "destinations.*.region",
        Kind::Text,
        "a region, such as \"eu-central-1\"",
    ),
    key("destinations.*.ca", Kind::Secret, SECRET),
    key("destinations.*.path_style", Kind::Switch, SWITCH),
    key(
        "destinations.*.checksum",
        Kind::Text,
        "\"auto\", \"crc32c\", \"md5\" or \"off\"",
    ),
    key(
        "destinations.*.concurrency",
        Kind::Integer,
        "a whole number from 1 to 9",
    ),
    key(
        "destinations.*.part_size",
        Kind::Text,
        "a size with a unit, from \"5 MiB\" to \"18 MiB\"",
    ),
    key("destinations.*.read_back", Kind::Text, "\"always\" or \"never\""),
    key(
        "destinations.*.object_lock",
        Kind::Text,
        "a duration from \"1d\" to \"36500d\"",
    ),
    key(
        "destinations.*.bandwidth",
        Kind::Text,
        "a rate from \"64 KiB/s\", such as \"20 MiB/s\"",
    ),
    key(
        "destinations.*.host_key",
        Kind::Text,
        "an ed25519 or ECDSA key as `ssh-keyscan` prints it without the name of the host, such as \"ssh-ed25519 AAAA…\"",
    ),
    key("destinations.*.known_hosts", Kind::Secret, SECRET),
    key("destinations.*.key", Kind::Secret, SECRET),
    key("destinations.*.passphrase", Kind::Secret, SECRET),
    key("destinations.*.password", Kind::Secret, SECRET),
    key(
        "notify.on_failure",
        Kind::Texts,
        "a list of a program and its arguments, such as [\"/usr/local/bin/page\", \"dba\"]",
    ),
    key(
        "notify.heartbeat",
        Kind::SecretText,
        "an `https://` URL, or where to find it: { file = \"/path\" }, { credential = \"name\" } or { env = \"NAME\" }",
    ),
    key(
        "notify.heartbeat_every",
        Kind::Duration,
        "a duration with a unit, from \"10s\" to \"24h\"",
    ),
    key(
        "metrics.listen",
        Kind::Text,
        "an address of the loopback, such as \"127.0.0.1:9379\", or the path of a socket that starts with `/`",
    ),
    key(
        "metrics.textfile",
        Kind::Text,
        "a path that starts with `/` and ends in `.prom`",
    ),
];

/// What the contract lists and this version does not know yet.
pub(super) const LATER: &[&str] = &["restore.automatic", "log"];

const fn key(path: &'static str, kind: Kind, expected: &'static str) -> Key {
    Key { path, kind, expected }
}
