//! Whether what follows a full backup in its chain, in one destination, is what was stored there.
//!
//! Without a key: each object is read to its last byte and held to its head, its signature and its name; no revision is missing
//! between the full backup and the end; each delta names the one before it. With a key each delta is opened, too: its records
//! decode, there are as many as its head says, and each change follows the one before it of its key.
//!
//! What only the database can tell is left to a restore: whether the first change of a key follows what the full has, and
//! HashKV.
//!
//! Invariant: an object is called damaged only if its bytes were read.

mod key_lives;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use crate::catalog::{Following, Link, Piece};
use crate::error_chain::with_causes;
use crate::layout::delta::{Decoder, EpochWord, Gap, Head, Record};
use crate::layout::{Epoch, MAX_BYTES, ObjectName, Span};
use crate::model::{Digest, Revision};
use crate::pipeline::{Buffers, DecodeError, Identities};
use crate::source::delta::{Belongs, Delta, Unread, whole};
use crate::source::{self, DeltaRecords};
use crate::store::{self, Store};
use key_lives::Lives;

/// So often it is looked again what there is, where objects were packed meanwhile.
const LOOKS: usize = 4;

/// What follows a full backup in one destination.
pub struct Chain<'a> {
    /// The store.
    pub store: &'a Store,
    /// What its objects are held to.
    pub belongs: Belongs,
    /// The revision of the full backup.
    pub base: Revision,
    /// The digest of its manifest, which the first delta names.
    pub manifest: Digest,
    /// What was listed there.
    pub links: &'a [Link],
    /// What opens it.
    pub identities: Option<&'a Identities>,
    /// With which of its objects to begin, modulo how many there are: who may not come to the end begins elsewhere each time.
    pub begin_with: usize,
}

/// What was found out about it.
#[derive(Debug)]
pub struct Behind {
    /// The last revision that the names promise.
    pub listed_to: Revision,
    /// The last one that nothing found here is in the way of.
    pub good_to: Revision,
    /// How many objects were read.
    pub objects: u64,
    /// How large they are.
    pub bytes: u64,
    /// How many were not read, because there was no time.
    pub left: u64,
    /// Whether somebody asked for the end.
    pub is_cut: bool,
    /// Whether what was read was opened.
    pub is_opened: bool,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What could not be read, which says nothing about its bytes.
    pub unread: Vec<String>,
    /// Why it was not opened, although there is an identity.
    pub unopened: Option<source::Error>,
}

impl Behind {
    /// Whether all of it was read, so that what was wrong before and is not found any more is mended.
    pub fn is_whole(&self) -> bool {
        self.left == 0 && !self.is_cut && self.unread.is_empty()
    }
}

/// Something that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The object; none where revisions are missing.
    pub object: Option<ObjectName>,
    /// What.
    pub what: String,
    /// The last revision before it that is reached without it; none where nothing depends on it, as others hold the same.
    pub good_to: Option<Revision>,
}

/// Deltas whose content was proven: the same bytes in another place need not be opened again.
#[derive(Debug, Default)]
pub struct Opened(HashSet<Digest>);

/// Asked and told by whoever reads.
pub struct Going<'a> {
    /// Hears of bytes that were read, and may break off.
    pub each: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    /// Whether there is time for another object.
    pub may_begin: &'a dyn Fn() -> bool,
}

/// Reads all of it. None where it was removed meanwhile.
pub fn behind<'a>(chain: &'a Chain<'a>, opened: &'a mut Opened, going: Going<'a>) -> Option<Behind> {
    let mut walk = Walk {
        chain,
        opened,
        going,
        lives: None,
        seen: BTreeSet::new(),
        gone: BTreeSet::new(),
        named: BTreeMap::new(),
        identities: chain.identities,
        buffers: Buffers::default(),
        behind: Behind {
            listed_to: chain.base,
            good_to: chain.base,
            objects: 0,
            bytes: 0,
            left: 0,
            is_cut: false,
            is_opened: chain.identities.is_some(),
            faults: Vec::new(),
            unread: Vec::new(),
            unopened: None,
        },
    };
    let mut links = chain.links.to_vec();
    let mut has_looked_again = false;
    for _ in 0..LOOKS {
        walk.gone.clear();
        walk.all(&links);
        // Packed, superseded by a later mark, or removed with the chain. And what seems to be missing may have been written
        // while it was listed.
        let is_doubtful = !walk.gone.is_empty() || (!has_looked_again && !missing(chain.base, &links).is_empty());
        if walk.behind.is_cut || !is_doubtful {
            break;
        }
        has_looked_again = true;
        match chain.store.list_chain(&chain.belongs.chain) {
            Ok(listed) => links = Link::listed(listed),
            Err(error) => {
                walk.behind.unread.push(with_causes(&error));
                break;
            }
        }
        if links.is_empty() {
            return None;
        }
    }
    Some(walk.finish(&links))
}

/// The revisions that nothing holds, though something behind them is there, or a mark says that they had come. What somebody has
/// declared is no damage, and `list` tells it.
fn missing(base: Revision, links: &[Link]) -> Vec<Span> {
    let following = following(base, links);
    // A chain may go on behind its end: where the cluster that it is of is back.
    let holds = |from: Revision| {
        let mut pieces = following.pieces().iter();
        pieces.any(|piece| (piece.span.from()..=piece.span.to()).contains(&from))
    };
    let declared = following
        .gaps()
        .map(|(_, from)| from)
        .filter(|from| !holds(*from))
        .min();
    let window = following.window();
    let last = window.behind.unwrap_or(window.to);
    let marked = links.iter().filter_map(|link| match &link.name {
        ObjectName::Mark(_, revision, ..) => Some(*revision),
        _ => None,
    });
    let cut_off = marked.max().and_then(|marked| Span::new(last.next(), marked));
    let holes = window.holes.into_iter().chain(cut_off);
    holes
        .filter(|hole| declared.is_none_or(|from| hole.from() < from))
        .collect()
}

fn following(base: Revision, links: &[Link]) -> Following {
    Following::of_links(base, links.iter().map(|link| ("", link)))
}

/// How much of it there is to read, at the most.
pub fn bytes_of(links: &[Link]) -> u64 {
    links.iter().fold(0, |sum, link| sum.saturating_add(link.bytes))
}

struct Walk<'a, 'g> {
    chain: &'a Chain<'a>,
    opened: &'g mut Opened,
    going: Going<'g>,
    lives: Option<Lives>,
    seen: BTreeSet<ObjectName>,
    gone: BTreeSet<ObjectName>,
    /// By epoch and number: what a delta is called by the next one, what it calls the one before it, and where it lies.
    named: BTreeMap<(Epoch, u64), Named>,
    identities: Option<&'a Identities>,
    buffers: Buffers,
    behind: Behind,
}

struct Named {
    digest: Digest,
    previous: Option<Digest>,
    from: Revision,
    object: ObjectName,
    called: String,
}

/// Whether an object was read.
enum Read {
    Yes,
    /// It is gone, or cannot be read.
    No,
    /// Somebody asked for the end.
    CutOff,
}

impl<'a> Walk<'a, '_> {
    fn all(&mut self, links: &[Link]) {
        let sizes: BTreeMap<&ObjectName, u64> = links.iter().map(|link| (&link.name, link.bytes)).collect();
        let mut names = self.in_order(links);
        names.retain(|name| !self.seen.contains(name));
        let first = self.chain.begin_with.checked_rem(names.len()).unwrap_or(0);
        names.rotate_left(first);
        for name in names {
            if self.behind.is_cut || !(self.going.may_begin)() {
                self.behind.left += 1;
                continue;
            }
            match self.one(&name) {
                Read::Yes => {
                    self.behind.objects += 1;
                    self.behind.bytes += sizes.get(&name).copied().unwrap_or(0);
                }
                Read::No => {}
                Read::CutOff => {
                    self.behind.is_cut = true;
                    self.behind.left += 1;
                }
            }
            if !self.gone.contains(&name) {
                self.seen.insert(name);
            }
        }
    }

    /// What a restore would read to the end, in that order; then all the rest.
    fn in_order(&self, links: &[Link]) -> Vec<ObjectName> {
        let following = following(self.chain.base, links);
        let plan = following.plan(following.window().to).unwrap_or_default();
        let mut names: Vec<ObjectName> = plan.into_iter().map(|piece| piece.name.clone()).collect();
        let planned: BTreeSet<ObjectName> = names.iter().cloned().collect();
        let pieces = following.pieces().iter().map(|piece| &piece.name);
        let others = links.iter().map(|link| &link.name).filter(|name| name.span().is_none());
        let rest = pieces.chain(others).filter(|name| !planned.contains(*name));
        names.extend(rest.cloned());
        names
    }

    /// Reads one object.
    fn one(&mut self, name: &ObjectName) -> Read {
        let read = match name {
            ObjectName::Gap(..) | ObjectName::Epoch(..) => self.document(name),
            _ => self.link(name),
        };
        match read {
            Ok(ControlFlow::Continue(())) => Read::Yes,
            Ok(ControlFlow::Break(())) => Read::CutOff,
            Err(Unread::Gone) => {
                self.gone.insert(name.clone());
                Read::No
            }
            Err(Unread::Strange(what)) => {
                self.fault(Some(name), what);
                Read::Yes
            }
            Err(Unread::Unusable(error)) => match kind_of(&error) {
                Kind::Closed => {
                    // What is stored can be compared all the same.
                    self.identities = None;
                    self.behind.is_opened = false;
                    self.behind.unopened.get_or_insert(error);
                    self.one(name)
                }
                Kind::Unread => {
                    self.behind.unread.push(error.to_string());
                    Read::No
                }
                Kind::Damaged => {
                    self.fault(Some(name), error.to_string());
                    Read::Yes
                }
            },
        }
    }

    fn fault(&mut self, object: Option<&ObjectName>, what: String) {
        let object = object.cloned();
        self.behind.faults.push(Fault {
            object,
            what,
            good_to: None,
        });
    }

    fn link(&mut self, name: &ObjectName) -> Result<ControlFlow<()>, Unread> {
        let Chain { store, belongs, .. } = self.chain;
        let read = whole(store, belongs, name, &mut |delta| self.delta(name, delta))?;
        Ok(match read {
            Some(_) => ControlFlow::Continue(()),
            None => ControlFlow::Break(()),
        })
    }

    fn document(&mut self, name: &ObjectName) -> Result<ControlFlow<()>, Unread> {
        let store = self.chain.store;
        let called = format!("`{}`", store.address_of(name));
        let bytes = store.read_small(name, MAX_BYTES as u64).map_err(|error| match error {
            store::Error::NotFound { .. } => Unread::Gone,
            error => Unread::Unusable(source::Error::Read {
                name: called.clone(),
                error: std::io::Error::other(error),
            }),
        })?;
        let judged = store.authority().judge(name, &bytes);
        judged.map_err(|distrust| Unread::Strange(format!("{called} counts for nothing: {distrust}")))?;
        let chain = match name {
            ObjectName::Gap(..) => Gap::from_bytes(&bytes).map(|gap| gap.chain),
            _ => EpochWord::from_bytes(&bytes).map(|word| word.chain),
        };
        let chain = chain.map_err(|fault| Unread::of_content(&called, fault.to_string()))?;
        if chain != self.chain.belongs.chain.chain {
            return Err(Unread::Strange(format!(
                "{called} counts for nothing: it is of {chain}"
            )));
        }
        Ok((self.going.each)(bytes.len() as u64))
    }

    fn delta(&mut self, object: &ObjectName, delta: &mut Delta<'_>) -> Result<ControlFlow<()>, Unread> {
        let (head, digest) = (delta.head, delta.head.digest());
        let named = Named {
            digest,
            previous: head.header.previous,
            from: head.header.from_revision,
            object: object.clone(),
            called: delta.called.to_owned(),
        };
        self.named.insert((head.header.epoch, head.header.number), named);
        let Some(identities) = self.identities.filter(|_| !self.opened.0.contains(&digest)) else {
            self.lives = None;
            return delta.pour(&mut |block| (self.going.each)(block.len() as u64));
        };
        let stored = head.header.stored.map_or(0, |stored| stored.bytes);
        if (self.going.each)(stored).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let records = delta.records(identities, &self.buffers)?;
        self.content(head, &records)?;
        self.opened.0.insert(digest);
        Ok(ControlFlow::Continue(()))
    }

    /// Decodes all records, and holds each change to the one before it of its key.
    fn content(&mut self, head: &Head, records: &DeltaRecords) -> Result<(), Unread> {
        let unread = |fault| Unread::of_records(records.name.clone(), &fault);
        let mut lives = match self.lives.take() {
            Some(lives) if lives.go_on_with(records.span) => lives,
            Some(_) | None => Lives::before(records.span),
        };
        let mut decoder = Decoder::new(&records.plain, records.span).map_err(unread)?;
        let (mut count, known) = (0_u64, lives.reached());
        while let Some(record) = decoder.next().map_err(unread)? {
            count += 1;
            match record {
                Record::Change(change) if change.revision > known => {
                    let lived = lives.change(&change);
                    lived.map_err(|what| Unread::of_content(&records.name, what))?;
                }
                Record::Change(_) | Record::Mark(_) | Record::Lease { .. } | Record::Checkpoint(_) => {}
            }
        }
        if count != head.header.records {
            let said = head.header.records;
            let what = format!("there are {count}, and its header says {said}");
            return Err(Unread::of_content(&records.name, what));
        }
        self.lives = Some(lives);
        Ok(())
    }

    fn finish(mut self, links: &[Link]) -> Behind {
        self.follows();
        let still = self
            .gone
            .iter()
            .filter(|name| links.iter().any(|link| link.name == **name));
        let unread = still.map(|name| format!("`{}` is listed, and not there", self.chain.store.address_of(name)));
        self.behind.unread.extend(unread);
        let following = following(self.chain.base, links);
        let window = following.window();
        let bad: BTreeSet<ObjectName> = self
            .behind
            .faults
            .iter()
            .filter_map(|fault| fault.object.clone())
            .collect();
        let reached = |to: Revision| {
            let plan = following.plan_from(self.chain.base, to, |piece: &Piece| !bad.contains(&piece.name));
            plan.err().map(|hole| hole.reached)
        };
        for fault in &mut self.behind.faults {
            let span = fault.object.as_ref().and_then(ObjectName::span);
            fault.good_to = span.and_then(|span| reached(span.to()));
        }
        let missing = missing(self.chain.base, links).into_iter();
        self.behind.faults.extend(missing.map(|missing| Fault {
            object: None,
            what: match (missing.from(), missing.to()) {
                (from, to) if from == to => format!("nothing that is stored holds revision {from}"),
                (from, to) => format!("nothing that is stored holds revisions {from} to {to}"),
            },
            good_to: Some(reached(missing.from()).unwrap_or(window.to)),
        }));
        self.behind.listed_to = window.behind.unwrap_or(window.to);
        self.behind.good_to = reached(window.to).unwrap_or(window.to);
        self.behind
    }

    /// That each delta names the one before it.
    fn follows(&mut self) {
        let is_first = |named: &Named| named.from == self.chain.base.next();
        let mut wrong = Vec::new();
        for ((epoch, number), named) in &self.named {
            let before = number
                .checked_sub(1)
                .and_then(|before| self.named.get(&(*epoch, before)));
            let expected = match before {
                Some(before) => Some(before.digest),
                None if *number == 1 && is_first(named) => Some(self.chain.manifest),
                None => None,
            };
            if let (Some(said), Some(expected)) = (named.previous, expected)
                && said != expected
            {
                let what = format!(
                    "{} names {said} as what is before it, which is {expected}",
                    named.called
                );
                wrong.push((named.object.clone(), what));
            }
        }
        for (object, what) in wrong {
            self.fault(Some(&object), what);
        }
    }
}

/// What an error says of the bytes.
enum Kind {
    /// They are those that were stored, and not for these keys.
    Closed,
    /// Nothing.
    Unread,
    /// They are not what was stored.
    Damaged,
}

fn kind_of(error: &source::Error) -> Kind {
    match error {
        source::Error::NoIdentity { .. }
        | source::Error::Decode {
            error: DecodeError::WrongKey | DecodeError::Plugins(_),
            ..
        } => Kind::Closed,
        source::Error::Decode {
            error: DecodeError::Read(_),
            ..
        }
        | source::Error::Read { .. } => Kind::Unread,
        source::Error::Decode {
            error: DecodeError::Damaged { .. } | DecodeError::Window { .. },
            ..
        }
        | source::Error::NotADatabase { .. }
        | source::Error::OtherFile { .. }
        | source::Error::Empty { .. }
        | source::Error::Hole { .. } => Kind::Damaged,
    }
}

#[cfg(test)]
mod tests;
