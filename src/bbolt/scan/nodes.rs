//! What is kept of the nodes that have passed.

use super::Leaves;
use crate::bbolt::page::{
    ELEMENT_BUCKET, FLAG_FREELIST, FLAG_META, Fault, FaultKind, Header, LeafElement, Meta, Node, NodeType,
};

/// How many nodes are kept at most: with what is kept of their children 100 MiB at the very most.
const MAX_NODES: usize = 2 << 20;
/// How many bytes are kept of nodes as they are, of those that are sure to be needed and of all others.
const MAX_NEEDED_LEN: usize = 8 << 20;
const MAX_OTHER_LEN: usize = 24 << 20;

/// The nodes that have passed, in the order of their pages.
#[derive(Debug)]
pub(super) struct Nodes<L: Leaves> {
    first_keys: Vec<Vec<u8>>,
    pub(super) leaves: L,
    records: Vec<Record<L>>,
    /// What all branches of the followed bucket lead to, one branch after the other.
    children: Vec<(L::Key, u32)>,
    /// Nodes as they are.
    whole: Vec<Box<[u8]>>,
    needed_len: usize,
    other_len: usize,
    damaged: Vec<Damaged<L::Key>>,
    /// What is wrong with the meta pages.
    pub(super) meta_faults: Vec<Fault>,
    /// Whether there was no room for one more.
    pub(super) is_full: bool,
}

/// A node that has passed.
#[derive(Debug, Clone)]
struct Record<L: Leaves> {
    page: u32,
    /// One that does not fit is of a node that is not kept.
    overflow: u16,
    kept: Kept<L>,
}

#[derive(Debug, Clone)]
enum Kept<L: Leaves> {
    /// Its end has not passed.
    Coming,
    /// There was no room.
    Nothing,
    Leaf {
        first: L::Key,
        last: L::Key,
        leaf: L::Leaf,
    },
    Branch {
        first_child: u32,
        children: u32,
    },
    /// Its place in `whole`.
    Whole(u32),
    /// Its place in `damaged`.
    Damaged(u32),
}

/// A node that contradicts the format.
#[derive(Debug, Clone)]
struct Damaged<K> {
    kind: FaultKind,
    edge: Option<Edge<K>>,
}

/// Where the right edge of a tree goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge<K> {
    /// To the last child of a branch.
    Child(u64),
    /// It ends with the last key of a leaf.
    LastKey(K),
    /// It ends with an empty leaf.
    EmptyLeaf,
}

/// One node, as a walk over the trees sees it.
pub(super) enum Seen<'a, L: Leaves> {
    /// A leaf of the followed bucket.
    Leaf {
        first: &'a L::Key,
        last: &'a L::Key,
    },
    /// A branch of the followed bucket.
    Branch(&'a [(L::Key, u32)]),
    /// Any other node.
    Whole(Node<'a>),
    Damaged(&'a FaultKind),
    /// Nothing is known of it for lack of room.
    NoRoom,
    /// No node of this database begins at the page.
    None,
}

impl<L: Leaves> Nodes<L> {
    pub(super) fn new(first_keys: &[&[u8]], leaves: L) -> Nodes<L> {
        Nodes {
            first_keys: first_keys.iter().map(|key| key.to_vec()).collect(),
            leaves,
            records: Vec::new(),
            children: Vec::new(),
            whole: Vec::new(),
            needed_len: 0,
            other_len: 0,
            damaged: Vec::new(),
            meta_faults: Vec::new(),
            is_full: false,
        }
    }

    /// Looks at the header of a meta page.
    pub(super) fn meta_page(&mut self, page: u64, header: Option<Header>) {
        let Some(header) = header else {
            return;
        };
        if header.id != page {
            self.meta_faults.push(FaultKind::WrongId { found: header.id }.on(page));
        } else if header.flags != FLAG_META {
            self.meta_faults
                .push(FaultKind::WrongType { flags: header.flags }.on(page));
        }
    }

    /// Makes room for a node that begins on the page which passes; returns its place.
    pub(super) fn begin(&mut self, header: &Header) -> usize {
        let slot = self.records.len();
        let page = u32::try_from(header.id);
        match page {
            Ok(page) if slot < MAX_NODES => self.records.push(Record {
                page,
                overflow: u16::try_from(header.overflow).unwrap_or(u16::MAX),
                kept: Kept::Coming,
            }),
            Ok(_) | Err(_) => self.is_full = true,
        }
        slot
    }

    /// Takes in the node whose place is `slot`, now that all of it has passed.
    pub(super) fn complete(&mut self, slot: usize, meta: &Meta, header: &Header, bytes: &[u8]) {
        if slot >= self.records.len() {
            return;
        }
        let kept = match header.flags {
            FLAG_FREELIST => self.keep_whole(bytes, true),
            _ => match Node::new(header.id, header, bytes) {
                Ok(node) if node.node_type == NodeType::Leaf => self.leaf(&node, bytes, header.id == meta.root),
                Ok(node) => self.branch(&node, bytes, header.id == meta.root),
                Err(kind) => self.damaged(kind, None),
            },
        };
        if let Some(record) = self.records.get_mut(slot) {
            record.kept = kept;
        }
    }

    /// Keeps nothing of the node whose place is `slot`.
    pub(super) fn give_up(&mut self, slot: usize) {
        if let Some(record) = self.records.get_mut(slot) {
            record.kept = Kept::Nothing;
        }
    }

    /// The place of the node that begins at `page`.
    pub(super) fn place(&self, page: u64) -> Option<u32> {
        let page = u32::try_from(page).ok()?;
        let at = self.records.binary_search_by_key(&page, |record| record.page).ok()?;
        u32::try_from(at).ok()
    }

    /// The first key of the leaf of the followed bucket that is at a place, and what was made of it.
    pub(super) fn leaf_at(&self, place: u32) -> Option<(&L::Key, L::Leaf)> {
        match &self.records.get(place as usize)?.kept {
            Kept::Leaf { first, leaf, .. } => Some((first, *leaf)),
            _ => None,
        }
    }

    /// Drops what a walk needs, once it has been made.
    pub(super) fn forget_branches(&mut self) {
        self.children = Vec::new();
    }

    /// The node that begins at `page`, and how many pages it has.
    pub(super) fn at(&self, page: u64) -> (Seen<'_, L>, u64) {
        let Some(record) = self.record(page) else {
            return (if self.is_full { Seen::NoRoom } else { Seen::None }, 1);
        };
        let seen = match &record.kept {
            Kept::Coming => Seen::None,
            Kept::Nothing => Seen::NoRoom,
            Kept::Leaf { first, last, .. } => Seen::Leaf { first, last },
            Kept::Branch { first_child, children } => {
                let from = *first_child as usize;
                let children = self.children.get(from..from + *children as usize);
                Seen::Branch(children.unwrap_or_default())
            }
            Kept::Whole(at) => self.whole_at(*at).map_or(Seen::None, Seen::Whole),
            Kept::Damaged(at) => match self.damaged.get(*at as usize) {
                Some(damaged) => Seen::Damaged(&damaged.kind),
                None => Seen::None,
            },
        };
        (seen, u64::from(record.overflow) + 1)
    }

    /// The bytes of a freelist at `page`, as far as they are in use, and how many pages it has.
    pub(super) fn freelist(&self, page: u64) -> Option<(&[u8], u64)> {
        let record = self.record(page)?;
        match &record.kept {
            Kept::Whole(at) => Some((self.whole.get(*at as usize)?, u64::from(record.overflow) + 1)),
            _ => None,
        }
    }

    /// Where the right edge of the followed bucket goes on from `page`.
    pub(super) fn edge(&self, page: u64) -> Option<Edge<L::Key>> {
        match &self.record(page)?.kept {
            Kept::Leaf { last, .. } => Some(Edge::LastKey(last.clone())),
            Kept::Branch { first_child, children } => {
                let last = (*first_child + *children).checked_sub(1)?;
                Some(Edge::Child(u64::from(self.children.get(last as usize)?.1)))
            }
            Kept::Whole(at) => self.edge_of(&self.whole_at(*at)?),
            Kept::Damaged(at) => self.damaged.get(*at as usize)?.edge.clone(),
            Kept::Coming | Kept::Nothing => None,
        }
    }

    fn record(&self, page: u64) -> Option<&Record<L>> {
        self.records.get(self.place(page)? as usize)
    }

    fn whole_at(&self, at: u32) -> Option<Node<'_>> {
        let bytes = self.whole.get(at as usize)?;
        let header = Header::parse(bytes)?;
        Node::new(header.id, &header, bytes).ok()
    }

    fn leaf(&mut self, node: &Node<'_>, bytes: &[u8], is_root: bool) -> Kept<L> {
        let mut floor = node.data_start();
        let (mut before, mut first_flags): (Option<&[u8]>, u32) = (None, 0);
        let mut ends: Option<(L::Key, L::Key)> = None;
        let mut is_followed = !is_root;
        for index in 0..node.count {
            let LeafElement { flags, key, end, .. } = match node.leaf(index, floor) {
                Ok(element) => element,
                Err(kind) => return self.damaged(kind, self.edge_of(node)),
            };
            if before.is_some_and(|before| key <= before) {
                let kind = FaultKind::KeyOrder { index: index as u64 };
                return self.damaged(kind, self.edge_of(node));
            }
            if is_followed {
                match self.leaves.key(key).filter(|_| flags == 0) {
                    Some(image) => match &mut ends {
                        Some((_, last)) => *last = image,
                        None => ends = Some((image.clone(), image)),
                    },
                    None => is_followed = false,
                }
            }
            if index == 0 {
                first_flags = flags;
            }
            (floor, before) = (end, Some(key));
        }
        if let Some((first, last)) = ends.filter(|_| is_followed) {
            let mut floor = node.data_start();
            let entries = (0..node.count).map_while(|index| {
                let element = node.leaf(index, floor).ok()?;
                floor = element.end;
                Some((element.key, element.value))
            });
            return match self.leaves.leaf(entries) {
                Some(leaf) => Kept::Leaf { first, last, leaf },
                None => Kept::Nothing,
            };
        }
        let first = node.leaf(0, node.data_start()).map(|first| first.key);
        let is_promising = first.is_ok_and(|first| self.first_keys.iter().any(|key| key == first));
        let is_needed = is_root || node.count == 0 || first_flags == ELEMENT_BUCKET || is_promising;
        self.keep_whole(&bytes[..floor.min(bytes.len())], is_needed)
    }

    fn branch(&mut self, node: &Node<'_>, bytes: &[u8], is_root: bool) -> Kept<L> {
        let first_child = self.children.len();
        let mut floor = node.data_start();
        let mut before: Option<&[u8]> = None;
        let mut is_followed = !is_root;
        for index in 0..node.count {
            let element = node.branch(index, floor);
            let in_order = element.map(|element| (before.is_none_or(|before| element.key > before), element));
            let element = match in_order {
                Ok((true, element)) => element,
                Ok((false, _)) => {
                    self.children.truncate(first_child);
                    let kind = FaultKind::KeyOrder { index: index as u64 };
                    return self.damaged(kind, self.edge_of(node));
                }
                Err(kind) => {
                    self.children.truncate(first_child);
                    return self.damaged(kind, self.edge_of(node));
                }
            };
            if is_followed {
                match self.leaves.key(element.key) {
                    // A page beyond 32 bits is in no database that there is room for.
                    Some(image) => self
                        .children
                        .push((image, u32::try_from(element.child).unwrap_or(u32::MAX))),
                    None => is_followed = false,
                }
            }
            (floor, before) = (element.end, Some(element.key));
        }
        let children = self.children.len() - first_child;
        if is_followed && children > 0 && self.children.len() <= MAX_NODES {
            return Kept::Branch {
                first_child: first_child as u32,
                children: children as u32,
            };
        }
        self.children.truncate(first_child);
        if is_followed && children > 0 {
            return Kept::Nothing;
        }
        self.keep_whole(&bytes[..floor.min(bytes.len())], is_root || node.count == 0)
    }

    fn keep_whole(&mut self, bytes: &[u8], is_needed: bool) -> Kept<L> {
        let (len, most) = match is_needed {
            true => (&mut self.needed_len, MAX_NEEDED_LEN),
            false => (&mut self.other_len, MAX_OTHER_LEN),
        };
        if *len + bytes.len() > most {
            return Kept::Nothing;
        }
        *len += bytes.len();
        self.whole.push(bytes.into());
        Kept::Whole((self.whole.len() - 1) as u32)
    }

    fn damaged(&mut self, kind: FaultKind, edge: Option<Edge<L::Key>>) -> Kept<L> {
        self.damaged.push(Damaged { kind, edge });
        Kept::Damaged((self.damaged.len() - 1) as u32)
    }

    fn edge_of(&self, node: &Node<'_>) -> Option<Edge<L::Key>> {
        let Some(last) = node.count.checked_sub(1) else {
            return (node.node_type == NodeType::Leaf).then_some(Edge::EmptyLeaf);
        };
        match node.node_type {
            NodeType::Branch => Some(Edge::Child(node.branch(last, node.data_start()).ok()?.child)),
            NodeType::Leaf => {
                let last = node.leaf(last, node.data_start()).ok()?;
                Some(Edge::LastKey(self.leaves.key(last.key)?))
            }
        }
    }
}
