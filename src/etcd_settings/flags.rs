//! The settings of etcd by the names of its flags, and their defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::shell::UNKNOWN;
use super::unit::Unit;
use super::{ClusterState, Error, EtcdSettings, SetIn, Source, Tls};

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// True without a value; never takes the next word.
    Switch,
}

/// The settings that are read, by flag.
pub(super) const KNOWN: &[(&str, Kind)] = &[
    ("config-file", Kind::Text),
    (NAME, Kind::Text),
    (DATA_DIR, Kind::Text),
    ("wal-dir", Kind::Text),
    ("listen-client-urls", Kind::Text),
    ("advertise-client-urls", Kind::Text),
    ("listen-peer-urls", Kind::Text),
    (ADVERTISE, Kind::Text),
    (CLUSTER, Kind::Text),
    (TOKEN, Kind::Text),
    (STATE, Kind::Text),
    ("cert-file", Kind::Text),
    ("key-file", Kind::Text),
    ("trusted-ca-file", Kind::Text),
    ("client-cert-auth", Kind::Switch),
    ("auto-tls", Kind::Switch),
    ("peer-cert-file", Kind::Text),
    ("peer-key-file", Kind::Text),
    ("peer-trusted-ca-file", Kind::Text),
    ("peer-client-cert-auth", Kind::Switch),
    ("peer-auto-tls", Kind::Switch),
    ("discovery", Kind::Text),
    ("discovery-srv", Kind::Text),
    (DISCOVERY_ENDPOINTS, Kind::Text),
    (FORCE, Kind::Switch),
    ("quota-backend-bytes", Kind::Text),
];

pub(super) const NAME: &str = "name";
pub(super) const DATA_DIR: &str = "data-dir";
pub(super) const ADVERTISE: &str = "initial-advertise-peer-urls";
pub(super) const CLUSTER: &str = "initial-cluster";
pub(super) const TOKEN: &str = "initial-cluster-token";
pub(super) const STATE: &str = "initial-cluster-state";
pub(super) const FORCE: &str = "force-new-cluster";
pub(super) const DISCOVERY_ENDPOINTS: &str = "discovery-endpoints";

/// What a restored member must not be started with: other ways to put a cluster together.
pub(super) const OTHER_WAYS: &[&str] = &["discovery", "discovery-srv", DISCOVERY_ENDPOINTS, FORCE];

/// Whether the flag says who is in the cluster.
pub(super) fn is_of_cluster(flag: &str) -> bool {
    [NAME, ADVERTISE, CLUSTER, TOKEN, STATE].contains(&flag) || OTHER_WAYS.contains(&flag)
}

/// What the flag takes; nothing if it is not known.
pub(super) fn kind(flag: &str) -> Option<Kind> {
    KNOWN.iter().find(|(name, _)| *name == flag).map(|(_, kind)| *kind)
}

/// The variable that sets the flag.
pub(super) fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// What is set, by flag.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<&'static str, (String, SetIn)>);

impl Values {
    pub(super) fn set(&mut self, flag: &'static str, value: &str, place: SetIn) {
        self.0.insert(flag, (value.to_owned(), place));
    }

    /// The settings that etcd makes of it.
    pub(super) fn settings(self, unit: &Unit, source: Source, program: PathBuf) -> Result<EtcdSettings, Error> {
        let urls = |flag, default: &str| -> Vec<String> {
            let text = self.text(flag).unwrap_or(default);
            let urls = text.split(',').map(|url| url.trim().to_owned());
            // Others are known from the configuration.
            urls.filter(|url| !url.contains(UNKNOWN)).collect()
        };
        let name = self.known(unit, NAME)?.unwrap_or("default").to_owned();
        let data_dir = match self.known(unit, DATA_DIR)? {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(format!("{name}.etcd")),
        };
        let wal_dir = self.known(unit, "wal-dir")?;
        let advertised = urls(ADVERTISE, "http://localhost:2380");
        let initial_cluster = match self.text(CLUSTER) {
            Some(text) if text.contains(UNKNOWN) => String::new(),
            Some(text) => text.to_owned(),
            None => {
                let entries = advertised.iter().map(|url| format!("{name}={url}"));
                entries.collect::<Vec<_>>().join(",")
            }
        };
        let discovery = OTHER_WAYS.iter().filter(|flag| **flag != FORCE);
        Ok(EtcdSettings {
            source,
            program,
            data_dir: absolute(unit, &data_dir)?,
            wal_dir: wal_dir.map(|path| absolute(unit, Path::new(path))).transpose()?,
            listen_client_urls: urls("listen-client-urls", "http://localhost:2379"),
            advertise_client_urls: urls("advertise-client-urls", "http://localhost:2379"),
            listen_peer_urls: urls("listen-peer-urls", "http://localhost:2380"),
            initial_advertise_peer_urls: advertised,
            initial_cluster,
            initial_cluster_token: self.text(TOKEN).unwrap_or("etcd-cluster").to_owned(),
            initial_cluster_state: self.state(unit)?,
            client_tls: self.tls(unit, "")?,
            peer_tls: self.tls(unit, "peer-")?,
            discovery: discovery.filter_map(|flag| self.text(flag)).next().map(str::to_owned),
            forces_new_cluster: self.switch(unit, FORCE)?,
            quota_bytes: quota(self.text("quota-backend-bytes")),
            name,
            places: self
                .0
                .into_iter()
                .filter(|(_, (value, _))| !value.is_empty())
                .map(|(flag, (_, place))| (flag, place))
                .collect(),
        })
    }

    fn text(&self, flag: &str) -> Option<&str> {
        self.0
            .get(flag)
            .map(|(value, _)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A value that a restore has to know.
    fn known(&self, unit: &Unit, flag: &'static str) -> Result<Option<&str>, Error> {
        match self.text(flag) {
            Some(value) if value.contains(UNKNOWN) => {
                let value = &value.replace(UNKNOWN, "…");
                Err(refused(
                    unit,
                    flag,
                    value,
                    "it is the output of a command, which is not known",
                ))
            }
            value => Ok(value),
        }
    }

    fn state(&self, unit: &Unit) -> Result<ClusterState, Error> {
        match self.text(STATE) {
            None | Some("new") => Ok(ClusterState::New),
            Some("existing") => Ok(ClusterState::Existing),
            // It begins a new cluster, if that is what it comes to.
            Some(value) if value.contains(UNKNOWN) => Ok(ClusterState::New),
            Some(value) => Err(refused(unit, STATE, value, "it is neither \"new\" nor \"existing\"")),
        }
    }

    fn tls(&self, unit: &Unit, side: &str) -> Result<Tls, Error> {
        let flag = |name: &str| {
            let wanted = KNOWN.iter().map(|(flag, _)| *flag);
            let mut wanted = wanted.filter(|flag| flag.strip_prefix(side) == Some(name));
            wanted.next().expect("both sides have all flags of TLS")
        };
        let file = |name: &str| {
            let path = self.known(unit, flag(name))?;
            path.map(|path| absolute(unit, Path::new(path))).transpose()
        };
        Ok(Tls {
            cert_file: file("cert-file")?,
            key_file: file("key-file")?,
            trusted_ca_file: file("trusted-ca-file")?,
            client_cert_auth: self.switch(unit, flag("client-cert-auth"))?,
            auto_tls: self.switch(unit, flag("auto-tls"))?,
        })
    }

    fn switch(&self, unit: &Unit, flag: &'static str) -> Result<bool, Error> {
        match self.known(unit, flag)? {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(value) => Err(refused(unit, flag, value, "it is neither true nor false")),
        }
    }
}

/// The quota that etcd makes of a value. What it would not start with says nothing.
fn quota(text: Option<&str>) -> Option<u64> {
    const DEFAULT: u64 = 2 << 30;
    match text.map_or(Ok(0), str::parse::<i64>) {
        Ok(0) => Some(DEFAULT),
        Ok(bytes) => u64::try_from(bytes).ok(),
        Err(_) => None,
    }
}

fn refused(unit: &Unit, key: &'static str, value: &str, reason: &'static str) -> Error {
    Error::Value {
        unit: unit.name.clone(),
        key,
        value: value.chars().take(120).collect(),
        reason,
    }
}

/// A path as the unit's program sees it.
fn absolute(unit: &Unit, path: &Path) -> Result<PathBuf, Error> {
    if path.is_relative() && unit.working_directory.is_none() {
        return Err(Error::Unit {
            unit: unit.name.clone(),
            line: "WorkingDirectory=~".to_owned(),
            reason: format!("`{}` is relative to the home directory of a user", path.display()),
        });
    }
    Ok(unit.absolute(path))
}
