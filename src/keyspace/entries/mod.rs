//! Executing the entries of a write-ahead log on a database, exactly as etcd does when it starts on both.
//!
//! A member that was killed, or whose host lost power, has applied more than its database file holds. What is missing is in
//! its log: the entries after the database's consistent index. Here they are executed, and what comes out is what etcd would
//! have written: new entries of bucket `key`, leases, a compaction that is due.
//!
//! Three steps: the requests are decoded; a walk over the database keeps the state of the keys that they touch; then they
//! are executed in order. An entry that etcd answers with an error has no effect, here neither. One that cannot be executed
//! for sure is refused, and with it all of them: what follows it may depend on it.
//!
//! Who is a member is passed over: whoever restores founds a new cluster.
//!
//! Source: etcd `server/etcdserver/{server.go,apply/*.go,txn/txn.go}`, `server/storage/mvcc/{kvstore,kvstore_txn}.go`,
//! `server/lease/lessor.go` of 3.6; for 3.4 and 3.5 `server/etcdserver/apply.go`.

mod access;
mod footprint;
mod request;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::{Error, Lease, LeaseId, RevisionKey, Summary, entries_of};
use crate::bbolt;
use crate::model::Revision;

use access::Access;
use footprint::Footprint;
use request::decode;
use store::Store;

/// One entry of the log that asks for something.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry<'a> {
    /// Its place in the log.
    pub index: u64,
    /// The request.
    pub data: &'a [u8],
}

/// Why entries cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum CannotExecute {
    /// One of them is beyond what can be done for sure.
    #[error("entry {index} of the log cannot be executed without etcd: {what}")]
    Refused {
        /// The entry.
        index: u64,
        /// What it asks for.
        what: String,
    },
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] Error),
}

/// What entries of the log come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// What follows in bucket `key`.
    pub log: Vec<(Vec<u8>, Vec<u8>)>,
    /// The last entry of that bucket then.
    pub last: Option<RevisionKey>,
    /// The first revision that was added, if one was.
    pub first: Option<Revision>,
    /// The revision of the store then.
    pub revision: Revision,
    /// All leases, by the key of their entry.
    pub leases: Vec<Lease>,
    /// The newest compaction, where there was one.
    pub compacted: Option<Revision>,
    /// How many entries changed something.
    pub effective: u64,
}

/// Executes `entries`, in order, on the database `file`, whose survey is `summary`.
///
/// Fails where one of them cannot be executed for sure, and where the database cannot be read.
pub fn execute(file: &bbolt::File<'_>, summary: &Summary, entries: &[LogEntry<'_>]) -> Result<Executed, CannotExecute> {
    let mut footprint = Footprint::default();
    for entry in entries {
        footprint.add(&decode(entry.data).1);
    }
    footprint.settle();
    let leases: BTreeMap<LeaseId, Lease> = summary.leases.iter().map(|lease| (lease.id, *lease)).collect();
    let mut store = Store::new(summary, leases);
    if let Some(log) = file.bucket(b"key").map_err(unreadable)? {
        for entry in log.iter() {
            let (key, value) = entry.map_err(unreadable)?;
            store.note(key, value, &footprint)?;
        }
    }
    let access = Access::read(&summary.auth, &entries_of(file, "authUsers")?)?;
    let mut effective = 0;
    for entry in entries {
        let (caller, request) = decode(entry.data);
        let refused = |what: String| CannotExecute::Refused {
            index: entry.index,
            what,
        };
        access.check(&caller, &request).map_err(refused)?;
        effective += u64::from(store.apply(request, access.is_outdated(&caller)).map_err(refused)?);
    }
    Ok(Executed {
        last: store.last(),
        first: store.first(),
        revision: store.revision(),
        compacted: store.newly_compacted(),
        effective,
        leases: store.leases(),
        log: store.into_log(),
    })
}

fn unreadable(source: bbolt::Error) -> Error {
    Error::Unreadable { bucket: "key", source }
}
