//! The lives of keys, from delta to delta: each change must follow the one before it of its key.

use crate::keyspace::{EntryKind, KeyValue, RevisionKey, Touched};
use crate::layout::Span;
use crate::layout::delta::Change;
use crate::model::Revision;

/// After so many changes it is forgotten what was known of their keys: 128 MiB at the most.
const REMEMBERED: u64 = 4_000_000;

/// What is known of the keys that the deltas before have changed.
pub(super) struct Lives {
    touched: Touched,
    reached: Revision,
    changes: u64,
}

impl Lives {
    /// The last revision that was taken in.
    pub fn reached(&self) -> Revision {
        self.reached
    }

    /// Nothing is known of what is before these revisions.
    pub fn before(span: Span) -> Lives {
        let reached = Revision::new(span.from().get().saturating_sub(1)).unwrap_or(span.from());
        Lives {
            touched: Touched::after(reached),
            reached,
            changes: 0,
        }
    }

    /// Whether these revisions follow what is known.
    pub fn go_on_with(&self, span: Span) -> bool {
        span.from() <= self.reached.next() && self.reached < span.to() && self.changes < REMEMBERED
    }

    /// Takes in the next change.
    ///
    /// Fails where it does not follow what is before it.
    pub fn change(&mut self, change: &Change<'_>) -> Result<(), String> {
        let kind = match change.put {
            Some(_) => EntryKind::Put,
            None => EntryKind::Tombstone,
        };
        let at = RevisionKey::new(change.revision, change.sub, kind).map_err(|error| error.to_string())?;
        let record = match change.put {
            None => KeyValue::tombstone(change.key),
            Some(put) => KeyValue {
                key: change.key,
                create_revision: put.create_revision.get(),
                mod_revision: change.revision.get(),
                version: put.version,
                value: put.value,
                lease: put.lease,
            },
        };
        let lived = self.touched.change(at, &record);
        lived.map_err(|life| {
            let what = life.what.unwrap_or_else(|| "a change".to_owned());
            format!(
                "{what}, at revision {}, does not follow what is before it: a change is missing",
                life.at
            )
        })?;
        self.reached = change.revision;
        self.changes += 1;
        Ok(())
    }
}
