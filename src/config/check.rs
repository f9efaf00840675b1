//! From the merged tree to a checked [`Config`]: every value is parsed and bounded here, and every fault is reported
//! at the place of the value.
//!
//! Leaves shape and unknown keys to `keys`. Invariant: a `Config` comes out only if no problem was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::file::{Table, Value};
use super::keys::{closest, is_private_key, join, shown};
use super::problem::{Origin, Problems, Source};
use super::secret::Secret;
use super::section::{Content, Given, Section};
use super::{
    Auth, Backup, ClientCertificate, Cluster, Compression, Config, Destination, DestinationName, Encryption,
    HashKvPolicy, Host, LARGEST_FILE, Member, MemberChoice, MemberName, MemberUrl, Restore, SAMPLE_RECIPIENT, Sharing,
    StoreUrl, Tls,
};
use crate::durable;
use crate::layout::Proof;
use crate::pipeline::{KeyError, Recipient};
use crate::restore::BumpRule;
use crate::settings::Place;

/// Reads the merged tree. Defaults stand in for what is not written; doubts go to `warnings`.
pub(super) fn config(root: &Table, problems: &mut Problems, warnings: &mut Problems) -> Option<Config> {
    let root = Section::root(root);
    let mut reader = Reader {
        problems,
        warnings,
        switched_off: BTreeSet::new(),
    };
    let members = reader.members(&root);
    let cluster = reader.cluster(&root, &members);
    let host = reader.host(&root, &members);
    let encryption = reader.encryption(&root);
    let compression = reader.compression(&root);
    let backup = reader.backup(&root, &members);
    let restore = reader.restore(&root);
    let destinations = reader.destinations(&root);
    let schedules = reader.schedules(&root, &destinations);
    let notify = reader.notify(&root);
    let metrics = reader.metrics(&root);
    let switched_off = reader.switched_off;
    let cluster = cluster.filter(|_| problems.is_empty())?;
    Some(Config {
        cluster,
        members,
        host,
        encryption,
        compression,
        backup,
        restore,
        schedules,
        destinations,
        notify,
        metrics,
        switched_off,
    })
}

pub(super) struct Reader<'p> {
    pub(super) problems: &'p mut Problems,
    pub(super) warnings: &'p mut Problems,
    switched_off: BTreeSet<String>,
}

impl Reader<'_> {
    fn cluster(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Option<Cluster> {
        let section = root.section("cluster");
        let name = match section.text("name") {
            Some(name) => self.parsed(&name),
            None => {
                self.missing(&section, "name");
                None
            }
        };
        let tls = self.tls(&section.section("tls"));
        let auth = self.auth(&section.section("auth"));
        self.doubt_transport(&section, members, auth.is_some());
        Some(Cluster { name: name?, tls, auth })
    }

    fn tls(&mut self, section: &Section<'_>) -> Tls {
        let ca = self.secret(section, "ca");
        let cert = self.secret(section, "cert");
        let key = self.secret(section, "key");
        let client = self.both(section, ("cert", cert), ("key", key));
        let server_name = section
            .text("server_name")
            .and_then(|given| self.not_empty(section, "server_name", &given));
        Tls {
            ca,
            client: client.map(|(cert, key)| ClientCertificate { cert, key }),
            server_name,
        }
    }

    fn auth(&mut self, section: &Section<'_>) -> Option<Auth> {
        let user = section
            .text("user")
            .and_then(|given| self.not_empty(section, "user", &given));
        let password = self.secret(section, "password");
        let (user, password) = self.both(section, ("user", user), ("password", password))?;
        Some(Auth { user, password })
    }

    fn doubt_transport(&mut self, cluster: &Section<'_>, members: &BTreeMap<MemberName, Member>, has_login: bool) {
        let urls: Vec<&MemberUrl> = members.values().flat_map(|member| &member.client_urls).collect();
        if let Some(entry) = cluster.entry("tls")
            && !urls.is_empty()
            && matches!(&entry.node.value, Value::Table(tls) if !tls.is_empty())
            && !urls.iter().any(|url| url.is_https())
        {
            self.warnings.at(
                &entry.key,
                "`cluster.tls` has no effect: no member has an `https://` client URL",
            );
        }
        if let Some(entry) = cluster.entry("auth")
            && has_login
            && let Some(open) = urls.iter().find(|url| !url.is_https() && !url.is_loopback())
        {
            let message = format!("`cluster.auth`: the password goes to {open} unencrypted; use `https://`");
            self.warnings.at(&entry.key, &message);
        }
    }

    fn members(&mut self, root: &Section<'_>) -> BTreeMap<MemberName, Member> {
        let section = root.section("members");
        let named = section.named();
        let mut members = BTreeMap::new();
        for (name, key, member) in &named {
            let name = self.parsed(&Given {
                path: member.path.clone(),
                value: *name,
                origin: key,
            });
            let client_urls = self.urls(member, "client_urls");
            let peer_urls = self.urls(member, "peer_urls");
            if !self.is_on(member) {
                continue;
            }
            if client_urls.is_empty() {
                self.missing(member, "client_urls");
            }
            members.extend(name.map(|name| (name, Member { client_urls, peer_urls })));
        }
        if named.is_empty() && !section.has_refused() {
            self.problems
                .nowhere("no member is configured: each has a table `[members.NAME]` with `client_urls`");
        } else if members.is_empty() && self.problems.is_empty() {
            self.problems
                .nowhere("every member is switched off (`enabled = false`)");
        }
        members
    }

    fn urls(&mut self, member: &Section<'_>, name: &str) -> Vec<MemberUrl> {
        let Some(list) = member.list(name) else {
            return Vec::new();
        };
        list.texts().iter().filter_map(|given| self.parsed(given)).collect()
    }

    fn host(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Host {
        let section = root.section("host");
        let member = section.text("member");
        let (data_dir, wal_dir) = (section.text("data_dir"), section.text("wal_dir"));
        Host {
            member: member.and_then(|given| self.known_member(&given, members)),
            unit: section.text("unit").and_then(|given| self.parsed(&given)),
            data_dir: data_dir.and_then(|given| self.absolute_path(&section, "data_dir", &given)),
            wal_dir: wal_dir.and_then(|given| self.absolute_path(&section, "wal_dir", &given)),
            settings: self.settings(&section),
            etcd_version: section.text("etcd_version").and_then(|given| self.parsed(&given)),
        }
    }

    fn settings(&mut self, section: &Section<'_>) -> Place {
        let Some(given) = section.text("settings") else {
            return Place::Auto;
        };
        let path = Path::new(given.value);
        match given.value {
            "auto" => Place::Auto,
            "flags" => Place::Flags,
            _ if !path.is_absolute() => self.refuse(section, "settings", &given).unwrap_or_default(),
            text if text.ends_with(".yaml") || text.ends_with(".yml") => Place::ConfigFile(path.to_owned()),
            _ => Place::Environment(path.to_owned()),
        }
    }

    fn restore(&mut self, root: &Section<'_>) -> Restore {
        let section = root.section("restore");
        let defaults = Restore::default();
        let health_timeout = section.text("health_timeout").and_then(|given| {
            let duration = duration(given.value).filter(|duration| HEALTH_TIMEOUTS.contains(duration));
            duration.or_else(|| self.refuse(&section, "health_timeout", &given))
        });
        let bump_revision = match section.text("bump_revision") {
            Some(text) => match text.value {
                "auto" => Some(BumpRule::Auto),
                "never" => Some(BumpRule::Never),
                _ => self.refuse(&section, "bump_revision", &text),
            },
            None => {
                let by = self.integer(&section, "bump_revision", 1, i32::MAX);
                by.and_then(|by| NonZeroU64::new(u64::from(by.cast_unsigned())))
                    .map(BumpRule::By)
            }
        };
        Restore {
            health_timeout: health_timeout.unwrap_or(defaults.health_timeout),
            bump_revision: bump_revision.unwrap_or(defaults.bump_revision),
        }
    }

    /// A name that must be that of a member. If members themselves are at fault, nothing is said.
    fn known_member(&mut self, given: &Given<'_, &str>, members: &BTreeMap<MemberName, Member>) -> Option<MemberName> {
        let name: MemberName = self.parsed(given)?;
        if members.contains_key(&name) {
            return Some(name);
        }
        let Given { path, value, origin } = given;
        if self.switched_off.contains(&join("members", value)) {
            self.problems
                .at(origin, &format!("`{path}`: member `{value}` is switched off"));
            return None;
        }
        let near = closest(value, members.keys().map(MemberName::as_str), 2);
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        if !members.is_empty() {
            self.problems
                .at(origin, &format!("`{path}`: `{value}` is not one of `[members]`{hint}"));
        }
        None
    }

    fn encryption(&mut self, root: &Section<'_>) -> Encryption {
        let section = root.section("encryption");
        let mut recipients: Vec<Recipient> = Vec::new();
        let list = section.list("recipients");
        for given in list.iter().flat_map(|list| list.texts()) {
            let recipient = self.recipient(&given);
            recipients.extend(recipient.filter(|new| !recipients.contains(new)));
        }
        let file = section.text("recipients_file");
        let recipients_file = file
            .as_ref()
            .and_then(|given| self.absolute_path(&section, "recipients_file", given));
        if let Some(path) = &recipients_file {
            for recipient in self.recipients_file(file.as_ref().expect("path comes from it"), path) {
                recipients.extend((!recipients.contains(&recipient)).then_some(recipient));
            }
        }
        let named_at = section.entry("recipients").or(section.entry("recipients_file"));
        if let (Some(entry), Some(fault)) = (named_at, too_many(&recipients)) {
            let message = format!("`encryption`: {fault}");
            self.problems.at(&entry.key, &message);
        }
        let is_written = section.entry("recipients").is_some() || section.entry("recipients_file").is_some();
        match &list {
            Some(list) if list.value.is_empty() && file.is_none() => {
                self.problems.at(
                    list.origin,
                    "`encryption.recipients` is empty: at least one is needed; there is no unencrypted mode",
                );
            }
            _ if !is_written && !matches!(section.content, Content::Refused) => {
                self.missing(&section, "recipients");
            }
            _ => {}
        }
        if let Some(entry) = section.entry("identity") {
            self.warnings.at(
                &entry.key,
                "`encryption.identity`: this host can read its backups; that is meant only for restores without anybody at hand",
            );
        }
        Encryption {
            recipients,
            recipients_file,
            identity: self.secret(&section, "identity"),
        }
    }

    fn recipient(&mut self, given: &Given<'_, &str>) -> Option<Recipient> {
        if is_private_key(given.value) {
            let message = format!("`{}`: {}", given.path, KeyError::SecretAsRecipient);
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        let recipient: Recipient = self.parsed(given)?;
        if recipient.to_string() == SAMPLE_RECIPIENT {
            self.warnings.at(
                given.origin,
                &format!(
                    "`{}` is the sample of config.example.toml: nobody can open a backup made for it",
                    given.path
                ),
            );
        }
        Some(recipient)
    }

    /// The recipients in a file, one a line, `#` starts a comment.
    fn recipients_file(&mut self, given: &Given<'_, &str>, path: &Path) -> Vec<Recipient> {
        let mut recipients = Vec::new();
        let before = self.problems.is_empty();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("`{}`: read {}: {error}", given.path, path.display());
                self.problems.at(given.origin, &message);
                return recipients;
            }
        };
        let source = Source::new(path, text, usize::MAX - 1);
        let mut start = 0;
        for (index, line) in source.text().split_inclusive('\n').enumerate() {
            let text = line.trim();
            let origin = Origin::new(&source, start..start + line.trim_end().len());
            start += line.len();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = Given {
                path: format!("line {}", index + 1),
                value: text,
                origin: &origin,
            };
            recipients.extend(self.recipient(&line));
        }
        if recipients.is_empty() && before && self.problems.is_empty() {
            let message = format!("`{}`: {} holds no recipient", given.path, path.display());
            self.problems.at(given.origin, &message);
        }
        recipients
    }

    fn compression(&mut self, root: &Section<'_>) -> Compression {
        let section = root.section("compression");
        let defaults = Compression::default();
        let threads = match section.text("threads") {
            Some(text) if text.value == "auto" => None,
            Some(text) => self.refuse(&section, "threads", &text),
            None => self.integer(&section, "threads", 1, 64),
        };
        let level = self.integer(&section, "level", 1, 19);
        Compression {
            level: level.unwrap_or(defaults.level),
            threads: threads.map_or(defaults.threads, i32::cast_unsigned),
        }
    }

    fn backup(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Backup {
        let section = root.section("backup");
        let defaults = Backup::default();
        let member = section.text("member").and_then(|given| match given.value {
            "auto" => Some(MemberChoice::Auto),
            "local" => Some(MemberChoice::Local),
            _ => self.known_member(&given, members).map(MemberChoice::Named),
        });
        let require = section.text("require").and_then(|given| match given.value {
            "stored" => Some(Proof::Stored),
            "content" => Some(Proof::Content),
            "hash_kv" => Some(Proof::HashKv),
            _ => self.refuse(&section, "require", &given),
        });
        let hash_kv = section.text("hash_kv").and_then(|given| match given.value {
            "auto" => Some(HashKvPolicy::Auto),
            "always" => Some(HashKvPolicy::Always),
            "never" => Some(HashKvPolicy::Never),
            _ => self.refuse(&section, "hash_kv", &given),
        });
        let idle_timeout = section.text("idle_timeout").and_then(|given| {
            let duration = duration(given.value).filter(|duration| IDLE_TIMEOUTS.contains(duration));
            duration.or_else(|| self.refuse(&section, "idle_timeout", &given))
        });
        let finish_within = section.text("finish_within").and_then(|given| {
            let duration = duration(given.value).filter(|duration| FINISH_WITHINS.contains(duration));
            duration.or_else(|| self.refuse(&section, "finish_within", &given))
        });
        let pace = section.text("pace").and_then(|given| self.parsed(&given));
        Backup {
            member: member.unwrap_or(defaults.member),
            hash_kv: hash_kv.unwrap_or(defaults.hash_kv),
            require: require.unwrap_or(defaults.require),
            idle_timeout: idle_timeout.unwrap_or(defaults.idle_timeout),
            finish_within: finish_within.unwrap_or(defaults.finish_within),
            pace: pace.unwrap_or(defaults.pace),
        }
    }

    fn destinations(&mut self, root: &Section<'_>) -> BTreeMap<DestinationName, Destination> {
        let section = root.section("destinations");
        let mut destinations = BTreeMap::new();
        let mut taken: Vec<(StoreUrl, String)> = Vec::new();
        for (name, key, destination) in section.named() {
            let name = self.parsed(&Given {
                path: destination.path.clone(),
                value: name,
                origin: key,
            });
            let given = destination.text("url");
            let url: Option<StoreUrl> = given.as_ref().and_then(|given| self.parsed(given));
            let retention = self.retention(&destination);
            let shared = destination.given("shared");
            let sharing = match shared.is_some_and(|given| matches!(given.value.value, Value::Boolean(true))) {
                true => Sharing::Shared,
                false => Sharing::HostLocal,
            };
            if !self.is_on(&destination) {
                continue;
            }
            let (Some(given), Some(url)) = (given, url) else {
                self.missing(&destination, "url");
                continue;
            };
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == url) {
                let message = format!("`{}`: {url} is that of {other} already", given.path);
                self.problems.at(given.origin, &message);
            }
            taken.push((url.clone(), format!("`{}` ({})", destination.path, given.origin.line())));
            let destination = Destination {
                url,
                sharing,
                retention,
            };
            destinations.extend(name.map(|name| (name, destination)));
        }
        if destinations.is_empty() && !section.has_refused() {
            self.warnings.nowhere(
                "no destination is configured: a backup has nowhere to go; add `[destinations.NAME]` with `url`",
            );
        }
        destinations
    }

    /// Whether a table that has a name is switched on; notes it if not.
    pub(super) fn is_on(&mut self, section: &Section<'_>) -> bool {
        let given = section.given("enabled");
        let is_off = given.is_some_and(|given| matches!(given.value.value, Value::Boolean(false)));
        if is_off {
            self.switched_off.insert(section.path.clone());
        }
        !is_off
    }

    pub(super) fn secret(&mut self, section: &Section<'_>, name: &str) -> Option<Secret> {
        let given = section.given(name)?;
        let Value::Whole(table) = &given.value.value else {
            return None;
        };
        let path = &given.path;
        let mut found = None;
        for (key, entry) in table {
            let Value::Text(text) = &entry.node.value else {
                let message = format!("`{}` is not a string", join(path, key));
                self.problems.hidden_at(&entry.node.origin, &message);
                return None;
            };
            let secret = match key.as_str() {
                "file" => Path::new(text).is_absolute().then(|| Secret::File(text.into())),
                "credential" => is_credential(text).then(|| Secret::Credential(text.clone())),
                "env" => is_variable(text).then(|| Secret::Env(text.clone())),
                _ => {
                    let message = format!("unknown key `{}`; known here: file, credential, env", join(path, key));
                    self.problems.hidden_at(&entry.key, &message);
                    return None;
                }
            };
            if secret.is_none() {
                let expected = match key.as_str() {
                    "file" => "a path that starts with `/`",
                    "credential" => "the name of a systemd credential",
                    _ => "the name of an environment variable",
                };
                let message = format!("`{}` is not {expected}", join(path, key));
                self.problems.hidden_at(&entry.node.origin, &message);
                return None;
            }
            found = secret;
        }
        if table.len() != 1 {
            let message = format!("`{path}` takes exactly one of file, credential and env");
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        found
    }

    pub(super) fn integer(&mut self, section: &Section<'_>, name: &str, least: i32, most: i32) -> Option<i32> {
        let given = section.given(name)?;
        let Value::Integer(integer) = given.value.value else {
            return None;
        };
        let fitting = i32::try_from(integer)
            .ok()
            .filter(|integer| (least..=most).contains(integer));
        if fitting.is_none() {
            let written = given.origin.text();
            let message = format!("`{}`: {written} is not {}", given.path, section.expected(name));
            self.problems.at(given.origin, &message);
        }
        fitting
    }

    fn absolute_path(&mut self, section: &Section<'_>, name: &str, given: &Given<'_, &str>) -> Option<PathBuf> {
        if Path::new(given.value).is_absolute() {
            return Some(given.value.into());
        }
        self.refuse(section, name, given)
    }

    fn not_empty(&mut self, section: &Section<'_>, name: &str, given: &Given<'_, &str>) -> Option<String> {
        if !given.value.trim().is_empty() {
            return Some(given.value.to_owned());
        }
        self.refuse(section, name, given)
    }

    /// Two keys that only make sense together.
    fn both<A, B>(&mut self, section: &Section<'_>, a: (&str, Option<A>), b: (&str, Option<B>)) -> Option<(A, B)> {
        for (name, other) in [(a.0, b.0), (b.0, a.0)] {
            if let (Some(entry), None) = (section.entry(name), section.entry(other)) {
                let message = format!("`{}` needs `{other}` beside it", join(&section.path, name));
                self.problems.at(&entry.key, &message);
            }
        }
        a.1.zip(b.1)
    }

    /// The value by its own `FromStr`, whose error says what was expected.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, given: &Given<'_, &str>) -> Option<T> {
        let error = match given.value.parse() {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if is_private_key(given.value) {
            let message = format!(
                "`{}`: a private key (not shown) does not belong here; treat it as exposed",
                given.path
            );
            self.problems.hidden_at(given.origin, &message);
        } else {
            self.problems.at(given.origin, &format!("`{}`: {error}", given.path));
        }
        None
    }

    /// Reports a text that the table of keys says was expected otherwise.
    pub(super) fn refuse<T>(&mut self, section: &Section<'_>, name: &str, given: &Given<'_, &str>) -> Option<T> {
        let found = shown(&Value::Text(given.value.to_owned()));
        let message = format!("`{}`: {found} is not {}", given.path, section.expected(name));
        self.problems.at(given.origin, &message);
        None
    }

    /// Reports a required key, unless it or its table was reported already.
    pub(super) fn missing(&mut self, section: &Section<'_>, name: &str) {
        let path = join(&section.path, name);
        let message = format!("`{path}` is missing: {}", section.expected(name));
        match (section.entry(name), &section.content) {
            (Some(entry), Content::Present(..)) if matches!(&entry.node.value, Value::List(list) if list.is_empty()) => {
                let message = format!("`{path}` is empty: expected {}", section.expected(name));
                self.problems.at(&entry.node.origin, &message);
            }
            (Some(_), _) | (None, Content::Refused) => {}
            (None, Content::Present(_, key)) => self.problems.at(key, &message),
            (None, Content::Absent | Content::Root(_)) => self.problems.nowhere(&message),
        }
    }
}

/// How long a restored member may take to serve.
const HEALTH_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// How long a stream from etcd may be silent.
const IDLE_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How long a snapshot may take.
const FINISH_WITHINS: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(168 * 3600);

/// What is wrong with so many recipients: each has a part in the header of every object, of which the reader takes no
/// more than 64 KiB.
fn too_many(recipients: &[Recipient]) -> Option<String> {
    let count = recipients.len();
    if count > MOST_RECIPIENTS {
        return Some(format!(
            "{count} recipients are more than the {MOST_RECIPIENTS} a backup can have"
        ));
    }
    // A part is as long as the key it is for, in lines of 64 characters, and a line that says so. The modulus of an RSA
    // key makes nearly all of its text; the parts of others are shorter than their keys' text and that line.
    let parts = recipients.iter().map(|recipient| {
        let length = recipient.to_string().len();
        length + length / 64 + PART_OVERHEAD
    });
    (parts.sum::<usize>() > MOST_HEADER_BYTES)
        .then(|| format!("the keys of {count} recipients are too long together: have fewer, or X25519 keys (`age1…`)"))
}

/// Recipients of one backup.
const MOST_RECIPIENTS: usize = 200;

/// What all their parts of a header may take, with room for the rest of it.
const MOST_HEADER_BYTES: usize = 60 << 10;

const PART_OVERHEAD: usize = 64;

/// A span of time with units: `30s`, `6h`, `1h 30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let duration: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(duration).ok()
}

fn is_credential(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    !name.is_empty() && name.len() <= 255 && name.bytes().all(is_plain) && name != "." && name != ".."
}

fn is_variable(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(is_plain)
}

/// Reads a file of recipients, which is no secret. Bounded like every file of the configuration.
fn read_text(path: &Path) -> io::Result<String> {
    let text = durable::read_linked(path, LARGEST_FILE)?;
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}
