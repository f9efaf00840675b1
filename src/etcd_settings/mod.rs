//! The settings that etcd starts with on this host, and how a restore gives it others.
//!
//! etcd takes its settings from flags, from `ETCD_*` variables or from a YAML file, and a unit can pass each of them in
//! many ways. [`discover`](mod@discover) reads them as etcd will, `precedence` says which of them
//! wins. They stay the operator's: [`overlay`](mod@overlay) says what little a
//! restore lays over them, and proves, by reading unit and files once more, that etcd will take it.
//!
//! Leaves to `systemd` how the properties of a unit are asked for, and to its callers to read and write files: what a
//! unit names is read through a function that is given.
//!
//! Invariant: what is not understood is an error, never a guess. Whoever swaps a data directory has to know that it is
//! the one etcd opens.
//!
//! Source of the rules: etcd `server/etcdmain/config.go`, `server/embed/config.go` and `pkg/flags/flag.go` of 3.4 to 3.7;
//! systemd.exec(5) and systemd.service(5), systemd `src/basic/env-file.c` and `src/basic/env-util.c` of 252 and 257.

mod arguments;
mod discover;
mod environment;
mod exec;
mod exec_words;
mod flags;
mod guard;
mod overlay;
mod precedence;
mod settings_to_change;
mod shell;
mod start;
#[cfg(test)]
mod tests;
mod unit;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use discover::discover;
pub use exec::{Command, ExecFlag};
pub use guard::{guard, guard_path};
pub use overlay::{NewCluster, NewFile, Overlay, Start, ours, overlay, shadowed};
pub use settings_to_change::{Change, changes};
pub use shell::shell_word;
pub use start::starts_etcd;
pub use unit::{Environment, EnvironmentFile, Unit};

use crate::model::UnitName;

/// Reads a file that a unit names. The reader bounds what it hands out.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Why the settings of etcd are not known, or cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The unit starts etcd in a way that is not understood.
    #[error("{unit} has `{line}`, which is not understood: {reason}")]
    Unit {
        /// The unit.
        unit: UnitName,
        /// The line of it.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sign before the program that a newer systemd brought.
    #[error("{unit} has `{line}`: what `{sign}` does to the command is not known to this version of lifeboat")]
    UnknownSign {
        /// The unit.
        unit: UnitName,
        /// The line of it.
        line: String,
        /// The sign, by the name that systemd gives it.
        sign: String,
    },
    /// A file that etcd or systemd reads cannot be read by us.
    #[error("cannot read `{}`, which {unit} names", .path.display())]
    Unreadable {
        /// The unit.
        unit: UnitName,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content is not understood.
    #[error("`{}`: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A setting has a value that etcd would refuse.
    #[error("{unit} sets etcd's `{key}` to `{value}`: {reason}")]
    Value {
        /// The unit.
        unit: UnitName,
        /// The setting, named as its flag.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Error {
    /// What the operator can do.
    pub fn next_step(&self) -> &'static str {
        match self {
            Error::Unit { .. } => {
                "say where etcd's settings are with `settings` in `[host]`: \"flags\" or the path of its environment file or \
                 YAML file"
            }
            Error::UnknownSign { .. } => {
                "take the sign out of the unit, or name etcd's environment file or YAML file with `settings` in `[host]`; nothing is \
                 laid over it then"
            }
            Error::Unreadable { .. } => "mend the path in the unit, or name the right file with `settings` in `[host]`",
            Error::File { .. } => "mend the file, or name another one with `settings` in `[host]`",
            Error::Value { .. } => "mend the setting; etcd would not start with it",
        }
    }
}

/// What the operator says of etcd on this host: `[host]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// Where its settings are.
    pub settings: Place,
    /// Its data directory.
    pub data_dir: Option<PathBuf>,
    /// The directory of its log.
    pub wal_dir: Option<PathBuf>,
}

/// Where etcd's settings are, as the operator says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Wherever the unit has them.
    #[default]
    Auto,
    /// In the flags that the unit gives to its program, whatever that is.
    Flags,
    /// In this environment file.
    Environment(PathBuf),
    /// In this YAML file.
    ConfigFile(PathBuf),
}

/// Where etcd finds its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In `ETCD_*` variables, which come from the unit and these files.
    Environment {
        /// The environment files that are there, the last one winning.
        files: Vec<PathBuf>,
    },
    /// In a YAML file; flags and variables are ignored then.
    ConfigFile {
        /// The file.
        path: PathBuf,
    },
    /// In flags of the unit's `ExecStart=`; what they do not set may come from variables.
    Flags,
}

/// The settings that etcd starts with, as far as they matter to a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// Where they are.
    pub source: Source,
    /// The program that is etcd, or that starts it.
    pub program: PathBuf,
    /// `--name`
    pub name: String,
    /// `--data-dir`, absolute.
    pub data_dir: PathBuf,
    /// `--wal-dir`, absolute.
    pub wal_dir: Option<PathBuf>,
    /// `--listen-client-urls`
    pub listen_client_urls: Vec<String>,
    /// `--advertise-client-urls`
    pub advertise_client_urls: Vec<String>,
    /// `--listen-peer-urls`
    pub listen_peer_urls: Vec<String>,
    /// `--initial-advertise-peer-urls`
    pub initial_advertise_peer_urls: Vec<String>,
    /// `--initial-cluster`, as written; etcd's default if it is not set.
    pub initial_cluster: String,
    /// `--initial-cluster-token`
    pub initial_cluster_token: String,
    /// `--initial-cluster-state`
    pub initial_cluster_state: ClusterState,
    /// How clients are spoken with.
    pub client_tls: Tls,
    /// How other members are spoken with.
    pub peer_tls: Tls,
    /// The discovery service or domain that a new cluster would be put together by; text as written.
    pub discovery: Option<String>,
    /// Whether `--force-new-cluster` is set, which makes every start throw the other members out.
    pub forces_new_cluster: bool,
    /// `--quota-backend-bytes`: the size of the database from which on etcd takes no writes; none if there is no quota.
    pub quota_bytes: Option<u64>,
    /// Where each of the settings is set, by flag; not those that are left to etcd's defaults.
    pub places: BTreeMap<&'static str, SetIn>,
}

/// Where one setting is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetIn {
    /// By a flag of the unit's command.
    Command,
    /// By a variable in this environment file.
    EnvironmentFile(PathBuf),
    /// By a variable of the unit itself or of all units.
    Environment,
    /// In this YAML file.
    ConfigFile(PathBuf),
}

/// `--initial-cluster-state`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// An empty data directory begins a new cluster.
    New,
    /// An empty data directory does not.
    Existing,
}

/// The TLS settings of one side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The certificate that etcd shows.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The authorities that the other side's certificates are checked against.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether the other side has to show one.
    pub client_cert_auth: bool,
    /// Whether etcd makes itself a certificate that nobody can check.
    pub auto_tls: bool,
}

/// Variables by name.
type Variables = BTreeMap<String, String>;
