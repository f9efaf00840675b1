//! A delta, a pack or a mark read to its last byte, and held to everything that its head says of it.
//!
//! Who restores needs only that what is read is right; who verifies wants to know of every byte. So a pack is held here to
//! its own header and its index too.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

use super::{
    Belongs, Delta, Judged, Opened, Unread, damaged, is_recorded, open_by, read_up_to, unreadable, visit_opened,
};
use crate::layout::delta::{Head, IndexEntry, LinkKind, PackedKind};
use crate::layout::{Fault, ObjectName, Span, Stream};
use crate::model::Digest;
use crate::store::Store;

/// The longest index that is read: of a million deltas.
const INDEX_MAX: u64 = 64 << 20;

/// Reads all of an object, from the disk. `each` is given every delta in it, in order, and must read its body; it may break
/// off: then there is no result.
///
/// Fails where anything of it is not as its head says: what lies in a pack, its index and what lies behind its end included.
pub fn whole(
    store: &Store,
    belongs: &Belongs,
    name: &ObjectName,
    each: &mut dyn FnMut(&mut Delta<'_>) -> Result<ControlFlow<()>, Unread>,
) -> Result<Option<Judged>, Unread> {
    let Opened { called, judged, body } = open_by(store, belongs, name, Store::open_from_disk)?;
    let mut body = Hashing::over(body);
    let (mut inside, mut at, mut is_stopped) = (Vec::new(), 0_u64, false);
    visit_opened((store, belongs), (&called, &judged), &mut body, &mut |delta| {
        let placed = Placed::of(delta.head, at);
        let placed = placed.map_err(|fault| damaged(delta.called, "first bytes", fault.to_string()))?;
        at = at.saturating_add(placed.bytes);
        inside.push(placed);
        let done = each(delta)?;
        is_stopped = done.is_break();
        Ok(done)
    })?;
    if is_stopped {
        return Ok(None);
    }
    if judged.head.header.kind == LinkKind::Pack {
        check_pack(&judged.head, &called, &inside, &mut body)?;
    }
    let behind = body.fill_buf().map_err(|error| unreadable(&called, error))?;
    match behind.is_empty() {
        true => Ok(Some(judged)),
        false => Err(damaged(&called, "stored bytes", "they go on behind their end")),
    }
}

/// A delta in a pack, as its own head has it.
struct Placed {
    name: ObjectName,
    span: Span,
    offset: u64,
    bytes: u64,
}

impl Placed {
    fn of(head: &Head, offset: u64) -> Result<Placed, Fault> {
        let body = head.header.stored.map_or(0, |stored| stored.bytes);
        Ok(Placed {
            name: head.header.name()?,
            span: head.header.span()?,
            offset,
            bytes: head.body.saturating_add(body),
        })
    }
}

/// Reads the index of a pack, in front of which `body` is, and holds the pack to its header and its index.
fn check_pack(head: &Head, called: &str, inside: &[Placed], body: &mut Hashing) -> Result<(), Unread> {
    let (header, broken) = (&head.header, |reason: String| damaged(called, "stored bytes", reason));
    let (Some(stored), Some(index)) = (header.stored, header.index) else {
        return Err(damaged(called, "first bytes", "they do not tell of its index"));
    };
    if index.bytes > INDEX_MAX {
        return Err(damaged(called, "first bytes", "its index is longer than any"));
    }
    let bytes = read_up_to(&mut *body, index.bytes, called)?;
    let found = Stream {
        bytes: bytes.len() as u64,
        sha256: Digest(Sha256::digest(&bytes).into()),
    };
    is_recorded(found, index, called, "index")?;
    is_recorded(body.seen(), stored, called, "stored bytes")?;
    let entries = IndexEntry::decode(&bytes).map_err(|fault| broken(fault.to_string()))?;
    if entries.len() as u64 != header.records {
        let (there, said) = (entries.len(), header.records);
        return Err(broken(format!("its index has {there} entries, its header says {said}")));
    }
    let deltas = entries.iter().filter(|entry| entry.kind == PackedKind::Delta);
    let agree = |(entry, placed): (&IndexEntry, &Placed)| {
        let is_there = (entry.offset, entry.bytes) == (placed.offset, placed.bytes);
        is_there
            && placed
                .name
                .chain()
                .is_some_and(|chain| entry.name(chain) == placed.name)
    };
    if deltas.clone().count() != inside.len() || !deltas.zip(inside).all(agree) {
        return Err(broken("its index is not of what lies in it".to_owned()));
    }
    let span = header.span().map_err(|fault| broken(fault.to_string()))?;
    match span.first_lacking(inside.iter().map(|placed| placed.span)) {
        None => Ok(()),
        Some(lacking) => Err(broken(format!(
            "revision {lacking} is not in it, though its name says so"
        ))),
    }
}

/// A body whose bytes are hashed as they are taken.
struct Hashing {
    inner: BufReader<crate::store::Object>,
    hasher: Sha256,
    bytes: u64,
}

impl Hashing {
    fn over(inner: BufReader<crate::store::Object>) -> Hashing {
        Hashing {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    /// What was taken so far.
    fn seen(&self) -> Stream {
        Stream {
            bytes: self.bytes,
            sha256: Digest(self.hasher.clone().finalize().into()),
        }
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let read = there.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Hashing {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let taken = self.inner.buffer().get(..amount).unwrap_or_default();
        self.hasher.update(taken);
        self.bytes += taken.len() as u64;
        self.inner.consume(amount);
    }
}
