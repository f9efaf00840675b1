//! The use case of a pack: deltas that lie beside each other become one object, byte by byte as they were, so that a restore
//! reads few. No key is needed.
//!
//! The pack is written and read back; then, later, what it holds is removed. Killed at any point, everything is there at least
//! once: a pack that was not finished has no name.
//!
//! Invariant: no delta is removed before a pack was read whose own deltas, each whole and by a signer who counts, hold all of
//! its revisions.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::catalog::Link;
use crate::layout::delta::{Header, IndexEntry, LinkKind, PackedKind};
use crate::layout::{Epoch, Fault, ObjectName, Span, Stream, Writer};
use crate::model::Digest;
use crate::source::delta::{self, Belongs, Delta, Opened, Unread};
use crate::store::{self, Store};

pub use plan::{FAN, LARGEST, Piece, next_pack, superseded};

/// Under which name a pack is made.
#[derive(Debug, Clone)]
pub struct By {
    /// The epoch of whoever makes it.
    pub epoch: Epoch,
    /// Who that is.
    pub writer: Writer,
    /// When.
    pub now: Timestamp,
}

/// Whether to go on.
pub type GoOn<'a> = &'a dyn Fn() -> ControlFlow<()>;

/// Why there is no pack, or nothing was removed for one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An object is not whole, or counts for nothing.
    #[error("`{object}` is of no use: {why}")]
    Unread {
        /// Which.
        object: ObjectName,
        /// Why.
        why: Box<Unread>,
    },
    /// What was to be packed makes no pack.
    #[error("these deltas make no pack: {0}")]
    NoPack(Fault),
    /// What was read back is not what was written.
    #[error("the pack `{object}` read back differs from what was written")]
    ReadBack {
        /// The pack, which has been removed again.
        object: ObjectName,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Makes one pack of these pieces of a chain, which follow each other, in their store.
///
/// Every delta is read twice, and the first time compared with its own header. Memory: a few blocks and the index.
pub fn pack(store: &Store, belongs: &Belongs, pieces: &[Piece], by: &By, go_on: GoOn<'_>) -> Result<Piece, Error> {
    let mut taken = Taken::default();
    for piece in pieces {
        let mut is_stopped = false;
        let visited = delta::visit(store, belongs, &piece.name, &mut |delta| {
            let done = taken.take(delta, go_on)?;
            is_stopped = done.is_break();
            Ok(done)
        });
        visited.map_err(unread(&piece.name))?;
        if is_stopped {
            return Err(Error::Stopped);
        }
    }
    let (header, index) = taken.header(by).map_err(Error::NoPack)?;
    let (name, span) = (
        header.name().map_err(Error::NoPack)?,
        header.span().map_err(Error::NoPack)?,
    );
    let document = store.authority().sign(&name, &header.to_document());
    let head = Header::head(LinkKind::Pack, &document);
    let bytes = head.len() as u64 + header.stored.map_or(0, |stored| stored.bytes);
    let failed = Arc::new(Mutex::new(None));
    let source = Again {
        store: store.clone(),
        belongs: belongs.clone(),
        pieces: pieces.to_vec(),
        next: 0,
        current: Box::new(Cursor::new(head)),
        index: Some(index),
        hasher: Sha256::new(),
        hashed: 0,
        expected: header.stored,
        failed: Arc::clone(&failed),
    };
    let each = |_| go_on();
    let written = match store.write_stream(&name, source, each) {
        Ok(Some(written)) => written,
        Ok(None) => return Err(Error::Stopped),
        Err(error) => {
            let cause = failed.lock().ok().and_then(|mut cause| cause.take());
            return Err(cause.unwrap_or(Error::Store(error)));
        }
    };
    if store.reads_back() {
        match store.read_back_while(&name, each)? {
            Some(read) if read == written => {}
            Some(_) => {
                store.remove(&name)?;
                return Err(Error::ReadBack { object: name });
            }
            None => return Err(Error::Stopped),
        }
    }
    Ok(Piece {
        span,
        name,
        bytes,
        deltas: header.records,
    })
}

/// How many deltas a link holds; none if it holds no changes.
pub fn piece(store: &Store, belongs: &Belongs, link: &Link) -> Result<Option<Piece>, Error> {
    let Some(span) = link.name.span() else { return Ok(None) };
    let deltas = match &link.name {
        ObjectName::Pack(..) => {
            let judged = delta::head(store, belongs, &link.name).map_err(unread(&link.name))?;
            judged.head.header.records
        }
        _ => 1,
    };
    Ok(Some(Piece {
        name: link.name.clone(),
        span,
        bytes: link.bytes,
        deltas,
    }))
}

/// What is known of packs that were read as a whole, so that each is read once: also where what it holds cannot be removed.
#[derive(Debug, Default)]
pub struct Holders(BTreeMap<(ObjectName, u64, Timestamp), Held>);

/// What a pack was found to hold.
#[derive(Debug, Clone)]
enum Held {
    /// These revisions, in order.
    Spans(Vec<Span>),
    /// Nothing that counts.
    Nothing,
}

impl Holders {
    fn key(link: &Link) -> (ObjectName, u64, Timestamp) {
        (link.name.clone(), link.bytes, link.written_at)
    }
}

/// Removes what packs and later marks have made superfluous, and says what that was. A pack or a mark is read as a whole before what it
/// displaces goes, once for all that share `known`. One by nobody who counts is passed over; one that is damaged too, and is the error at
/// the end where it was just found to be.
pub fn remove_superseded(
    store: &Store,
    belongs: &Belongs,
    links: &[Link],
    known: &mut Holders,
    grace: SignedDuration,
    go_on: GoOn<'_>,
) -> Result<Vec<ObjectName>, Error> {
    let now = store.now()?;
    let mut usable = links.to_vec();
    // What is not there any more is not needed either.
    let there: BTreeSet<_> = links.iter().map(Holders::key).collect();
    known
        .0
        .retain(|key, _| key.0.chain() != Some(&belongs.chain) || there.contains(key));
    usable.retain(|link| !matches!(known.0.get(&Holders::key(link)), Some(Held::Nothing)));
    let mut damaged = None;
    let superseded = loop {
        let superseded = superseded(&usable, now, grace);
        let mut holders = superseded.iter().map(|(_, holder)| *holder);
        let Some(holder) = holders.find(|holder| !known.0.contains_key(&Holders::key(holder))) else {
            break superseded;
        };
        let (name, key) = (holder.name.clone(), Holders::key(holder));
        match delta::prove(store, belongs, &name, go_on) {
            Ok(Some(spans)) => drop(known.0.insert(key, Held::Spans(spans))),
            Ok(None) => return Ok(Vec::new()),
            Err(why) => {
                if !why.may_pass() {
                    known.0.insert(key, Held::Nothing);
                }
                if matches!(why, Unread::Unusable(_)) {
                    damaged.get_or_insert(unread(&name)(why));
                }
                usable.retain(|link| link.name != name);
            }
        }
    };
    let mut removed = Vec::new();
    for (link, holder) in superseded {
        if go_on().is_break() {
            break;
        }
        let Some(Held::Spans(spans)) = known.0.get(&Holders::key(holder)) else {
            continue;
        };
        let is_held = match (&link.name, &holder.name) {
            // Its name says what its head was found to say.
            (ObjectName::Mark(..), ObjectName::Mark(..)) => true,
            (ObjectName::Mark(_, to, ..), _) => spans.iter().any(|span| span.to() > *to),
            (name, _) => name
                .span()
                .is_some_and(|span| span.first_lacking(spans.iter().copied()).is_none()),
        };
        if !is_held {
            continue;
        }
        match store.remove(&link.name) {
            Ok(()) | Err(store::Error::NotFound { .. }) => removed.push(link.name.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    match damaged {
        Some(error) => Err(error),
        None => Ok(removed),
    }
}

fn unread(object: &ObjectName) -> impl Fn(Unread) -> Error + use<> {
    let object = object.clone();
    move |why| Error::Unread {
        object: object.clone(),
        why: Box::new(why),
    }
}

/// What goes into a pack, while it is looked through.
#[derive(Default)]
struct Taken {
    entries: Vec<IndexEntry>,
    first: Option<Header>,
    last: Option<Header>,
    hasher: Sha256,
    bytes: u64,
}

impl Taken {
    fn take(&mut self, delta: &mut Delta<'_>, go_on: GoOn<'_>) -> Result<ControlFlow<()>, Unread> {
        let header = delta.head.header.clone();
        let head = Header::head(LinkKind::Delta, &delta.head.document);
        let (mut sum, mut bytes) = (crc32c::crc32c(&head), head.len() as u64);
        self.hasher.update(&head);
        let hasher = &mut self.hasher;
        let poured = delta.pour(&mut |block| {
            sum = crc32c::crc32c_append(sum, block);
            hasher.update(block);
            bytes += block.len() as u64;
            go_on()
        })?;
        let Some(span) = Span::new(header.from_revision, header.to_revision) else {
            return Ok(poured);
        };
        self.entries.push(IndexEntry {
            kind: PackedKind::Delta,
            epoch: header.epoch,
            span,
            offset: self.bytes,
            bytes,
            first_time: header.first_mark.time,
            last_time: header.last_mark.time,
            sum,
        });
        self.bytes += bytes;
        self.first.get_or_insert_with(|| header.clone());
        // A delta that lies within those before it ends nothing.
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.to_revision <= header.to_revision)
        {
            self.last = Some(header);
        }
        Ok(poured)
    }

    fn header(self, by: &By) -> Result<(Header, Vec<u8>), Fault> {
        let nothing = || Fault::NoDocument {
            detail: "there is none".to_owned(),
        };
        let (first, last) = self.first.zip(self.last).ok_or_else(nothing)?;
        let index = IndexEntry::encode(&self.entries);
        let sha256 = Digest(Sha256::digest(&index).into());
        let hasher = self.hasher.chain_update(&index);
        let header = Header {
            kind: LinkKind::Pack,
            epoch: by.epoch,
            number: first.number,
            from_revision: first.from_revision,
            to_revision: last.to_revision,
            first_mark: first.first_mark,
            last_mark: last.last_mark,
            records: self.entries.len() as u64,
            previous: first.previous,
            plain: None,
            stored: Some(Stream {
                bytes: self.bytes + index.len() as u64,
                sha256: Digest(hasher.finalize().into()),
            }),
            index: Some(Stream {
                bytes: index.len() as u64,
                sha256,
            }),
            issued_at: by.now,
            next_by: by.now,
            writer: by.writer.clone(),
            ..last
        };
        Ok((header, index))
    }
}

/// The pack while it is written: the pieces are read a second time.
struct Again {
    store: Store,
    belongs: Belongs,
    pieces: Vec<Piece>,
    next: usize,
    current: Box<dyn Read + Send>,
    index: Option<Vec<u8>>,
    hasher: Sha256,
    hashed: u64,
    expected: Option<Stream>,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Again {
    /// What comes next; none behind the index.
    fn open_next(&mut self) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let Some(piece) = self.pieces.get(self.next) else {
            let index = self.index.take();
            return Ok(index.map(|index| Box::new(Cursor::new(index)) as Box<dyn Read + Send>));
        };
        self.next += 1;
        let opened = delta::open(&self.store, &self.belongs, &piece.name);
        let Opened { judged, body, .. } = opened.map_err(unread(&piece.name))?;
        let header = &judged.head.header;
        let stored = header.stored.map_or(0, |stored| stored.bytes);
        let index = header.index.map_or(0, |index| index.bytes);
        let body = body.take(stored.saturating_sub(index));
        Ok(Some(match header.kind {
            LinkKind::Delta => {
                let head = Header::head(LinkKind::Delta, &judged.head.document);
                Box::new(Cursor::new(head).chain(body))
            }
            // Of a pack what is in it; of a mark nothing.
            LinkKind::Pack | LinkKind::Mark => Box::new(body),
        }))
    }
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                // The head of the pack is none of its body.
                if self.next > 0 {
                    self.hasher.update(buffer.get(..read).unwrap_or_default());
                    self.hashed += read as u64;
                }
                return Ok(read);
            }
            let next = self.open_next().map_err(|error| {
                let said = io::Error::other(error.to_string());
                if let Ok(mut failed) = self.failed.lock() {
                    *failed = Some(error);
                }
                said
            })?;
            let Some(next) = next else {
                let found = Stream {
                    bytes: self.hashed,
                    sha256: Digest(self.hasher.clone().finalize().into()),
                };
                return match self.expected == Some(found) {
                    true => Ok(0),
                    false => Err(io::Error::other("what is packed has changed meanwhile")),
                };
            };
            self.current = next;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::layout::delta::Head;
    use crate::layout::delta::tests::header;
    use crate::signing::{Authority, Role, SigningKey, Trust};
    use crate::source::test_objects::{Maker, put};
    use crate::store::tests::store;

    const GO_ON: GoOn<'static> = &|| ControlFlow::Continue(());

    fn by() -> By {
        By {
            epoch: Epoch(2),
            writer: header(1, 1).writer,
            now: "2026-11-20T12:00:00Z".parse().unwrap(),
        }
    }

    /// Stores a delta of these revisions and says what it is.
    pub(crate) fn delta(store: &Store, maker: &Maker, from: i64, to: i64) -> (Piece, Vec<u8>) {
        let (name, bytes) = maker.delta(from, to, 1);
        store.put_new(&name, &bytes).unwrap();
        let piece = Piece {
            span: name.span().unwrap(),
            name,
            bytes: bytes.len() as u64,
            deltas: 1,
        };
        (piece, bytes)
    }

    /// What is in a pack, as its index says.
    fn objects(store: &Store, pack: &Piece) -> Vec<(ObjectName, Vec<u8>)> {
        let bytes = fs::read(store.path_of(&pack.name)).unwrap();
        let head = Head::read(&pack.name, &bytes).unwrap();
        let body = &bytes[head.body as usize..];
        let (objects, index) = body.split_at(body.len() - head.header.index.unwrap().bytes as usize);
        let chain = head.header.chain_path();
        let entries = IndexEntry::decode(index).unwrap();
        assert_eq!(entries.len() as u64, head.header.records);
        let of = |entry: &IndexEntry| {
            let object = &objects[entry.offset as usize..][..entry.bytes as usize];
            assert_eq!(crc32c::crc32c(object), entry.sum);
            (entry.name(&chain), object.to_vec())
        };
        entries.iter().map(of).collect()
    }

    fn links(store: &Store, maker: &Maker) -> Vec<Link> {
        Link::listed(store.list_chain(&maker.belongs().chain).unwrap())
    }

    #[test]
    fn a_pack_holds_its_deltas_as_they_were_and_packs_are_packed_too() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
        let made: Vec<_> = (0..4).map(|i| delta(&store, &maker, 10 * i + 7, 10 * i + 16)).collect();
        let pieces: Vec<Piece> = made.iter().map(|(piece, _)| piece.clone()).collect();
        let pack = |pieces: &[Piece]| pack(&store, &belongs, pieces, &by(), GO_ON).unwrap();
        let first = pack(&pieces[..2]);
        let second = pack(&[first.clone(), pieces[2].clone(), pieces[3].clone()]);
        assert_eq!(
            (second.deltas, second.span.from().get(), second.span.to().get()),
            (4, 7, 46)
        );
        let expected: Vec<_> = made
            .iter()
            .map(|(piece, bytes)| (piece.name.clone(), bytes.clone()))
            .collect();
        assert_eq!(objects(&store, &first), expected[..2]);
        assert_eq!(objects(&store, &second), expected);
        let listed = links(&store, &maker);
        let found = listed.iter().filter_map(|link| piece(&store, &belongs, link).unwrap());
        let found: Vec<Piece> = found.collect();
        assert!(
            found.contains(&first) && found.contains(&second) && found.contains(&pieces[0]),
            "{found:?}"
        );

        let removed = remove_superseded(
            &store,
            &belongs,
            &listed,
            &mut Holders::default(),
            SignedDuration::ZERO,
            GO_ON,
        )
        .unwrap();
        assert_eq!(removed.len(), 5);
        let left = links(&store, &maker);
        assert_eq!(left.iter().map(|link| &link.name).collect::<Vec<_>>(), [&second.name]);
        assert_eq!(objects(&store, &second), expected);
    }

    #[test]
    fn what_is_not_whole_is_not_packed_and_nothing_is_removed_for_it() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
        let (good, _) = delta(&store, &maker, 7, 9);
        let (bad, mut bytes) = delta(&store, &maker, 10, 12);
        let path = store.path_of(&bad.name);
        let pack_both = || pack(&store, &belongs, &[good.clone(), bad.clone()], &by(), GO_ON);
        let whole = bytes.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(pack_both(), Err(Error::Unread { .. })));
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(pack_both(), Err(Error::Unread { .. })));
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(matches!(pack_both(), Err(Error::Unread { .. })));
        assert_eq!(links(&store, &maker).len(), 2);

        fs::write(&path, &whole).unwrap();
        let pack = pack_both().unwrap();
        let path = store.path_of(&pack.name);
        let packed = fs::read(&path).unwrap();
        let head = Head::read(&pack.name, &packed).unwrap();
        let remove = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let refused = remove_superseded(
                &store,
                &belongs,
                &links(&store, &maker),
                &mut Holders::default(),
                SignedDuration::ZERO,
                GO_ON,
            );
            assert!(matches!(refused, Err(Error::Unread { .. })), "{refused:?}");
        };
        // A byte in the middle of a delta's body; and an end in the middle of the second.
        let mut changed = packed.clone();
        let middle = head.body as usize + good.bytes as usize - 10;
        changed[middle] ^= 1;
        remove(&changed);
        remove(&packed[..middle]);
        assert_eq!(links(&store, &maker).len(), 3);
        fs::write(&path, &packed).unwrap();
        let removed = remove_superseded(
            &store,
            &belongs,
            &links(&store, &maker),
            &mut Holders::default(),
            SignedDuration::ZERO,
            GO_ON,
        );
        assert_eq!(removed.unwrap().len(), 2);
    }

    #[test]
    fn for_a_pack_that_holds_less_than_its_name_says_nothing_goes() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
        delta(&store, &maker, 7, 9);
        delta(&store, &maker, 10, 12);
        delta(&store, &maker, 13, 15);
        // The one in the middle is left out of it.
        let (name, bytes) = maker.pack(&[maker.delta(7, 9, 1), maker.delta(13, 15, 1)]);
        store.put_new(&name, &bytes).unwrap();
        let removed = remove_superseded(
            &store,
            &belongs,
            &links(&store, &maker),
            &mut Holders::default(),
            SignedDuration::ZERO,
            GO_ON,
        );
        let removed: Vec<_> = removed
            .unwrap()
            .iter()
            .map(|name| name.span().unwrap().from().get())
            .collect();
        assert_eq!(removed, [7, 13]);
    }

    #[test]
    fn what_is_refused_to_be_removed_goes_later_and_the_pack_is_not_read_again_for_it() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
        let pieces = [delta(&store, &maker, 7, 9).0, delta(&store, &maker, 10, 12).0];
        let made = pack(&store, &belongs, &pieces, &by(), GO_ON).unwrap();
        let listed = links(&store, &maker);
        // What no call removes.
        let path = store.path_of(&pieces[0].name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "x").unwrap();
        let mut known = Holders::default();
        let mut remove = || remove_superseded(&store, &belongs, &listed, &mut known, SignedDuration::ZERO, GO_ON);
        let refused = remove();
        assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
        fs::remove_dir_all(&path).unwrap();
        // Whoever read it now would find nothing.
        let file = store.path_of(&made.name);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, vec![0; bytes.len()]).unwrap();
        assert_eq!(remove().unwrap().len(), 2);
    }

    #[test]
    fn a_strangers_pack_displaces_nothing_and_a_strangers_delta_is_not_packed() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
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
            store.put_new(&name, &signed).unwrap();
            Piece {
                span: name.span().unwrap(),
                bytes: signed.len() as u64,
                name,
                deltas: 1,
            }
        };
        let good = [signed(7, 9), signed(10, 12)];
        let (name, bytes) = maker.pack(&[maker.delta(7, 9, 1), maker.delta(10, 12, 1)]);
        store.put_new(&name, &bytes).unwrap();
        let (strange, _) = delta(&store, &maker, 13, 15);
        let remove = || {
            remove_superseded(
                &store,
                &belongs,
                &links(&store, &maker),
                &mut Holders::default(),
                SignedDuration::ZERO,
                GO_ON,
            )
            .unwrap()
        };
        assert_eq!(remove(), []);
        let refused = pack(&store, &belongs, &[good[1].clone(), strange], &by(), GO_ON);
        assert!(
            matches!(&refused, Err(Error::Unread { why, .. }) if matches!(**why, Unread::Strange(_))),
            "{refused:?}"
        );
        // The stranger's own pack of the same revisions is there still, and takes nothing with it.
        let made = pack(&store, &belongs, &good, &by(), GO_ON).unwrap();
        let removed = remove();
        assert!(removed.iter().eq(good.iter().map(|piece| &piece.name)), "{removed:?}");
        let left: Vec<_> = links(&store, &maker).into_iter().map(|link| link.name).collect();
        assert!(
            left.contains(&name) && left.contains(&made.name) && left.len() == 3,
            "{left:?}"
        );
    }

    #[test]
    fn a_mark_that_is_none_displaces_no_mark() {
        let ((_home, store), maker) = (store(), Maker::new());
        let belongs = maker.belongs();
        let marks = [maker.mark(9, 0), maker.mark(9, 60)];
        put(&store, &marks);
        let forged = maker.mark(12, 3600);
        store.put_new(&forged.0, b"forged").unwrap();
        let remove = || {
            let (links, mut known) = (links(&store, &maker), Holders::default());
            remove_superseded(&store, &belongs, &links, &mut known, SignedDuration::ZERO, GO_ON)
        };
        // The last one that is one displaces the other; the forged one is told, and nothing goes for it.
        assert!(matches!(remove(), Err(Error::Unread { .. })));
        let there: Vec<_> = links(&store, &maker).into_iter().map(|link| link.name).collect();
        assert!(there.contains(&marks[1].0) && !there.contains(&marks[0].0), "{there:?}");
        fs::remove_file(store.path_of(&forged.0)).unwrap();
        let change = delta(&store, &maker, 10, 12).0;
        assert_eq!(remove().unwrap(), [marks[1].0.clone()]);
        assert_eq!(
            links(&store, &maker)
                .into_iter()
                .map(|link| link.name)
                .collect::<Vec<_>>(),
            [change.name]
        );
    }

    #[test]
    fn a_pack_that_is_stopped_leaves_nothing() {
        let ((_home, store), maker) = (store(), Maker::new());
        let pieces = [delta(&store, &maker, 7, 9).0, delta(&store, &maker, 10, 12).0];
        let stopped = pack(&store, &maker.belongs(), &pieces, &by(), &|| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        assert_eq!(links(&store, &maker).len(), 2);
    }
}
