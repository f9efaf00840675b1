//! Every change of the key space, revision by revision, as one member tells of them.
//!
//! A watch over all keys without filters leaves nothing out: revisions follow one another by one, and the place of an event
//! among those of its revision is its place in the store. A message may be a part of one, and a revision may lie in several:
//! [`Pieces`] puts them together, and takes nothing for whole before all of it came, nor without a bound.
//!
//! Invariant: what comes out begins with the revision that was asked for, has none twice and leaves none out; where etcd does
//! otherwise, that is an error.
//! Source: section Watch of etcd's API, 3.4 to 3.7; what differs between versions is said where it matters.

use std::collections::VecDeque;

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchOptions, WatchStream};

use super::{CALL_TIMEOUT, Error, Member, call, failed};
use crate::model::{ByteSize, ClusterId, Revision};

/// The largest message that is taken: without fragments, as old members send what they hold back, it is as large as 1000
/// revisions are.
const LARGEST_MESSAGE: usize = 512 << 20;

/// All changes of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeRevision {
    /// Which.
    pub revision: Revision,
    /// Them, in their order; at least one.
    pub changes: Vec<KeyChange>,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Vec<u8>,
    /// What it was set to; none where it was deleted.
    pub put: Option<KeyPut>,
}

/// What a change weighs beside its key and value: no record of it in a delta has more, and it takes no less in memory.
const BESIDE_KEY: u64 = 64;

impl KeyChange {
    /// How many bytes it counts for where there is a bound.
    pub fn weight(&self) -> u64 {
        let value = self.put.as_ref().map_or(0, |put| put.value.len());
        (self.key.len() as u64)
            .saturating_add(value as u64)
            .saturating_add(BESIDE_KEY)
    }
}

/// What a key was set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPut {
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the first put of this life of the key.
    pub create_revision: Revision,
    /// Which put of this life it is, from 1.
    pub version: i64,
    /// The lease that it hangs on, 0 for none.
    pub lease: i64,
}

/// What came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Revisions that are whole now, in order.
    pub whole: Vec<WholeRevision>,
    /// Whether there was nothing else when it was sent: every change that there was has come.
    pub is_all: bool,
}

/// Why no more comes.
#[derive(Debug, thiserror::Error)]
pub enum WatchEnd {
    /// etcd has compacted what was asked for.
    #[error("etcd has compacted up to revision {compacted}, and revision {wanted} was wanted")]
    Compacted {
        /// The first that was wanted.
        wanted: Revision,
        /// Up to which nothing is left but the newest of each key.
        compacted: i64,
    },
    /// Another cluster answers.
    #[error("{url} is of cluster {found} now, and was of {expected}")]
    OtherCluster {
        /// The endpoint.
        url: String,
        /// What it is.
        found: ClusterId,
        /// What it was.
        expected: ClusterId,
    },
    /// A revision was left out.
    #[error("{url} sent revision {found} where {expected} was to come")]
    Missed {
        /// The endpoint.
        url: String,
        /// What was to come.
        expected: Revision,
        /// What came.
        found: i64,
    },
    /// A revision is larger than what is taken.
    #[error("{url} sent more than {most} of changes of revision {revision} alone")]
    TooLarge {
        /// The endpoint.
        url: String,
        /// The revision.
        revision: Revision,
        /// What is taken at most.
        most: ByteSize,
    },
    /// It may be taken up again where it ended.
    #[error(transparent)]
    Broken(#[from] Error),
}

/// An open watch over the whole key space. Dropping it ends it.
#[must_use]
pub struct Watching {
    url: String,
    stream: WatchStream,
    pieces: Pieces,
}

impl Member {
    /// Watches all keys from revision `from` on, which may be to come yet. `cluster` is the one that has to answer, and no
    /// revision is taken whose changes weigh more than `most_of_one`.
    ///
    /// A member that was connected to with [`Member::connect_to_watch`] ends it where it loses its leader.
    pub async fn watch(
        &mut self,
        from: Revision,
        cluster: ClusterId,
        most_of_one: ByteSize,
    ) -> Result<Watching, WatchEnd> {
        let mut client = self.client.watch_client().max_decoding_message_size(LARGEST_MESSAGE);
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(from.get())
            .with_progress_notify()
            .with_fragment();
        let stream = call(
            &self.url,
            "Watch",
            CALL_TIMEOUT,
            client.watch(Vec::new(), Some(options)),
        )
        .await?;
        Ok(Watching {
            url: self.url.clone(),
            stream,
            pieces: Pieces::new(from, cluster, most_of_one),
        })
    }
}

impl Watching {
    /// What comes next; waits for it as long as it takes.
    pub async fn next(&mut self) -> Result<Heard, WatchEnd> {
        let message = self.stream.message().await;
        match message.map_err(|error| failed(&self.url, "Watch", &error))? {
            Some(message) => self.pieces.take(&self.url, message.0),
            None => Err(WatchEnd::Broken(Error::Call {
                url: self.url.clone(),
                call: "Watch",
                reason: "the member ended it".to_owned(),
            })),
        }
    }

    /// The first revision that did not come whole yet.
    pub fn next_revision(&self) -> Revision {
        self.pieces.next
    }
}

/// Puts revisions together from messages.
#[derive(Debug)]
struct Pieces {
    cluster: ClusterId,
    /// The first revision that is not whole.
    next: Revision,
    /// What came of it.
    part: Vec<KeyChange>,
    /// What that weighs.
    weight: u64,
    /// What a revision may.
    most: ByteSize,
}

impl Pieces {
    fn new(from: Revision, cluster: ClusterId, most: ByteSize) -> Pieces {
        Pieces {
            cluster,
            next: from,
            part: Vec::new(),
            weight: 0,
            most,
        }
    }

    fn take(&mut self, url: &str, message: PbWatchResponse) -> Result<Heard, WatchEnd> {
        let header = message.header.unwrap_or_default();
        let found = ClusterId(header.cluster_id);
        if found != self.cluster && found != ClusterId(0) {
            return Err(WatchEnd::OtherCluster {
                url: url.to_owned(),
                found,
                expected: self.cluster,
            });
        }
        if message.canceled {
            if message.compact_revision > 0 {
                return Err(WatchEnd::Compacted {
                    wanted: self.next,
                    compacted: message.compact_revision,
                });
            }
            return Err(WatchEnd::Broken(Error::Call {
                url: url.to_owned(),
                call: "Watch",
                reason: match message.cancel_reason.as_str() {
                    "" => "the member cancelled it".to_owned(),
                    reason => reason.to_owned(),
                },
            }));
        }
        let has_events = !message.events.is_empty();
        let mut whole = VecDeque::new();
        for event in message.events {
            self.add(url, event, &mut whole)?;
        }
        if has_events && !message.fragment {
            self.complete(url, &mut whole)?;
        }
        let last = self.next.get() - 1;
        if !has_events && !message.created && header.revision > last {
            // It says that all has come, and it has not: versions before 3.4.25 and 3.5.8 do. What is missing comes anew.
            return Err(WatchEnd::Broken(Error::Nonsense {
                url: url.to_owned(),
                call: "Watch",
                what: format!(
                    "progress to revision {} before revision {} came",
                    header.revision, self.next
                ),
            }));
        }
        Ok(Heard {
            whole: whole.into(),
            // While old events are sent, this is the revision that the store has come to meanwhile.
            is_all: self.part.is_empty() && header.revision > 0 && header.revision <= last,
        })
    }

    fn add(&mut self, url: &str, event: PbEvent, whole: &mut VecDeque<WholeRevision>) -> Result<(), WatchEnd> {
        let Some(kv) = event.kv else {
            return Err(nonsense(url, "an event without a key"));
        };
        let found = kv.mod_revision;
        // Sent twice, as versions before 3.4.25 and 3.5.8 do.
        if found < self.next.get() {
            return Ok(());
        }
        if found > self.next.get() && !self.part.is_empty() {
            self.complete(url, whole)?;
        }
        if found != self.next.get() {
            return Err(WatchEnd::Missed {
                url: url.to_owned(),
                expected: self.next,
                found,
            });
        }
        let put = match event.r#type {
            0 => Some(KeyPut {
                value: kv.value,
                create_revision: Revision::new(kv.create_revision)
                    .map_err(|_| nonsense(url, "a create revision below 0"))?,
                version: kv.version,
                lease: kv.lease,
            }),
            1 => None,
            _ => return Err(nonsense(url, "an event that is neither a put nor a deletion")),
        };
        let change = KeyChange { key: kv.key, put };
        self.weight = self.weight.saturating_add(change.weight());
        if self.weight > self.most.0 {
            return Err(WatchEnd::TooLarge {
                url: url.to_owned(),
                revision: self.next,
                most: self.most,
            });
        }
        self.part.push(change);
        Ok(())
    }

    /// All of the revision has come.
    fn complete(&mut self, url: &str, whole: &mut VecDeque<WholeRevision>) -> Result<(), WatchEnd> {
        if self.part.is_empty() {
            return Ok(());
        }
        let next = self.next.get().checked_add(1).and_then(|next| Revision::new(next).ok());
        whole.push_back(WholeRevision {
            revision: self.next,
            changes: std::mem::take(&mut self.part),
        });
        self.weight = 0;
        self.next = next.ok_or_else(|| nonsense(url, "the highest revision that there can be"))?;
        Ok(())
    }
}

fn nonsense(url: &str, what: &str) -> WatchEnd {
    WatchEnd::Broken(Error::Nonsense {
        url: url.to_owned(),
        call: "Watch",
        what: what.to_owned(),
    })
}

/// What is known to be wrong with the watches of a version, if something is: a deletion may be left out without a word where
/// etcd compacts what is sent once more.
pub fn loses_deletions(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u32>().ok());
    let mut number = || numbers.next().flatten();
    match (number(), number(), number()) {
        // Deletions at the compacted revision are repaired from .34 and .16 on; those of a watch that is overtaken by a
        // compaction, two versions later.
        (Some(3), Some(4), Some(patch)) => patch < 36,
        (Some(3), Some(5), Some(patch)) => patch < 18,
        (Some(3), Some(minor), _) => minor < 4,
        (major, ..) => major.is_some_and(|major| major < 3),
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbKeyValue, PbResponseHeader};

    use super::*;

    const CLUSTER: ClusterId = ClusterId(0xab);
    /// Three changes of these tests.
    const MOST: ByteSize = ByteSize(3 * (2 + BESIDE_KEY));

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn event(key: &str, at: i64) -> PbEvent {
        PbEvent {
            r#type: 0,
            kv: Some(PbKeyValue {
                key: key.as_bytes().to_vec(),
                value: b"v".to_vec(),
                create_revision: at,
                mod_revision: at,
                version: 1,
                lease: 0,
            }),
            prev_kv: None,
        }
    }

    fn message(at: i64, events: &[(&str, i64)]) -> PbWatchResponse {
        PbWatchResponse {
            header: Some(PbResponseHeader {
                cluster_id: CLUSTER.0,
                revision: at,
                ..PbResponseHeader::default()
            }),
            events: events.iter().map(|(key, at)| event(key, *at)).collect(),
            ..PbWatchResponse::default()
        }
    }

    fn heard(pieces: &mut Pieces, message: PbWatchResponse) -> (Vec<(i64, usize)>, bool) {
        let heard = pieces.take("u", message).unwrap();
        let whole = heard.whole.iter();
        (
            whole.map(|whole| (whole.revision.get(), whole.changes.len())).collect(),
            heard.is_all,
        )
    }

    #[test]
    fn a_revision_is_whole_once_its_last_part_came() {
        let mut pieces = Pieces::new(revision(5), CLUSTER, MOST);
        let part = |message: PbWatchResponse| PbWatchResponse {
            fragment: true,
            ..message
        };
        let first = part(message(9, &[("a", 5), ("b", 5), ("a", 6)]));
        assert_eq!(heard(&mut pieces, first), (vec![(5, 2)], false));
        let second = part(message(9, &[("b", 6)]));
        assert_eq!(heard(&mut pieces, second), (vec![], false));
        // What was sent already is passed over.
        let third = message(9, &[("x", 4), ("c", 6), ("a", 7)]);
        assert_eq!(heard(&mut pieces, third), (vec![(6, 3), (7, 1)], false));
        let rest = message(9, &[("a", 8), ("a", 9)]);
        assert_eq!(heard(&mut pieces, rest), (vec![(8, 1), (9, 1)], true));
        assert_eq!(heard(&mut pieces, message(9, &[])), (vec![], true));
        let created = PbWatchResponse {
            created: true,
            ..message(20, &[])
        };
        assert_eq!(heard(&mut pieces, created), (vec![], false));
        assert_eq!(pieces.next, revision(10));
    }

    #[test]
    fn what_cannot_be_gone_on_with_ends_it() {
        let end = |message| Pieces::new(revision(5), CLUSTER, MOST).take("u", message).unwrap_err();
        assert!(matches!(
            end(message(9, &[("a", 5), ("a", 7)])),
            WatchEnd::Missed { found: 7, .. }
        ));
        assert!(matches!(
            end(message(9, &[("a", 6)])),
            WatchEnd::Missed { found: 6, .. }
        ));
        assert!(matches!(end(message(9, &[])), WatchEnd::Broken(_)));
        let canceled = PbWatchResponse {
            canceled: true,
            ..message(0, &[])
        };
        assert!(matches!(end(canceled.clone()), WatchEnd::Broken(_)));
        let compacted = PbWatchResponse {
            compact_revision: 8,
            ..canceled
        };
        assert!(matches!(end(compacted), WatchEnd::Compacted { compacted: 8, .. }));
        let mut other = message(9, &[("a", 5)]);
        other.header.as_mut().unwrap().cluster_id = 7;
        assert!(matches!(end(other), WatchEnd::OtherCluster { .. }));
    }

    #[test]
    fn a_revision_that_never_ends_is_given_up() {
        let mut pieces = Pieces::new(revision(5), CLUSTER, MOST);
        let part = || PbWatchResponse {
            fragment: true,
            ..message(9, &[("a", 6)])
        };
        let whole = message(9, &[("a", 5), ("b", 5), ("c", 5)]);
        assert_eq!(heard(&mut pieces, whole), (vec![(5, 3)], false));
        for _ in 0..3 {
            assert_eq!(heard(&mut pieces, part()), (vec![], false));
        }
        let end = pieces.take("u", part()).unwrap_err();
        let WatchEnd::TooLarge { revision: at, most, .. } = &end else {
            panic!("{end}")
        };
        assert_eq!((*at, *most), (revision(6), MOST));
    }

    #[test]
    fn versions_that_lose_deletions_are_known() {
        for faulty in ["3.4.33", "3.4.35", "3.5.15", "3.5.17", "3.3.27", "2.3.8", "3.5.0-rc.1"] {
            assert!(loses_deletions(faulty), "{faulty}");
        }
        for sound in ["3.4.36", "3.5.18", "3.6.0", "3.7.1", "4.0.0", "none"] {
            assert!(!loses_deletions(sound), "{sound}");
        }
    }
}
