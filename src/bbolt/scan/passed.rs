//! What is left of a database that has passed.

use super::Leaves;
use super::nodes::{Edge, Nodes, Seen};
use super::whole::{self, Walked};
use crate::bbolt::Error;
use crate::bbolt::bucket::{BucketRoot, Entry, plain};
use crate::bbolt::page::{Fault, FaultKind, MAX_DEPTH, Meta, Node, NodeType};

/// What is left of a database that has passed.
#[derive(Debug)]
pub struct Scan<L: Leaves> {
    meta: Meta,
    nodes: Nodes<L>,
    last_key: Option<L::Key>,
    walked: Walked,
    /// What was made of the followed bucket where it has no leaf of its own, and its first key.
    inline: Option<(L::Key, L::Leaf)>,
}

impl<L: Leaves> Scan<L> {
    pub(super) fn new(meta: Meta, nodes: Nodes<L>, followed: &[u8]) -> Result<Scan<L>, Error> {
        let mut scan = Scan {
            meta,
            nodes,
            last_key: None,
            walked: Walked::default(),
            inline: None,
        };
        scan.last_key = scan.follow(followed)?;
        scan.walked = whole::walk(&scan.meta, &scan.nodes, followed);
        scan.nodes.forget_branches();
        scan.take_inline(followed)?;
        Ok(scan)
    }

    /// Hands the entries of the followed bucket over where it has no leaf of its own.
    fn take_inline(&mut self, followed: &[u8]) -> Result<(), Error> {
        let Some(BucketRoot::Inline(leaf)) = self.bucket(followed)? else {
            return Ok(());
        };
        let mut floor = leaf.data_start();
        let entries = (0..leaf.count).map_while(|index| {
            let element = leaf.leaf(index, floor).ok()?;
            floor = element.end;
            Some((element.key.to_vec(), element.value.to_vec()))
        });
        let entries: Vec<_> = entries.collect();
        let borrowed = entries.iter().map(|(key, value)| (&key[..], &value[..]));
        let first = entries.first().and_then(|(key, _)| self.nodes.leaves.key(key));
        let Some(first) = first else {
            return Ok(());
        };
        match self.nodes.leaves.leaf(borrowed) {
            Some(leaf) => self.inline = Some((first, leaf)),
            None => self.walked.is_short_of_room = true,
        }
        Ok(())
    }

    /// The newer meta.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What was kept of the last key of the followed bucket; none if it is empty or absent.
    pub fn last_key(&self) -> Option<&L::Key> {
        self.last_key.as_ref()
    }

    /// What was made of the leaves of the followed bucket, in order, each with its first key. They are all there is only in
    /// a database that [`Scan::is_whole`].
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = (&L::Key, L::Leaf)> {
        let paged = self.walked.leaves.iter().filter_map(|place| self.nodes.leaf_at(*place));
        let inline = self.inline.iter().map(|(first, leaf)| (first, *leaf));
        paged.chain(inline)
    }

    /// Who made that.
    pub fn owner(&self) -> &L {
        &self.nodes.leaves
    }

    /// Whether the whole database was seen and nothing is wrong with it.
    pub fn is_whole(&self) -> bool {
        self.walked.fault_count == 0 && !self.walked.is_short_of_room
    }

    /// Whether there was no room for all that a proof needs: then faults may be missing.
    pub fn is_short_of_room(&self) -> bool {
        self.walked.is_short_of_room
    }

    /// The first faults, at most a hundred.
    pub fn faults(&self) -> &[Fault] {
        &self.walked.faults
    }

    /// How many there are.
    pub fn fault_count(&self) -> u64 {
        self.walked.fault_count
    }

    /// The entries of a small bucket; none if there is no such bucket.
    ///
    /// Fails when the bucket is damaged, or when it is neither inline nor on a leaf that was kept.
    pub fn entries(&self, bucket: &[u8]) -> Result<Option<Vec<Entry<'_>>>, Error> {
        let leaf = match self.bucket(bucket)? {
            None => return Ok(None),
            Some(BucketRoot::Inline(leaf)) => leaf,
            Some(BucketRoot::Page(page)) => match self.nodes.at(page).0 {
                Seen::Whole(leaf) if leaf.node_type == NodeType::Leaf => leaf,
                Seen::Damaged(kind) => return Err(kind.clone().on(page).into()),
                _ => return Err(not_kept(bucket)),
            },
        };
        let mut entries = Vec::with_capacity(leaf.count);
        let mut floor = leaf.data_start();
        for index in 0..leaf.count {
            let element = leaf.leaf(index, floor).map_err(|kind| kind.on(leaf.page))?;
            floor = element.end;
            entries.push((element.key, plain(leaf.page, index, &element)?));
        }
        Ok(Some(entries))
    }

    /// Goes down the right edge of a bucket.
    fn follow(&self, bucket: &[u8]) -> Result<Option<L::Key>, Error> {
        let mut page = match self.bucket(bucket)? {
            None => return Ok(None),
            Some(BucketRoot::Inline(leaf)) if leaf.count == 0 => return Ok(None),
            Some(BucketRoot::Inline(leaf)) => {
                let last = leaf
                    .count
                    .checked_sub(1)
                    .and_then(|last| leaf.leaf(last, leaf.data_start()).ok());
                let last = last.and_then(|last| self.nodes.leaves.key(last.key));
                return Ok(Some(last.ok_or_else(|| FaultKind::NoLastElement.on(leaf.page))?));
            }
            Some(BucketRoot::Page(page)) => page,
        };
        for depth in 0..MAX_DEPTH {
            match self.nodes.edge(page) {
                Some(Edge::LastKey(key)) => return Ok(Some(key)),
                Some(Edge::EmptyLeaf) if depth == 0 => return Ok(None),
                Some(Edge::EmptyLeaf) => return Err(FaultKind::EmptyLeaf.on(page).into()),
                None => return Err(FaultKind::NoLastElement.on(page).into()),
                Some(Edge::Child(child)) => page = child,
            }
        }
        Err(FaultKind::TooDeep.on(page).into())
    }

    fn bucket(&self, name: &[u8]) -> Result<Option<BucketRoot<'_>>, Error> {
        let mut leaf = self.root_node(self.meta.root, name)?;
        for _ in 0..MAX_DEPTH {
            if leaf.node_type == NodeType::Leaf {
                break;
            }
            let child = leaf.child_for(name).map_err(|kind| kind.on(leaf.page))?;
            leaf = self.root_node(child, name)?;
        }
        let found = leaf.find(name).map_err(|kind| kind.on(leaf.page))?;
        let bucket = found.map(|(index, element)| BucketRoot::parse(leaf.page, index, &element));
        Ok(bucket.transpose()?)
    }

    /// A node of the root tree.
    fn root_node(&self, page: u64, bucket: &[u8]) -> Result<Node<'_>, Error> {
        match self.nodes.at(page).0 {
            Seen::Whole(node) => Ok(node),
            Seen::Damaged(kind) => Err(kind.clone().on(page).into()),
            Seen::NoRoom => Err(not_kept(bucket)),
            Seen::None | Seen::Leaf { .. } | Seen::Branch(_) => Err(FaultKind::NoLastElement.on(page).into()),
        }
    }
}

fn not_kept(bucket: &[u8]) -> Error {
    Error::NotKept {
        bucket: String::from_utf8_lossy(bucket).into_owned(),
    }
}
