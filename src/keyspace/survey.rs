//! Everything a database says about itself, from one walk over its entries.
//!
//! The walk is the caller's, so that the check of the tree, which visits every entry anyway, can carry it.
//!
//! Invariant: no entry stops a survey; what is malformed is named in [`Summary::faults`] and left out.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec;

use super::alarm::Alarm;
use super::crc::{Run, Selections};
use super::lease::Lease;
use super::member::Member;
use super::meta::{ConfState, Meta};
use super::release_line::Version;
use super::replay::Replay;
use super::revision::RevisionKey;
use super::{Error, LeaseId};
use crate::bbolt;
use crate::model::{MemberId, Revision};

/// How many faults a summary names; the others are only counted.
const NAMED_FAULTS: usize = 100;

/// Whether clients must authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auth {
    /// Whether authentication is switched on.
    pub enabled: bool,
    /// Rises by one with each change of users, roles or the switch; `None` in a database that never served.
    pub revision: Option<u64>,
}

/// What a database says about itself, apart from what its log comes to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The hash that `etcdutl snapshot status` prints: it names this file, not its data.
    pub hash: u32,
    /// Entries of all buckets: the keys that the status of 3.4 and 3.5 prints (3.6 prints the live keys).
    pub total_entries: u64,
    /// The bytes that are in use: what a snapshot of the database has without its digest.
    pub total_bytes: u64,
    /// The last entry of the log.
    pub last: Option<RevisionKey>,
    /// Bucket `meta`.
    pub meta: Meta,
    /// Every lease that has an entry, by key.
    pub leases: Vec<Lease>,
    /// Alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// Whether clients must authenticate.
    pub auth: Auth,
    /// The members, in order of the bucket.
    pub members: Vec<Member>,
    /// The version the cluster agreed on.
    pub cluster_version: Option<Version>,
    /// The first entries that etcd would not have written, at most a hundred.
    pub faults: Vec<Error>,
    /// How many of those there are.
    pub fault_count: u64,
}

impl Summary {
    /// The revision of the store: that of the last entry, or of a compaction that removed it.
    pub fn revision(&self) -> Revision {
        self.meta.revision(self.last.map(RevisionKey::main))
    }

    /// Members that raft does not count, and those that it counts and that are none. Both are empty where that is not known.
    pub fn disagreeing_members(&self) -> (Vec<MemberId>, Vec<MemberId>) {
        let Some(counted) = self.meta.conf_state.as_ref().map(ConfState::members) else {
            return (Vec::new(), Vec::new());
        };
        let members: BTreeSet<_> = self.members.iter().map(|member| member.id).collect();
        (
            members.difference(&counted).copied().collect(),
            counted.difference(&members).copied().collect(),
        )
    }

    /// Those of `used` (leases of live keys, from a [`super::Replayed`]) that have no entry: keys that hang on them
    /// never expire, and members that grant such an id again diverge.
    pub fn dangling(&self, used: &[(LeaseId, u64)]) -> Vec<(LeaseId, u64)> {
        let mut known: Vec<_> = self.leases.iter().map(|lease| lease.id).collect();
        known.sort_unstable();
        used.iter()
            .copied()
            .filter(|(id, _)| known.binary_search(id).is_err())
            .collect()
    }
}

/// A database that is being walked over.
#[must_use]
#[derive(Debug)]
pub struct Survey<'a, 'r> {
    /// The names of buckets whose entries are still to come.
    names: Peekable<vec::IntoIter<&'a [u8]>>,
    current: &'a [u8],
    replay: &'r mut Replay<'a>,
    /// What the status hashes before the entries of `key`, and after them.
    before: Run,
    after: Run,
    seen_key: bool,
    summary: Summary,
}

impl<'a, 'r> Survey<'a, 'r> {
    /// Begins a survey of `file`; the entries of its log are fed to `replay`, which must be fresh.
    ///
    /// Fails when the names of the buckets cannot be read.
    pub fn new(file: &bbolt::File<'a>, replay: &'r mut Replay<'a>) -> Result<Self, bbolt::Error> {
        let names: Vec<_> = file.bucket_names()?.collect::<Result<_, _>>()?;
        let total_bytes = file.pages().saturating_mul(u64::from(file.page_size()));
        Ok(Survey {
            names: names.into_iter().peekable(),
            current: b"",
            replay,
            before: Run::default(),
            after: Run::default(),
            seen_key: false,
            summary: Summary {
                total_bytes,
                ..Summary::default()
            },
        })
    }

    /// Takes in the next entry of the file: buckets by name, and the entries of each by key.
    #[inline]
    pub fn entry(&mut self, bucket: &[u8], key: &'a [u8], value: &'a [u8]) {
        if bucket != self.current {
            self.enter(bucket);
        }
        self.summary.total_entries += 1;
        if bucket == b"key" {
            if let Err(error) = self.replay.entry(key, value) {
                self.fault(error);
            }
            return;
        }
        let run = if self.seen_key {
            &mut self.after
        } else {
            &mut self.before
        };
        run.push(key);
        run.push(value);
        if let Err(error) = self.small(bucket, key, value) {
            self.fault(error);
        }
    }

    /// Hands over what is summed elsewhere, after the last entry.
    pub(super) fn end_entries(&mut self) {
        self.replay.end_entries();
    }

    /// Takes back what was summed elsewhere.
    pub(super) fn summed(&mut self, selections: Selections) {
        self.replay.summed(selections);
    }

    /// Ends the survey after the last entry.
    pub fn finish(mut self) -> Summary {
        while let Some(name) = self.names.next() {
            self.begin(name);
        }
        let mut status = self.before;
        status.join(self.replay.content());
        status.join(self.after);
        self.summary.hash = status.crc;
        self.summary.last = self.replay.last();
        self.summary
    }

    /// Goes on to `bucket`; buckets that are passed over on the way are empty.
    #[cold]
    fn enter(&mut self, bucket: &[u8]) {
        while let Some(name) = self.names.next_if(|name| *name <= bucket) {
            self.begin(name);
        }
    }

    fn begin(&mut self, name: &'a [u8]) {
        self.current = name;
        if self.seen_key {
            &mut self.after
        } else {
            &mut self.before
        }
        .push(name);
        self.seen_key |= name == b"key";
    }

    fn small(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Error> {
        let summary = &mut self.summary;
        match (bucket, key) {
            (b"alarm", _) => {
                let alarm = Alarm::decode(key).map_err(|error| Error::malformed("alarm", key, error.into()))?;
                summary.alarms.push(alarm);
            }
            (b"auth", b"authEnabled") => summary.auth.enabled = value == [1],
            (b"auth", b"authRevision") => {
                let malformed = |_| Error::malformed("auth", key, "it is not 8 bytes long".into());
                summary.auth.revision = Some(value.try_into().map(u64::from_be_bytes).map_err(malformed)?);
            }
            (b"cluster", b"clusterVersion") => {
                let malformed = |error: crate::model::Invalid| Error::malformed("cluster", key, error.into());
                summary.cluster_version = Some(Version::decode(value).map_err(malformed)?);
            }
            (b"lease", _) => summary.leases.push(lease(key, value)?),
            (b"members", _) => summary.members.push(Member::decode(key, value)?),
            (b"meta", _) => summary.meta.note(key, value)?,
            _ => {}
        }
        Ok(())
    }

    #[cold]
    fn fault(&mut self, error: Error) {
        if self.summary.faults.len() < NAMED_FAULTS {
            self.summary.faults.push(error);
        }
        self.summary.fault_count += 1;
    }
}

/// One entry of bucket `lease`, whose key repeats the id.
fn lease(key: &[u8], value: &[u8]) -> Result<Lease, Error> {
    let lease = Lease::decode(value).map_err(|error| Error::malformed("lease", key, error.into()))?;
    if lease.key() != key {
        let cause = format!("the value names lease {}", lease.id);
        return Err(Error::malformed("lease", key, cause.into()));
    }
    Ok(lease)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bbolt::{File, Rules, Writer, check};
    use crate::keyspace::{AlarmKind, CompactionMarks, LiveKeys};

    type Entries<'a> = &'a [(&'a [u8], &'a [u8])];

    fn surveyed(buckets: &[(&str, Entries<'_>)]) -> Summary {
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        for (name, entries) in buckets {
            let mut bucket = writer.bucket(name.as_bytes()).unwrap();
            entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
            bucket.finish().unwrap();
        }
        let bytes = writer.finish().unwrap().seal().unwrap().0;
        let file = File::open(&bytes).unwrap();
        let mut replay = Replay::new(CompactionMarks::default(), LiveKeys::Counted, None, &[], None);
        let mut survey = Survey::new(&file, &mut replay).unwrap();
        let report = check(&file, Rules::Ours, |bucket, key, value| {
            survey.entry(bucket, key, value)
        });
        assert!(report.is_sound());
        survey.finish()
    }

    #[test]
    fn the_status_hashes_names_of_empty_buckets_too() {
        let entry = (&b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0"[..], &b"\x0a\x01a"[..]);
        let summary = surveyed(&[
            ("alarm", &[]),
            ("authUsers", &[(b"u", b"v")]),
            ("key", &[entry]),
            ("lease", &[]),
            ("members_removed", &[(b"1", b"removed")]),
            ("unknown", &[]),
        ]);
        let all = [
            &b"alarmauthUsersuvkey"[..],
            entry.0,
            entry.1,
            b"leasemembers_removed1removedunknown",
        ]
        .concat();
        assert_eq!(summary.hash, crc32c::crc32c(&all));
        assert_eq!(summary.total_entries, 3);
        let empty = surveyed(&[("alarm", &[]), ("key", &[])]);
        assert_eq!(empty.hash, crc32c::crc32c(b"alarmkey"));
        assert_eq!(empty.revision().get(), 1);
    }

    #[test]
    fn small_buckets_are_read() {
        let mark = RevisionKey::first_put(Revision::new(40).unwrap()).encode();
        let lease = Lease {
            id: LeaseId(9),
            ttl_seconds: 30,
            remaining_seconds: 4,
        };
        let summary = surveyed(&[
            ("alarm", &[(b"\x08\x05\x10\x02", b"")]),
            (
                "auth",
                &[(b"authEnabled", &[1]), (b"authRevision", &7u64.to_be_bytes())],
            ),
            ("cluster", &[(b"clusterVersion", b"3.6.0")]),
            ("key", &[]),
            ("lease", &[(&lease.key(), &lease.encode())]),
            ("members", &[(b"5", br#"{"id":5,"peerURLs":["http://a:1"]}"#)]),
            ("meta", &[(b"finishedCompactRev", &mark)]),
        ]);
        assert_eq!(summary.fault_count, 0);
        assert_eq!(
            summary.alarms,
            [Alarm {
                member: MemberId(5),
                kind: AlarmKind::Corrupt
            }]
        );
        assert_eq!(
            summary.auth,
            Auth {
                enabled: true,
                revision: Some(7)
            }
        );
        assert_eq!(
            summary.cluster_version.as_ref().map(Version::to_string).as_deref(),
            Some("3.6.0")
        );
        assert_eq!(summary.leases, [lease]);
        assert_eq!(summary.members[0].peer_urls, ["http://a:1"]);
        // Everything up to the compaction was deleted, so the log is empty.
        assert_eq!(summary.revision().get(), 40);
        assert_eq!(
            summary.dangling(&[(LeaseId(9), 1), (LeaseId(10), 2)]),
            [(LeaseId(10), 2)]
        );
    }

    #[test]
    fn members_are_compared_with_those_that_raft_counts() {
        let told = |conf_state: Option<&str>| {
            let meta: Vec<_> = conf_state
                .iter()
                .map(|json| (&b"confState"[..], json.as_bytes()))
                .collect();
            let members: Entries<'_> = &[(b"5", br#"{"id":5}"#), (b"6", br#"{"id":6}"#)];
            surveyed(&[("key", &[]), ("members", members), ("meta", &meta)]).disagreeing_members()
        };
        assert_eq!(told(None), (vec![], vec![]));
        assert_eq!(told(Some("{")), (vec![], vec![]));
        assert_eq!(told(Some(r#"{"voters":[5],"learners":[6]}"#)), (vec![], vec![]));
        assert_eq!(
            told(Some(r#"{"voters":[6,7]}"#)),
            (vec![MemberId(5)], vec![MemberId(7)])
        );
    }

    #[test]
    fn malformed_entries_are_named_counted_and_passed_over() {
        let many: Vec<_> = (0..150u8).map(|n| [b'x', n]).collect();
        let many: Vec<_> = many.iter().map(|key| (key.as_slice(), &b""[..])).collect();
        let lease = Lease::granted(LeaseId(9), 30);
        let summary = surveyed(&[
            ("alarm", &[(b"\xff", b"")]),
            ("auth", &[(b"authRevision", b"1")]),
            ("cluster", &[(b"clusterVersion", b"three")]),
            ("lease", &[(b"12345678", &lease.encode())]),
            ("members", &[(b"5", b"{")]),
            ("meta", &[(b"term", b"")]),
        ]);
        assert_eq!((summary.faults.len(), summary.fault_count), (6, 6));
        for (fault, bucket) in summary
            .faults
            .iter()
            .zip(["alarm", "auth", "cluster", "lease", "members", "meta"])
        {
            assert!(fault.to_string().contains(&format!("bucket `{bucket}`")), "{fault}");
        }
        let summary = surveyed(&[("key", &many)]);
        assert_eq!((summary.faults.len(), summary.fault_count), (100, 150));
    }
}
