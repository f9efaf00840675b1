//! The configuration: files as written, merged into one tree, checked into a [`Config`].
//!
//! Three stages. `file` keeps what each file says, with the place of every value; `keys` refuses what this version
//! does not know; `check` reads the merged tree into `Config`, each larger table by the file of its name. A `Config` is
//! complete: nothing in it is optional that has a default, and nothing needs to be checked again. `secret` is the only
//! place that touches secret files.
//!
//! Leaves to the command line how problems are shown and which exit code they have, and to `etcd`, `store` and
//! `backup` to be told what they need: none of them sees this module. `last_good` keeps what was right the last time.
//!
//! Invariant: a faulty configuration yields no `Config` at all, but every problem that can be found in one go.
//! Invariant: no secret is in a `Config`, a `Problem` or an `Error`; only where it is. The address of a heartbeat may
//! stand in the configuration itself, and cannot be printed from there.
//! Source: the section Configuration of the contract.

mod backup;
mod check;
mod compression;
mod deltas;
mod destinations;
mod file;
mod keys;
mod known_keys;
mod last_good;
mod load;
mod local;
mod merge;
mod metrics;
mod names;
mod notify;
mod problem;
mod recipients;
mod restore;
mod retention;
mod schedules;
mod section;
mod signing;
mod urls;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use crate::model::ScheduleName;
pub use crate::secret::{Secret, SecretError};
pub use backup::{Backup, MemberChoice};
pub use compression::Compression;
pub use deltas::Deltas;
pub use destinations::{Destination, Sharing};
pub use last_good::recall;
pub use load::{Error, Loaded, files, load};
pub use local::{Because, LocalMember, ThisHost};
pub use metrics::{Listen, Metrics};
pub use names::{DestinationName, MemberName};
pub use notify::{HeartbeatUrl, Notify, OnFailure};
pub use problem::{Place, Problem};
pub use restore::Restore;
pub use schedules::{Kind, Schedule};
pub use urls::{MemberUrl, StoreUrl, UrlError};

pub use crate::backup::{HashKvPolicy, Pace};
use crate::destinations::Address;
use crate::etcd_settings;
use crate::keyspace::EtcdLine;
use crate::model::{ClusterName, UnitName};
use crate::pipeline::Recipient;
use crate::signing::Trust;
use crate::store::BucketOptions;

/// The largest configuration file that is read.
const LARGEST_FILE: u64 = 1 << 20;

/// The recipient in `config.example.toml`. Its identity was thrown away when it was made.
const SAMPLE_RECIPIENT: &str = "age12wkpf3rfyfvysfe8dwyxkfx890dxthcrkmez3wnrjhld85846q3s6swwr4";

/// What the operator wants, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The cluster, and how to talk to it.
    pub cluster: Cluster,
    /// Its members that are switched on; at least one.
    pub members: BTreeMap<MemberName, Member>,
    /// This host.
    pub host: Host,
    /// Who can read the backups.
    pub encryption: Encryption,
    /// Who signs what is written, and whose backups count.
    pub signing: Signing,
    /// How backups are compressed.
    pub compression: Compression,
    /// How backups are taken.
    pub backup: Backup,
    /// Whether and how the changes behind a backup are captured.
    pub deltas: Deltas,
    /// How they are restored on a host.
    pub restore: Restore,
    /// When backups are taken; the ones that are switched on.
    pub schedules: BTreeMap<ScheduleName, Schedule>,
    /// Where backups go; the ones that are switched on.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// Who is told of it all.
    pub notify: Notify,
    /// Where its metrics are read.
    pub metrics: Metrics,
    /// Paths of the tables with `enabled = false`, such as `destinations.old`.
    pub switched_off: BTreeSet<String>,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The name it has in every store.
    pub name: ClusterName,
    /// How TLS is spoken with `https://` members.
    pub tls: Tls,
    /// The user to log in as, if etcd wants one.
    pub auth: Option<Auth>,
}

/// `[cluster.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The authorities that members' certificates are checked against; the system's if none.
    pub ca: Option<Secret>,
    /// The certificate that we show.
    pub client: Option<ClientCertificate>,
    /// The name that members' certificates must have, instead of the host in the URL.
    pub server_name: Option<String>,
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub cert: Secret,
    /// Its private key, PEM.
    pub key: Secret,
}

/// `[cluster.auth]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// A user of etcd with the role root: a snapshot needs it.
    pub user: String,
    /// Where the password is.
    pub password: Secret,
}

/// `[members.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where clients reach it; at least one.
    pub client_urls: Vec<MemberUrl>,
    /// Where the other members reach it.
    pub peer_urls: Vec<MemberUrl>,
}

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
    pub settings: etcd_settings::Place,
    /// The line of etcd that runs here, where that is older than the backups.
    pub etcd_version: Option<EtcdLine>,
}

/// `[encryption]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// Who can open the backups, from `recipients` and `recipients_file`; at least one, each once.
    pub recipients: Vec<Recipient>,
    /// The file that some of them stand in.
    pub recipients_file: Option<PathBuf>,
    /// Where a key that opens the backups is, on hosts that may read them.
    pub identity: Option<Secret>,
    /// Where people find such a key, in the operator's words.
    pub identity_note: Option<String>,
    /// The folder with the programs of keys that need one.
    pub plugins: PathBuf,
}

/// `[signing]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signing {
    /// The key by which this host signs; without, one that it makes for itself.
    pub key: Option<Secret>,
    /// Who may sign; whoever writes, if nobody is named.
    pub trust: Trust,
}

/// A secret that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which, and why.
    pub problem: Problem,
    /// Whether there is no backup without it.
    pub is_needed: bool,
}

/// Secrets that cannot be used, and those that others can read.
#[derive(Debug, Default)]
pub struct SecretsCheck {
    /// Each that cannot be read.
    pub problems: Vec<Unread>,
    /// Each that only the agent's unit can read: a credential, where no unit runs this.
    pub unloaded: Vec<Unread>,
    /// Each private file that is open to others.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Whether other hosts write to a destination; not of one that is unknown.
    pub fn is_shared(&self, destination: &str) -> bool {
        match self.destinations.get(destination).map(|found| found.sharing) {
            Some(Sharing::Shared) => true,
            Some(Sharing::HostLocal) | None => false,
        }
    }

    /// Where the destinations are, in the order of their names.
    pub fn addresses(&self) -> Vec<Address> {
        let addresses = self.destinations.iter().map(|(name, destination)| {
            let Destination {
                url,
                options,
                sftp,
                bandwidth,
                ..
            } = destination;
            Address {
                name: name.to_string(),
                // Another server is another place.
                url: match &options.endpoint {
                    Some(endpoint) => format!("{url} at {endpoint}"),
                    None => url.to_string(),
                },
                location: url.location(options, sftp),
                bandwidth: *bandwidth,
            }
        });
        addresses.collect()
    }

    /// Reads every secret once and keeps none.
    pub fn check_secrets(&self) -> SecretsCheck {
        let mut check = SecretsCheck::default();
        for (key, secret) in self.secrets() {
            if let Err(error) = secret.read() {
                let unread = Unread {
                    problem: Problem::nowhere(&format!("`{key}`: {error}")),
                    is_needed: key.starts_with("cluster.") || key == "signing.key",
                };
                match error {
                    SecretError::NoCredentials { .. } => check.unloaded.push(unread),
                    SecretError::Unreadable { .. } | SecretError::NotSet { .. } | SecretError::Unusable { .. } => {
                        check.problems.push(unread);
                    }
                }
            }
        }
        let is_public = |key: &str| key.ends_with(".ca") || key.ends_with(".known_hosts") || key == "cluster.tls.cert";
        for (key, secret) in self.secrets().into_iter().filter(|(key, _)| !is_public(key)) {
            let exposure = secret.exposure();
            check
                .warnings
                .extend(exposure.map(|exposure| Problem::nowhere(&format!("`{key}`: {exposure}"))));
        }
        check
    }

    /// The secrets and TLS files that are given, each with its key.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        let tls = &self.cluster.tls;
        let client = tls.client.as_ref();
        let given = [
            ("cluster.tls.ca", tls.ca.as_ref()),
            ("cluster.tls.cert", client.map(|client| &client.cert)),
            ("cluster.tls.key", client.map(|client| &client.key)),
            (
                "cluster.auth.password",
                self.cluster.auth.as_ref().map(|auth| &auth.password),
            ),
            ("encryption.identity", self.encryption.identity.as_ref()),
            ("signing.key", self.signing.key.as_ref()),
            (
                "notify.heartbeat",
                self.notify.heartbeat.as_ref().and_then(HeartbeatUrl::kept),
            ),
        ];
        let given = given.into_iter().map(|(key, secret)| (key.to_owned(), secret));
        let of_destinations = self.destinations.iter().flat_map(|(name, destination)| {
            let BucketOptions { ca, credentials, .. } = &destination.options;
            let sftp = &destination.sftp;
            let table = keys::join("destinations", name.as_str());
            let given = [
                ("ca", ca.as_ref()),
                ("credentials", credentials.as_ref()),
                ("known_hosts", sftp.known_hosts.first()),
                ("key", sftp.key.as_ref()),
                ("passphrase", sftp.passphrase.as_ref()),
                ("password", sftp.password.as_ref()),
            ];
            given.map(|(key, secret)| (format!("{table}.{key}"), secret))
        });
        let given = given.chain(of_destinations);
        given.filter_map(|(key, secret)| Some((key, secret?))).collect()
    }

    /// Whether a recipient is the sample of `config.example.toml`. Nobody could open a backup made for it alone.
    pub fn has_sample_recipient(&self) -> bool {
        let mut recipients = self.encryption.recipients.iter();
        recipients.any(|recipient| recipient.to_string() == SAMPLE_RECIPIENT)
    }
}

#[cfg(test)]
mod tests;
