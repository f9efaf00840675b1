//! Buckets and walking over their entries.
//!
//! Invariant: a walk ends: the pages it visits, overflow included, are never more than the file has.

use super::Error;
use super::file::File;
use super::page::{ELEMENT_BUCKET, Fault, FaultKind, Header, LeafElement, MAX_DEPTH, Node, NodeType, u64_at};

/// A key and its value.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// One bucket of a database: keys and values in order.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    file: File<'a>,
    root: Node<'a>,
    place: Place,
}

/// Where the tree of a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On pages of its own.
    Paged,
    /// Inside the value of its entry in the root tree.
    Inline,
}

/// What the value of a bucket's entry in the root tree holds.
#[derive(Debug)]
pub(super) enum BucketRoot<'a> {
    /// The page of its root.
    Page(u64),
    /// The whole bucket, one leaf.
    Inline(Node<'a>),
}

impl<'a> BucketRoot<'a> {
    /// Reads entry `index` of the root tree's leaf `page`: `root u64 | sequence u64`, and with a root of 0 the leaf.
    pub(super) fn parse(page: u64, index: usize, element: &LeafElement<'a>) -> Result<Self, Fault> {
        let index = index as u64;
        if element.flags != ELEMENT_BUCKET {
            return Err(FaultKind::ElementFlags {
                index,
                flags: element.flags,
            }
            .on(page));
        }
        let malformed = || FaultKind::BucketHeader { index }.on(page);
        let root = u64_at(element.value, 0).ok_or_else(malformed)?;
        let inline = element.value.get(16..).ok_or_else(malformed)?;
        if root != 0 {
            return Ok(BucketRoot::Page(root));
        }
        let header = Header::parse(inline).ok_or_else(malformed)?;
        let root = Node::new(page, &header, inline).map_err(|_| malformed())?;
        if root.node_type != NodeType::Leaf || header.id != 0 || header.overflow != 0 {
            return Err(malformed());
        }
        Ok(BucketRoot::Inline(root))
    }
}

impl<'a> Bucket<'a> {
    /// All entries in order of their keys; the order is that of the file, which `check` vouches for.
    pub fn iter(&self) -> Entries<'a> {
        Entries {
            walk: Walk::new(self.file, self.root),
        }
    }

    /// The entries from `key` on, or from the one that would follow it; as [`Bucket::iter`] gives them.
    pub fn iter_from(&self, key: &[u8]) -> impl Iterator<Item = Result<Entry<'a>, Error>> + use<'a> {
        let mut walk = Walk::new(self.file, self.root);
        let fault = walk.skip_to(key).err().map(|fault| walk.give_up(fault));
        fault.map(Err).into_iter().chain(Entries { walk })
    }

    /// The value of `key`.
    ///
    /// Fails when a page on the way to it is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>, Error> {
        let Some((page, index, element)) = self.find(key)? else {
            return Ok(None);
        };
        plain(page, index, &element).map(Some).map_err(Error::Damaged)
    }

    /// The entry with the greatest key.
    ///
    /// Fails when a page on the way to it is damaged.
    pub fn last(&self) -> Result<Option<Entry<'a>>, Error> {
        let leaf = self.descend(last_child, |_| {})?;
        let Some(index) = leaf.count.checked_sub(1) else {
            // bbolt leaves no empty leaf under a branch, but reads one; finding the entry before it takes a walk.
            return self.iter().last().transpose();
        };
        let element = leaf.leaf(index, leaf.data_start()).map_err(|kind| kind.on(leaf.page))?;
        plain(leaf.page, index, &element)?;
        Ok(Some((element.key, element.value)))
    }

    /// How many bytes are written at most, besides what a new state has anyway, where a small entry comes behind the greatest key:
    /// a leaf for it, or one page that has room for it, and the branches above, each of which may need another page.
    ///
    /// Fails when a page on the way to it is damaged.
    pub fn bytes_to_extend(&self) -> Result<u64, Error> {
        let page = u64::from(self.file.page_size());
        let mut bytes = page;
        self.descend(last_child, |node| {
            bytes += match node.node_type {
                NodeType::Leaf => page,
                NodeType::Branch => node.len() as u64 + page,
            };
        })?;
        Ok(bytes)
    }

    /// Whether there is no entry.
    ///
    /// Fails when a page on the way to the first entry is damaged.
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.iter().next().transpose().map(|first| first.is_none())
    }

    pub(super) fn paged(file: File<'a>, root: Node<'a>) -> Self {
        Bucket {
            file,
            root,
            place: Place::Paged,
        }
    }

    /// The bucket that an entry of the root tree holds.
    pub(super) fn from_element(
        file: File<'a>,
        page: u64,
        index: usize,
        element: &LeafElement<'a>,
    ) -> Result<Self, Fault> {
        match BucketRoot::parse(page, index, element)? {
            BucketRoot::Page(root) => Ok(Bucket {
                file,
                root: file.node(root)?,
                place: Place::Paged,
            }),
            BucketRoot::Inline(root) => Ok(Bucket {
                file,
                root,
                place: Place::Inline,
            }),
        }
    }

    pub(super) fn root(&self) -> Node<'a> {
        self.root
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The entry of `key`, its leaf's page and its number there.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<(u64, usize, LeafElement<'a>)>, Fault> {
        let leaf = self.descend(|node| node.child_for(key), |_| {})?;
        let found = leaf.find(key).map_err(|kind| kind.on(leaf.page))?;
        Ok(found.map(|(index, element)| (leaf.page, index, element)))
    }

    /// The nodes from the root to the last leaf.
    pub(super) fn right_edge(&self) -> Result<Vec<Node<'a>>, Fault> {
        let mut edge = Vec::new();
        self.descend(last_child, |node| edge.push(node))?;
        Ok(edge)
    }

    /// Follows `child_of` from the root to a leaf, and shows the nodes on the way to `pass`.
    fn descend(
        &self,
        child_of: impl Fn(&Node<'a>) -> Result<u64, FaultKind>,
        mut pass: impl FnMut(Node<'a>),
    ) -> Result<Node<'a>, Fault> {
        let mut node = self.root;
        for _ in 0..MAX_DEPTH {
            pass(node);
            if node.node_type == NodeType::Leaf {
                return Ok(node);
            }
            node = self.file.node(child_of(&node).map_err(|kind| kind.on(node.page))?)?;
        }
        Err(FaultKind::TooDeep.on(node.page))
    }
}

fn last_child(branch: &Node<'_>) -> Result<u64, FaultKind> {
    let last = branch.count.checked_sub(1).ok_or(FaultKind::EmptyBranch)?;
    Ok(branch.branch(last, branch.data_start())?.child)
}

/// The entries of one bucket in order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let element = self.walk.next_element()?.and_then(|(page, index, element)| {
            plain(page, index, &element)?;
            Ok((element.key, element.value))
        });
        Some(element.map_err(|fault| self.walk.give_up(fault)))
    }
}

/// The buckets of a database by name, in order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Buckets<'a> {
    walk: Walk<'a>,
}

impl<'a> Buckets<'a> {
    pub(super) fn new(file: File<'a>, root: Node<'a>) -> Self {
        Buckets {
            walk: Walk::new(file, root),
        }
    }
}

impl<'a> Iterator for Buckets<'a> {
    type Item = Result<(&'a [u8], Bucket<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.walk.file;
        let bucket = self.walk.next_element()?.and_then(|(page, index, element)| {
            let bucket = Bucket::from_element(file, page, index, &element)?;
            Ok((element.key, bucket))
        });
        Some(bucket.map_err(|fault| self.walk.give_up(fault)))
    }
}

/// The names of the buckets of a database, in order, whatever is in them; ends after the first error.
#[derive(Debug, Clone)]
pub struct Names<'a> {
    walk: Walk<'a>,
}

impl<'a> Names<'a> {
    pub(super) fn new(file: File<'a>, root: Node<'a>) -> Self {
        Names {
            walk: Walk::new(file, root),
        }
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.walk.next_element()?.map(|(_, _, element)| element.key);
        Some(name.map_err(|fault| self.walk.give_up(fault)))
    }
}

/// The value of a plain entry.
#[inline]
pub(super) fn plain<'a>(page: u64, index: usize, element: &LeafElement<'a>) -> Result<&'a [u8], Fault> {
    if element.flags != 0 {
        return Err(FaultKind::ElementFlags {
            index: index as u64,
            flags: element.flags,
        }
        .on(page));
    }
    Ok(element.value)
}

/// A pass over the leaves of one tree from left to right.
#[derive(Debug, Clone)]
struct Walk<'a> {
    file: File<'a>,
    /// The branches above the leaf, each with the next child to visit and where the key before that ended.
    branches: Vec<(Node<'a>, usize, usize)>,
    leaf: Option<Node<'a>>,
    /// The next element of the leaf, and where the element before it ended.
    index: usize,
    floor: usize,
    /// How many more pages may be visited before the walk must have been somewhere twice.
    pages_left: u64,
}

impl<'a> Walk<'a> {
    fn new(file: File<'a>, root: Node<'a>) -> Self {
        let mut walk = Walk {
            file,
            branches: Vec::new(),
            leaf: None,
            index: 0,
            floor: 0,
            pages_left: file.pages(),
        };
        walk.enter(root);
        walk
    }

    /// Passes over what is before `key`, without a look at the leaves of it. To be called before anything else.
    fn skip_to(&mut self, key: &[u8]) -> Result<(), Fault> {
        while let Some((branch, next, _)) = self.branches.last_mut() {
            let after = branch
                .before(|key_of| key_of <= key)
                .map_err(|kind| kind.on(branch.page))?;
            *next = after.saturating_sub(1);
            self.next_child()?;
            if self.leaf.is_some() {
                break;
            }
        }
        if let Some(leaf) = self.leaf {
            self.index = leaf.before(|key_of| key_of < key).map_err(|kind| kind.on(leaf.page))?;
        }
        Ok(())
    }

    /// The next entry, its leaf's page and its number there.
    #[inline]
    fn next_element(&mut self) -> Option<Result<(u64, usize, LeafElement<'a>), Fault>> {
        loop {
            if let Some(leaf) = self.leaf.filter(|leaf| self.index < leaf.count) {
                let index = self.index;
                let element = leaf.leaf(index, self.floor).map_err(|kind| kind.on(leaf.page));
                self.index += 1;
                self.floor = element.as_ref().map_or(self.floor, |element| element.end);
                return Some(element.map(|element| (leaf.page, index, element)));
            }
            self.leaf = None;
            self.branches.last()?;
            if let Err(fault) = self.next_child() {
                return Some(Err(fault));
            }
        }
    }

    /// Goes on to the next child of the lowest branch, or leaves that branch.
    fn next_child(&mut self) -> Result<(), Fault> {
        let Some((branch, next, floor)) = self.branches.last_mut() else {
            return Ok(());
        };
        let page = branch.page;
        if *next >= branch.count {
            let empty = branch.count == 0;
            self.branches.pop();
            return if empty {
                Err(FaultKind::EmptyBranch.on(page))
            } else {
                Ok(())
            };
        }
        let element = branch.branch(*next, *floor).map_err(|kind| kind.on(page))?;
        *next += 1;
        *floor = element.end;
        let child = self.file.node(element.child)?;
        let run = (child.len() as u64).div_ceil(u64::from(self.file.page_size()));
        match self.pages_left.checked_sub(run) {
            Some(left) if self.branches.len() < MAX_DEPTH => self.pages_left = left,
            Some(_) => return Err(FaultKind::TooDeep.on(child.page)),
            None => return Err(FaultKind::Circle.on(child.page)),
        }
        self.enter(child);
        Ok(())
    }

    fn enter(&mut self, node: Node<'a>) {
        match node.node_type {
            NodeType::Branch => self.branches.push((node, 0, node.data_start())),
            NodeType::Leaf => {
                self.leaf = Some(node);
                self.index = 0;
                self.floor = node.data_start();
            }
        }
    }

    /// Ends the walk because of `fault`.
    #[cold]
    fn give_up(&mut self, fault: Fault) -> Error {
        self.branches.clear();
        self.leaf = None;
        Error::Damaged(fault)
    }
}
