//! The use case of a pack: deltas that lie beside each other become one object, byte by byte as they were, so that a restore
//! reads few. No key is needed.
//!
//! The pack is written and read back; then, later, what it holds is removed. Killed at any point, everything is there at least
//! once: a pack that was not finished has no name.
//!
//! Invariant: no delta is removed that a pack which was read and found whole does not hold.

mod plan;

use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::catalog::Link;
use crate::layout::delta::{HEAD_MAX, HEADER_MAX, Head, Header, IndexEntry, LinkKind, PackedKind};
use crate::layout::{ChainPath, Epoch, Fault, ObjectName, Span, Stream, Writer};
use crate::model::Digest;
use crate::store::{self, Object, Store};

pub use plan::{FAN, LARGEST, Piece, next_pack};

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

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An object that was to go into it is not whole.
    #[error("`{object}` cannot be packed: {fault}")]
    Unfit {
        /// Which.
        object: String,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
    /// It cannot be read.
    #[error("`{object}` cannot be read: {source}")]
    Read {
        /// Which.
        object: String,
        /// What the store said.
        source: io::Error,
    },
    /// What was read back is not what was written.
    #[error("the pack `{object}` read back differs from what was written")]
    ReadBack {
        /// The pack, which has been removed again.
        object: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Makes one pack of these pieces, which follow each other, in their store. `go_on` is asked every so often.
///
/// Every delta is read twice, and the first time compared with its own header. Memory: a few blocks and the index.
pub fn pack(store: &Store, pieces: &[Piece], by: &By, go_on: &dyn Fn() -> ControlFlow<()>) -> Result<Piece, Error> {
    let mut taken = Taken::default();
    for piece in pieces {
        taken.look_through(store, piece, go_on)?;
    }
    let (header, index) = taken.header(by)?;
    let name = header.name().map_err(|fault| unfit("the pack", fault))?;
    let document = store.authority().sign(&name, &header.to_document());
    let head = Header::head(LinkKind::Pack, &document);
    let bytes = head.len() as u64 + header.stored.map_or(0, |stored| stored.bytes);
    let failed = Arc::new(Mutex::new(None));
    let source = Again {
        store: store.clone(),
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
                let object = name.to_string();
                return Err(Error::ReadBack { object });
            }
            None => return Err(Error::Stopped),
        }
    }
    Ok(Piece {
        span: header.span().map_err(|fault| unfit("the pack", fault))?,
        name,
        bytes,
        deltas: header.records,
    })
}

/// How many deltas a link holds, by its head.
pub fn piece(store: &Store, link: &Link) -> Result<Piece, Error> {
    let of = |span: &Span, deltas| Piece {
        name: link.name.clone(),
        span: *span,
        bytes: link.bytes,
        deltas,
    };
    match &link.name {
        ObjectName::Pack(_, span, _) => {
            let (mut reader, _) = open(store, &link.name)?;
            let head = read_head(&mut reader, &link.name)?;
            Ok(of(span, head.header.records))
        }
        ObjectName::Delta(_, span, _) => Ok(of(span, 1)),
        other => Err(unfit(
            &other.to_string(),
            Fault::NoDocument {
                detail: "it holds no changes".to_owned(),
            },
        )),
    }
}

/// Removes what packs and later marks have made superfluous, and says what that was. A pack is read once more, as a whole,
/// before what it holds goes.
pub fn remove_superseded(
    store: &Store,
    links: &[Link],
    grace: SignedDuration,
    go_on: &dyn Fn() -> ControlFlow<()>,
) -> Result<Vec<ObjectName>, Error> {
    let now = store.now()?;
    let mut proven: Vec<&ObjectName> = Vec::new();
    let mut removed = Vec::new();
    for (link, holder) in plan::superseded(links, now, grace) {
        if go_on().is_break() {
            break;
        }
        if let Some(holder) = holder
            && !proven.contains(&&holder.name)
        {
            prove(store, holder, go_on)?;
            proven.push(&holder.name);
        }
        match store.remove(&link.name) {
            Ok(()) | Err(store::Error::NotFound { .. }) => removed.push(link.name.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

/// Fails where a pack is not what its header says.
fn prove(store: &Store, link: &Link, go_on: &dyn Fn() -> ControlFlow<()>) -> Result<(), Error> {
    let (mut reader, _) = open(store, &link.name)?;
    let head = read_head(&mut reader, &link.name)?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    loop {
        let block = reader.fill_buf().map_err(|source| unreadable(&link.name, source))?;
        if block.is_empty() {
            break;
        }
        hasher.update(block);
        let length = block.len();
        bytes += length as u64;
        reader.consume(length);
        if go_on().is_break() {
            return Err(Error::Stopped);
        }
    }
    let found = Stream {
        bytes,
        sha256: Digest(hasher.finalize().into()),
    };
    agree(&link.name, "stored", Some(found), head.header.stored)
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
    fn look_through(&mut self, store: &Store, piece: &Piece, go_on: &dyn Fn() -> ControlFlow<()>) -> Result<(), Error> {
        let (mut reader, _) = open(store, &piece.name)?;
        let head = read_head(&mut reader, &piece.name)?;
        match head.header.kind {
            LinkKind::Delta => self.take_delta(&mut reader, head, &piece.name, go_on)?,
            LinkKind::Pack => {
                let body = head.header.stored.map_or(0, |stored| stored.bytes);
                let index = head.header.index.map_or(0, |index| index.bytes);
                let chain = head.header.chain_path();
                let end = self.bytes.saturating_add(body.saturating_sub(index));
                while self.bytes < end {
                    let (prefix, line) = read_lines(&mut reader, &piece.name)?;
                    let inner = inner_name(&chain, &line).map_err(|fault| unfit(&piece.name.to_string(), fault))?;
                    let head = Head::read(&inner, &[prefix, line].concat())
                        .map_err(|fault| unfit(&format!("{} in {}", inner, piece.name), fault))?;
                    self.take_delta(&mut reader, head, &inner, go_on)?;
                }
            }
            LinkKind::Mark => {}
        }
        Ok(())
    }

    fn take_delta(
        &mut self,
        reader: &mut BufReader<Object>,
        head: Head,
        name: &ObjectName,
        go_on: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let raw = Header::head(LinkKind::Delta, &head.document);
        let stored = head.header.stored;
        let mut sum = crc32c::crc32c(&raw);
        self.hasher.update(&raw);
        let (mut own, mut left) = (Sha256::new(), stored.map_or(0, |stored| stored.bytes));
        let length = raw.len() as u64 + left;
        while left > 0 {
            let block = reader.fill_buf().map_err(|source| unreadable(name, source))?;
            let taken = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            let part = block.get(..taken).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            sum = crc32c::crc32c_append(sum, part);
            self.hasher.update(part);
            own.update(part);
            left -= taken as u64;
            reader.consume(taken);
            if go_on().is_break() {
                return Err(Error::Stopped);
            }
        }
        let found = stored.map(|stored| Stream {
            bytes: stored.bytes - left,
            sha256: Digest(own.finalize().into()),
        });
        agree(name, "stored", found, stored)?;
        let span = head.header.span().map_err(|fault| unfit(&name.to_string(), fault))?;
        self.entries.push(IndexEntry {
            kind: PackedKind::Delta,
            epoch: head.header.epoch,
            span,
            offset: self.bytes,
            bytes: length,
            first_time: head.header.first_mark.time,
            last_time: head.header.last_mark.time,
            sum,
        });
        self.bytes += length;
        self.first.get_or_insert_with(|| head.header.clone());
        // A delta that lies within those before it ends nothing.
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.to_revision <= head.header.to_revision)
        {
            self.last = Some(head.header);
        }
        Ok(())
    }

    fn header(self, by: &By) -> Result<(Header, Vec<u8>), Error> {
        let nothing = || Fault::NoDocument {
            detail: "nothing was to be packed".to_owned(),
        };
        let (first, last) = self.first.zip(self.last).ok_or_else(|| unfit("a pack", nothing()))?;
        let index = IndexEntry::encode(&self.entries);
        let sha256 = Digest(Sha256::digest(&index).into());
        let hasher = self.hasher.chain_update(&index);
        let header = Header {
            kind: LinkKind::Pack,
            epoch: by.epoch,
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
        Ok((
            Header {
                number: first.number,
                ..header
            },
            index,
        ))
    }
}

/// The pack while it is written: the pieces are read a second time.
struct Again {
    store: Store,
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
        if let Some(piece) = self.pieces.get(self.next) {
            self.next += 1;
            let (mut reader, _) = open(&self.store, &piece.name)?;
            let head = read_head(&mut reader, &piece.name)?;
            let stored = head.header.stored.map_or(0, |stored| stored.bytes);
            return Ok(Some(match head.header.kind {
                // It is none of what was looked through.
                LinkKind::Mark => Box::new(io::empty()),
                LinkKind::Delta => {
                    let raw = Header::head(LinkKind::Delta, &head.document);
                    Box::new(Cursor::new(raw).chain(reader.take(stored)))
                }
                LinkKind::Pack => {
                    let index = head.header.index.map_or(0, |index| index.bytes);
                    Box::new(reader.take(stored.saturating_sub(index)))
                }
            }));
        }
        Ok(self
            .index
            .take()
            .map(|index| Box::new(Cursor::new(index)) as Box<dyn Read + Send>))
    }
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            // The head of the pack is none of its body.
            if read > 0 || buffer.is_empty() {
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
            match next {
                Some(next) => self.current = next,
                None => {
                    let found = Stream {
                        bytes: self.hashed,
                        sha256: Digest(self.hasher.clone().finalize().into()),
                    };
                    return match self.expected == Some(found) {
                        true => Ok(0),
                        false => Err(io::Error::other("what is packed has changed meanwhile")),
                    };
                }
            }
        }
    }
}

fn open(store: &Store, name: &ObjectName) -> Result<(BufReader<Object>, u64), Error> {
    let (object, bytes) = store.open_object(name)?;
    Ok((BufReader::with_capacity(256 << 10, object), bytes))
}

fn read_head(reader: &mut BufReader<Object>, name: &ObjectName) -> Result<Head, Error> {
    let (prefix, line) = read_lines(reader, name)?;
    Head::read(name, &[prefix, line].concat()).map_err(|fault| unfit(&name.to_string(), fault))
}

/// The first two lines.
fn read_lines(reader: &mut BufReader<Object>, name: &ObjectName) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut line = |most: usize| {
        let mut line = Vec::new();
        let read = reader.by_ref().take(most as u64).read_until(b'\n', &mut line);
        read.map_err(|source| unreadable(name, source)).map(|_| line)
    };
    Ok((line(HEAD_MAX - HEADER_MAX)?, line(HEADER_MAX)?))
}

/// The name that an object in a pack of that chain had, by its header.
fn inner_name(chain: &ChainPath, line: &[u8]) -> Result<ObjectName, Fault> {
    let header = Header::from_document(line)?;
    if header.chain_path() != *chain {
        return Err(Fault::Disagrees {
            field: "chain",
            content: header.chain_path().to_string(),
            expected: chain.to_string(),
        });
    }
    header.name()
}

fn agree(name: &ObjectName, field: &'static str, found: Option<Stream>, said: Option<Stream>) -> Result<(), Error> {
    if found.is_some() && found == said {
        return Ok(());
    }
    let text =
        |stream: Option<Stream>| stream.map_or("nothing".to_owned(), |s| format!("{} of {} bytes", s.sha256, s.bytes));
    Err(unfit(
        &name.to_string(),
        Fault::Disagrees {
            field,
            content: text(said),
            expected: text(found),
        },
    ))
}

fn unfit(object: &str, fault: Fault) -> Error {
    Error::Unfit {
        object: object.to_owned(),
        fault,
    }
}

fn unreadable(name: &ObjectName, source: io::Error) -> Error {
    Error::Read {
        object: name.to_string(),
        source,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::layout::delta::tests::header;
    use crate::model::Revision;
    use crate::store::tests::store;

    const GO_ON: &dyn Fn() -> ControlFlow<()> = &|| ControlFlow::Continue(());

    fn by() -> By {
        By {
            epoch: Epoch(2),
            writer: header(1, 1).writer,
            now: "2026-11-20T12:00:00Z".parse().unwrap(),
        }
    }

    /// Stores a delta of these revisions and says what it is.
    pub(crate) fn delta(store: &Store, from: i64, to: i64) -> (Piece, Vec<u8>) {
        let body = format!("{from} to {to}").repeat(100).into_bytes();
        let header = Header {
            stored: Some(Stream {
                bytes: body.len() as u64,
                sha256: Digest(Sha256::digest(&body).into()),
            }),
            ..header(from, to)
        };
        let name = header.name().unwrap();
        let document = store.authority().sign(&name, &header.to_document());
        let bytes = [Header::head(LinkKind::Delta, &document), body].concat();
        store.put_new(&name, &bytes).unwrap();
        let piece = Piece {
            span: header.span().unwrap(),
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

    fn links(store: &Store, chain: &ChainPath) -> Vec<Link> {
        let objects = store.list_chain(chain).unwrap().into_iter();
        let links = objects.filter_map(|object| match object.name {
            crate::layout::Listed::Ours(name) => Some(Link {
                name,
                bytes: object.bytes,
                written_at: object.modified,
            }),
            _ => None,
        });
        links.collect()
    }

    #[test]
    fn a_pack_holds_its_deltas_as_they_were_and_packs_are_packed_too() {
        let (_home, store) = store();
        let made: Vec<_> = (0..4).map(|i| delta(&store, 10 * i + 7, 10 * i + 16)).collect();
        let pieces: Vec<Piece> = made.iter().map(|(piece, _)| piece.clone()).collect();
        let first = pack(&store, &pieces[..2], &by(), GO_ON).unwrap();
        let second = pack(
            &store,
            &[first.clone(), pieces[2].clone(), pieces[3].clone()],
            &by(),
            GO_ON,
        )
        .unwrap();
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
        let listed = links(&store, pieces[0].name.chain().unwrap());
        let found: Vec<Piece> = listed.iter().map(|link| piece(&store, link).unwrap()).collect();
        assert!(
            found.contains(&first) && found.contains(&second) && found.contains(&pieces[0]),
            "{found:?}"
        );

        let removed = remove_superseded(&store, &listed, SignedDuration::ZERO, GO_ON).unwrap();
        assert_eq!(removed.len(), 5);
        let left = links(&store, pieces[0].name.chain().unwrap());
        assert_eq!(left.iter().map(|link| &link.name).collect::<Vec<_>>(), [&second.name]);
        assert_eq!(objects(&store, &second), expected);
    }

    #[test]
    fn what_is_not_whole_is_not_packed_and_nothing_is_removed_for_it() {
        let (_home, store) = store();
        let (good, _) = delta(&store, 7, 9);
        let (bad, mut bytes) = delta(&store, 10, 12);
        let path = store.path_of(&bad.name);
        let pack_both = || pack(&store, &[good.clone(), bad.clone()], &by(), GO_ON);
        let whole = bytes.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(pack_both(), Err(Error::Unfit { .. })));
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(pack_both(), Err(Error::Unfit { .. })));
        let listed = |store: &Store| links(store, good.name.chain().unwrap());
        assert_eq!(listed(&store).len(), 2);

        fs::write(&path, &whole).unwrap();
        let pack = pack_both().unwrap();
        let path = store.path_of(&pack.name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let refused = remove_superseded(&store, &listed(&store), SignedDuration::ZERO, GO_ON);
        assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
        assert_eq!(listed(&store).len(), 3);
    }

    #[test]
    fn a_pack_that_is_stopped_leaves_nothing() {
        let (_home, store) = store();
        let pieces = [delta(&store, 7, 9).0, delta(&store, 10, 12).0];
        let stopped = pack(&store, &pieces, &by(), &|| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        assert_eq!(links(&store, pieces[0].name.chain().unwrap()).len(), 2);
        assert_eq!(Revision::new(9).unwrap(), pieces[0].span.to());
    }
}
