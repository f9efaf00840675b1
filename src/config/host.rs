//! `[host]`: this host, and which of the configured members runs on it.
//!
//! The rule is the contract's: `[host] member`, else the member whose name is the host's, else the one with a
//! non-loopback peer address of this host. Where none of these finds one, an only member that is reached at a loopback
//! address is this host's: nobody else's answers there. Deciding is a pure function; asking the host is one call beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::section::Section;
use super::{Config, Member, MemberName};
use crate::etcd_settings::Place;
use crate::keyspace::EtcdLine;
use crate::model::UnitName;

/// `[host]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The member that runs here, if it is not to be found out; see [`Config::local_member`].
    pub member: Option<MemberName>,
    /// The unit that runs etcd, if it is not to be found out.
    pub unit: Option<UnitName>,
    /// etcd's data directory, if its settings are not to be believed.
    pub data_dir: Option<PathBuf>,
    /// The directory of etcd's log, likewise.
    pub wal_dir: Option<PathBuf>,
    /// Where etcd's settings are.
    pub settings: Place,
    /// The line of etcd that runs here, where that is older than the backups.
    pub etcd_version: Option<EtcdLine>,
}

/// What this host calls itself and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThisHost {
    /// Its host name, short or full.
    pub name: String,
    /// The addresses of its interfaces.
    pub addresses: Vec<IpAddr>,
}

impl ThisHost {
    /// Asks the kernel for the host name and the addresses of all interfaces.
    pub fn ask() -> io::Result<Self> {
        let name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let addresses = nix::ifaddrs::getifaddrs()?
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
            })
            .collect();
        Ok(ThisHost { name, addresses })
    }
}

/// The member that this host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalMember {
    /// This one, and by which rule.
    Is(MemberName, Because),
    /// No configured member matches.
    None,
    /// Several match, so none is chosen.
    Ambiguous(Vec<MemberName>),
}

/// The rule that found the local member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// `[host] member` says so.
    Configured,
    /// It is named as the host.
    HostName,
    /// One of its peer URLs leads to this host.
    PeerAddress,
    /// There is no other, and its client URLs lead to this host and nowhere else.
    OnlyOne,
}

impl LocalMember {
    /// The member's name, if there is one.
    pub fn name(&self) -> Option<&MemberName> {
        match self {
            LocalMember::Is(name, _) => Some(name),
            LocalMember::None | LocalMember::Ambiguous(_) => None,
        }
    }
}

impl fmt::Display for LocalMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalMember::Is(name, Because::Configured) => write!(f, "local member `{name}` (by `host.member`)"),
            LocalMember::Is(name, Because::HostName) => write!(f, "local member `{name}` (by host name)"),
            LocalMember::Is(name, Because::PeerAddress) => write!(f, "local member `{name}` (by peer address)"),
            LocalMember::Is(name, Because::OnlyOne) => {
                write!(f, "local member `{name}` (the only one, at a loopback address)")
            }
            LocalMember::None => f.write_str(
                "no local member: no member is named as this host or has a peer address of it, and `host.member` is not set",
            ),
            LocalMember::Ambiguous(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let names = names.join(" and ");
                write!(f, "no local member: {names} all match this host, and `host.member` is not set")
            }
        }
    }
}

impl Config {
    /// Which member `host` is. Members that are switched off are not considered.
    ///
    /// A rule that several members match decides nothing, and the next is asked.
    pub fn local_member(&self, host: &ThisHost) -> LocalMember {
        if let Some(name) = &self.host.member {
            return LocalMember::Is(name.clone(), Because::Configured);
        }
        let named = self.matching(|name, _| is_same_host(name.as_str(), &host.name));
        if let [name] = named.as_slice() {
            return LocalMember::Is(name.clone(), Because::HostName);
        }
        let reached = self.matching(|_, member| {
            member.peer_urls.iter().any(|url| match url.address() {
                Some(address) => !url.is_loopback() && is_among(address, &host.addresses),
                None => !url.is_loopback() && is_same_host(url.host(), &host.name),
            })
        });
        match (reached.as_slice(), named.is_empty()) {
            ([name], _) => LocalMember::Is(name.clone(), Because::PeerAddress),
            ([], true) => self.only_one().unwrap_or(LocalMember::None),
            ([], false) => LocalMember::Ambiguous(named),
            (_, _) => LocalMember::Ambiguous(reached),
        }
    }

    fn only_one(&self) -> Option<LocalMember> {
        let mut members = self.members.iter();
        let (Some((name, member)), None) = (members.next(), members.next()) else {
            return None;
        };
        let urls = &member.client_urls;
        let is_here = !urls.is_empty() && urls.iter().all(super::MemberUrl::is_loopback);
        is_here.then(|| LocalMember::Is(name.clone(), Because::OnlyOne))
    }

    fn matching(&self, is_match: impl Fn(&MemberName, &Member) -> bool) -> Vec<MemberName> {
        let members = self.members.iter().filter(|(name, member)| is_match(name, member));
        members.map(|(name, _)| name.clone()).collect()
    }
}

/// Whether both are names of one host: equal, or one is the first label of the other.
fn is_same_host(a: &str, b: &str) -> bool {
    let is_short_of = |short: &str, full: &str| {
        let label = full.split('.').next().unwrap_or_default();
        !short.is_empty() && short.eq_ignore_ascii_case(label)
    };
    !a.is_empty() && (a.eq_ignore_ascii_case(b) || is_short_of(a, b) || is_short_of(b, a))
}

fn is_among(address: IpAddr, addresses: &[IpAddr]) -> bool {
    addresses
        .iter()
        .any(|local| local.to_canonical() == address.to_canonical())
}

impl Reader<'_> {
    pub(super) fn host(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Host {
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
}
