//! Whether a database that has passed is whole: the same rules as [`crate::bbolt::check`], on what was kept of its nodes.

use std::cmp::Ordering;

use super::Leaves;
use super::nodes::{Nodes, Seen};
use crate::bbolt::bucket::BucketRoot;
use crate::bbolt::freelist;
use crate::bbolt::page::{Fault, FaultKind, LeafElement, MAX_DEPTH, Meta, Node, NodeType};
use crate::bbolt::page_set::PageSet;

/// How many faults are named; the others are only counted.
const NAMED_FAULTS: usize = 100;

/// What a walk over the trees came to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The leaves of the followed bucket in order: their places among the nodes.
    pub(super) leaves: Vec<u32>,
    pub(super) faults: Vec<Fault>,
    pub(super) fault_count: u64,
    /// Whether something was not seen for lack of room.
    pub(super) is_short_of_room: bool,
}

/// Walks over all trees of a database.
pub(super) fn walk<L: Leaves>(meta: &Meta, nodes: &Nodes<L>, followed: &[u8]) -> Walked {
    let mut walk = Walk {
        meta,
        nodes,
        reachable: PageSet::new(meta.pages),
        walked: Walked::default(),
    };
    walk.reachable.insert(0);
    walk.reachable.insert(1);
    for fault in &nodes.meta_faults {
        walk.fault(fault.clone());
    }
    let free = walk.freelist();
    walk.tree(meta.root, Bucket::Root, followed);
    if let Some(free) = free {
        walk.compare_free(&free);
    }
    walk.walked
}

struct Walk<'a, L: Leaves> {
    meta: &'a Meta,
    nodes: &'a Nodes<L>,
    reachable: PageSet,
    walked: Walked,
}

/// Which tree a walk is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Root,
    Followed,
    Other,
}

/// A key that bounds what stands below a branch.
enum Bound<'a, K> {
    Whole(&'a [u8]),
    Kept(&'a K),
}

impl<K> Clone for Bound<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Bound<'_, K> {}

impl<K: Ord> Bound<'_, K> {
    /// The order of two keys; none where not the same was kept of both.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Bound::Whole(one), Bound::Whole(other)) => Some(one.cmp(other)),
            (Bound::Kept(one), Bound::Kept(other)) => Some(one.cmp(other)),
            (Bound::Whole(_), Bound::Kept(_)) | (Bound::Kept(_), Bound::Whole(_)) => None,
        }
    }
}

/// The keys that may stand below a branch element: from its own key to before that of the next.
struct Range<'a, K> {
    from: Option<Bound<'a, K>>,
    below: Option<Bound<'a, K>>,
}

/// A branch on the way to a leaf: its children that are still to come, each with the key it begins with.
struct Level<'a, K> {
    children: Children<'a, K>,
    next: usize,
    below: Option<Bound<'a, K>>,
}

enum Children<'a, K> {
    Kept(&'a [(K, u32)]),
    Whole(Node<'a>),
}

impl<'a, K> Children<'a, K> {
    fn len(&self) -> usize {
        match self {
            Children::Kept(children) => children.len(),
            Children::Whole(node) => node.count,
        }
    }

    fn get(&self, index: usize) -> Option<(Bound<'a, K>, u64)> {
        match self {
            Children::Kept(children) => {
                let (key, child) = children.get(index)?;
                Some((Bound::Kept(key), u64::from(*child)))
            }
            // It was read as a whole when it passed.
            Children::Whole(node) => {
                let element = node.branch(index, node.data_start()).ok()?;
                Some((Bound::Whole(element.key), element.child))
            }
        }
    }
}

impl<'a, L: Leaves> Walk<'a, L> {
    #[cold]
    fn fault(&mut self, fault: Fault) {
        if self.walked.faults.len() < NAMED_FAULTS {
            self.walked.faults.push(fault);
        }
        self.walked.fault_count += 1;
    }

    /// Takes the pages of a node into use; false when one was in use before.
    fn claim(&mut self, page: u64, run: u64) -> bool {
        let shared = self.reachable.insert_run(page, run);
        if let Some(shared) = shared {
            self.fault(FaultKind::Shared.on(shared));
        }
        shared.is_none()
    }

    fn tree(&mut self, root: u64, bucket: Bucket, followed: &[u8]) {
        let mut levels: Vec<Level<'a, L::Key>> = Vec::new();
        let whole = Range {
            from: None,
            below: None,
        };
        self.enter(root, whole, bucket, followed, &mut levels);
        while let Some(level) = levels.last_mut() {
            let index = level.next;
            if index >= level.children.len() {
                levels.pop();
                continue;
            }
            level.next += 1;
            let Some((key, child)) = level.children.get(index) else {
                continue;
            };
            let after = level.children.get(index + 1).map(|(key, _)| key);
            let range = Range {
                from: Some(key),
                below: after.or(level.below),
            };
            self.enter(child, range, bucket, followed, &mut levels);
        }
    }

    /// Goes to a node: takes in a leaf, and puts a branch on `levels`.
    fn enter(
        &mut self,
        page: u64,
        range: Range<'a, L::Key>,
        bucket: Bucket,
        followed: &[u8],
        levels: &mut Vec<Level<'a, L::Key>>,
    ) {
        if page < 2 || page >= self.meta.pages {
            let pages = self.meta.pages;
            return self.fault(FaultKind::OutOfRange { pages }.on(page));
        }
        let (seen, run) = self.nodes.at(page);
        if let Seen::NoRoom = seen {
            self.walked.is_short_of_room = true;
            return;
        }
        if !self.claim(page, run) {
            return;
        }
        let children = match seen {
            Seen::NoRoom => return,
            Seen::None => return self.fault(FaultKind::NoNode.on(page)),
            Seen::Damaged(kind) => return self.fault(kind.clone().on(page)),
            Seen::Leaf { first, last } => {
                self.bounds(page, Bound::Kept(first), Bound::Kept(last), &range);
                if bucket == Bucket::Followed {
                    self.walked.leaves.extend(self.nodes.place(page));
                }
                return;
            }
            Seen::Whole(leaf) if leaf.node_type == NodeType::Leaf => {
                return self.leaf(leaf, &range, bucket, followed);
            }
            Seen::Branch(children) => Children::Kept(children),
            Seen::Whole(branch) => Children::Whole(branch),
        };
        if children.len() == 0 {
            return self.fault(FaultKind::EmptyBranch.on(page));
        }
        if levels.len() >= MAX_DEPTH {
            return self.fault(FaultKind::TooDeep.on(page));
        }
        if let (Some((first, _)), Some((last, _))) = (children.get(0), children.get(children.len() - 1)) {
            self.bounds(page, first, last, &range);
        }
        levels.push(Level {
            children,
            next: 0,
            below: range.below,
        });
    }

    /// Whether the keys of a node are among those that the branch above leaves to it.
    fn bounds(&mut self, page: u64, first: Bound<'a, L::Key>, last: Bound<'a, L::Key>, range: &Range<'a, L::Key>) {
        let before = range.from.map(|from| first.order(&from));
        let beyond = range.below.map(|below| last.order(&below));
        if before == Some(None) || beyond == Some(None) {
            // A key of the followed bucket among others, or the other way round.
            return self.fault(FaultKind::KeyRange { index: 0 }.on(page));
        }
        if before == Some(Some(Ordering::Less)) || beyond.flatten().is_some_and(|order| order != Ordering::Less) {
            self.fault(FaultKind::KeyRange { index: 0 }.on(page));
        }
    }

    /// A leaf that was kept as it is: of the root tree, of a small bucket, or one that is not as those of the followed
    /// bucket are.
    fn leaf(&mut self, leaf: Node<'a>, range: &Range<'a, L::Key>, bucket: Bucket, followed: &[u8]) {
        let mut floor = leaf.data_start();
        let mut ends: Option<(&[u8], &[u8])> = None;
        for index in 0..leaf.count {
            let element = match leaf.leaf(index, floor) {
                Ok(element) => element,
                Err(kind) => {
                    self.fault(kind.on(leaf.page));
                    continue;
                }
            };
            floor = element.end;
            ends = Some((ends.map_or(element.key, |(first, _)| first), element.key));
            match bucket {
                Bucket::Root => self.bucket(leaf.page, index, &element, followed),
                Bucket::Followed => self.fault(FaultKind::ForeignKey { index: index as u64 }.on(leaf.page)),
                Bucket::Other if element.flags != 0 => {
                    let (index, flags) = (index as u64, element.flags);
                    self.fault(FaultKind::ElementFlags { index, flags }.on(leaf.page));
                }
                Bucket::Other => {}
            }
        }
        if let Some((first, last)) = ends {
            self.bounds(leaf.page, Bound::Whole(first), Bound::Whole(last), range);
        }
    }

    /// A bucket in a leaf of the root tree.
    fn bucket(&mut self, page: u64, index: usize, element: &LeafElement<'a>, followed: &[u8]) {
        let is_followed = element.key == followed;
        match BucketRoot::parse(page, index, element) {
            Ok(BucketRoot::Page(root)) => {
                let bucket = if is_followed { Bucket::Followed } else { Bucket::Other };
                self.tree(root, bucket, followed);
            }
            Ok(BucketRoot::Inline(leaf)) => self.inline(leaf, is_followed),
            Err(fault) => self.fault(fault),
        }
    }

    /// A bucket inside the value of its entry.
    fn inline(&mut self, leaf: Node<'a>, is_followed: bool) {
        let (mut floor, mut before): (usize, Option<&[u8]>) = (leaf.data_start(), None);
        for index in 0..leaf.count {
            let number = index as u64;
            match leaf.leaf(index, floor) {
                Ok(element) => {
                    floor = element.end;
                    if before.is_some_and(|before| element.key <= before) {
                        self.fault(FaultKind::KeyOrder { index: number }.on(leaf.page));
                    }
                    before = Some(element.key);
                    if element.flags != 0 {
                        let flags = element.flags;
                        self.fault(FaultKind::ElementFlags { index: number, flags }.on(leaf.page));
                    } else if is_followed && self.nodes.leaves.key(element.key).is_none() {
                        self.fault(FaultKind::ForeignKey { index: number }.on(leaf.page));
                    }
                }
                Err(kind) => self.fault(kind.on(leaf.page)),
            }
        }
    }

    /// The pages that a stored freelist names.
    fn freelist(&mut self) -> Option<PageSet> {
        let page = self.meta.freelist?;
        let Some((bytes, run)) = self.nodes.freelist(page) else {
            match self.nodes.at(page).0 {
                Seen::NoRoom => self.walked.is_short_of_room = true,
                _ => self.fault(FaultKind::NoNode.on(page)),
            }
            return None;
        };
        let ids = match freelist::parse(bytes) {
            Ok(ids) => ids,
            Err(kind) => {
                self.fault(kind.on(page));
                return None;
            }
        };
        if !self.claim(page, run) {
            return None;
        }
        let mut free = PageSet::new(self.meta.pages);
        for id in ids {
            if id < 2 || !free.insert(id) {
                self.fault(FaultKind::BadFreePage.on(id));
            }
        }
        Some(free)
    }

    /// With a stored freelist every page is either in use or listed.
    fn compare_free(&mut self, free: &PageSet) {
        if self.walked.is_short_of_room {
            return;
        }
        let in_use = free.iter().filter(|page| self.reachable.contains(*page));
        let leaked = self.reachable.missing().filter(|page| !free.contains(*page));
        let faults = in_use
            .map(|page| FaultKind::FreeInUse.on(page))
            .chain(leaked.map(|page| FaultKind::Leaked.on(page)));
        let room = NAMED_FAULTS.saturating_sub(self.walked.faults.len());
        let (mut named, mut count) = (Vec::new(), 0);
        for fault in faults {
            count += 1;
            if named.len() < room {
                named.push(fault);
            }
        }
        self.walked.faults.append(&mut named);
        self.walked.fault_count += count;
    }
}
