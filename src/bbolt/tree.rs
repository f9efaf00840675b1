//! Building trees from the bottom up, and laying out pages in the order in which they are finished.
//!
//! Invariant: only the page in the making is held, one leaf and one branch per level.
//! Invariant: no branch has fewer than two children: bbolt panics when a later delete meets one.
//! Invariant: unused bytes are zero, so equal input gives equal files.

use super::Error;
use super::bucket::{Bucket, Place};
use super::page::{ELEMENT_LEN, FLAG_BRANCH, FLAG_LEAF, Fault, HEADER_LEN, Header, MAX_KEY_LEN};
use super::writer::PageSink;

/// The longest value that bbolt stores.
const MAX_VALUE_LEN: usize = (1 << 31) - 2;
/// The most elements of a page; one more is the mark of a long freelist.
pub(super) const MAX_COUNT: usize = 65_534;
/// bbolt gives every leaf two entries when it can, however large; we do too, up to this size.
pub(super) const LARGE_LEAF: usize = 16 << 20;
/// Pages are handed to the sink in pieces of about this size.
const PIECE: usize = 1 << 20;

/// Lays runs of pages behind one another.
#[derive(Debug)]
pub(super) struct Layout<S> {
    pub(super) sink: S,
    page_size: usize,
    /// The pages that the sink has not got yet, and where they belong.
    piece: Vec<u8>,
    piece_at: u64,
}

impl<S: PageSink> Layout<S> {
    /// The first run will begin at page `first`.
    pub(super) fn new(sink: S, page_size: u32, first: u64) -> Result<Self, Error> {
        let piece_at = first.checked_mul(u64::from(page_size)).ok_or(Error::Exhausted)?;
        Ok(Layout {
            sink,
            page_size: page_size as usize,
            piece: Vec::new(),
            piece_at,
        })
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    /// The page that the next run begins at.
    pub(super) fn next_page(&self) -> u64 {
        (self.piece_at + self.piece.len() as u64) / self.page_size as u64
    }

    /// Adds a node of `len` bytes without its header, which `fill` appends, and returns its page.
    pub(super) fn node(
        &mut self,
        flags: u16,
        count: usize,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u64, Error> {
        let id = self.next_page();
        let len = (HEADER_LEN + len).next_multiple_of(self.page_size);
        let overflow = u32::try_from(len / self.page_size - 1).map_err(|_| Error::Exhausted)?;
        let count = u16::try_from(count).map_err(|_| Error::Exhausted)?;
        let end = self.piece.len() + len;
        self.piece.extend_from_slice(
            &Header {
                id,
                flags,
                count,
                overflow,
            }
            .encode(),
        );
        fill(&mut self.piece);
        debug_assert!(self.piece.len() <= end, "a node is as long as announced");
        self.piece.resize(end, 0);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(id)
    }

    /// Adds a run whose header is in `bytes` already.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.piece.extend_from_slice(bytes);
        self.piece.resize(self.piece.len().next_multiple_of(self.page_size), 0);
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let (offset, len) = (self.piece_at, self.piece.len() as u64);
        let taken = self.sink.take_at(offset, &mut self.piece);
        taken.map_err(|source| Error::Write { offset, len, source })?;
        self.piece_at += len;
        Ok(())
    }
}

/// Hands `bytes` to `sink`.
pub(super) fn write(sink: &mut impl PageSink, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let len = bytes.len() as u64;
    sink.write_at(offset, bytes)
        .map_err(|source| Error::Write { offset, len, source })
}

/// A leaf in the making.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// Lengths of key and value.
    sizes: Vec<(u32, u32)>,
    /// Keys and values, one behind the other.
    data: Vec<u8>,
}

/// Why a leaf does not take an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Order,
    Size,
}

impl Leaf {
    /// Bytes of the node with its header.
    pub(super) fn len(&self) -> usize {
        HEADER_LEN + ELEMENT_LEN * self.sizes.len() + self.data.len()
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let fits = (1..=MAX_KEY_LEN).contains(&key.len()) && value.len() <= MAX_VALUE_LEN;
        let total = self.len().checked_add(ELEMENT_LEN + MAX_KEY_LEN + value.len());
        if !fits || self.sizes.len() >= MAX_COUNT || total.is_none_or(|total| u32::try_from(total).is_err()) {
            return Err(Refusal::Size);
        }
        self.sizes.push((key.len() as u32, value.len() as u32));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        Ok(())
    }

    /// The elements, all with the same `flags`, then keys and values.
    fn encode(&self, flags: u32, into: &mut Vec<u8>) {
        let mut pos = (ELEMENT_LEN * self.sizes.len()) as u32;
        for (key_len, value_len) in &self.sizes {
            for field in [flags, pos, *key_len, *value_len] {
                into.extend_from_slice(&field.to_le_bytes());
            }
            // The next element begins later by its own length, and its key behind this key and value.
            pos = pos + key_len + value_len - ELEMENT_LEN as u32;
        }
        into.extend_from_slice(&self.data);
    }

    /// The leaf as an inline bucket has it: with a header of page 0.
    pub(super) fn encode_inline(&self) -> Vec<u8> {
        let mut bytes = Header {
            id: 0,
            flags: FLAG_LEAF,
            count: self.sizes.len() as u16,
            overflow: 0,
        }
        .encode()
        .to_vec();
        self.encode(0, &mut bytes);
        bytes
    }

    pub(super) fn write<S: PageSink>(&self, element_flags: u32, layout: &mut Layout<S>) -> Result<u64, Error> {
        let len = self.len() - HEADER_LEN;
        layout.node(FLAG_LEAF, self.sizes.len(), len, |into| {
            self.encode(element_flags, into)
        })
    }

    fn first_key(&self) -> &[u8] {
        let len = self.sizes.first().map_or(0, |(key_len, _)| *key_len as usize);
        self.data.get(..len).unwrap_or_default()
    }
}

/// A child and the first key in it.
#[derive(Debug)]
struct Child {
    key: Vec<u8>,
    page: u64,
}

/// One level of branches: the page in the making, and the two children that may have to move into the next one.
#[derive(Debug)]
struct Level {
    children: Vec<Child>,
    /// Bytes of a node of all the children.
    len: usize,
    /// How many of the children fill the page; at least two.
    full: Option<usize>,
}

impl Level {
    fn new() -> Self {
        Level {
            children: Vec::new(),
            len: HEADER_LEN,
            full: None,
        }
    }

    /// Adds a child. Once two more than a page are there the page is written and returned, so that never less than
    /// two are left for the last one.
    fn push<S: PageSink>(&mut self, child: Child, layout: &mut Layout<S>) -> Result<Option<Child>, Error> {
        let len = ELEMENT_LEN + child.key.len();
        let count = self.children.len();
        if self.full.is_none() && count >= 2 && (self.len + len > fill_limit(layout) || count >= MAX_COUNT - 2) {
            self.full = Some(count);
        }
        self.children.push(child);
        self.len += len;
        match self.full {
            Some(full) if self.children.len() >= full + 2 => self.write(full, layout).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Writes what is left, as one page or two.
    fn finish<S: PageSink>(&mut self, layout: &mut Layout<S>) -> Result<(Child, Option<Child>), Error> {
        let count = self.children.len();
        // A single child too many takes another one with it; of three they all stay together on an overlong page.
        let first = if self.full.is_some() && count > 3 {
            count - 2
        } else {
            count
        };
        let page = self.write(first, layout)?;
        let second = (count > first).then(|| self.write(count - first, layout)).transpose()?;
        Ok((page, second))
    }

    fn write<S: PageSink>(&mut self, count: usize, layout: &mut Layout<S>) -> Result<Child, Error> {
        let rest = self.children.split_off(count);
        let children = std::mem::replace(&mut self.children, rest);
        let written: usize = children.iter().map(|child| ELEMENT_LEN + child.key.len()).sum();
        self.len -= written;
        self.full = None;
        let page = layout.node(FLAG_BRANCH, count, written, |into| {
            let mut pos = (ELEMENT_LEN * count) as u32;
            for child in &children {
                into.extend_from_slice(&pos.to_le_bytes());
                into.extend_from_slice(&(child.key.len() as u32).to_le_bytes());
                into.extend_from_slice(&child.page.to_le_bytes());
                pos = pos + child.key.len() as u32 - ELEMENT_LEN as u32;
            }
            children.iter().for_each(|child| into.extend_from_slice(&child.key));
        })?;
        let key = children.into_iter().next().map(|child| child.key).unwrap_or_default();
        Ok(Child { key, page })
    }
}

/// One bucket's tree in the making.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The last leaf of the tree below, where it is as long as several pages and stays where it is.
    kept: Option<Child>,
    leaf: Leaf,
    /// From the lowest level of branches to the highest.
    levels: Vec<Level>,
    last_key: Vec<u8>,
}

/// A finished tree.
#[derive(Debug)]
pub(super) enum Root {
    /// On pages, from this one on.
    Page(u64),
    /// A leaf that is small enough for an inline bucket, and not written.
    Small(Leaf),
}

/// What [`Tree::put`] can fail with.
#[derive(Debug)]
pub(super) enum PutError {
    Refused(Refusal),
    Failed(Error),
}

impl From<Error> for PutError {
    fn from(error: Error) -> Self {
        PutError::Failed(error)
    }
}

impl From<Fault> for PutError {
    fn from(fault: Fault) -> Self {
        PutError::Failed(Error::Damaged(fault))
    }
}

impl Tree {
    /// Takes up a tree of an existing file at its right edge, to go on behind its last key. Returns also the first
    /// pages of the nodes that are written anew; none at all when the tree has a shape that we do not write.
    ///
    /// A last leaf of several pages stays as it is, and what comes begins one of its own: such a leaf takes nothing in any more,
    /// but for one of a single entry, and of large values it is megabytes.
    pub(super) fn resume<S: PageSink>(
        bucket: &Bucket<'_>,
        layout: &mut Layout<S>,
    ) -> Result<Option<(Tree, Vec<u64>)>, PutError> {
        let edge = bucket.right_edge()?;
        let Some((leaf, branches)) = edge.split_last() else {
            return Ok(None);
        };
        let well_shaped = branches.iter().all(|branch| branch.count >= 2) && (leaf.count > 0 || branches.is_empty());
        if !well_shaped {
            return Ok(None);
        }
        let mut tree = Tree::default();
        tree.levels.resize_with(branches.len(), Level::new);
        // From the root down: what a lower level completes belongs behind what is above already.
        for (depth, branch) in branches.iter().enumerate() {
            for index in 0..branch.count - 1 {
                let element = branch.branch(index, 0).map_err(|kind| kind.on(branch.page))?;
                let child = Child {
                    key: element.key.to_vec(),
                    page: element.child,
                };
                tree.add_child(branches.len() - 1 - depth, child, layout)?;
            }
        }
        let element_of = |index| leaf.leaf(index, 0).map_err(|kind| kind.on(leaf.page));
        let is_kept = bucket.place() == Place::Paged && leaf.count > 0 && leaf.len() > layout.page_size();
        if is_kept {
            tree.kept = Some(Child {
                key: element_of(0)?.key.to_vec(),
                page: leaf.page,
            });
            tree.last_key = element_of(leaf.count - 1)?.key.to_vec();
        } else {
            for index in 0..leaf.count {
                let element = element_of(index)?;
                tree.put(element.key, element.value, layout)?;
            }
        }
        let given_up = match (bucket.place(), is_kept) {
            (Place::Paged, false) => edge.iter().map(|node| node.page).collect(),
            (Place::Paged, true) => branches.iter().map(|node| node.page).collect(),
            (Place::Inline, _) => Vec::new(),
        };
        Ok(Some((tree, given_up)))
    }

    pub(super) fn put<S: PageSink>(
        &mut self,
        key: &[u8],
        value: &[u8],
        layout: &mut Layout<S>,
    ) -> Result<(), PutError> {
        if key <= self.last_key.as_slice() && !self.last_key.is_empty() {
            return Err(PutError::Refused(Refusal::Order));
        }
        if let Some(kept) = self.kept.take() {
            self.add_child(0, kept, layout)?;
        }
        let count = self.leaf.sizes.len();
        let len = self.leaf.len().saturating_add(ELEMENT_LEN + key.len() + value.len());
        let full = (count >= 2 && len > fill_limit(layout)) || (count >= 1 && len > LARGE_LEAF) || count >= MAX_COUNT;
        if full {
            self.flush_leaf(layout)?;
        }
        self.leaf.push(key, value).map_err(PutError::Refused)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    pub(super) fn finish<S: PageSink>(mut self, layout: &mut Layout<S>) -> Result<Root, Error> {
        let kept = self.kept.take();
        if self.levels.is_empty() {
            if let Some(kept) = kept {
                return Ok(Root::Page(kept.page));
            }
            if self.leaf.len() <= layout.page_size() / 4 {
                return Ok(Root::Small(self.leaf));
            }
            return self.leaf.write(0, layout).map(Root::Page);
        }
        match kept {
            Some(kept) => self.add_child(0, kept, layout)?,
            None => self.flush_leaf(layout)?,
        }
        let mut height = 0;
        loop {
            let Some(level) = self.levels.get_mut(height) else {
                return Err(Error::Exhausted);
            };
            let (page, second) = level.finish(layout)?;
            height += 1;
            if height == self.levels.len() && second.is_none() {
                return Ok(Root::Page(page.page));
            }
            self.add_child(height, page, layout)?;
            if let Some(second) = second {
                self.add_child(height, second, layout)?;
            }
        }
    }

    fn flush_leaf<S: PageSink>(&mut self, layout: &mut Layout<S>) -> Result<(), Error> {
        let page = self.leaf.write(0, layout)?;
        let child = Child {
            key: self.leaf.first_key().to_vec(),
            page,
        };
        self.leaf.sizes.clear();
        self.leaf.data.clear();
        self.add_child(0, child, layout)
    }

    /// Adds a child at `height`, and on every level above the page that this completes below it.
    fn add_child<S: PageSink>(&mut self, height: usize, child: Child, layout: &mut Layout<S>) -> Result<(), Error> {
        let mut child = Some(child);
        for height in height.. {
            let Some(next) = child else {
                break;
            };
            if self.levels.len() == height {
                self.levels.push(Level::new());
            }
            child = match self.levels.get_mut(height) {
                Some(level) => level.push(next, layout)?,
                None => return Err(Error::Exhausted),
            };
        }
        Ok(())
    }
}

/// etcd fills the pages of its append-only bucket to nine tenths.
fn fill_limit<S: PageSink>(layout: &Layout<S>) -> usize {
    layout.page_size() / 10 * 9
}
