//! Pages: headers, metas, nodes and their elements, as they lie in the file.
//!
//! ```text
//! page     0 id u64 | 8 flags u16 | 10 count u16 | 12 overflow u32 | 16 elements …
//! branch   0 pos u32 | 4 key size u32 | 8 child u64                     pos counts from the element itself
//! leaf     0 flags u32 | 4 pos u32 | 8 key size u32 | 12 value size u32
//! meta    16 magic u32 | 20 version u32 | 24 page size u32 | 28 flags u32 | 32 root u64 | 40 sequence u64
//!         48 freelist u64 | 56 high-water mark u64 | 64 txid u64 | 72 checksum u64 (FNV-1a of 16..72)
//! ```
//!
//! A node of overflow n is one run of n + 1 pages of which only the first has a header.
//! All numbers are little-endian and may lie unaligned (inline buckets do), hence no casts.

use std::fmt;

pub(super) const HEADER_LEN: usize = 16;
pub(super) const ELEMENT_LEN: usize = 16;
/// Where a meta ends in its page.
pub(super) const META_END: usize = 80;

pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
pub(super) const FLAG_FREELIST: u16 = 0x10;

/// The flag of a leaf element whose value is a bucket.
pub(super) const ELEMENT_BUCKET: u32 = 1;
/// The page id that says "no freelist is stored".
pub(super) const NO_FREELIST: u64 = u64::MAX;

pub(super) const MAX_KEY_LEN: usize = 32_768;
/// Deeper than any tree with two children per branch can be.
pub(super) const MAX_DEPTH: usize = 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
pub(super) const MIN_PAGE_SIZE: u32 = 1 << 10;
pub(super) const MAX_PAGE_SIZE: u32 = 1 << 24;

/// A contradiction to the format, and the page it was found on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page}: {kind}")]
pub struct Fault {
    /// The page; for an inline bucket the page that holds it.
    pub page: u64,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What can be wrong with a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// A reference to a page that is a meta or not in the file.
    #[error("is referred to but is not one of the nodes of {pages} pages")]
    OutOfRange {
        /// The pages of the file.
        pages: u64,
    },
    /// The header names another page.
    #[error("its header says that it is page {found}")]
    WrongId {
        /// The id in the header.
        found: u64,
    },
    /// The header's type is not the one this place calls for.
    #[error("unexpected page type {flags:#04x}")]
    WrongType {
        /// The flags in the header.
        flags: u16,
    },
    /// The overflow pages reach beyond the high-water mark.
    #[error("{overflow} overflow pages reach beyond the last page")]
    RunTooLong {
        /// The overflow in the header.
        overflow: u32,
    },
    /// More elements than the page has room for.
    #[error("{count} elements do not fit")]
    TooManyElements {
        /// The count in the header.
        count: u64,
    },
    /// The key or the value of an element lies outside the page or inside another element.
    #[error("element {index} lies outside its place in the page")]
    ElementOutOfPlace {
        /// The element's number, from 0.
        index: u64,
    },
    /// A key that is empty or longer than bbolt allows.
    #[error("element {index} has a key of {len} bytes")]
    KeyLength {
        /// The element's number, from 0.
        index: u64,
        /// The length of its key.
        len: u64,
    },
    /// Element flags that etcd does not produce: a nested bucket, or a plain entry among the buckets.
    #[error("element {index} has unexpected flags {flags:#x}")]
    ElementFlags {
        /// The element's number, from 0.
        index: u64,
        /// The flags of the element.
        flags: u32,
    },
    /// The value of a bucket element is too short or holds a broken inline page.
    #[error("element {index} is not a well-formed bucket")]
    BucketHeader {
        /// The element's number, from 0.
        index: u64,
    },
    /// A branch without children.
    #[error("branch page without children")]
    EmptyBranch,
    /// A tree that goes over more pages than the file has.
    #[error("the tree runs in a circle")]
    Circle,
    /// A tree that goes deeper than any that bbolt builds; it may run in a circle.
    #[error("the tree goes down without end")]
    TooDeep,
    /// A page of a stream that a tree leads to, but from which it does not lead on.
    #[error("is referred to but has no readable last element")]
    NoLastElement,
    /// A page of a stream that a tree leads to, but at which no node begins.
    #[error("is referred to but no node begins there")]
    NoNode,
    /// A key that entries of its bucket do not have.
    #[error("element {index} has a key that is none of its bucket's")]
    ForeignKey {
        /// The element's number, from 0.
        index: u64,
    },
    /// A page that is reached on two ways, or belongs to two nodes.
    #[error("is reached twice")]
    Shared,
    /// A key that is not greater than the one before it in the page.
    #[error("element {index} is out of order")]
    KeyOrder {
        /// The element's number, from 0.
        index: u64,
    },
    /// A key outside the range that the branches above leave for the page.
    #[error("element {index} belongs under another branch")]
    KeyRange {
        /// The element's number, from 0.
        index: u64,
    },
    /// An entry of the stored freelist that is no page, or is listed twice.
    #[error("listed as free twice, or not a page")]
    BadFreePage,
    /// A page of a tree that the stored freelist gives away.
    #[error("in use but listed as free")]
    FreeInUse,
    /// A page that is neither used nor in the stored freelist.
    #[error("neither in use nor listed as free")]
    Leaked,
    /// A branch with one child, which makes bbolt panic at a later delete.
    #[error("branch page with a single child")]
    ThinBranch,
    /// A leaf without entries below a branch.
    #[error("empty leaf page below a branch")]
    EmptyLeaf,
}

impl FaultKind {
    pub(super) fn on(self, page: u64) -> Fault {
        Fault { page, kind: self }
    }
}

/// The two kinds of node in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeType {
    Branch,
    Leaf,
}

/// A page header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let word = word_at(bytes, 0)?;
        Some(Header {
            id: word as u64,
            flags: (word >> 64) as u16,
            count: (word >> 80) as u16,
            overflow: (word >> 96) as u32,
        })
    }

    pub(super) fn node_type(&self) -> Option<NodeType> {
        match self.flags {
            FLAG_BRANCH => Some(NodeType::Branch),
            FLAG_LEAF => Some(NodeType::Leaf),
            _ => None,
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let word = u128::from(self.id)
            | u128::from(self.flags) << 64
            | u128::from(self.count) << 80
            | u128::from(self.overflow) << 96;
        word.to_le_bytes()
    }
}

/// A node of a tree: a run of pages, or an inline bucket.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    /// The first page of the run, or the page that an inline bucket lies on.
    pub(super) page: u64,
    pub(super) node_type: NodeType,
    pub(super) count: usize,
    /// Header, elements, keys and values, to the end of the run.
    bytes: &'a [u8],
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("page", &self.page)
            .field("type", &self.node_type)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// An entry of a leaf, and where it ends in the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeafElement<'a> {
    pub(super) flags: u32,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) end: usize,
}

/// An entry of a branch, and where its key ends in the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct BranchElement<'a> {
    pub(super) key: &'a [u8],
    pub(super) child: u64,
    pub(super) end: usize,
}

impl<'a> Node<'a> {
    /// The node in `bytes`, the whole run, whose header was parsed and compared with its place already.
    pub(super) fn new(page: u64, header: &Header, bytes: &'a [u8]) -> Result<Node<'a>, FaultKind> {
        let wrong_type = FaultKind::WrongType { flags: header.flags };
        let node = Node {
            page,
            node_type: header.node_type().ok_or(wrong_type)?,
            count: usize::from(header.count),
            bytes,
        };
        if node.data_start() > bytes.len() {
            return Err(FaultKind::TooManyElements {
                count: u64::from(header.count),
            });
        }
        Ok(node)
    }

    /// How many bytes the node takes up, free space included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the keys and values may begin.
    pub(super) fn data_start(&self) -> usize {
        HEADER_LEN + ELEMENT_LEN * self.count
    }

    /// The entry `index` of a leaf. `floor`, where the entry before it ended, bounds it from below: entries lie in
    /// order and apart, so that a pass over a node cannot cost more than the node's size.
    #[inline]
    pub(super) fn leaf(&self, index: usize, floor: usize) -> Result<LeafElement<'a>, FaultKind> {
        let word = self.element(index)?;
        let (pos, key_len, value_len) = ((word >> 32) as u32, (word >> 64) as u32, (word >> 96) as u32);
        let (key, rest, key_end) = self.key(index, pos, key_len, floor)?;
        let out_of_place = || FaultKind::ElementOutOfPlace { index: index as u64 };
        let value = rest.get(..value_len as usize).ok_or_else(out_of_place)?;
        let end = key_end.checked_add(value.len()).ok_or_else(out_of_place)?;
        Ok(LeafElement {
            flags: word as u32,
            key,
            value,
            end,
        })
    }

    /// The entry `index` of a branch, bounded as in [`Node::leaf`].
    #[inline]
    pub(super) fn branch(&self, index: usize, floor: usize) -> Result<BranchElement<'a>, FaultKind> {
        let word = self.element(index)?;
        let (key, _, end) = self.key(index, word as u32, (word >> 32) as u32, floor)?;
        Ok(BranchElement {
            key,
            child: (word >> 64) as u64,
            end,
        })
    }

    #[inline]
    fn element(&self, index: usize) -> Result<u128, FaultKind> {
        let out_of_place = FaultKind::ElementOutOfPlace { index: index as u64 };
        if index >= self.count {
            return Err(out_of_place);
        }
        word_at(self.bytes, HEADER_LEN + ELEMENT_LEN * index).ok_or(out_of_place)
    }

    /// The key of element `index`, what follows it, and where it ends.
    #[inline]
    fn key(&self, index: usize, pos: u32, len: u32, floor: usize) -> Result<(&'a [u8], &'a [u8], usize), FaultKind> {
        let start = (HEADER_LEN + ELEMENT_LEN * index)
            .checked_add(pos as usize)
            .filter(|start| *start >= floor);
        let split = start.and_then(|start| Some((start, self.bytes.get(start..)?.split_at_checked(len as usize)?)));
        let Some((start, (key, rest))) = split else {
            return Err(FaultKind::ElementOutOfPlace { index: index as u64 });
        };
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            return Err(FaultKind::KeyLength {
                index: index as u64,
                len: u64::from(len),
            });
        }
        Ok((key, rest, start + key.len()))
    }

    /// Which child of a branch to follow for `key`: the last whose key is not greater, else the first.
    pub(super) fn child_for(&self, key: &[u8]) -> Result<u64, FaultKind> {
        if self.count == 0 {
            return Err(FaultKind::EmptyBranch);
        }
        let after = self.before(|key_of| key_of <= key)?;
        Ok(self.branch(after.saturating_sub(1), self.data_start())?.child)
    }

    /// The entry of `key` in a leaf, and its number.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<(usize, LeafElement<'a>)>, FaultKind> {
        let at = self.before(|key_of| key_of < key)?;
        if at >= self.count {
            return Ok(None);
        }
        let element = self.leaf(at, self.data_start())?;
        Ok((element.key == key).then_some((at, element)))
    }

    /// How many elements at the front have keys that satisfy `before`.
    pub(super) fn before(&self, before: impl Fn(&[u8]) -> bool) -> Result<usize, FaultKind> {
        let floor = self.data_start();
        self.partition(|node, index| {
            Ok(before(match node.node_type {
                NodeType::Branch => node.branch(index, floor)?.key,
                NodeType::Leaf => node.leaf(index, floor)?.key,
            }))
        })
    }

    /// How many elements at the front satisfy `before`.
    fn partition(&self, before: impl Fn(&Self, usize) -> Result<bool, FaultKind>) -> Result<usize, FaultKind> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if before(self, middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// A valid meta page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes per page, a power of two.
    pub page_size: u32,
    /// The root page of the tree of buckets.
    pub root: u64,
    /// The first page of the freelist, if one is stored.
    pub freelist: Option<u64>,
    /// The high-water mark: how many pages are in use or free; every page id is below it.
    pub pages: u64,
    /// The transaction that wrote it.
    pub txid: u64,
}

/// What stands where a meta page was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetaBytes {
    Valid(Meta),
    /// The magic number of a machine of the other byte order.
    Swapped,
    Invalid,
}

impl Meta {
    /// Reads the meta of the page that begins where `page` does.
    pub(super) fn parse(page: &[u8]) -> MetaBytes {
        Self::parse_fields(page).unwrap_or(MetaBytes::Invalid)
    }

    fn parse_fields(page: &[u8]) -> Option<MetaBytes> {
        let magic = u32_at(page, 16)?;
        if magic == MAGIC.swap_bytes() {
            return Some(MetaBytes::Swapped);
        }
        let page_size = u32_at(page, 24)?;
        let freelist = u64_at(page, 48)?;
        let meta = Meta {
            page_size,
            root: u64_at(page, 32)?,
            freelist: (freelist != NO_FREELIST).then_some(freelist),
            pages: u64_at(page, 56)?,
            txid: u64_at(page, 64)?,
        };
        let valid = magic == MAGIC
            && u32_at(page, 20)? == VERSION
            && u64_at(page, 72)? == fnv1a(page.get(HEADER_LEN..72)?)
            && page_size.is_power_of_two()
            && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&page_size);
        Some(if valid {
            MetaBytes::Valid(meta)
        } else {
            MetaBytes::Invalid
        })
    }

    /// The whole meta page number `page`; the root bucket's sequence is 0.
    pub(super) fn encode(&self, page: u64) -> Vec<u8> {
        let mut bytes = Header {
            id: page,
            flags: FLAG_META,
            count: 0,
            overflow: 0,
        }
        .encode()
        .to_vec();
        for field in [MAGIC, VERSION, self.page_size, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [
            self.root,
            0,
            self.freelist.unwrap_or(NO_FREELIST),
            self.pages,
            self.txid,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let checksum = fnv1a(bytes.get(HEADER_LEN..).unwrap_or_default());
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.resize(bytes.len().max(self.page_size as usize), 0);
        bytes
    }

    /// How many bytes the file has by its own account.
    pub(super) fn file_len(&self) -> Option<u64> {
        self.pages.checked_mul(u64::from(self.page_size))
    }
}

pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 16 bytes of a header or an element as one number; its fields are shifted out of it.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
