//! What a restore writes into the database: the new content of each bucket that does not stay as it is.
//!
//! Taking the content to the file is left to the use case; which keys hang on leases without an entry, and how long
//! those leases are to live, is for the caller to find out.
//!
//! Invariant: same file and same wishes give the same content, on every host.
//!
//! Source: what etcdutl 3.5 `snapshot restore` does to the buckets, and beyond that: `confState`, `clusterVersion`,
//! `downgrade` and all alarms are removed, because they belong to the cluster that is left behind and servers of all
//! lines make them anew.

use super::bump::{bumped, new_log};
use super::entries::Executed;
use super::lease::Lease;
use super::member::Member;
use super::meta::{self, Meta};
use super::release_line::EtcdLine;
use super::revision::RevisionKey;
use super::{BUCKETS, Error, LeaseId, Version, entries_of, first_revision};
use crate::bbolt;
use crate::model::Revision;

/// A key and its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// What the restored database is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewContent<'a> {
    /// The members of the new cluster.
    pub members: &'a [Member],
    /// The last entry of the log that the restored database is to have.
    pub last: Option<RevisionKey>,
    /// By how much revisions jump, all history before being marked as compacted.
    pub bump: Option<std::num::NonZeroU64>,
    /// Leases to be added: those that live keys hang on and that have no entry.
    pub leases: &'a [Lease],
    /// The line of etcd it is meant for, if it is not meant for all.
    pub line: Option<EtcdLine>,
    /// What entries of a write-ahead log come to that the database does not hold; its last entry counts instead of `last`.
    pub executed: Option<&'a Executed>,
}

/// The fate of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is; a bucket that is missing is made empty.
    Kept,
    /// It holds exactly these entries, in order.
    Replaced(Vec<Entry>),
    /// These entries follow those it has.
    Extended(Vec<Entry>),
}

/// The buckets of a restored database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Every bucket of etcd in order of the file, and what becomes of it. A bucket of another name stays.
    pub buckets: Vec<(&'static str, Change)>,
    /// The revision of the restored store.
    pub revision: Revision,
    /// The storage version that was removed for an older line.
    pub dropped_storage_version: Option<Version>,
}

/// The content of `file` once it is restored as `wished`.
///
/// Fails when a small bucket cannot be read, when the line that is wished for does not read the storage version, when
/// the bump overflows, and when a lease to be added has an entry.
pub fn restored(file: &bbolt::File<'_>, wished: &NewContent<'_>) -> Result<Restored, Error> {
    let old = Meta::read(file)?;
    let executed = wished.executed;
    let last = executed.map_or(wished.last, |executed| executed.last);
    let bump = wished.bump.map(|by| bumped(last, by.get())).transpose()?;
    let compacted = bump.or_else(|| executed?.compacted.map(RevisionKey::first_put));
    let dropped_storage_version = dropped_storage_version(&old, wished.line)?;
    let change = |bucket: &'static str| -> Result<Change, Error> {
        Ok(match bucket {
            "alarm" | "members_removed" => Change::Replaced(Vec::new()),
            "cluster" => without(file, bucket, &[b"clusterVersion", b"downgrade"])?,
            "key" => new_log(executed, bump),
            "lease" => with_leases(file, executed, wished.leases)?,
            "members" => Change::Replaced(sorted(
                wished.members.iter().map(|m| (m.key(), m.to_json().into_bytes())),
            )),
            "meta" => new_meta(file, wished.members.len(), compacted, dropped_storage_version.is_some())?,
            _ => Change::Kept,
        })
    };
    let buckets = BUCKETS
        .into_iter()
        .map(|bucket| Ok((bucket, change(bucket)?)))
        .collect::<Result<_, _>>()?;
    let last = bump.or(last).map(RevisionKey::main);
    let executed = executed.map(|executed| executed.revision);
    let revision = [last, executed, old.compaction.scheduled, old.compaction.finished]
        .into_iter()
        .flatten()
        .fold(first_revision(), Revision::max);
    Ok(Restored {
        buckets,
        revision,
        dropped_storage_version,
    })
}

/// The storage version of the file, if it must go for `line` to read the file.
fn dropped_storage_version(old: &Meta, line: Option<EtcdLine>) -> Result<Option<Version>, Error> {
    let Some((found, wanted)) = old.storage_version.as_ref().zip(line) else {
        return Ok(None);
    };
    if found.is_known_to(wanted) {
        return Ok(None);
    }
    // The schema of 3.6 is that of 3.5 with the version added; what later ones add, older servers are not known to bear.
    if found.is_of(EtcdLine::V3_6) {
        return Ok(Some(found.clone()));
    }
    Err(Error::Downgrade {
        found: found.clone(),
        wanted,
    })
}

fn new_meta(
    file: &bbolt::File<'_>,
    members: usize,
    compacted: Option<RevisionKey>,
    drop_storage_version: bool,
) -> Result<Change, Error> {
    // The raft log begins anew: one entry per member, all of them of term 1.
    let index = (members as u64).to_be_bytes().to_vec();
    let mut new = vec![
        (meta::CONSISTENT_INDEX.to_vec(), index),
        (meta::TERM.to_vec(), 1u64.to_be_bytes().to_vec()),
    ];
    new.extend(compacted.map(|key| (meta::SCHEDULED_COMPACT_REV.to_vec(), key.encode())));
    let kept = entries_of(file, "meta")?.into_iter().filter(|(key, _)| {
        let dropped = *key == meta::CONF_STATE || (drop_storage_version && *key == meta::STORAGE_VERSION);
        !dropped && !new.iter().any(|(replaced, _)| replaced == key)
    });
    let kept: Vec<_> = kept.map(owned).collect();
    Ok(Change::Replaced(sorted(kept.into_iter().chain(new))))
}

fn with_leases(file: &bbolt::File<'_>, executed: Option<&Executed>, added: &[Lease]) -> Result<Change, Error> {
    if executed.is_none() && added.is_empty() {
        return Ok(Change::Kept);
    }
    let old: Vec<Entry> = match executed {
        Some(executed) => executed
            .leases
            .iter()
            .map(|lease| (lease.key(), lease.encode()))
            .collect(),
        None => entries_of(file, "lease")?.into_iter().map(owned).collect(),
    };
    let all = sorted(
        old.into_iter()
            .chain(added.iter().map(|lease| (lease.key(), lease.encode()))),
    );
    let twice = all
        .iter()
        .zip(all.iter().skip(1))
        .find_map(|((a, _), (b, _))| (a == b).then_some(a));
    match twice.map(|key| key.as_slice().try_into().map(i64::from_be_bytes)) {
        Some(id) => Err(Error::LeaseExists(LeaseId(id.unwrap_or_default()))),
        None => Ok(Change::Replaced(all)),
    }
}

fn without(file: &bbolt::File<'_>, bucket: &'static str, dropped: &[&[u8]]) -> Result<Change, Error> {
    let mut entries = entries_of(file, bucket)?;
    entries.retain(|(key, _)| !dropped.contains(key));
    Ok(Change::Replaced(entries.into_iter().map(owned).collect()))
}

fn sorted(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable();
    entries
}

fn owned((key, value): bbolt::Entry<'_>) -> Entry {
    (key.to_vec(), value.to_vec())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    type Entries<'a> = &'a [(&'a [u8], &'a [u8])];

    use super::*;
    use crate::bbolt::{File, Writer};
    use crate::model::MemberId;

    const LEASE: Lease = Lease {
        id: LeaseId(7),
        ttl_seconds: 30,
        remaining_seconds: 0,
    };

    /// A database with these entries of `meta`, one lease, one alarm, a cluster version and a member of before.
    fn database(meta: Entries<'_>) -> Vec<u8> {
        let lease = (LEASE.key(), LEASE.encode());
        let buckets: [(&str, Entries<'_>); 5] = [
            ("alarm", &[(b"\x08\x05\x10\x01", b"")]),
            (
                "cluster",
                &[
                    (b"clusterVersion", b"3.6.0"),
                    (b"downgrade", b"{}"),
                    (b"other", b"kept"),
                ],
            ),
            ("lease", &[(&lease.0, &lease.1)]),
            ("members", &[(b"1", br#"{"id":1}"#)]),
            ("meta", meta),
        ];
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        for (name, entries) in buckets {
            let mut bucket = writer.bucket(name.as_bytes()).unwrap();
            entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
            bucket.finish().unwrap();
        }
        writer.finish().unwrap().seal().unwrap().0
    }

    fn wish(members: &[Member]) -> NewContent<'_> {
        NewContent {
            members,
            last: None,
            bump: None,
            leases: &[],
            line: None,
            executed: None,
        }
    }

    fn change<'a>(restored: &'a Restored, bucket: &str) -> &'a Change {
        &restored.buckets.iter().find(|(name, _)| *name == bucket).unwrap().1
    }

    fn replaced<const N: usize>(entries: [(&[u8], &[u8]); N]) -> Change {
        Change::Replaced(entries.map(|(key, value)| (key.to_vec(), value.to_vec())).to_vec())
    }

    #[test]
    fn what_belongs_to_the_old_cluster_is_gone_and_the_rest_stays() {
        let bytes = database(&[
            (b"confState", b"{}"),
            (b"consistent_index", &900u64.to_be_bytes()),
            (b"storageVersion", b"3.6.0"),
            (b"term", &9u64.to_be_bytes()),
            (b"zzz", b"of a later etcd"),
        ]);
        let file = File::open(&bytes).unwrap();
        let members = [
            Member::voter(MemberId(0xb), "x", vec![]),
            Member::voter(MemberId(0x1a), "y", vec![]),
        ];
        let restored = restored(&file, &wish(&members)).unwrap();
        assert_eq!(
            restored.buckets.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            BUCKETS
        );
        assert_eq!(restored.revision.get(), 1);
        assert_eq!(*change(&restored, "alarm"), replaced([]));
        assert_eq!(*change(&restored, "cluster"), replaced([(b"other", b"kept")]));
        // Bucket order is that of the hexadecimal text, not that of the ids.
        let json = members.each_ref().map(Member::to_json);
        assert_eq!(
            *change(&restored, "members"),
            replaced([(b"1a", json[1].as_bytes()), (b"b", json[0].as_bytes())])
        );
        assert_eq!(*change(&restored, "members_removed"), replaced([]));
        let meta = [
            (&b"consistent_index"[..], &b"\0\0\0\0\0\0\0\x02"[..]),
            (b"storageVersion", b"3.6.0"),
            (b"term", b"\0\0\0\0\0\0\0\x01"),
            (b"zzz", b"of a later etcd"),
        ];
        assert_eq!(*change(&restored, "meta"), replaced(meta));
        for bucket in ["auth", "authRoles", "authUsers", "key", "lease"] {
            assert_eq!(*change(&restored, bucket), Change::Kept, "{bucket}");
        }
    }

    #[test]
    fn the_storage_version_goes_only_for_lines_before_it_was_invented() {
        #[derive(Debug, PartialEq)]
        enum Fate {
            Stays,
            Goes,
            Refused,
        }
        use EtcdLine::{V3_4, V3_5, V3_6, V3_7};
        use Fate::{Goes, Refused, Stays};
        for (stored, line, expected) in [
            (&b"3.6.0"[..], None, Stays),
            (b"3.9.0", None, Stays),
            (b"3.6.0", Some(V3_4), Goes),
            (b"3.6.0", Some(V3_5), Goes),
            (b"3.6.0", Some(V3_6), Stays),
            (b"3.6.0", Some(V3_7), Stays),
            (b"3.7.0", Some(V3_7), Stays),
            (b"3.7.0", Some(V3_6), Refused),
            (b"3.7.0", Some(V3_5), Refused),
            (b"4.0.0", Some(V3_7), Refused),
            (b"3.5.0", Some(V3_4), Refused),
        ] {
            let bytes = database(&[(b"storageVersion", stored)]);
            let file = File::open(&bytes).unwrap();
            let fate = match restored(&file, &NewContent { line, ..wish(&[]) }) {
                Ok(restored) => match (&restored.dropped_storage_version, change(&restored, "meta")) {
                    (None, Change::Replaced(meta)) if meta.iter().any(|(key, _)| key == b"storageVersion") => Stays,
                    (Some(_), Change::Replaced(meta)) if meta.iter().all(|(key, _)| key != b"storageVersion") => Goes,
                    other => panic!("{other:?}"),
                },
                Err(Error::Downgrade { .. }) => Refused,
                Err(other) => panic!("{other}"),
            };
            assert_eq!(fate, expected, "{} for {line:?}", String::from_utf8_lossy(stored));
        }
    }

    #[test]
    fn a_bump_goes_beyond_the_last_entry_and_not_beyond_the_greatest_revision() {
        let bytes = database(&[]);
        let file = File::open(&bytes).unwrap();
        let last =
            |main| Some(RevisionKey::new(Revision::new(main).unwrap(), 5, super::super::EntryKind::Tombstone).unwrap());
        let bumped = |last, by| {
            restored(
                &file,
                &NewContent {
                    last,
                    bump: NonZeroU64::new(by),
                    ..wish(&[])
                },
            )
        };
        let by_ten = bumped(last(6), 10).unwrap();
        let key = b"\0\0\0\0\0\0\0\x10_\0\0\0\0\0\0\0\0";
        assert_eq!(
            *change(&by_ten, "key"),
            Change::Extended(vec![(key.to_vec(), Vec::new())])
        );
        let Change::Replaced(meta) = change(&by_ten, "meta") else {
            panic!("meta stays")
        };
        assert!(meta.contains(&(b"scheduledCompactRev".to_vec(), key.to_vec())));
        assert_eq!(by_ten.revision.get(), 16);
        assert_eq!(bumped(None, 10).unwrap().revision.get(), 10);
        for (last, by) in [(last(i64::MAX), 1), (last(6), u64::MAX), (None, u64::MAX)] {
            assert!(matches!(bumped(last, by), Err(Error::BumpOverflow { .. })));
        }
    }

    #[test]
    fn missing_leases_are_added_in_order_and_never_twice() {
        let bytes = database(&[]);
        let file = File::open(&bytes).unwrap();
        let added = [Lease::granted(LeaseId(-1), 60), Lease::granted(LeaseId(3), 60)];
        let with = |leases| restored(&file, &NewContent { leases, ..wish(&[]) });
        let entries = [added[1], LEASE, added[0]].map(|lease| (lease.key(), lease.encode()));
        assert_eq!(
            *change(&with(&added).unwrap(), "lease"),
            Change::Replaced(entries.to_vec())
        );
        assert!(matches!(with(&[LEASE]), Err(Error::LeaseExists(LeaseId(7)))));
        assert!(matches!(
            with(&[added[0], added[0]]),
            Err(Error::LeaseExists(LeaseId(-1)))
        ));
    }
}
