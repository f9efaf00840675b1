//! The keys of a configuration file: what this version knows, what only later versions know, and which key was meant.
//!
//! Source: the section Configuration of the contract. Leaves to `check` what the values mean.
//! Invariant: after [`check`] a tree holds known keys only, each with a value of the right type or `Refused`.

use super::file::{Entry, Table, Value};
use super::problem::Problems;

/// A key of this version.
pub(super) struct Key {
    /// Dotted; `*` stands for a name.
    pub(super) path: &'static str,
    kind: Kind,
    /// What a value must be, to follow "is not".
    pub(super) expected: &'static str,
}

/// What a value looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
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
const LATER: &[&str] = &["restore.automatic", "log"];

const fn key(path: &'static str, kind: Kind, expected: &'static str) -> Key {
    Key { path, kind, expected }
}

/// What the value of `path` (with `*` for names) must be.
pub(super) fn expected(path: &str) -> &'static str {
    expected_of(path).expect("only keys of the table are read")
}

fn expected_of(path: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| key.path == path).map(|key| key.expected)
}

/// Says that `subject` is only known to later versions.
pub(super) fn later(subject: &str) -> String {
    format!("`{subject}` is known only to later versions of lifeboat")
}

/// Joins a key to the path of its table, quoted as TOML wants it.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare {
        name.to_owned()
    } else {
        format!("\"{}\"", name.escape_debug())
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

/// Checks one file: every key is known and of the right type. What is not becomes [`Value::Refused`].
pub(super) fn check(table: &mut Table, problems: &mut Problems) {
    check_table(table, "", "", problems);
}

/// `pattern` is the path of `table` with `*` for names, `path` the same with the names.
fn check_table(table: &mut Table, pattern: &str, path: &str, problems: &mut Problems) {
    for (name, entry) in table {
        let full = join(path, name);
        let here = if has_names(pattern) {
            format!("{pattern}.*")
        } else {
            join(pattern, name)
        };
        if !is_section(&here) && expected_of(&here).is_none() && !LATER.contains(&&*here) {
            problems.at(&entry.key, &unknown(pattern, path, name));
            entry.node.value = Value::Refused;
        } else if !check_entry(entry, &here, &full, problems) {
            entry.node.value = Value::Refused;
        }
        if let Value::Table(inner) = &mut entry.node.value {
            check_table(inner, &here, &full, problems);
        }
    }
}

/// Whether the entry may stay; if not, its problem was noted.
fn check_entry(entry: &mut Entry, pattern: &str, path: &str, problems: &mut Problems) -> bool {
    if LATER.contains(&pattern) {
        let subject = if pattern.contains('.') {
            path.to_owned()
        } else {
            format!("[{path}]")
        };
        problems.at(&entry.key, &later(&subject));
        return false;
    }
    if let Some(key) = KEYS.iter().find(|key| key.path == pattern) {
        return check_type(entry, key, path, problems);
    }
    let is_table = matches!(entry.node.value, Value::Table(_));
    if !is_table {
        let message = if has_names(pattern) {
            format!("`{path}` holds a table for each name: `[{path}.NAME]`, in single brackets")
        } else if let Some((section, "*")) = pattern.rsplit_once('.') {
            let known = known(pattern).join(", ");
            format!("`{path}` is not in the table of a name; write `[{section}.NAME]` above {known}")
        } else {
            format!("`{path}` is a table: write `[{path}]` above its keys")
        };
        problems.at(&entry.key, &message);
    }
    is_table
}

fn check_type(entry: &mut Entry, key: &Key, path: &str, problems: &mut Problems) -> bool {
    let value = &mut entry.node.value;
    if let Value::Text(text) = value
        && is_private_key(text)
        && key.kind != Kind::Secret
    {
        let message = format!("`{path}`: a private key (not shown) does not belong here; treat it as exposed");
        problems.hidden_at(&entry.node.origin, &message);
        return false;
    }
    let fits = match (key.kind, &mut *value) {
        (Kind::Text | Kind::Duration | Kind::IntegerOrAuto | Kind::SecretText, Value::Text(_))
        | (Kind::Integer | Kind::IntegerOrAuto, Value::Integer(_))
        | (Kind::Switch, Value::Boolean(_)) => true,
        (Kind::Texts, Value::List(list)) => list.iter().all(|node| matches!(node.value, Value::Text(_))),
        (Kind::Secret | Kind::SecretText, Value::Table(table)) => {
            *value = Value::Whole(std::mem::take(table));
            return true;
        }
        (_, _) => false,
    };
    if fits {
        return true;
    }
    let (found, expected) = (shown(value), key.expected);
    match (key.kind, value) {
        // Whatever stands here instead of a table may be the secret itself.
        (Kind::Secret | Kind::SecretText, _) => problems.hidden_at(
            &entry.node.origin,
            &format!("`{path}` is not {expected}; what stands here is not shown"),
        ),
        (Kind::Duration, Value::Integer(number)) => problems.at(
            &entry.node.origin,
            &format!("`{path}`: {found} is not {expected}; write \"{number}s\" for seconds"),
        ),
        (_, _) => problems.at(&entry.node.origin, &format!("`{path}`: {found} is not {expected}")),
    }
    false
}

/// A value for a message: short, and never a private key.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) | Value::Whole(_) => "a table".to_owned(),
        Value::List(list) => match list.iter().find(|node| !matches!(node.value, Value::Text(_))) {
            Some(node) => format!("a list with {}", shown(&node.value)),
            None => "a list".to_owned(),
        },
        Value::Text(text) if text.chars().count() > 60 => {
            format!("\"{}…\"", text.chars().take(60).collect::<String>().escape_debug())
        }
        Value::Text(text) => format!("\"{}\"", text.escape_debug()),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Time(time) => time.clone(),
        Value::Refused => "a value".to_owned(),
    }
}

/// Whether `text` holds an age identity or a PEM private key.
pub(super) fn is_private_key(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY-----") || text.contains("AGE-PLUGIN-")
}

/// Whether the table at `pattern` is keyed by names.
fn has_names(pattern: &str) -> bool {
    matches!(pattern, "members" | "schedules" | "destinations")
}

/// Whether `pattern` is a table with known keys in it.
fn is_section(pattern: &str) -> bool {
    KEYS.iter().any(|key| is_within(key.path, pattern))
}

fn is_within(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn unknown(section: &str, section_path: &str, name: &str) -> String {
    let path = join(section_path, name);
    let bound = (name.chars().count() / 3).max(1);
    if let Some(sibling) = closest(name, known(section).into_iter(), bound) {
        return format!("unknown key `{path}`; did you mean `{}`?", join(section_path, sibling));
    }
    if let Some(sibling) = closest(name, children(LATER.iter().copied(), section).into_iter(), bound) {
        let meant = join(section_path, sibling);
        return format!("unknown key `{path}`; did you mean `{meant}`, known only to later versions of lifeboat?");
    }
    let elsewhere = KEYS.iter().map(|key| key.path);
    let elsewhere = elsewhere.filter(|path| path.rsplit('.').next() == Some(name));
    if let Some(meant) = elsewhere.min_by_key(|path| path.len()) {
        return format!("unknown key `{path}`; did you mean `{}`?", meant.replace('*', "NAME"));
    }
    let place = if section.is_empty() {
        "at the top".to_owned()
    } else {
        format!("in `[{section_path}]`")
    };
    format!("unknown key `{path}`; known {place}: {}", known(section).join(", "))
}

/// The one of `candidates` with the fewest edits from `name`, if at most `bound`.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>, bound: usize) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The keys of the table at `section` that this version knows, in the order of the table above.
fn known(section: &str) -> Vec<&'static str> {
    children(KEYS.iter().map(|key| key.path), section)
}

fn children(paths: impl Iterator<Item = &'static str>, section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for path in paths {
        let rest = if section.is_empty() {
            Some(path)
        } else {
            path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(a.len())
}
