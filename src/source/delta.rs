//! One delta, pack or mark of a store: its head, whose word it is, and what is in it.
//!
//! Invariant: no record is given out whose delta does not match the digests in its header, or whose header counts for
//! nothing.

mod whole;

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

use super::{DeltaRecords, Error};
use crate::layout::delta::{HEAD_MAX, Head, Header, LinkKind, PLAIN_MAX, RecordFault};
use crate::layout::{ChainPath, Fault, ObjectName, Span, Stream};
use crate::model::{Digest, LineageId};
use crate::pipeline::{Buffer, Buffers, DecodeError, Identities, Unlock, decode_whole};
use crate::signing::{Authority, SignerKey};
use crate::store::{self, Store};

pub use whole::whole;

/// What age and zstd may add to records that they cannot make smaller.
const SLACK_BYTES: u64 = PLAIN_MAX / 128 + (1 << 20);

/// Why an object behind a full backup is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is not there any more: packed or removed since it was listed.
    #[error("it is not there any more")]
    Gone,
    /// It counts for nothing, or is of another history.
    #[error("{0}")]
    Strange(String),
    /// Its bytes are not those that were stored, or they cannot be opened or read.
    #[error(transparent)]
    Unusable(Error),
}

impl Unread {
    /// Whether it may be read the next time: nothing was found to be wrong with it.
    pub fn may_pass(&self) -> bool {
        matches!(self, Unread::Gone | Unread::Unusable(Error::Read { .. }))
    }

    /// That the records of a delta do not decode, though they are what was stored.
    pub fn of_records(name: String, fault: &RecordFault) -> Unread {
        damaged(&name, "records", fault.to_string())
    }

    /// The same, for another reason.
    pub fn of_content(name: &str, reason: String) -> Unread {
        damaged(name, "records", reason)
    }

    /// That something is missing before it, though the name of what it is in says otherwise.
    pub(super) fn of_hole(name: &str) -> Unread {
        damaged(name, "stored bytes", "a revision before it is missing")
    }
}

/// The head of an object, read and judged.
#[derive(Debug)]
pub struct Judged {
    /// What stands in it.
    pub head: Head,
    /// Who signed it, if somebody did.
    pub signer: Option<SignerKey>,
}

/// An object of a chain that is open, behind its head.
pub struct Opened {
    /// What errors call it.
    pub called: String,
    /// Its head.
    pub judged: Judged,
    /// What stands behind it.
    pub body: BufReader<store::Object>,
}

/// What an object is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belongs {
    /// The chain.
    pub chain: ChainPath,
    /// Its history.
    pub lineage: LineageId,
}

fn damaged(name: &str, stage: &'static str, reason: impl Into<String>) -> Unread {
    Unread::Unusable(Error::Decode {
        name: name.to_owned(),
        error: DecodeError::Damaged {
            stage,
            reason: reason.into(),
        },
    })
}

fn unreadable(name: &str, error: io::Error) -> Unread {
    Unread::Unusable(Error::Read {
        name: name.to_owned(),
        error,
    })
}

/// What errors call the object.
fn called(store: &Store, name: &ObjectName) -> String {
    format!("`{}`", store.address_of(name))
}

/// Opens an object, and reads and judges its head.
pub fn open(store: &Store, belongs: &Belongs, name: &ObjectName) -> Result<Opened, Unread> {
    open_by(store, belongs, name, Store::open_object)
}

type Open = fn(&Store, &ObjectName) -> Result<(store::Object, u64), store::Error>;

fn open_by(store: &Store, belongs: &Belongs, name: &ObjectName, open: Open) -> Result<Opened, Unread> {
    let called = called(store, name);
    let (object, _) = open(store, name).map_err(|error| match error {
        store::Error::NotFound { .. } => Unread::Gone,
        error => unreadable(&called, io::Error::other(error)),
    })?;
    let mut body = BufReader::with_capacity(64 << 10, object);
    let head = head_bytes(&mut body).map_err(|error| unreadable(&called, error))?;
    let judged = judge(store.authority(), belongs, name, &called, &head)?;
    Ok(Opened { called, judged, body })
}

/// The first two lines, no more than a head may have.
pub fn head_bytes(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    for _ in 0..2 {
        let left = HEAD_MAX.saturating_sub(head.len()) as u64;
        from.by_ref().take(left).read_until(b'\n', &mut head)?;
    }
    Ok(head)
}

/// Reads a head and judges whose it is.
fn judge(
    authority: &Authority,
    belongs: &Belongs,
    name: &ObjectName,
    called: &str,
    bytes: &[u8],
) -> Result<Judged, Unread> {
    let read = Head::read(name, bytes);
    let document = read.as_ref().map_or(bytes, |head| &head.document);
    let signed = authority.judge(name, document);
    // A stranger's is passed over, whatever is in it.
    if let (Err(distrust), true) = (&signed, authority.names_somebody()) {
        return Err(Unread::Strange(format!("{called} counts for nothing: {distrust}")));
    }
    let head = read.map_err(|fault: Fault| damaged(called, "first bytes", fault.to_string()))?;
    let signer = signed.map_err(|distrust| damaged(called, "first bytes", distrust.to_string()))?;
    if head.header.lineage != belongs.lineage {
        let lineage = &head.header.lineage;
        return Err(Unread::Strange(format!(
            "{called} counts for nothing: it is of lineage {lineage}, its chain of {}",
            belongs.lineage
        )));
    }
    Ok(Judged { head, signer })
}

/// The head of an object, and who signed it.
pub fn head(store: &Store, belongs: &Belongs, name: &ObjectName) -> Result<Judged, Unread> {
    Ok(open(store, belongs, name)?.judged)
}

/// The same of an object that a listing has with so many bytes, which must be those of its head and body.
pub fn of_length(store: &Store, belongs: &Belongs, name: &ObjectName, listed: u64) -> Result<Judged, Unread> {
    let judged = head(store, belongs, name)?;
    let body = judged.head.header.stored.map_or(0, |stored| stored.bytes);
    let expected = judged.head.body.saturating_add(body);
    match listed == expected {
        true => Ok(judged),
        false => {
            let reason = format!("it has {listed} bytes instead of {expected}");
            Err(damaged(&called(store, name), "stored bytes", reason))
        }
    }
}

/// Reads as many bytes as were recorded, which have the digest that was.
fn stored_bytes(from: &mut impl Read, recorded: Stream, name: &str, mut buffer: Buffer) -> Result<Buffer, Unread> {
    read_into(buffer.bytes(), from, recorded.bytes, name)?;
    let found = Stream {
        bytes: buffer.len() as u64,
        sha256: Digest(Sha256::digest(&*buffer).into()),
    };
    is_recorded(found, recorded, name, "stored bytes")?;
    Ok(buffer)
}

/// Holds what was found to what was recorded.
fn is_recorded(found: Stream, recorded: Stream, name: &str, stage: &'static str) -> Result<(), Unread> {
    if found.bytes != recorded.bytes {
        let reason = format!("there are {} bytes of {}", found.bytes, recorded.bytes);
        return Err(damaged(name, stage, reason));
    }
    if found.sha256 != recorded.sha256 {
        let reason = format!("their SHA-256 is {} instead of {}", found.sha256, recorded.sha256);
        return Err(damaged(name, stage, reason));
    }
    Ok(())
}

/// Reads up to so many bytes; no more is reserved than comes.
fn read_up_to(from: &mut impl Read, bytes: u64, name: &str) -> Result<Vec<u8>, Unread> {
    let mut read = Vec::new();
    read_into(&mut read, from, bytes, name)?;
    Ok(read)
}

fn read_into(read: &mut Vec<u8>, from: &mut impl Read, bytes: u64, name: &str) -> Result<(), Unread> {
    let done = from.take(bytes).read_to_end(read);
    done.map_err(|error| unreadable(name, error))?;
    Ok(())
}

/// The records of a delta, from its body.
fn records(
    header: &Header,
    body: &mut impl Read,
    name: &str,
    (identities, buffers): (Option<&Identities>, &Buffers),
) -> Result<DeltaRecords, Unread> {
    let (Some(stored), Some(plain), LinkKind::Delta) = (header.stored, header.plain, header.kind) else {
        return Err(damaged(name, "first bytes", "they tell of no records"));
    };
    if stored.bytes > PLAIN_MAX + SLACK_BYTES {
        return Err(damaged(name, "first bytes", "it is longer than any delta"));
    }
    let span = header.span();
    let span = span.map_err(|fault| damaged(name, "first bytes", fault.to_string()))?;
    let identities = identities.ok_or_else(|| {
        let name = name.to_owned();
        Unread::Unusable(Error::NoIdentity { name })
    })?;
    let bytes = stored_bytes(body, stored, name, buffers.with_room(0))?;
    let refused = |error| {
        let name = name.to_owned();
        Unread::Unusable(Error::Decode { name, error })
    };
    let most = usize::try_from(plain.bytes)
        .ok()
        .filter(|most| *most as u64 <= PLAIN_MAX);
    let most = most.ok_or_else(|| damaged(name, "first bytes", "its records are more than any delta holds"))?;
    let all = decode_whole(&bytes, Unlock::stored(identities), most, buffers).map_err(refused)?;
    let all = all.ok_or_else(|| {
        let reason = format!("they are longer than {} bytes", plain.bytes);
        damaged(name, "records", reason)
    })?;
    let found = Stream {
        bytes: all.len() as u64,
        sha256: Digest(Sha256::digest(&*all).into()),
    };
    is_recorded(found, plain, name, "records")?;
    let (name, plain) = (name.to_owned(), all);
    Ok(DeltaRecords { name, span, plain })
}

/// What is to be done with a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// It is read.
    Read,
    /// It is passed over.
    PassOver,
    /// Neither it nor what follows is wanted.
    Stop,
}

/// A delta by itself or in a pack, judged, and not read yet.
pub struct Delta<'a> {
    /// What errors call it.
    pub called: &'a str,
    /// Its head.
    pub head: &'a Head,
    body: &'a mut dyn BufRead,
}

impl Delta<'_> {
    /// Reads its body; each block of it is heard, and the reading may be broken off.
    ///
    /// Fails where the body is not what its header says.
    pub fn pour(&mut self, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<ControlFlow<()>, Unread> {
        let (mut hasher, mut bytes) = (Sha256::new(), 0_u64);
        loop {
            let block = self.body.fill_buf().map_err(|error| unreadable(self.called, error))?;
            if block.is_empty() {
                break;
            }
            hasher.update(block);
            if each(block).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let length = block.len();
            bytes += length as u64;
            self.body.consume(length);
        }
        let found = Stream {
            bytes,
            sha256: Digest(hasher.finalize().into()),
        };
        let recorded = self.head.header.stored;
        let recorded = recorded.ok_or_else(|| damaged(self.called, "first bytes", "they tell of no records"))?;
        is_recorded(found, recorded, self.called, "stored bytes")?;
        Ok(ControlFlow::Continue(()))
    }

    /// Reads its body, decrypts and unpacks it in some of `buffers`: as many records, by their bytes, as its header says.
    pub fn records(&mut self, identities: &Identities, buffers: &Buffers) -> Result<DeltaRecords, Unread> {
        records(
            &self.head.header,
            &mut self.body,
            self.called,
            (Some(identities), buffers),
        )
    }
}

/// Visits the deltas of an object in order: of a delta itself, of a pack those in it. Each is judged by its own head, as nothing
/// holds the whole pack to its header here; whoever is visited need not read it.
///
/// Ends without a fault where it is broken off, or where the object has no more; whoever asks knows how far it came. The
/// index of a pack is not needed: what is in it tells by itself how long it is.
pub fn visit(
    store: &Store,
    belongs: &Belongs,
    name: &ObjectName,
    visit: &mut dyn FnMut(&mut Delta<'_>) -> Result<ControlFlow<()>, Unread>,
) -> Result<(), Unread> {
    let Opened {
        called,
        judged,
        mut body,
    } = open(store, belongs, name)?;
    visit_opened((store, belongs), (&called, &judged), &mut body, visit)
}

/// The same of an object that is open, behind its head.
fn visit_opened(
    (store, belongs): (&Store, &Belongs),
    (called, judged): (&str, &Judged),
    mut body: &mut dyn BufRead,
    visit: &mut dyn FnMut(&mut Delta<'_>) -> Result<ControlFlow<()>, Unread>,
) -> Result<(), Unread> {
    let header = &judged.head.header;
    match header.kind {
        LinkKind::Delta => {
            let head = &judged.head;
            let mut delta = Delta { called, head, body };
            // There is nothing behind it that could be broken off.
            let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit(&mut delta)?;
            return Ok(());
        }
        LinkKind::Mark => return Ok(()),
        LinkKind::Pack => {}
    }
    let index = header.index.map_or(0, |index| index.bytes);
    let mut left = header.stored.map_or(0, |stored| stored.bytes.saturating_sub(index));
    while left > 0 {
        let head = head_bytes(&mut body).map_err(|error| unreadable(called, error))?;
        let inner = inner_header(&head).ok_or_else(|| damaged(called, "stored bytes", "what is in it has no head"))?;
        let name = inner.name();
        let name = name.map_err(|fault| damaged(called, "stored bytes", fault.to_string()))?;
        if name.chain() != Some(&belongs.chain) {
            return Err(damaged(
                called,
                "stored bytes",
                format!("it holds {name} of another chain"),
            ));
        }
        let inside = format!("{name} in {called}");
        let bytes = inner.stored.map_or(0, |stored| stored.bytes);
        left = left
            .checked_sub((head.len() as u64).saturating_add(bytes))
            .ok_or_else(|| damaged(&inside, "stored bytes", "they go on behind the pack's"))?;
        let judged = judge(store.authority(), belongs, &name, &inside, &head)?;
        let mut own = (&mut body).take(bytes);
        if inner.kind == LinkKind::Delta {
            let mut delta = Delta {
                called: &inside,
                head: &judged.head,
                body: &mut own,
            };
            if visit(&mut delta)?.is_break() {
                return Ok(());
            }
        }
        io::copy(&mut own, &mut io::sink()).map_err(|error| unreadable(called, error))?;
        if own.limit() > 0 {
            return Err(damaged(called, "stored bytes", "they end too early"));
        }
    }
    Ok(())
}

/// Proves that every delta of an object is what its own header says, and gives their revisions, in order. None is given where
/// it was broken off.
pub fn prove(
    store: &Store,
    belongs: &Belongs,
    name: &ObjectName,
    go_on: &dyn Fn() -> ControlFlow<()>,
) -> Result<Option<Vec<Span>>, Unread> {
    let (mut spans, mut is_stopped) = (Vec::new(), false);
    visit(store, belongs, name, &mut |delta| {
        let span = delta.head.header.span();
        spans.push(span.map_err(|fault| damaged(delta.called, "first bytes", fault.to_string()))?);
        let poured = delta.pour(&mut |_| go_on())?;
        is_stopped = poured.is_break();
        Ok(poured)
    })?;
    Ok((!is_stopped).then_some(spans))
}

/// Gives out the deltas of an object that are picked by their headers, as [`visit`] comes to them, unpacked in some of
/// `buffers`.
pub fn deltas_of(
    store: &Store,
    belongs: &Belongs,
    name: &ObjectName,
    (identities, buffers): (Option<&Identities>, &Buffers),
    pick: &mut dyn FnMut(&Header) -> Pick,
    give: &mut dyn FnMut(DeltaRecords) -> ControlFlow<()>,
) -> Result<(), Unread> {
    visit(store, belongs, name, &mut |delta| {
        let header = &delta.head.header;
        Ok(match pick(header) {
            Pick::Stop => ControlFlow::Break(()),
            Pick::PassOver => ControlFlow::Continue(()),
            Pick::Read => give(records(header, &mut delta.body, delta.called, (identities, buffers))?),
        })
    })
}

/// The header in a head of which nothing is known; nothing is judged by it but where the object ends.
fn inner_header(head: &[u8]) -> Option<Header> {
    let line = head.iter().position(|byte| *byte == b'\n')?;
    Header::from_document(head.get(line + 1..)?).ok()
}
