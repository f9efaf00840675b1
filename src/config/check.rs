//! From the merged tree to a checked [`Config`]: every value is parsed and bounded here, and every fault is reported
//! at the place of the value.
//!
//! Leaves shape and unknown keys to `keys`. Invariant: a `Config` comes out only if no problem was found.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use super::file::{Table, Value};
use super::keys::{closest, join};
use super::problem::Problems;
use super::section::{Given, Section};
use super::{
    Auth, Backup, ClientCertificate, Cluster, Compression, Config, Destination, DestinationName, HashKvPolicy, Host,
    Member, MemberChoice, MemberName, MemberUrl, Restore, StoreUrl, Tls,
};
use crate::etcd_settings::Place;
use crate::layout::Proof;
use crate::restore::BumpRule;
use crate::store::{BucketOptions, Location, SftpOptions};

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
    let signing = reader.signing(&root);
    let compression = reader.compression(&root);
    let backup = reader.backup(&root, &members);
    let restore = reader.restore(&root);
    let destinations = reader.destinations(&root);
    let schedules = reader.schedules(&root, &destinations);
    let deltas = reader.deltas(&root, &destinations);
    let notify = reader.notify(&root);
    let metrics = reader.metrics(&root);
    let switched_off = reader.switched_off;
    let cluster = cluster.filter(|_| problems.is_empty())?;
    Some(Config {
        cluster,
        members,
        host,
        encryption,
        signing,
        compression,
        backup,
        deltas,
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
            "acknowledged" => Some(Proof::Acknowledged),
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
        let mut taken: Vec<(Location, String)> = Vec::new();
        for (name, key, destination) in section.named() {
            let name = self.parsed(&Given {
                path: destination.path.clone(),
                value: name,
                origin: key,
            });
            let given = destination.text("url");
            let url: Option<StoreUrl> = given.as_ref().and_then(|given| self.parsed(given));
            let retention = self.retention(&destination);
            let sharing = self.sharing(&destination, url.as_ref());
            let options = self.bucket_options(&destination, url.as_ref());
            let bandwidth = self.bandwidth(&destination);
            let credentials_note = self.note(&destination, "credentials_note");
            let sftp = self.sftp_options(&destination, url.as_ref());
            if !self.is_on(&destination) {
                continue;
            }
            let (Some(given), Some(url)) = (given, url) else {
                self.missing(&destination, "url");
                continue;
            };
            self.want_endpoint(&destination, &url);
            // The same bucket of another server is another one.
            let endpoint = options.endpoint.clone();
            let server = BucketOptions {
                endpoint,
                ..BucketOptions::default()
            };
            let place = url.location(&server, &SftpOptions::default());
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == place) {
                let message = format!("`{}`: {url} is that of {other} already", given.path);
                self.problems.at(given.origin, &message);
            }
            taken.push((place, format!("`{}` ({})", destination.path, given.origin.line())));
            let destination = Destination {
                url,
                options,
                sftp,
                sharing,
                retention,
                bandwidth,
                credentials_note,
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

    /// The operator's words for people.
    pub(super) fn note(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        let given = section.text(name)?;
        let fits = given.value.chars().count() <= LONGEST_NOTE && !given.value.contains(char::is_control);
        match fits && !given.value.trim().is_empty() {
            true => Some(given.value.trim().to_owned()),
            false => self.refuse(section, name, &given),
        }
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
}

/// How long a restored member may take to serve.
const HEALTH_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// How long the operator's words for people may be: what a page has room for.
const LONGEST_NOTE: usize = 400;

/// How long a stream from etcd may be silent.
const IDLE_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How long a snapshot may take.
const FINISH_WITHINS: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(168 * 3600);

/// A span of time with units: `30s`, `6h`, `1h 30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let duration: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(duration).ok()
}
