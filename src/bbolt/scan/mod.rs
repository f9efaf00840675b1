//! Looking at a database while it streams past, without keeping it.
//!
//! The stream is in page order and the tree is not, so of every page the one number is kept that leads on along the
//! right edge of a tree: the last child, or the revision at the front of the last key. After the last page these
//! numbers give the last key of a bucket.
//!
//! Invariant: only what the newer meta's tree leads to counts. Free pages hold old nodes, even ones of later
//! transactions, which the server writes while it sends.
//! Invariant: every page that carries its own id is read as a header; whether it is one, the tree decides.
//! Invariant: memory is bounded by the bytes received: eight per page, awaited pieces of overflow pages, and some
//! MiB of small leaves.

mod edge;
mod passed;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::Error;
use super::bucket::BucketRoot;
use super::page::{
    ELEMENT_BUCKET, ELEMENT_LEN, FaultKind, HEADER_LEN, Header, LeafElement, META_END, Meta, MetaBytes, Node, NodeType,
};
use edge::{Edge, PackedEdge};
pub use passed::Scan;

/// A root node larger than this is none of etcd's, which has ten buckets.
const MAX_ROOT_LEN: usize = 4 << 20;
/// How many bytes of small leaves are kept before the root is known.
const MAX_KEPT_LEN: usize = 8 << 20;

/// Takes in a database piece by piece.
#[derive(Debug)]
#[must_use]
pub struct Scanner {
    followed: Vec<u8>,
    first_keys: Vec<Vec<u8>>,
    /// Known from the first 80 bytes on.
    meta: Option<Meta>,
    /// The beginning of a page whose end is still to come.
    partial: Vec<u8>,
    /// One for each page that has passed.
    edges: Vec<PackedEdge>,
    awaited: BinaryHeap<Reverse<Awaited>>,
    root: RootCopy,
    kept: Kept,
}

/// A piece of a node that lies on a later page than the node's header.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Awaited {
    /// Where the rest of the piece lies in the file; first, as it gives the order.
    offset: u64,
    /// The page of the header.
    page: u64,
    piece: Piece,
    got: [u8; ELEMENT_LEN],
    got_len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// The last element of a branch.
    BranchElement,
    /// The last element of a leaf, which lies at this offset of a file whose node ends at that.
    LeafElement { at: u64, node_end: u64 },
    /// The front of the last key of a leaf.
    Key,
}

impl Piece {
    fn len(self) -> usize {
        match self {
            Piece::BranchElement | Piece::LeafElement { .. } => ELEMENT_LEN,
            Piece::Key => 8,
        }
    }
}

/// The root node, as far as it has passed.
#[derive(Debug, Default)]
struct RootCopy {
    bytes: Vec<u8>,
    pages_to_come: u64,
}

/// Small leaves that may turn out to be needed.
#[derive(Debug, Default)]
struct Kept {
    leaves: BTreeMap<u64, Vec<u8>>,
    len: usize,
    /// Pages that the root refers to, once it has passed.
    wanted: BTreeSet<u64>,
    /// The root is a leaf, so all that can be needed is in `wanted`.
    sure: bool,
}

impl Scanner {
    /// Follows the bucket `followed` to its last key. Leaves that begin with one of `first_keys` are kept as far as
    /// there is room, should their bucket not be an inline one.
    pub fn new(followed: &[u8], first_keys: &[&[u8]]) -> Scanner {
        Scanner {
            followed: followed.to_vec(),
            first_keys: first_keys.iter().map(|key| key.to_vec()).collect(),
            meta: None,
            partial: Vec::new(),
            edges: Vec::new(),
            awaited: BinaryHeap::new(),
            root: RootCopy::default(),
            kept: Kept::default(),
        }
    }

    /// Takes in the next bytes of the database, however many.
    ///
    /// Fails when it does not begin with a valid meta page, when its root is damaged, or when it goes on behind its
    /// last page. After a failure the scan is void.
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
            self.page(&whole)?;
            whole.clear();
            self.partial = whole;
        }
        let pages = bytes.chunks_exact(page_size);
        self.partial.extend_from_slice(pages.remainder());
        for page in pages {
            self.page(page)?;
        }
        Ok(())
    }

    /// How long the database is; known once its second page has passed.
    pub fn database_bytes(&self) -> Option<u64> {
        match self.edges.len() {
            0 | 1 => None,
            _ => self.meta.and_then(|meta| meta.file_len()),
        }
    }

    /// Ends the scan after the last byte of the database.
    ///
    /// Fails when bytes are missing, or when the way to the last key is damaged.
    pub fn finish(self) -> Result<Scan, Error> {
        let Some(meta) = self.meta else {
            return Err(Error::NotBbolt {
                bytes: self.partial.len() as u64,
            });
        };
        let page_size = u64::from(meta.page_size);
        let bytes = self.edges.len() as u64 * page_size + self.partial.len() as u64;
        let expected = meta.file_len().unwrap_or(u64::MAX);
        if bytes > expected {
            return Err(Error::Overlong { expected });
        }
        if bytes < expected {
            return Err(Error::Truncated { bytes, expected });
        }
        let mut scan = Scan {
            meta,
            root: self.root.bytes,
            kept: self.kept.leaves,
            last_key: None,
        };
        scan.last_key = scan.follow(&self.followed, &self.edges)?;
        Ok(scan)
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

    /// Takes in one whole page.
    fn page(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let page = self.edges.len() as u64;
        self.edges.push(PackedEdge::pack(Edge::Unknown));
        let Some(meta) = &mut self.meta else {
            return Ok(());
        };
        if page == 1
            && let MetaBytes::Valid(second) = Meta::parse(bytes)
            && second.page_size == meta.page_size
            && second.txid > meta.txid
        {
            *meta = second;
        }
        let meta = *meta;
        if page < 2 {
            return Ok(());
        }
        if page >= meta.pages {
            return Err(Error::Overlong {
                expected: meta.file_len().unwrap_or(u64::MAX),
            });
        }
        self.take_awaited(page, bytes);
        let header = Header::parse(bytes).filter(|header| header.id == page);
        if page == meta.root {
            let header = header.ok_or_else(|| FaultKind::NoLastElement.on(page))?;
            self.root.pages_to_come = u64::from(header.overflow) + 1;
        }
        if self.root.pages_to_come > 0 {
            self.root_page(&meta, bytes)?;
        }
        if let Some(header) = header {
            self.node(&meta, &header, bytes);
        }
        Ok(())
    }

    /// Reads the page as the first of a node: its last element, and whether it is a leaf to keep.
    fn node(&mut self, meta: &Meta, header: &Header, bytes: &[u8]) {
        let Some(node_type) = header.node_type() else {
            return;
        };
        let Some(last) = usize::from(header.count).checked_sub(1) else {
            if node_type == NodeType::Leaf {
                self.set_edge(header.id, Edge::EmptyLeaf);
            }
            return;
        };
        let page_size = u64::from(meta.page_size);
        let Some((start, node_end)) = header
            .id
            .checked_add(u64::from(header.overflow) + 1)
            .filter(|end| *end <= meta.pages)
            .and_then(|end| Some((header.id.checked_mul(page_size)?, end.checked_mul(page_size)?)))
        else {
            return;
        };
        let at = start + (HEADER_LEN + ELEMENT_LEN * last) as u64;
        let piece = match node_type {
            NodeType::Branch => Piece::BranchElement,
            NodeType::Leaf => Piece::LeafElement { at, node_end },
        };
        let awaited = Awaited {
            offset: at,
            page: header.id,
            piece,
            got: [0; ELEMENT_LEN],
            got_len: 0,
        };
        self.resolve(awaited, start, bytes);
        if node_type == NodeType::Leaf && header.overflow == 0 {
            self.keep_leaf(header, bytes);
        }
    }

    fn take_awaited(&mut self, page: u64, bytes: &[u8]) {
        let start = page * bytes.len() as u64;
        let end = start + bytes.len() as u64;
        while self.awaited.peek().is_some_and(|Reverse(awaited)| awaited.offset < end) {
            if let Some(Reverse(awaited)) = self.awaited.pop() {
                self.resolve(awaited, start, bytes);
            }
        }
    }

    /// Goes from piece to piece as far as they lie in the page at `start`; the first that does not is awaited.
    fn resolve(&mut self, mut awaited: Awaited, start: u64, bytes: &[u8]) {
        loop {
            let skip = usize::try_from(awaited.offset.saturating_sub(start)).unwrap_or(usize::MAX);
            let here = bytes.get(skip..).unwrap_or_default();
            let wanted = awaited
                .got
                .get_mut(awaited.got_len..awaited.piece.len())
                .unwrap_or_default();
            let len = here.len().min(wanted.len());
            wanted.iter_mut().zip(here).for_each(|(to, from)| *to = *from);
            awaited.got_len += len;
            awaited.offset += len as u64;
            if awaited.got_len < awaited.piece.len() {
                self.awaited.push(Reverse(awaited));
                return;
            }
            let word = u128::from_le_bytes(awaited.got);
            match awaited.piece {
                Piece::BranchElement => return self.set_edge(awaited.page, Edge::Child((word >> 64) as u64)),
                Piece::Key => return self.set_edge(awaited.page, Edge::LastKey((word as u64).swap_bytes())),
                Piece::LeafElement { at, node_end } => {
                    let (pos, key_len) = ((word >> 32) as u32, (word >> 64) as u32);
                    let key = at + u64::from(pos);
                    // A key before the end of its element has passed already, and is none.
                    let behind = key >= at + ELEMENT_LEN as u64;
                    if key_len < 8 || !behind || key.checked_add(8).is_none_or(|end| end > node_end) {
                        return;
                    }
                    let page = awaited.page;
                    awaited = Awaited {
                        offset: key,
                        page,
                        piece: Piece::Key,
                        got: [0; ELEMENT_LEN],
                        got_len: 0,
                    };
                }
            }
        }
    }

    fn set_edge(&mut self, page: u64, edge: Edge) {
        let slot = usize::try_from(page).ok().and_then(|page| self.edges.get_mut(page));
        if let Some(slot) = slot {
            *slot = PackedEdge::pack(edge);
        }
    }

    /// Keeps a leaf that the root refers to, or that may be such a one as long as the root is to come.
    fn keep_leaf(&mut self, header: &Header, bytes: &[u8]) {
        let wanted = self.kept.wanted.contains(&header.id);
        if !wanted && self.kept.sure {
            return;
        }
        let Ok(leaf) = Node::new(header.id, header, bytes) else {
            return;
        };
        let Ok(first) = leaf.leaf(0, leaf.data_start()) else {
            return;
        };
        // Only leaves of the root tree have buckets as entries.
        let promising = first.flags == ELEMENT_BUCKET || self.first_keys.iter().any(|key| key == first.key);
        let used = last_element(&leaf).and_then(|last| bytes.get(..last.end));
        let Some(used) = used.filter(|used| (wanted || promising) && self.kept.len + used.len() <= MAX_KEPT_LEN) else {
            return;
        };
        self.kept.len += used.len();
        self.kept.leaves.insert(header.id, used.to_vec());
    }

    /// Adds a page to the copy of the root; with the last one it is known which leaves are needed.
    fn root_page(&mut self, meta: &Meta, bytes: &[u8]) -> Result<(), Error> {
        let too_long = FaultKind::TooManyElements {
            count: self.root.pages_to_come,
        };
        if self.root.bytes.len() + bytes.len() > MAX_ROOT_LEN.max(bytes.len()) {
            return Err(too_long.on(meta.root).into());
        }
        self.root.bytes.extend_from_slice(bytes);
        self.root.pages_to_come -= 1;
        if self.root.pages_to_come > 0 {
            return Ok(());
        }
        let root = root_node(meta, &self.root.bytes)?;
        let mut wanted = BTreeSet::new();
        for index in 0..root.count {
            match root.node_type {
                NodeType::Branch => wanted.extend(root.branch(index, 0).map(|element| element.child)),
                NodeType::Leaf => {
                    let element = root.leaf(index, 0).map_err(|kind| kind.on(root.page))?;
                    if let BucketRoot::Page(page) = BucketRoot::parse(root.page, index, &element)?
                        && element.key != self.followed
                    {
                        wanted.insert(page);
                    }
                }
            }
        }
        self.kept.sure = root.node_type == NodeType::Leaf;
        if self.kept.sure {
            self.kept.leaves.retain(|page, _| wanted.contains(page));
            self.kept.len = self.kept.leaves.values().map(Vec::len).sum();
        }
        self.kept.wanted = wanted;
        Ok(())
    }
}

fn root_node<'a>(meta: &Meta, bytes: &'a [u8]) -> Result<Node<'a>, Error> {
    let header = Header::parse(bytes).ok_or_else(|| FaultKind::NoLastElement.on(meta.root))?;
    Ok(Node::new(meta.root, &header, bytes).map_err(|kind| kind.on(meta.root))?)
}

fn last_element<'a>(leaf: &Node<'a>) -> Option<LeafElement<'a>> {
    leaf.leaf(leaf.count.checked_sub(1)?, leaf.data_start()).ok()
}

/// Moves bytes from the front of `from` until `to` has `len`.
fn take(to: &mut Vec<u8>, from: &mut &[u8], len: usize) {
    let missing = len.saturating_sub(to.len()).min(from.len());
    if let Some((head, rest)) = from.split_at_checked(missing) {
        to.extend_from_slice(head);
        *from = rest;
    }
}
