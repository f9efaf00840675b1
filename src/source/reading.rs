//! The changes of a chain, read from the destinations that have them: a few objects ahead, each from another copy or by
//! another object where one is gone or of no use.
//!
//! Memory: no more than four deltas are held beside the one that is applied, none larger than [`PLAIN_MAX`], and what [`Buffers`] keep.
//!
//! [`PLAIN_MAX`]: crate::layout::delta::PLAIN_MAX

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, bounded};

use super::delta::{Belongs, Pick, Unread, deltas_of};
use super::{Changes, DeltaRecords, Error};
use crate::catalog::{Following, Hole, Link, Piece};
use crate::error_chain::with_causes;
use crate::layout::ObjectName;
use crate::layout::delta::Header;
use crate::model::Revision;
use crate::pipeline::{Buffers, Identities};
use crate::store::Store;

/// So many objects are read at once; each has one delta ready, or is making it.
const AHEAD: usize = 4;

/// What is read, and what opens it.
#[derive(Clone)]
pub struct Chain {
    /// What its objects are held to.
    pub belongs: Belongs,
    /// What follows the full backup.
    pub following: Following,
    /// The destinations, by name.
    pub stores: BTreeMap<String, Store>,
    /// The keys.
    pub identities: Option<Arc<Identities>>,
}

/// What was passed over while changes were read, for whoever tells the operator.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// What was noted since this was asked the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An object that is being read.
struct Ahead {
    piece: Piece,
    destination: String,
    deltas: Receiver<Result<DeltaRecords, Unread>>,
}

struct Reading {
    chain: Chain,
    to: Revision,
    reached: Revision,
    /// Which objects are of no use, and where.
    useless: BTreeSet<(ObjectName, String)>,
    planned: VecDeque<(Revision, Piece)>,
    ahead: VecDeque<Ahead>,
    /// Whether it was looked again what there is, and nothing has come since.
    has_looked_again: bool,
    why: Option<Error>,
    notes: Notes,
    /// The memory of all that is read.
    buffers: Buffers,
}

impl Chain {
    /// The changes behind `from`, up to `to`.
    pub fn changes(self, from: Revision, to: Revision, notes: Notes) -> Changes {
        let mut reading = Reading {
            chain: self,
            to,
            reached: from,
            useless: BTreeSet::new(),
            planned: VecDeque::new(),
            ahead: VecDeque::new(),
            has_looked_again: false,
            why: None,
            notes,
            buffers: Buffers::default(),
        };
        Changes::new(to, move || reading.next())
    }

    /// What each store has of the chain now. Of one that cannot be listed it is what it had before; those are returned, each with
    /// the reason.
    #[must_use]
    pub fn look_again(&mut self) -> BTreeMap<String, String> {
        let (mut listed, mut unlisted) = (Vec::new(), BTreeMap::new());
        for (name, store) in &self.stores {
            let links = match store.list_whole_chain(&self.belongs.chain) {
                Ok(objects) => Link::listed(objects),
                Err(error) => {
                    unlisted.insert(name.clone(), with_causes(&error));
                    self.following.links_in(name)
                }
            };
            listed.push((name.as_str(), links));
        }
        let links = listed
            .iter()
            .flat_map(|(name, links)| links.iter().map(|link| (*name, link)));
        self.following = Following::of_links(self.following.base(), links);
        unlisted
    }
}

impl Reading {
    fn next(&mut self) -> Result<Option<DeltaRecords>, Error> {
        while self.reached < self.to {
            if self.ahead.is_empty() && self.planned.is_empty() {
                self.plan()?;
            }
            self.begin();
            let Some(front) = self.ahead.front() else { continue };
            match front.deltas.recv() {
                Ok(Ok(records)) if records.span.from() > self.reached.next() => {
                    self.give_up(Unread::of_hole(&records.name));
                }
                Ok(Ok(records)) => {
                    self.reached = self.reached.max(records.span.to());
                    self.has_looked_again = false;
                    return Ok(Some(records));
                }
                Ok(Err(unread)) => self.give_up(unread),
                // It has given out all that it has.
                Err(_) => match self.reached < front.piece.span.to().min(self.to) {
                    true => {
                        let name = front.piece.name.to_string();
                        let reason = "it holds less than its name says".to_owned();
                        let error = crate::pipeline::DecodeError::Damaged {
                            stage: "stored bytes",
                            reason,
                        };
                        self.give_up(Unread::Unusable(Error::Decode { name, error }));
                    }
                    false => drop(self.ahead.pop_front()),
                },
            }
        }
        Ok(None)
    }

    /// What is to be read from here on.
    fn plan(&mut self) -> Result<(), Error> {
        let useless = &self.useless;
        let may_be_used = |piece: &Piece| copy_of(piece, useless).is_some();
        let plan = self.chain.following.plan_from(self.reached, self.to, may_be_used);
        let plan = match plan {
            Ok(plan) => plan,
            Err(Hole { reached }) => {
                let missing = Error::Hole { reached };
                return Err(self.why.take().unwrap_or(missing));
            }
        };
        let mut from = self.reached;
        for piece in plan {
            self.planned.push_back((from, piece.clone()));
            from = piece.span.to();
        }
        Ok(())
    }

    /// Begins to read as many objects as may be read at once.
    fn begin(&mut self) {
        while self.ahead.len() < AHEAD
            && let Some((from, piece)) = self.planned.pop_front()
        {
            let copy = copy_of(&piece, &self.useless).map(str::to_owned);
            let Some((destination, store)) =
                copy.and_then(|name| Some((name.clone(), self.chain.stores.get(&name)?.clone())))
            else {
                // It is planned again without it.
                let all = piece.destinations.iter().map(|name| (piece.name.clone(), name.clone()));
                self.useless.extend(all);
                self.planned.clear();
                return;
            };
            let (sender, deltas) = bounded(0);
            let (belongs, identities) = (self.chain.belongs.clone(), self.chain.identities.clone());
            let buffers = self.buffers.clone();
            let (name, to, mut reached) = (piece.name.clone(), self.to, from);
            std::thread::spawn(move || {
                let mut give = |records| match sender.send(Ok(records)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                };
                let mut pick = |header: &Header| match header.to_revision > reached {
                    _ if reached >= to => Pick::Stop,
                    true => {
                        reached = header.to_revision;
                        Pick::Read
                    }
                    false => Pick::PassOver,
                };
                let with = (identities.as_deref(), &buffers);
                let read = deltas_of(&store, &belongs, &name, with, &mut pick, &mut give);
                if let Err(unread) = read {
                    sender.send(Err(unread)).ok();
                }
            });
            self.ahead.push_back(Ahead {
                piece,
                destination,
                deltas,
            });
        }
    }

    /// Goes on without the object at the head: with another copy of it, or with others in its place.
    fn give_up(&mut self, unread: Unread) {
        let Some(front) = self.ahead.pop_front() else { return };
        self.useless.insert((front.piece.name.clone(), front.destination));
        match unread {
            Unread::Gone if !self.has_looked_again => {
                self.has_looked_again = true;
                for (name, error) in self.chain.look_again() {
                    self.notes.add(format!(
                        "what destination {name} has behind the backup now is not known, as it cannot be listed: {error}"
                    ));
                }
            }
            Unread::Gone => {}
            Unread::Strange(note) => self.notes.add(note),
            Unread::Unusable(error) => {
                self.notes.add(error.to_string());
                self.why = Some(error);
            }
        }
        self.ahead.clear();
        self.planned.clear();
    }
}

/// The first destination whose copy may be of use.
fn copy_of<'a>(piece: &'a Piece, useless: &BTreeSet<(ObjectName, String)>) -> Option<&'a str> {
    let mut copies = piece.destinations.iter();
    let copy = copies.find(|name| !useless.contains(&(piece.name.clone(), (*name).clone())));
    copy.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::delta::{Decoder, Record};
    use crate::signing::{Authority, Role, SigningKey, Trust};
    use crate::source::test_objects::{Maker, deletes, key, put, revision};
    use crate::store::tests::store;

    /// What each store has now, as one that lists them would read it.
    fn chain(maker: &Maker, base: i64, stores: &[(&str, &Store)]) -> Chain {
        let stores = stores
            .iter()
            .map(|(name, store)| ((*name).to_owned(), (*store).clone()));
        let mut chain = Chain {
            belongs: maker.belongs(),
            following: Following::of_links(revision(base), []),
            stores: stores.collect(),
            identities: Some(maker.identities()),
        };
        assert!(chain.look_again().is_empty());
        chain
    }

    /// Reads it, and checks that it is every revision behind `base`, in order. Says which objects it came from.
    fn read(chain: Chain, base: i64, to: i64) -> Result<(Vec<String>, Vec<String>), Error> {
        let notes = Notes::default();
        let mut changes = chain.changes(revision(base), revision(to), notes.clone());
        let (mut names, mut reached) = (Vec::new(), base);
        while let Some(records) = changes.next_delta()? {
            let mut decoder = Decoder::new(&records.plain, records.span).unwrap();
            while let Some(record) = decoder.next().unwrap() {
                let Record::Change(change) = record else { continue };
                let at = change.revision.get();
                assert_eq!((change.key, change.put.is_none()), (key(at).as_bytes(), deletes(at)));
                if at > reached {
                    assert_eq!(at, reached + 1, "a revision was left out");
                    reached = at;
                }
            }
            let name = records.name.trim_matches('`');
            let name = name.split('/').find(|part| part.contains(".delta")).unwrap_or(name);
            names.push(name.split(' ').next().unwrap_or(name).trim_matches('`').to_owned());
        }
        assert!(reached >= to);
        Ok((names, notes.take()))
    }

    fn name(from: i64, to: i64, epoch: u32) -> String {
        format!("{from:020}-{to:020}.{epoch:08}.delta")
    }

    #[test]
    fn changes_come_in_order_from_deltas_and_packs_whatever_overlaps() {
        let ((_a, store), maker) = (store(), Maker::new());
        let deltas = [
            maker.delta(5, 12, 1),
            maker.delta(13, 20, 1),
            maker.delta(15, 25, 2),
            maker.delta(26, 26, 2),
            maker.delta(27, 40, 2),
        ];
        put(&store, &deltas);
        let of = |to| read(chain(&maker, 10, &[("local", &store)]), 10, to).unwrap();
        let all = [
            name(5, 12, 1),
            name(13, 20, 1),
            name(15, 25, 2),
            name(26, 26, 2),
            name(27, 40, 2),
        ];
        assert_eq!(of(40).0, all);
        assert_eq!(of(12).0, all[..1]);
        assert_eq!(of(13).0, all[..2]);
        assert!(of(10).0.is_empty());
        put(&store, [&maker.pack(&deltas[..4])]);
        assert_eq!(of(40), (all.to_vec(), vec![]));
        // Of a pack no more is given out than what leads to the point.
        for (made, _) in &deltas[..4] {
            store.remove(made).unwrap();
        }
        assert_eq!(of(20).0, all[..2]);
    }

    #[test]
    fn a_store_that_cannot_be_listed_is_named_and_what_it_had_stays_known() {
        let ((_a, here), (_b, there), maker) = (store(), store(), Maker::new());
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1)];
        put(&here, &deltas);
        put(&there, &deltas[..1]);
        let mut chain = chain(&maker, 10, &[("here", &here), ("there", &there)]);
        let known = chain.following.clone();
        // A plain file where a folder should be.
        let folder = here.path_of(&deltas[0].0).parent().unwrap().to_owned();
        let aside = folder.with_extension("aside");
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::write(&folder, "").unwrap();
        let unlisted = chain.look_again();
        assert_eq!(unlisted.into_keys().collect::<Vec<_>>(), ["here"]);
        assert_eq!(chain.following, known);
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        assert!(chain.look_again().is_empty());
        assert_eq!(chain.following, known);
    }

    #[test]
    fn another_copy_is_taken_where_one_is_damaged_and_others_where_there_is_none() {
        let ((_a, here), (_b, there), maker) = (store(), store(), Maker::new());
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1), maker.delta(31, 40, 1)];
        let pack = maker.pack(&deltas);
        put(&here, &deltas[..2]);
        put(&there, &deltas);
        put(&here, [&pack]);
        // The last byte of the second delta, in the pack and by itself.
        let head = crate::layout::delta::Head::read(&pack.0, &pack.1).unwrap();
        let in_pack = usize::try_from(head.body).unwrap() + deltas[0].1.len() + deltas[1].1.len();
        for (target, end) in [(&pack.0, in_pack), (&deltas[1].0, deltas[1].1.len())] {
            let path = here.path_of(target);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[end - 1] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        let (names, notes) = read(chain(&maker, 10, &[("here", &here), ("there", &there)]), 10, 40).unwrap();
        assert_eq!(names, [name(11, 20, 1), name(21, 30, 1), name(31, 40, 1)]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("damaged"), "{notes:?}");
        // Without the other destination there is a hole.
        let error = read(chain(&maker, 10, &[("here", &here)]), 10, 30).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }

    #[test]
    fn what_is_gone_while_it_is_read_is_looked_for_once_more() {
        let ((_a, store), maker) = (store(), Maker::new());
        let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1)];
        put(&store, &deltas);
        let before = chain(&maker, 10, &[("local", &store)]);
        put(&store, [&maker.pack(&deltas)]);
        for (made, _) in &deltas {
            store.remove(made).unwrap();
        }
        let (names, notes) = read(before.clone(), 10, 30).unwrap();
        assert_eq!((names.len(), notes.len()), (2, 0), "{names:?} {notes:?}");
        store.remove(&maker.pack(&deltas).0).unwrap();
        let error = read(before, 10, 30).unwrap_err();
        assert!(
            matches!(error, Error::Hole { reached } if reached == revision(10)),
            "{error}"
        );
    }

    #[test]
    fn what_goes_again_and_again_is_looked_for_each_time() {
        let ((_a, store), maker) = (store(), Maker::new());
        let deltas: Vec<_> = (0..40).map(|i| maker.delta(10 * i + 11, 10 * i + 20, 1)).collect();
        put(&store, &deltas);
        let before = chain(&maker, 10, &[("local", &store)]);
        let mut changes = before.changes(revision(10), revision(410), Notes::default());
        let mut reached = 10;
        while let Some(records) = changes.next_delta().unwrap() {
            assert_eq!(records.span.from().get(), reached + 1);
            reached = records.span.to().get();
            // What is far enough not to be open yet is packed behind the reader's back.
            if reached % 100 == 50 {
                let from = (reached / 10) as usize + 6;
                let packed = deltas.get(from..(from + 2).min(deltas.len())).unwrap_or_default();
                if packed.len() == 2 {
                    put(&store, [&maker.pack(packed)]);
                    packed.iter().for_each(|(name, _)| store.remove(name).unwrap());
                }
            }
        }
        assert_eq!(reached, 410);
    }

    #[test]
    fn a_strangers_delta_counts_for_nothing() {
        let ((_a, store), maker) = (store(), Maker::new());
        let cluster = "prod".parse().unwrap();
        let trusted = Arc::new(SigningKey::of_seed(Role::Signer, [1; 32]));
        let stranger = SigningKey::of_seed(Role::Signer, [2; 32]);
        let sign = |key: &SigningKey, (name, bytes): &(ObjectName, Vec<u8>)| {
            let head = crate::layout::delta::Head::read(name, bytes).unwrap();
            let document = key.sign(&cluster, name, &head.document);
            let mut signed = Header::head(head.header.kind, &document);
            signed.extend_from_slice(&bytes[usize::try_from(head.body).unwrap()..]);
            (name.clone(), signed)
        };
        put(
            &store,
            [
                &sign(&trusted, &maker.delta(11, 20, 1)),
                &sign(&stranger, &maker.delta(11, 30, 1)),
            ],
        );
        let authority = Authority::anybody(&cluster).trusting(Trust::of([trusted.public()]));
        let store = store.under(Arc::new(authority));
        let of = |to| read(chain(&maker, 10, &[("local", &store)]), 10, to);
        let (names, _) = of(20).unwrap();
        assert_eq!(names, [name(11, 20, 1)]);
        let refused = of(30).unwrap_err();
        assert!(matches!(refused, Error::Hole { .. }), "{refused}");
    }

    #[test]
    fn without_the_right_key_nothing_is_given_out() {
        let ((_a, store), maker) = (store(), Maker::new());
        put(&store, [&maker.delta(11, 20, 1)]);
        let other = Chain {
            identities: Some(Maker::new().identities()),
            ..chain(&maker, 10, &[("local", &store)])
        };
        let error = read(other, 10, 20).unwrap_err();
        let is_wrong = matches!(
            &error,
            Error::Decode {
                error: crate::pipeline::DecodeError::WrongKey,
                ..
            }
        );
        assert!(is_wrong, "{error}");
    }
}
