//! The key space as far as entries of the log touch it, and what each request does to it.
//!
//! Invariant: a request either has all of its effect or none.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::alarm::{Alarm, AlarmKind};
use super::super::record::KeyValue;
use super::super::{EntryKind, Error, Lease, LeaseId, RevisionKey, Summary};
use super::footprint::Footprint;
use super::request::{AlarmAction, Compare, Op, Put, Range, Relation, Request, Target, Txn};
use crate::model::Revision;

/// The longest time to live that etcd grants, in seconds.
const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;

/// A live key.
#[derive(Debug, Clone, Copy)]
struct Current<'a> {
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    value: &'a [u8],
    /// The lease that its record names.
    lease: i64,
    /// Whether it goes with that lease: one that existed when it was put.
    is_attached: bool,
}

/// The state that entries change.
#[derive(Debug)]
pub(super) struct Store<'a> {
    revision: i64,
    /// -1 for a store that was never compacted.
    compacted: i64,
    newly_compacted: Option<Revision>,
    live: BTreeMap<&'a [u8], Current<'a>>,
    leases: BTreeMap<LeaseId, Lease>,
    alarms: Vec<Alarm>,
    log: Vec<(Vec<u8>, Vec<u8>)>,
    first: Option<Revision>,
    last: Option<RevisionKey>,
}

impl<'a> Store<'a> {
    /// The state of a database before any key of it is seen.
    pub fn new(summary: &Summary, leases: BTreeMap<LeaseId, Lease>) -> Store<'a> {
        Store {
            revision: summary.revision().get(),
            compacted: summary.meta.compaction.compact_revision(),
            newly_compacted: None,
            live: BTreeMap::new(),
            leases,
            alarms: summary.alarms.clone(),
            log: Vec::new(),
            first: None,
            last: summary.last,
        }
    }

    /// Takes in the next entry of bucket `key`, if the entries of the log touch its key.
    pub fn note(&mut self, key: &[u8], value: &'a [u8], footprint: &Footprint<'_>) -> Result<(), Error> {
        let malformed = |cause| Error::malformed("key", key, cause);
        let at = RevisionKey::decode(key).map_err(|error| malformed(error.into()))?;
        let record = KeyValue::decode(value).map_err(|error| malformed(error.into()))?;
        let is_touched = footprint.has_key(record.key) || footprint.has_lease(record.lease);
        if at.kind() == EntryKind::Put && is_touched {
            let current = Current {
                create_revision: record.create_revision,
                mod_revision: record.mod_revision,
                version: record.version,
                value: record.value,
                lease: record.lease,
                is_attached: self.leases.contains_key(&LeaseId(record.lease)),
            };
            self.live.insert(record.key, current);
        } else {
            self.live.remove(record.key);
        }
        Ok(())
    }

    /// Executes a request; whether it changed anything. A request of an outdated caller changes nothing.
    ///
    /// Fails, with the reason, where it cannot be told what etcd would do.
    pub fn apply(&mut self, request: Request<'a>, is_outdated: bool) -> Result<bool, String> {
        let is_full = self.has_alarm(AlarmKind::NoSpace);
        match request {
            Request::Nothing => Ok(false),
            Request::Alarm(action) => self.alarm(action),
            _ if self.has_alarm(AlarmKind::Corrupt) => Err("the alarm CORRUPT is raised".to_owned()),
            Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) if is_outdated => Ok(false),
            Request::Put(_) | Request::LeaseGrant { .. } if is_full => Ok(false),
            Request::Txn(txn) if is_full && txn.has_put() => Ok(false),
            Request::Put(put) => self.put_alone(&put),
            Request::DeleteRange(range) => self.change(|store, changes| {
                store.delete_range(range, changes);
                Ok(())
            }),
            Request::Txn(txn) => self.txn(&txn),
            Request::Compaction(revision) => Ok(self.compact(revision)),
            Request::LeaseGrant { id, ttl_seconds } => Ok(self.grant(id, ttl_seconds)),
            Request::LeaseRevoke(id) => self.revoke(id),
            Request::LeaseCheckpoint(checkpoints) => Ok(self.checkpoint(&checkpoints)),
            Request::Unknown(what) => Err(what.to_owned()),
        }
    }

    /// The revision of the store.
    pub fn revision(&self) -> Revision {
        Revision::new(self.revision).expect("it began as one and only rises")
    }

    /// The first revision that was added.
    pub fn first(&self) -> Option<Revision> {
        self.first
    }

    /// The last entry of the log of the key space.
    pub fn last(&self) -> Option<RevisionKey> {
        self.last
    }

    /// The newest compaction that was executed.
    pub fn newly_compacted(&self) -> Option<Revision> {
        self.newly_compacted
    }

    /// All leases.
    pub fn leases(&self) -> Vec<Lease> {
        self.leases.values().copied().collect()
    }

    /// What was added to the log of the key space.
    pub fn into_log(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.log
    }

    fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    fn put_alone(&mut self, put: &Put<'a>) -> Result<bool, String> {
        if put.lease != 0 && !self.leases.contains_key(&LeaseId(put.lease)) {
            return Ok(false);
        }
        if (put.ignore_value || put.ignore_lease) && !self.live.contains_key(put.key) {
            return Ok(false);
        }
        self.change(|store, changes| store.put(put, changes))
    }

    fn txn(&mut self, txn: &Txn<'a>) -> Result<bool, String> {
        // All compares are answered before the first change, those of inner transactions too.
        let (mut chosen, mut reads) = (Vec::new(), Vec::new());
        self.choose(txn, true, &mut chosen, &mut reads);
        if chosen.iter().any(|op| self.fails(op)) {
            return Ok(false);
        }
        if reads.iter().any(|read| self.fails(read)) {
            // Up to 3.6 the member that was asked refuses it, and others, or the same that starts again, execute the rest.
            let changes = chosen.iter().any(|op| matches!(op, Op::Put(_) | Op::DeleteRange(_)));
            return match changes {
                true => {
                    Err("it reads at a revision that is not there, and servers differ in what they do then".to_owned())
                }
                false => Ok(false),
            };
        }
        self.change(|store, changes| {
            for op in &chosen {
                match op {
                    Op::Put(put) => store.put(put, changes)?,
                    Op::DeleteRange(range) => store.delete_range(*range, changes),
                    Op::Read(_) | Op::Txn(_) | Op::Empty => {}
                }
            }
            Ok(())
        })
    }

    /// The operations of the branches that are taken, in order, but for the reads at the top: a server that executes an entry
    /// again has nobody who waits for their answers.
    fn choose<'t>(
        &self,
        txn: &'t Txn<'a>,
        is_top: bool,
        chosen: &mut Vec<&'t Op<'a>>,
        reads_at_top: &mut Vec<&'t Op<'a>>,
    ) {
        let holds = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if holds { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                Op::Txn(inner) => self.choose(inner, false, chosen, reads_at_top),
                Op::Read(_) if is_top => reads_at_top.push(op),
                Op::Read(_) | Op::Put(_) | Op::DeleteRange(_) | Op::Empty => chosen.push(op),
            }
        }
    }

    /// Whether etcd answers the whole transaction with an error because of this operation.
    fn fails(&self, op: &Op<'a>) -> bool {
        match op {
            Op::Read(0) | Op::DeleteRange(_) | Op::Txn(_) | Op::Empty => false,
            Op::Read(revision) => *revision > self.revision || *revision < self.compacted,
            Op::Put(put) => {
                ((put.ignore_value || put.ignore_lease) && !self.live.contains_key(put.key))
                    || (put.lease != 0 && !self.leases.contains_key(&LeaseId(put.lease)))
            }
        }
    }

    fn holds(&self, compare: &Compare<'a>) -> bool {
        let mut found = self.range(compare.range).peekable();
        if found.peek().is_some() {
            return found.all(|(_, current)| compares(compare, current));
        }
        let absent = Current {
            create_revision: 0,
            mod_revision: 0,
            version: 0,
            value: b"",
            lease: 0,
            is_attached: false,
        };
        !matches!(compare.target, Target::Value(_)) && compares(compare, &absent)
    }

    fn range(&self, range: Range<'a>) -> impl Iterator<Item = (&'a [u8], &Current<'a>)> {
        let bounds = match range.end {
            b"" => (Bound::Included(range.key), Bound::Included(range.key)),
            b"\0" => (Bound::Included(range.key), Bound::Unbounded),
            // None, which a map does not take for a range.
            end if end <= range.key => (Bound::Included(range.key), Bound::Excluded(range.key)),
            end => (Bound::Included(range.key), Bound::Excluded(end)),
        };
        self.live.range::<[u8], _>(bounds).map(|(key, current)| (*key, current))
    }

    /// Makes changes at the next revision, which becomes the present one if there are any.
    fn change(
        &mut self,
        changes: impl FnOnce(&mut Store<'a>, &mut Changes<'a>) -> Result<(), String>,
    ) -> Result<bool, String> {
        let main = self.revision.checked_add(1).and_then(|next| Revision::new(next).ok());
        let mut made = Changes {
            main: main.ok_or("there is no revision after the last one")?,
            made: Vec::new(),
        };
        changes(self, &mut made)?;
        let Changes { main, made } = made;
        if made.is_empty() {
            return Ok(false);
        }
        self.revision = main.get();
        self.first.get_or_insert(main);
        for (sub, (kind, record)) in (0..).zip(made) {
            let at = RevisionKey::new(main, sub, kind).expect("a position from 0 on");
            let mut value = Vec::new();
            record.encode_into(&mut value);
            self.log.push((at.encode(), value));
            self.last = Some(at);
        }
        Ok(true)
    }

    fn put(&mut self, put: &Put<'a>, changes: &mut Changes<'a>) -> Result<(), String> {
        let before = self.live.get(put.key).copied();
        let (mut value, mut lease) = (put.value, put.lease);
        if put.ignore_value || put.ignore_lease {
            // etcd itself stops here.
            let before = before.ok_or("it keeps the value or lease of a key that it has just deleted")?;
            value = if put.ignore_value { before.value } else { value };
            lease = if put.ignore_lease { before.lease } else { lease };
        }
        if lease != 0 && !self.leases.contains_key(&LeaseId(lease)) {
            return Err(format!("it keeps lease {}, which is gone", LeaseId(lease)));
        }
        let revision = changes.main.get();
        let version = before.map_or(0, |before| before.version).checked_add(1);
        let current = Current {
            create_revision: before.map_or(revision, |before| before.create_revision),
            mod_revision: revision,
            version: version.ok_or("there is no version after the last one")?,
            value,
            lease,
            is_attached: lease != 0,
        };
        self.live.insert(put.key, current);
        let record = KeyValue {
            key: put.key,
            create_revision: current.create_revision,
            mod_revision: revision,
            version: current.version,
            value,
            lease,
        };
        changes.made.push((EntryKind::Put, record));
        Ok(())
    }

    fn delete_range(&mut self, range: Range<'a>, changes: &mut Changes<'a>) {
        let keys: Vec<&'a [u8]> = self.range(range).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.delete(key, changes));
    }

    fn delete(&mut self, key: &'a [u8], changes: &mut Changes<'a>) {
        self.live.remove(key);
        changes.made.push((EntryKind::Tombstone, KeyValue::tombstone(key)));
    }

    fn compact(&mut self, revision: i64) -> bool {
        let possible = revision > self.compacted && revision <= self.revision;
        if possible {
            self.compacted = revision;
            self.newly_compacted = Revision::new(revision).ok();
        }
        possible
    }

    fn grant(&mut self, id: LeaseId, ttl_seconds: i64) -> bool {
        let possible = id.0 != 0 && ttl_seconds <= MAX_LEASE_TTL_SECONDS && !self.leases.contains_key(&id);
        if possible {
            // A server that starts raises what is shorter than it bears.
            self.leases.insert(id, Lease::granted(id, ttl_seconds));
        }
        possible
    }

    fn revoke(&mut self, id: LeaseId) -> Result<bool, String> {
        if !self.leases.contains_key(&id) {
            return Ok(false);
        }
        let attached = |current: &Current<'_>| current.is_attached && current.lease == id.0;
        let keys: Vec<&'a [u8]> = self
            .live
            .iter()
            .filter(|(_, current)| attached(current))
            .map(|(key, _)| *key)
            .collect();
        self.change(|store, changes| {
            keys.into_iter().for_each(|key| store.delete(key, changes));
            Ok(())
        })?;
        self.leases.remove(&id);
        Ok(true)
    }

    fn checkpoint(&mut self, checkpoints: &[(LeaseId, i64)]) -> bool {
        for (id, remaining) in checkpoints {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.remaining_seconds = *remaining;
            }
        }
        !checkpoints.is_empty()
    }

    fn alarm(&mut self, action: AlarmAction) -> Result<bool, String> {
        Ok(match action {
            // Up to 3.5 etcd takes writes again as soon as one of them is gone.
            AlarmAction::Disarm(..) if self.has_alarm(AlarmKind::NoSpace) && self.has_alarm(AlarmKind::Corrupt) => {
                return Err("it disarms one of two kinds of alarms".to_owned());
            }
            AlarmAction::Get | AlarmAction::Raise(_, AlarmKind::Other(_)) => false,
            AlarmAction::Raise(member, kind) => {
                let alarm = Alarm { member, kind };
                let is_new = !self.alarms.contains(&alarm);
                if is_new {
                    self.alarms.push(alarm);
                }
                is_new
            }
            AlarmAction::Disarm(member, kind) => {
                let before = self.alarms.len();
                self.alarms.retain(|alarm| *alarm != Alarm { member, kind });
                self.alarms.len() < before
            }
        })
    }
}

/// The changes of one revision.
struct Changes<'a> {
    main: Revision,
    made: Vec<(EntryKind, KeyValue<'a>)>,
}

fn compares(compare: &Compare<'_>, current: &Current<'_>) -> bool {
    let order = match compare.target {
        Target::Version(version) => current.version.cmp(&version),
        Target::Create(revision) => current.create_revision.cmp(&revision),
        Target::Mod(revision) => current.mod_revision.cmp(&revision),
        Target::Value(value) => current.value.cmp(value),
        Target::Lease(lease) => current.lease.cmp(&lease),
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}
