//! The configuration: files as written, merged into one tree, checked into a [`Config`].
//!
//! Three stages. `file` keeps what each file says, with the place of every value, and `merge_files` lays later ones over
//! earlier ones; `keys` refuses what this version does not know; `reader` reads the merged tree into `Config`, each table by the file of its name. A `Config` is
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
mod cluster;
mod compression;
mod deltas;
mod destinations;
mod duration;
mod encryption;
mod file;
mod host;
mod key_path;
mod keys;
mod known_keys;
mod last_good;
mod load;
mod members;
mod merge_files;
mod metrics;
mod names;
mod nearest_name;
mod notify;
mod problem;
mod reader;
mod restore;
mod retention;
mod schedules;
mod secrets;
mod section;
mod shown_value;
mod signing;
mod urls;
mod value;

use std::collections::{BTreeMap, BTreeSet};

pub use crate::model::ScheduleName;
pub use crate::secret::{Secret, SecretError};
pub use backup::{Backup, MemberChoice};
pub use cluster::{Auth, ClientCertificate, Cluster, Tls};
pub use compression::Compression;
pub use deltas::Deltas;
pub use destinations::{Destination, Sharing};
pub use encryption::Encryption;
pub use host::{Because, Host, LocalMember, ThisHost};
pub use last_good::recall;
pub use load::{Error, Loaded, files, load};
pub use members::Member;
pub use metrics::{Listen, Metrics};
pub use names::{DestinationName, MemberName};
pub use notify::{HeartbeatUrl, Notify, OnFailure};
pub use problem::{Place, Problem};
pub use restore::Restore;
pub use schedules::{Kind, Schedule};
pub use secrets::{SecretsCheck, Unread};
pub use signing::Signing;
pub use urls::{MemberUrl, StoreUrl, UrlError};

pub use crate::backup::{HashKvPolicy, Pace};
use crate::destinations::Address;

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

    /// Whether a recipient is the sample of `config.example.toml`. Nobody could open a backup made for it alone.
    pub fn has_sample_recipient(&self) -> bool {
        let mut recipients = self.encryption.recipients.iter();
        recipients.any(|recipient| recipient.to_string() == SAMPLE_RECIPIENT)
    }
}

#[cfg(test)]
mod tests;
