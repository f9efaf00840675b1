//! What of a chain counts, and what only has the name of it.
//!
//! Whoever can write to a store can give an object any name there, and one that a power cut has torn has its name, too. A revision that
//! is taken for stored is asked of etcd no more, so what is gone on from is held to more than names: of each object that leads there the
//! head, whose it is and how long the object is; of the last one every byte. Words of who writes and of where a chain ends
//! count where their signature does. What does not count is passed over, and what it should hold is captured anew.
//!
//! Where nobody is named who may sign, a stranger's object is one like any other, if it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::reach::Known;
use super::told;
use crate::catalog::{Backup, Following, Link};
use crate::layout::{Epoch, ObjectName, Outline};
use crate::source::Error;
use crate::source::delta::{self, Belongs, Unread};
use crate::store::Store;

/// Of how many objects that lead to the last one the heads are read: all of a chain that is packed. Where a bucket locks its objects
/// there can be more; those before were followed by so many that count.
const HEADS: usize = 256;
/// How many objects of no use are found out one by one; what is left then is gone on from before the next.
const MOST_USELESS: usize = 1000;
/// The largest object that is read to its end: larger ones are packs, which were read when they were made.
const WHOLE_MOST: u64 = 64 << 20;
/// How often an object that cannot be read is tried before it counts for nothing: what follows it is captured anew then.
const TRIES: u32 = 3;
/// How many marks are looked at, the newest first.
const MARKS: usize = 16;

/// What a destination has of a chain.
pub struct Place<'a> {
    /// Its name.
    pub destination: &'a str,
    /// Its store.
    pub store: &'a Store,
    /// What is listed there.
    pub links: Vec<Link>,
}

impl<'a> Place<'a> {
    /// Where the copies of a backup lie that can be read.
    pub fn of(backup: &'a Backup, stores: &'a BTreeMap<String, Store>) -> Vec<Place<'a>> {
        let copies = backup.copies.iter();
        let places = copies.filter_map(|copy| {
            Some(Place {
                destination: &copy.destination,
                store: stores.get(&copy.destination)?,
                links: copy.links.clone(),
            })
        });
        places.collect()
    }
}

/// What was proven of a chain.
#[derive(Debug, Default)]
pub struct Proven {
    /// What counts, and leads as far as can be.
    pub known: Known,
    /// The epochs that names are of, whatever they are worth: under no such is anything written anew.
    pub taken: BTreeSet<Epoch>,
    /// What was in the way and counts for nothing, and why.
    pub passed_over: BTreeMap<ObjectName, String>,
}

/// An object as it was listed.
type Key = (String, ObjectName, u64, Timestamp);
type Copies<'a> = BTreeMap<&'a ObjectName, Vec<(&'a Place<'a>, &'a Link)>>;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Worth {
    /// Its head, its signer and its length are right.
    Headed,
    /// Every byte is.
    Whole,
    /// It counts for nothing.
    Useless(String),
}

/// How much of an object is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Head,
    Whole,
}

/// What was found out, so that nothing is read twice.
#[derive(Debug, Default)]
pub struct Proofs {
    found: BTreeMap<Key, Worth>,
    unread: BTreeMap<Key, u32>,
}

impl Proofs {
    /// What of a chain is proven, in all these places together. Fails where something cannot be read for now.
    pub fn prove(&mut self, full: &Outline, places: &[Place<'_>]) -> Result<Proven, String> {
        let mut proven = Proven::default();
        let copies = copies(places);
        proven.taken.extend(copies.keys().filter_map(|name| name.epoch()));
        for (name, at) in copies.iter().filter(|(name, _)| is_word(name)) {
            match self.judge(full, at, Read::Head)? {
                Ok(()) => proven.known.take([*name]),
                Err(why) => proven.passed_over.extend(why.map(|why| ((*name).clone(), why))),
            }
        }
        self.prove_pieces(full, places, &copies, &mut proven)?;
        let mut marks: Vec<_> = copies.iter().filter(|(name, _)| is_mark(name)).collect();
        marks.sort_by_key(|(name, _)| {
            std::cmp::Reverse(match name {
                ObjectName::Mark(_, revision, time, _) => Some((*revision, *time)),
                _ => None,
            })
        });
        for (name, at) in marks.into_iter().take(MARKS) {
            if self.judge(full, at, Read::Head)?.is_ok() {
                proven.known.take([*name]);
                break;
            }
        }
        Ok(proven)
    }

    fn prove_pieces(
        &mut self,
        full: &Outline,
        places: &[Place<'_>],
        copies: &Copies<'_>,
        proven: &mut Proven,
    ) -> Result<(), String> {
        let base = full.to_revision;
        let links = places.iter();
        let links = links.flat_map(|place| place.links.iter().map(|link| (place.destination, link)));
        let following = Following::of_links(base, links);
        let (mut useless, mut to) = (BTreeSet::new(), following.window().to);
        loop {
            let planned = match following.plan_from(base, to, |piece| !useless.contains(&piece.name)) {
                Ok(planned) => planned,
                Err(hole) => {
                    to = hole.reached;
                    continue;
                }
            };
            let mut reached = base;
            let mut found = None;
            for (place, piece) in planned.iter().enumerate() {
                if place + HEADS >= planned.len() {
                    let read = match place + 1 == planned.len() && piece.bytes <= WHOLE_MOST {
                        true => Read::Whole,
                        false => Read::Head,
                    };
                    let at = copies.get(&piece.name).map(Vec::as_slice).unwrap_or_default();
                    if let Err(why) = self.judge(full, at, read)? {
                        found = Some((piece.name.clone(), why));
                        break;
                    }
                }
                reached = piece.span.to();
            }
            let Some((name, why)) = found else {
                proven.known.take(planned.iter().map(|piece| &piece.name));
                return Ok(());
            };
            proven.passed_over.extend(why.map(|why| (name.clone(), why)));
            useless.insert(name);
            if useless.len() > MOST_USELESS {
                to = to.min(reached);
            }
        }
    }

    /// How far a chain has come by its names, but for what would outdo its writer or end it and does not count.
    pub fn weigh(&mut self, full: &Outline, places: &[Place<'_>]) -> Known {
        let copies = copies(places);
        let mut known = Known::default();
        // What cannot be read counts once it can.
        for (name, at) in copies.iter().filter(|(name, _)| is_word(name)) {
            if matches!(self.judge(full, at, Read::Head), Ok(Ok(()))) {
                known.take([*name]);
            }
        }
        let highest = known.epoch();
        let (mut above, mut judged) = (Vec::new(), 0);
        for (name, at) in copies.iter().filter(|(name, _)| !is_word(name)) {
            if name.epoch() <= highest {
                known.take([*name]);
            } else if judged < MOST_USELESS {
                judged += 1;
                if matches!(self.judge(full, at, Read::Head), Ok(Ok(()))) {
                    above.push(*name);
                }
            }
        }
        known.take(above);
        known
    }

    /// Whether one of the copies of an object counts; if none does, why, unless they are gone. Fails where that cannot be told now.
    fn judge(
        &mut self,
        full: &Outline,
        copies: &[(&Place<'_>, &Link)],
        read: Read,
    ) -> Result<Result<(), Option<String>>, String> {
        let belongs = Belongs {
            chain: full.chain_path(),
            lineage: full.lineage.clone(),
        };
        let (mut why, mut unread) = (None, None);
        for (place, link) in copies {
            match self.judge_one(&belongs, place, link, read) {
                Ok(Ok(())) => return Ok(Ok(())),
                Ok(Err(is)) => why = why.or(is),
                Err(error) => unread = Some(error),
            }
        }
        match unread {
            Some(error) => Err(error),
            None => Ok(Err(why)),
        }
    }

    fn judge_one(
        &mut self,
        belongs: &Belongs,
        place: &Place<'_>,
        link: &Link,
        read: Read,
    ) -> Result<Result<(), Option<String>>, String> {
        let key = (
            place.destination.to_owned(),
            link.name.clone(),
            link.bytes,
            link.written_at,
        );
        match (self.found.get(&key), read) {
            (Some(Worth::Useless(why)), _) => return Ok(Err(Some(why.clone()))),
            (Some(Worth::Whole), _) | (Some(Worth::Headed), Read::Head) => return Ok(Ok(())),
            (Some(Worth::Headed), Read::Whole) | (None, _) => {}
        }
        let worth = match looked_at(belongs, place, link, read) {
            Ok(worth) => worth,
            Err(None) => return Ok(Err(None)),
            Err(Some(why)) => {
                let tried = self.unread.entry(key).or_default();
                *tried += 1;
                return match *tried >= TRIES {
                    true => Ok(Err(Some(why))),
                    false => Err(why),
                };
            }
        };
        self.unread.remove(&key);
        let result = match &worth {
            Worth::Useless(why) => Err(Some(why.clone())),
            Worth::Headed | Worth::Whole => Ok(()),
        };
        self.found.insert(key, worth);
        Ok(result)
    }
}

/// What an object is worth; an error, with its words, where it cannot be read, without where it is gone.
fn looked_at(belongs: &Belongs, place: &Place<'_>, link: &Link, read: Read) -> Result<Worth, Option<String>> {
    if is_word(&link.name) {
        return match place.store.counts(&link.name) {
            Ok(true) => Ok(Worth::Whole),
            Ok(false) => Ok(Worth::Useless("nobody who counts has signed it".to_owned())),
            Err(error) => Err(Some(told(&error))),
        };
    }
    let proven = delta::of_length(place.store, belongs, &link.name, link.bytes).and_then(|_| match read {
        Read::Head => Ok(Worth::Headed),
        Read::Whole => {
            let spans = delta::prove(place.store, belongs, &link.name, &|| ControlFlow::Continue(()))?;
            let spans = spans.unwrap_or_default();
            let lacking = link.name.span().and_then(|span| span.first_lacking(spans));
            Ok(match lacking {
                None => Worth::Whole,
                Some(lacking) => Worth::Useless(format!("revision {lacking} is not in it, though its name says so")),
            })
        }
    });
    match proven {
        Ok(worth) => Ok(worth),
        Err(Unread::Gone) => Err(None),
        Err(Unread::Strange(why)) => Ok(Worth::Useless(why)),
        Err(Unread::Unusable(error @ Error::Read { .. })) => Err(Some(told(&error))),
        Err(Unread::Unusable(error)) => Ok(Worth::Useless(told(&error))),
    }
}

fn copies<'a>(places: &'a [Place<'a>]) -> Copies<'a> {
    let mut copies = Copies::new();
    for place in places {
        for link in &place.links {
            copies.entry(&link.name).or_default().push((place, link));
        }
    }
    copies
}

fn is_word(name: &ObjectName) -> bool {
    matches!(name, ObjectName::Epoch(..) | ObjectName::Gap(..))
}

fn is_mark(name: &ObjectName) -> bool {
    matches!(name, ObjectName::Mark(..))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::layout::Span;
    use crate::layout::delta::{EpochWord, Head, Header, LinkKind, tests::header};
    use crate::layout::manifest::tests::manifest;
    use crate::signing::{Authority, Role, SigningKey, Trust};
    use crate::source::test_objects::{Made, Maker, revision};
    use crate::store::tests::store;

    /// The backup that everything follows: of revision 6.
    fn full() -> Outline {
        let manifest = manifest(0xab, "20261120T101530Z-00000001", 6);
        let bytes = manifest.to_bytes();
        Outline::of(manifest, &bytes)
    }

    fn prove(store: &Store) -> Proven {
        let place = Place {
            destination: "there",
            store,
            links: Link::listed(store.list_chain(&full().chain_path()).unwrap()),
        };
        let mut proofs = Proofs::default();
        let proven = proofs.prove(&full(), std::slice::from_ref(&place)).unwrap();
        // It is not read again, and comes to the same.
        let again = proofs.prove(&full(), std::slice::from_ref(&place)).unwrap();
        assert_eq!((&proven.known, &proven.passed_over), (&again.known, &again.passed_over));
        assert_eq!(proofs.weigh(&full(), &[place]).epoch(), proven.known.epoch());
        proven
    }

    fn reached(store: &Store) -> i64 {
        prove(store).known.reached(revision(6)).get()
    }

    fn put(store: &Store, (name, bytes): &Made) {
        store.put_new(name, bytes).unwrap();
    }

    #[test]
    fn what_a_stranger_has_named_leads_nowhere_outdoes_nobody_and_ends_nothing() {
        let ((_home, store), maker) = (store(), Maker::new());
        let cluster = "prod".parse().unwrap();
        let trusted = Arc::new(SigningKey::of_seed(Role::Signer, [1; 32]));
        let authority = Authority::anybody(&cluster).trusting(Trust::of([trusted.public()]));
        let store = store.under(Arc::new(authority.signing(trusted.clone())));
        let signed = |from, to| {
            let (name, bytes) = maker.delta(from, to, 1);
            let head = Head::read(&name, &bytes).unwrap();
            let document = trusted.sign(&cluster, &name, &head.document);
            let mut signed = Header::head(LinkKind::Delta, &document);
            signed.extend_from_slice(&bytes[head.body as usize..]);
            put(&store, &(name, signed));
        };
        let path = full().chain_path();
        let word = ObjectName::Epoch(path.clone(), Epoch(1));
        let words = EpochWord::new(
            path.chain.clone(),
            Epoch(1),
            revision(7),
            "2026-11-20T10:15:41Z".parse().unwrap(),
            header(7, 9).writer,
        );
        store.put_document(&word, &words.to_bytes()).unwrap();
        signed(7, 9);
        signed(10, 12);
        assert_eq!(reached(&store), 12);
        // Names alone: they cover the next revisions, they are of the last epoch, and they say that the chain has ended.
        let long = ObjectName::Delta(path.clone(), Span::new(revision(8), revision(9_000)).unwrap(), Epoch(1));
        let strange = [
            maker.delta(13, 40, 1),
            (long, Vec::new()),
            (ObjectName::Epoch(path.clone(), Epoch::LAST), words.to_bytes()),
            (ObjectName::Gap(path, revision(13), Epoch(1)), b"{}".to_vec()),
        ];
        strange.iter().for_each(|made| put(&store, made));
        let proven = prove(&store);
        assert_eq!(proven.known.reached(revision(6)), revision(12));
        assert_eq!(proven.known.ends_before(revision(6)), None);
        assert_eq!(proven.known.next_epoch(&proven.taken), Some(Epoch(2)));
        let told: Vec<_> = proven.passed_over.keys().collect();
        assert!(strange.iter().all(|(name, _)| told.contains(&name)), "{told:?}");
        // Those who count go on behind it.
        signed(13, 15);
        assert_eq!(reached(&store), 15);
    }

    #[test]
    fn what_a_power_cut_has_torn_is_not_gone_on_from() {
        let ((_home, store), maker) = (store(), Maker::new());
        let all = [maker.delta(7, 9, 1), maker.delta(10, 12, 1), maker.delta(13, 15, 1)];
        all.iter().for_each(|made| put(&store, made));
        assert_eq!(reached(&store), 15);
        let path = |place: usize| store.path_of(&all[place].0);
        let mut torn = all[2].1.clone();
        *torn.last_mut().unwrap() ^= 1;
        fs::write(path(2), &torn).unwrap();
        let proven = prove(&store);
        assert_eq!(proven.known.reached(revision(6)), revision(12));
        assert!(
            proven.passed_over[&all[2].0].contains("SHA-256"),
            "{:?}",
            proven.passed_over
        );
        // One in the middle is told by its length and by its head.
        fs::write(path(2), &all[2].1).unwrap();
        fs::write(path(1), &all[1].1[..all[1].1.len() - 1]).unwrap();
        assert_eq!(reached(&store), 9);
        fs::write(path(1), vec![0; all[1].1.len()]).unwrap();
        assert_eq!(reached(&store), 9);
        // What holds the same leads over it.
        put(&store, &maker.delta(9, 14, 2));
        assert_eq!(reached(&store), 15);
    }
}
