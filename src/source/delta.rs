//! One delta, pack or mark of a store: its head, whose word it is, and what is in it.
//!
//! Invariant: no record is given out whose delta does not match the digests in its header, or whose header counts for
//! nothing.

use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

use super::{DeltaRecords, Error};
use crate::layout::delta::{HEAD_MAX, Head, Header, LinkKind, PLAIN_MAX, RecordFault};
use crate::layout::{ChainPath, Fault, ObjectName, Stream};
use crate::model::{Digest, LineageId};
use crate::pipeline::{DecodeError, Identities, Unlock, decode};
use crate::signing::{Authority, SignerKey};
use crate::store::{self, Store};

/// What age and zstd may add to records that they cannot make smaller.
const SLACK_BYTES: u64 = PLAIN_MAX / 128 + (1 << 20);

/// Why an object behind a full backup is of no use.
#[derive(Debug)]
pub enum Unread {
    /// It is not there any more: packed or removed since it was listed.
    Gone,
    /// It counts for nothing, or is of another history.
    Strange(String),
    /// Its bytes are not those that were stored, or they cannot be opened or read.
    Unusable(Error),
}

impl Unread {
    /// That the records of a delta do not decode, though they are what was stored.
    pub fn of_records(name: String, fault: &RecordFault) -> Unread {
        damaged(&name, "records", fault.to_string())
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
struct Opened {
    name: String,
    judged: Judged,
    body: BufReader<store::Object>,
}

/// What an object is held to.
#[derive(Debug, Clone)]
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

fn open(store: &Store, belongs: &Belongs, name: &ObjectName) -> Result<Opened, Unread> {
    let called = called(store, name);
    let (object, _) = store.open_object(name).map_err(|error| match error {
        store::Error::NotFound { .. } => Unread::Gone,
        error => unreadable(&called, io::Error::other(error)),
    })?;
    let mut body = BufReader::with_capacity(64 << 10, object);
    let head = head_of(&mut body, &called)?;
    let judged = judge(store.authority(), belongs, name, &called, &head)?;
    Ok(Opened {
        name: called,
        judged,
        body,
    })
}

/// The first two lines.
fn head_of(from: &mut BufReader<store::Object>, called: &str) -> Result<Vec<u8>, Unread> {
    let mut head = Vec::new();
    for _ in 0..2 {
        let left = HEAD_MAX.saturating_sub(head.len()) as u64;
        let read = from.by_ref().take(left).read_until(b'\n', &mut head);
        read.map_err(|error| unreadable(called, error))?;
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

/// Reads as many bytes as were recorded, which have the digest that was.
fn exactly(from: &mut impl Read, recorded: Stream, name: &str, stage: &'static str) -> Result<Vec<u8>, Unread> {
    let bytes = read_up_to(from, recorded.bytes, name)?;
    let sum = Digest(Sha256::digest(&bytes).into());
    if bytes.len() as u64 != recorded.bytes {
        return Err(damaged(
            name,
            stage,
            format!("there are {} bytes of {}", bytes.len(), recorded.bytes),
        ));
    }
    if sum != recorded.sha256 {
        return Err(damaged(
            name,
            stage,
            format!("their SHA-256 is {sum} instead of {}", recorded.sha256),
        ));
    }
    Ok(bytes)
}

/// No more is reserved than comes.
fn read_up_to(from: &mut impl Read, bytes: u64, name: &str) -> Result<Vec<u8>, Unread> {
    let mut read = Vec::new();
    let done = from.take(bytes).read_to_end(&mut read);
    done.map_err(|error| unreadable(name, error))?;
    Ok(read)
}

/// The records of a delta, from its body.
fn records(
    header: &Header,
    body: &mut impl Read,
    name: &str,
    identities: Option<&Identities>,
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
    let bytes = exactly(body, stored, name, "stored bytes")?;
    let refused = |error| {
        let name = name.to_owned();
        Unread::Unusable(Error::Decode { name, error })
    };
    let mut decoded = decode(Cursor::new(bytes), Unlock::stored(identities)).map_err(refused)?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while decoded.next_block(&mut block).map_err(refused)? {
        if all.len() as u64 + block.len() as u64 > plain.bytes {
            return Err(damaged(
                name,
                "records",
                format!("they are longer than {} bytes", plain.bytes),
            ));
        }
        all.extend_from_slice(&block);
    }
    let plain = exactly(&mut all.as_slice(), plain, name, "records").map(|_| all)?;
    let name = name.to_owned();
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

/// Gives out the deltas of an object that are picked by their headers, in order: of a delta itself, of a pack those in it.
///
/// Ends without a fault where it is broken off, or where the object has no more; whoever asks knows how far it came. The
/// index of a pack is not needed: what is in it tells by itself how long it is.
pub fn deltas_of(
    store: &Store,
    belongs: &Belongs,
    name: &ObjectName,
    identities: Option<&Identities>,
    pick: &mut dyn FnMut(&Header) -> Pick,
    give: &mut dyn FnMut(DeltaRecords) -> ControlFlow<()>,
) -> Result<(), Unread> {
    let Opened {
        name: called,
        judged,
        mut body,
    } = open(store, belongs, name)?;
    let header = judged.head.header;
    match header.kind {
        LinkKind::Delta => {
            if pick(&header) == Pick::Read {
                // There is nothing behind it that could be broken off.
                let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
                    give(records(&header, &mut body, &called, identities)?);
            }
            return Ok(());
        }
        LinkKind::Mark => return Ok(()),
        LinkKind::Pack => {}
    }
    let index = header.index.map_or(0, |index| index.bytes);
    let mut left = header.stored.map_or(0, |stored| stored.bytes.saturating_sub(index));
    while left > 0 {
        let head = head_of(&mut body, &called)?;
        let inner = inner_header(&head).ok_or_else(|| damaged(&called, "stored bytes", "what is in it has no head"))?;
        let name = inner.name();
        let name = name.map_err(|fault| damaged(&called, "stored bytes", fault.to_string()))?;
        if name.chain() != Some(&belongs.chain) {
            return Err(damaged(
                &called,
                "stored bytes",
                format!("it holds {name} of another chain"),
            ));
        }
        let inside = format!("{name} in {called}");
        let bytes = inner.stored.map_or(0, |stored| stored.bytes);
        left = left
            .checked_sub((head.len() as u64).saturating_add(bytes))
            .ok_or_else(|| damaged(&inside, "stored bytes", "they go on behind the pack's"))?;
        // Whatever is picked by: each is judged by itself, as nothing holds the whole pack to its own header here.
        let judged = judge(store.authority(), belongs, &name, &inside, &head)?;
        let picked = match inner.kind {
            LinkKind::Delta => pick(&inner),
            LinkKind::Mark | LinkKind::Pack => Pick::PassOver,
        };
        match picked {
            Pick::Stop => break,
            Pick::PassOver => {
                let skipped = io::copy(&mut (&mut body).take(bytes), &mut io::sink());
                if skipped.map_err(|error| unreadable(&called, error))? != bytes {
                    return Err(damaged(&called, "stored bytes", "they end too early"));
                }
            }
            Pick::Read => {
                let records = records(&judged.head.header, &mut body, &inside, identities)?;
                if give(records).is_break() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The header in a head of which nothing is known; nothing is judged by it but where the object ends.
fn inner_header(head: &[u8]) -> Option<Header> {
    let line = head.iter().position(|byte| *byte == b'\n')?;
    Header::from_document(head.get(line + 1..)?).ok()
}
