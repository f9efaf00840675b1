//! From what counts of a database to whole revisions in their order, as a watch gives them.

use std::ops::ControlFlow;

use super::candidates::{Candidates, Place};
use crate::capture::told;
use crate::etcd::{KeyChange, KeyPut, WholeRevision};
use crate::keyspace::{EntryKind, KeyValue, LogKey, RevisionKey};
use crate::model::{ByteSize, Revision};

/// Hands out the revisions from `first` to `last`, none of which may be missing or weigh more than `most_of_one`, until `take` breaks
/// off. `leaves` are those that count, in order.
///
/// Fails where what is there is not what a watch would tell: a revision or a part of one is missing, or a record is none. What was
/// handed out before is as etcd has it.
pub(super) fn hand_out<'a>(
    candidates: &Candidates,
    leaves: impl Iterator<Item = (&'a LogKey, Place)>,
    (first, last): (Revision, Revision),
    most_of_one: ByteSize,
    take: &mut dyn FnMut(WholeRevision) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    let mut reader = candidates.reader();
    let mut parts = Parts {
        next: first,
        part: Vec::new(),
        weight: 0,
        most_of_one,
        take,
        is_broken_off: false,
    };
    for (_, place) in leaves {
        reader.each(place, |key, value| parts.add(key, value))?;
        if parts.is_broken_off {
            return Ok(ControlFlow::Break(()));
        }
    }
    parts.complete();
    if !parts.is_broken_off && parts.next <= last {
        return Err(missing(parts.next));
    }
    Ok(match parts.is_broken_off {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
}

struct Parts<'t> {
    /// The first revision that is not whole.
    next: Revision,
    /// What came of it.
    part: Vec<KeyChange>,
    weight: u64,
    most_of_one: ByteSize,
    take: &'t mut dyn FnMut(WholeRevision) -> ControlFlow<()>,
    is_broken_off: bool,
}

impl Parts<'_> {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let at = RevisionKey::decode(key).map_err(|error| told(&error))?;
        if at.main() != self.next {
            self.complete();
        }
        if self.is_broken_off {
            return Ok(());
        }
        if at.main() != self.next || usize::try_from(at.sub()) != Ok(self.part.len()) {
            return Err(missing(self.next));
        }
        let record = KeyValue::decode(value).map_err(|error| told(&error))?;
        let put = match at.kind() {
            EntryKind::Tombstone => None,
            // What raises a revision leaves an entry without a record, which no watch tells of.
            EntryKind::Put if record.mod_revision != at.main().get() => return Err(missing(self.next)),
            EntryKind::Put => Some(KeyPut {
                value: record.value.to_vec(),
                create_revision: Revision::new(record.create_revision).map_err(|error| told(&error))?,
                version: record.version,
                lease: record.lease,
            }),
        };
        let change = KeyChange {
            key: record.key.to_vec(),
            put,
        };
        self.weight = self.weight.saturating_add(change.weight());
        if self.weight > self.most_of_one.0 {
            return Err(format!(
                "there is more than {} of changes of revision {} alone",
                self.most_of_one, self.next
            ));
        }
        self.part.push(change);
        Ok(())
    }

    /// All of a revision is there.
    fn complete(&mut self) {
        if self.part.is_empty() || self.is_broken_off {
            return;
        }
        let whole = WholeRevision {
            revision: self.next,
            changes: std::mem::take(&mut self.part),
        };
        (self.next, self.weight) = (self.next.next(), 0);
        self.is_broken_off = (self.take)(whole).is_break();
    }
}

fn missing(revision: Revision) -> String {
    format!("revision {revision} is not all there")
}
