//! What is left of a database that has passed: its meta, and what its tree leads to of what was kept.

use std::collections::BTreeMap;

use super::edge::{Edge, PackedEdge};
use super::{last_element, root_node};
use crate::bbolt::Error;
use crate::bbolt::bucket::{BucketRoot, Entry, plain};
use crate::bbolt::page::{FaultKind, Header, MAX_DEPTH, Meta, Node, NodeType};

/// What is left of a database that has passed.
#[derive(Debug)]
pub struct Scan {
    pub(super) meta: Meta,
    pub(super) root: Vec<u8>,
    pub(super) kept: BTreeMap<u64, Vec<u8>>,
    pub(super) last_key: Option<u64>,
}

impl Scan {
    /// The newer meta.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The first eight bytes, big-endian, of the last key of the followed bucket; none if it is empty or absent.
    pub fn last_key(&self) -> Option<u64> {
        self.last_key
    }

    /// The entries of a small bucket; none if there is no such bucket.
    ///
    /// Fails when the bucket is damaged, or when it is neither inline nor on a leaf that was kept.
    pub fn entries(&self, bucket: &[u8]) -> Result<Option<Vec<Entry<'_>>>, Error> {
        let leaf = match self.bucket(bucket)? {
            None => return Ok(None),
            Some(BucketRoot::Inline(leaf)) => leaf,
            Some(BucketRoot::Page(page)) => self.kept_leaf(page).ok_or_else(|| not_kept(bucket))?,
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
    pub(super) fn follow(&self, bucket: &[u8], edges: &[PackedEdge]) -> Result<Option<u64>, Error> {
        let mut page = match self.bucket(bucket)? {
            None => return Ok(None),
            Some(BucketRoot::Inline(leaf)) if leaf.count == 0 => return Ok(None),
            Some(BucketRoot::Inline(leaf)) => {
                let last = last_element(&leaf).and_then(|last| last.key.first_chunk());
                let last = last.ok_or_else(|| FaultKind::NoLastElement.on(leaf.page))?;
                return Ok(Some(u64::from_be_bytes(*last)));
            }
            Some(BucketRoot::Page(page)) => page,
        };
        for depth in 0..MAX_DEPTH {
            let edge = usize::try_from(page).ok().and_then(|page| edges.get(page));
            match edge.map_or(Edge::Unknown, |edge| edge.unpack()) {
                Edge::LastKey(key) => return Ok(Some(key)),
                Edge::EmptyLeaf if depth == 0 => return Ok(None),
                Edge::EmptyLeaf => return Err(FaultKind::EmptyLeaf.on(page).into()),
                Edge::Unknown => return Err(FaultKind::NoLastElement.on(page).into()),
                Edge::Child(child) => page = child,
            }
        }
        Err(FaultKind::TooDeep.on(page).into())
    }

    fn bucket(&self, name: &[u8]) -> Result<Option<BucketRoot<'_>>, Error> {
        let mut leaf = root_node(&self.meta, &self.root)?;
        for _ in 0..MAX_DEPTH {
            if leaf.node_type == NodeType::Leaf {
                break;
            }
            let child = leaf.child_for(name).map_err(|kind| kind.on(leaf.page))?;
            leaf = self.kept_leaf(child).ok_or_else(|| not_kept(name))?;
        }
        let found = leaf.find(name).map_err(|kind| kind.on(leaf.page))?;
        let bucket = found.map(|(index, element)| BucketRoot::parse(leaf.page, index, &element));
        Ok(bucket.transpose()?)
    }

    fn kept_leaf(&self, page: u64) -> Option<Node<'_>> {
        let bytes = self.kept.get(&page)?;
        Node::new(page, &Header::parse(bytes)?, bytes).ok()
    }
}

fn not_kept(bucket: &[u8]) -> Error {
    Error::NotKept {
        bucket: String::from_utf8_lossy(bucket).into_owned(),
    }
}
