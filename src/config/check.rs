//! From the merged tree to a checked [`Config`]: every value is parsed and bounded here, and every fault is reported
//! at the place of the value.
//!
//! Leaves shape and unknown keys to `keys`. Invariant: a `Config` comes out only if no problem was found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::file::{Table, Value};
use super::keys::{closest, join};
use super::problem::Problems;
use super::section::{Given, Section};
use super::{Auth, ClientCertificate, Cluster, Config, Host, Member, MemberName, MemberUrl, Tls};
use crate::etcd_settings::Place;

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

    /// A name that must be that of a member. If members themselves are at fault, nothing is said.
    pub(super) fn known_member(
        &mut self,
        given: &Given<'_, &str>,
        members: &BTreeMap<MemberName, Member>,
    ) -> Option<MemberName> {
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

/// How long the operator's words for people may be: what a page has room for.
const LONGEST_NOTE: usize = 400;

/// A span of time with units: `30s`, `6h`, `1h 30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let duration: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(duration).ok()
}
