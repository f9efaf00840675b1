//! Reading a database while it streams past, without keeping it: whether it is whole, and what is in it in order.
//!
//! The stream is in the order of its pages and the trees are not. So of each node that passes what its place in a tree
//! needs is kept: of a branch its children, of a leaf of the one large bucket that is followed its first and last key
//! and whatever the owner of that bucket makes of its entries ([`Leaves`]). All other nodes are small and few: they are
//! kept as they are. After the last page the trees are walked over from what was kept ([`whole`]).
//!
//! Invariant: only what the newer meta's tree leads to counts. Free pages hold old nodes, even ones of later
//! transactions, which the server writes while it sends.
//! Invariant: every page that carries its own id is read as the first of a node; whether it is one, the trees decide. So
//! a page may be read as one that goes on from another and as one that begins.
//! Invariant: memory is bounded: where there is no room for a node, the scan says so and proves nothing.

mod nodes;
mod passed;
mod whole;

use super::page::{FLAG_FREELIST, Header, META_END, Meta, MetaBytes};
use super::{Entry, Error};
use nodes::Nodes;
pub use passed::Scan;

/// How many bytes of nodes may be held that began in one piece of the stream and end in a later one.
const MAX_OPEN_LEN: usize = 32 << 20;
/// How many such nodes there may be at once. In a sound database without old nodes it is one.
const MAX_OPEN: usize = 8;

/// What is made of the leaves of the bucket that is followed.
pub trait Leaves {
    /// What is kept of a key. Equal for equal keys only, and ordered as the keys are.
    type Key: Clone + Ord + std::fmt::Debug;
    /// What is kept of a leaf.
    type Leaf: Copy + std::fmt::Debug;

    /// What to keep of `key`; `None` for one that the bucket cannot have.
    fn key(&self, key: &[u8]) -> Option<Self::Key>;

    /// Takes in the entries of a leaf, in order. Leaves come in the order of their pages, also some that are in no tree.
    /// `None` where there is no room.
    fn leaf<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) -> Option<Self::Leaf>;
}

/// Takes in a database piece by piece.
#[derive(Debug)]
#[must_use]
pub struct Scanner<L: Leaves> {
    followed: Vec<u8>,
    /// Known from the first 80 bytes on.
    meta: Option<Meta>,
    /// The beginning of a page whose end is still to come.
    partial: Vec<u8>,
    /// How many pages have passed.
    passed: u64,
    open: Vec<Open>,
    nodes: Nodes<L>,
}

/// A node whose first pages have passed.
#[derive(Debug)]
struct Open {
    header: Header,
    /// Its place among the nodes.
    slot: usize,
    bytes: Vec<u8>,
    len: usize,
}

impl<L: Leaves> Scanner<L> {
    /// Follows the bucket `followed`. Leaves that begin with one of `first_keys` are kept before all others, should there
    /// be too many small ones.
    pub fn new(followed: &[u8], first_keys: &[&[u8]], leaves: L) -> Scanner<L> {
        Scanner {
            followed: followed.to_vec(),
            meta: None,
            partial: Vec::new(),
            passed: 0,
            open: Vec::new(),
            nodes: Nodes::new(first_keys, leaves),
        }
    }

    /// Takes in the next bytes of the database, however many.
    ///
    /// Fails when it does not begin with a valid meta page, or when it goes on behind its last page. After a failure the
    /// scan is void.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let page_size = match self.meta {
            Some(meta) => meta.page_size as usize,
            None => match self.begin(&mut bytes)? {
                Some(page_size) => page_size,
                None => return Ok(()),
            },
        };
        if !self.partial.is_empty() {
            take(&mut self.partial, &mut bytes, page_size);
            if self.partial.len() < page_size {
                return Ok(());
            }
            let mut whole = std::mem::take(&mut self.partial);
            self.pages(&whole, page_size)?;
            whole.clear();
            self.partial = whole;
        }
        let (pages, rest) = bytes.split_at(bytes.len() - bytes.len() % page_size);
        self.partial.extend_from_slice(rest);
        self.pages(pages, page_size)
    }

    /// Who makes something of the leaves that have passed so far.
    pub fn owner(&self) -> &L {
        &self.nodes.leaves
    }

    /// How long the database is; known once its second page has passed.
    pub fn database_bytes(&self) -> Option<u64> {
        match self.passed {
            0 | 1 => None,
            _ => self.meta.and_then(|meta| meta.file_len()),
        }
    }

    /// Ends the scan after the last byte of the database.
    ///
    /// Fails when bytes are missing, or when the buckets or the way to the last key of the followed one cannot be read. All
    /// other faults are in what comes out.
    pub fn finish(self) -> Result<Scan<L>, Error> {
        let Some(meta) = self.meta else {
            return Err(Error::NotBbolt {
                bytes: self.partial.len() as u64,
            });
        };
        let bytes = self.passed * u64::from(meta.page_size) + self.partial.len() as u64;
        let expected = meta.file_len().unwrap_or(u64::MAX);
        if bytes > expected {
            return Err(Error::Overlong { expected });
        }
        if bytes < expected {
            return Err(Error::Truncated { bytes, expected });
        }
        Scan::new(meta, self.nodes, &self.followed)
    }

    /// Collects the bytes up to the end of the first meta; returns the page size once they are there.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<Option<usize>, Error> {
        take(&mut self.partial, bytes, META_END);
        if self.partial.len() < META_END {
            return Ok(None);
        }
        match Meta::parse(&self.partial) {
            MetaBytes::Valid(meta) => {
                self.meta = Some(meta);
                Ok(Some(meta.page_size as usize))
            }
            MetaBytes::Swapped => Err(Error::ForeignByteOrder),
            MetaBytes::Invalid => Err(Error::NotBbolt { bytes: META_END as u64 }),
        }
    }

    /// Takes in whole pages.
    fn pages(&mut self, bytes: &[u8], page_size: usize) -> Result<(), Error> {
        for (index, page) in bytes.chunks_exact(page_size).enumerate() {
            let id = self.passed;
            self.passed += 1;
            let Some(meta) = &mut self.meta else {
                return Ok(());
            };
            if id < 2 {
                if let (1, MetaBytes::Valid(second)) = (id, Meta::parse(page))
                    && second.page_size == meta.page_size
                    && second.txid > meta.txid
                {
                    *meta = second;
                }
                self.nodes.meta_page(id, Header::parse(page));
                continue;
            }
            let meta = *meta;
            if id >= meta.pages {
                return Err(Error::Overlong {
                    expected: meta.file_len().unwrap_or(u64::MAX),
                });
            }
            self.go_on(&meta, page);
            if let Some(header) = Header::parse(page).filter(|header| header.id == id) {
                self.begin_node(&meta, header, &bytes[index * page_size..]);
            }
        }
        Ok(())
    }

    /// Reads the first page of `bytes`, with this header, as the first of a node.
    fn begin_node(&mut self, meta: &Meta, header: Header, bytes: &[u8]) {
        let run = u64::from(header.overflow) + 1;
        let is_node = header.node_type().is_some() || header.flags == FLAG_FREELIST && meta.freelist == Some(header.id);
        // What reaches beyond the end is no node of this database.
        if !is_node || header.id.checked_add(run).is_none_or(|end| end > meta.pages) {
            return;
        }
        let slot = self.nodes.begin(&header);
        let len = usize::try_from(run)
            .ok()
            .and_then(|run| run.checked_mul(meta.page_size as usize));
        let Some(len) = len else {
            return;
        };
        match bytes.get(..len) {
            Some(bytes) => self.nodes.complete(slot, meta, &header, bytes),
            None => {
                let first = bytes[..meta.page_size as usize].to_vec();
                self.open.push(Open {
                    header,
                    slot,
                    bytes: first,
                    len,
                });
                self.bound_open();
            }
        }
    }

    /// Adds a page to the nodes that it may belong to.
    fn go_on(&mut self, meta: &Meta, page: &[u8]) {
        if self.open.is_empty() {
            return;
        }
        for open in &mut self.open {
            open.bytes.extend_from_slice(page);
        }
        for open in self.open.extract_if(.., |open| open.bytes.len() >= open.len) {
            self.nodes.complete(open.slot, meta, &open.header, &open.bytes);
        }
        self.bound_open();
    }

    /// Gives up nodes where too many are open, or too much of them: first the one that has the longest way to go, which is
    /// the likeliest to be an old one.
    fn bound_open(&mut self) {
        let held = |open: &[Open]| open.iter().map(|open| open.bytes.len()).sum::<usize>();
        while self.open.len() > MAX_OPEN || held(&self.open) > MAX_OPEN_LEN {
            let longest = (0..self.open.len()).max_by_key(|at| self.open[*at].len - self.open[*at].bytes.len());
            let Some(longest) = longest else {
                return;
            };
            let given_up = self.open.swap_remove(longest);
            self.nodes.give_up(given_up.slot);
        }
    }
}

/// Moves bytes from the front of `from` until `to` has `len`.
fn take(to: &mut Vec<u8>, from: &mut &[u8], len: usize) {
    let missing = len.saturating_sub(to.len()).min(from.len());
    if let Some((head, rest)) = from.split_at_checked(missing) {
        to.extend_from_slice(head);
        *from = rest;
    }
}
