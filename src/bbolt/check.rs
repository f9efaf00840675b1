//! Whether a database is whole: what bbolt's own `Check` verifies, and that no key or value lies outside its place.
//!
//! One pass over the pages does it, and a caller that needs every entry anyway joins that pass.
//!
//! Invariant: each page is visited at most once, so the work is bounded by the size of the file.

use super::bucket::{Bucket, Place};
use super::file::File;
use super::freelist;
use super::page::{FLAG_META, Fault, FaultKind, LeafElement, MAX_DEPTH, Node, NodeType};
use super::page_set::PageSet;

/// How many faults a report names; the others are only counted.
const NAMED_FAULTS: usize = 100;

/// Which shapes of tree pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// What bbolt itself accepts.
    Bbolt,
    /// What we write: also no branch with a single child and no empty leaf below a branch.
    Ours,
}

/// What a check found.
#[derive(Debug, Clone)]
#[must_use]
pub struct Report {
    faults: Vec<Fault>,
    fault_count: u64,
    reachable: PageSet,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    /// The first faults, at most a hundred.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// How many faults there are.
    pub fn fault_count(&self) -> u64 {
        self.fault_count
    }

    /// The pages in use: metas, trees and the stored freelist itself.
    pub fn reachable(&self) -> &PageSet {
        &self.reachable
    }
}

/// Checks the whole of `file` and shows every entry to `visit`: bucket name, key and value, in order.
///
/// Entries of damaged pages are shown as far as they can be read; whether they mean anything, only the report tells.
pub fn check<'a>(file: &File<'a>, rules: Rules, mut visit: impl FnMut(&'a [u8], &'a [u8], &'a [u8])) -> Report {
    Checker::new(*file, rules).run(&mut visit)
}

/// Checks what was written over a database whose report is `base`: its new pages, and that every page is either in use
/// or free. A tree below a page that was in use before is taken to be as sound as it was, and is not visited: that the
/// old pages were not written to, the caller knows.
pub fn check_over(file: &File<'_>, rules: Rules, base: &Report) -> Report {
    let mut checker = Checker::new(*file, rules);
    checker.kept = Some(base.reachable.clone());
    checker.run(&mut |_, _, _| {})
}

struct Checker<'a> {
    file: File<'a>,
    rules: Rules,
    report: Report,
    /// Old pages, whose trees are not visited.
    kept: Option<PageSet>,
}

/// A branch on the way to a leaf.
struct Branch<'a> {
    node: Node<'a>,
    next: usize,
    /// Where the key before `next` ended.
    floor: usize,
    /// From the key before `next`; below what the branches above allow.
    range: Range<'a>,
}

/// The keys that may stand below a branch element: from its own key to before that of the next.
#[derive(Clone, Copy, Default)]
struct Range<'a> {
    from: Option<&'a [u8]>,
    below: Option<&'a [u8]>,
}

/// What a branch has to offer next.
enum Step<'a> {
    /// A child, and the keys that may stand in it.
    Child(Node<'a>, Range<'a>),
    /// A child that cannot be visited; why is in the report.
    Skipped,
    End,
}

/// The leaves of one tree that are still to come.
struct Tree<'a> {
    start: Option<Node<'a>>,
    branches: Vec<Branch<'a>>,
}

impl<'a> Checker<'a> {
    fn new(file: File<'a>, rules: Rules) -> Self {
        let report = Report {
            faults: Vec::new(),
            fault_count: 0,
            reachable: PageSet::new(file.pages()),
        };
        Checker {
            file,
            rules,
            report,
            kept: None,
        }
    }

    fn run(mut self, visit: &mut impl FnMut(&'a [u8], &'a [u8], &'a [u8])) -> Report {
        self.metas();
        let free = self.freelist();
        match self.file.root() {
            Ok(root) => self.buckets(root, visit),
            Err(fault) => self.fault(fault),
        }
        if let Some(kept) = self.kept.take() {
            // Of the trees that were not visited only the tops are known to be in use; the rest is, or it is free.
            let is_free = |page| free.as_ref().is_some_and(|free| free.contains(page));
            kept.iter().filter(|page| !is_free(*page)).for_each(|page| {
                self.report.reachable.insert(page);
            });
        }
        if let Some(free) = free {
            self.compare_free(&free);
        }
        self.report
    }

    /// Whether the page begins a tree that is not visited.
    fn is_kept(&self, page: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.contains(page))
    }

    #[cold]
    fn fault(&mut self, fault: Fault) {
        if self.report.faults.len() < NAMED_FAULTS {
            self.report.faults.push(fault);
        }
        self.report.fault_count += 1;
    }

    /// Takes the run of a node or freelist into use; false when it was in use before.
    fn claim(&mut self, page: u64, run_len: usize) -> bool {
        let pages = (run_len as u64).div_ceil(u64::from(self.file.page_size()));
        let shared = self.report.reachable.insert_run(page, pages);
        if let Some(shared) = shared {
            self.fault(FaultKind::Shared.on(shared));
        }
        shared.is_none()
    }

    fn metas(&mut self) {
        for page in [0, 1] {
            self.report.reachable.insert(page);
            match self.file.header(page) {
                Ok(header) if header.flags == FLAG_META => {}
                Ok(header) => self.fault(FaultKind::WrongType { flags: header.flags }.on(page)),
                Err(fault) => self.fault(fault),
            }
        }
    }

    /// The pages that a stored freelist names.
    fn freelist(&mut self) -> Option<PageSet> {
        let page = self.file.meta().freelist?;
        let ids = match freelist::read(&self.file, page) {
            Ok((run_len, ids)) => self.claim(page, run_len).then_some(ids)?,
            Err(fault) => {
                self.fault(fault);
                return None;
            }
        };
        let mut free = PageSet::new(self.file.pages());
        for id in ids {
            if id < 2 || !free.insert(id) {
                self.fault(FaultKind::BadFreePage.on(id));
            }
        }
        Some(free)
    }

    /// With a stored freelist every page is either in use or listed.
    fn compare_free(&mut self, free: &PageSet) {
        let in_use = free.iter().filter(|page| self.report.reachable.contains(*page));
        let leaked = self.report.reachable.missing().filter(|page| !free.contains(*page));
        let faults = in_use
            .map(|page| FaultKind::FreeInUse.on(page))
            .chain(leaked.map(|page| FaultKind::Leaked.on(page)));
        let (named, count) = first_and_count(faults);
        self.report.fault_count += count;
        let room = NAMED_FAULTS.saturating_sub(self.report.faults.len());
        self.report.faults.extend(named.into_iter().take(room));
    }

    fn buckets(&mut self, root: Node<'a>, visit: &mut impl FnMut(&'a [u8], &'a [u8], &'a [u8])) {
        let mut root = Tree::new(self, root);
        while let Some((leaf, range)) = root.next_leaf(self) {
            self.leaf(leaf, range, |checker, index, element| {
                match Bucket::from_element(checker.file, leaf.page, index, &element) {
                    Ok(bucket) => checker.bucket(element.key, &bucket, visit),
                    Err(fault) => checker.fault(fault),
                }
            });
        }
    }

    fn bucket(&mut self, name: &'a [u8], bucket: &Bucket<'a>, visit: &mut impl FnMut(&'a [u8], &'a [u8], &'a [u8])) {
        let mut tree = match bucket.place() {
            Place::Paged => Tree::new(self, bucket.root()),
            Place::Inline => Tree {
                start: Some(bucket.root()),
                branches: Vec::new(),
            },
        };
        while let Some((leaf, range)) = tree.next_leaf(self) {
            self.leaf(leaf, range, |checker, index, element| {
                if element.flags != 0 {
                    let index = index as u64;
                    checker.fault(
                        FaultKind::ElementFlags {
                            index,
                            flags: element.flags,
                        }
                        .on(leaf.page),
                    );
                } else {
                    visit(name, element.key, element.value);
                }
            });
        }
    }

    /// Checks the places and the order of a leaf's entries on the way past.
    #[inline]
    fn leaf(&mut self, leaf: Node<'a>, range: Range<'a>, mut each: impl FnMut(&mut Self, usize, LeafElement<'a>)) {
        let mut floor = leaf.data_start();
        let mut before = None;
        for index in 0..leaf.count {
            match leaf.leaf(index, floor) {
                Ok(element) => {
                    floor = element.end;
                    self.order(leaf.page, index, element.key, before, range.from);
                    before = Some(element.key);
                    each(self, index, element);
                }
                Err(kind) => self.fault(kind.on(leaf.page)),
            }
        }
        if before.zip(range.below).is_some_and(|(last, below)| last >= below) {
            self.fault(
                FaultKind::KeyRange {
                    index: leaf.count.saturating_sub(1) as u64,
                }
                .on(leaf.page),
            );
        }
    }

    /// A key follows the one before it; the first of a page follows the key of the branch above.
    #[inline]
    fn order(&mut self, page: u64, index: usize, key: &[u8], before: Option<&[u8]>, from: Option<&[u8]>) {
        let index = index as u64;
        match before {
            Some(before) if key <= before => self.fault(FaultKind::KeyOrder { index }.on(page)),
            None if from.is_some_and(|from| key < from) => self.fault(FaultKind::KeyRange { index }.on(page)),
            Some(_) | None => {}
        }
    }
}

impl<'a> Tree<'a> {
    /// The tree below a node on pages of its own.
    fn new(checker: &mut Checker<'a>, root: Node<'a>) -> Self {
        let is_new = checker.claim(root.page, root.len()) && !checker.is_kept(root.page);
        let start = is_new.then_some(root);
        Tree {
            start,
            branches: Vec::new(),
        }
    }

    fn next_leaf(&mut self, checker: &mut Checker<'a>) -> Option<(Node<'a>, Range<'a>)> {
        let root = self.start.take();
        if let Some(leaf) = root.and_then(|root| self.enter(root, Range::default(), checker)) {
            return Some(leaf);
        }
        while let Some(branch) = self.branches.last_mut() {
            let (child, range) = match branch.step(checker) {
                Step::Child(child, range) => (child, range),
                Step::Skipped => continue,
                Step::End => {
                    self.branches.pop();
                    continue;
                }
            };
            if checker.rules == Rules::Ours && child.node_type == NodeType::Leaf && child.count == 0 {
                checker.fault(FaultKind::EmptyLeaf.on(child.page));
            }
            if let Some(leaf) = self.enter(child, range, checker) {
                return Some(leaf);
            }
        }
        None
    }

    /// Returns a leaf, keeps a branch for later.
    fn enter(&mut self, node: Node<'a>, range: Range<'a>, checker: &mut Checker<'a>) -> Option<(Node<'a>, Range<'a>)> {
        match node.node_type {
            NodeType::Leaf => return Some((node, range)),
            NodeType::Branch if node.count == 0 => checker.fault(FaultKind::EmptyBranch.on(node.page)),
            NodeType::Branch if self.branches.len() >= MAX_DEPTH => checker.fault(FaultKind::TooDeep.on(node.page)),
            NodeType::Branch => {
                if checker.rules == Rules::Ours && node.count == 1 {
                    checker.fault(FaultKind::ThinBranch.on(node.page));
                }
                self.branches.push(Branch {
                    node,
                    next: 0,
                    floor: node.data_start(),
                    range,
                });
            }
        }
        None
    }
}

impl<'a> Branch<'a> {
    /// Goes to the next child.
    fn step(&mut self, checker: &mut Checker<'a>) -> Step<'a> {
        let (index, page) = (self.next, self.node.page);
        if index >= self.node.count {
            return Step::End;
        }
        self.next += 1;
        let element = match self.node.branch(index, self.floor) {
            Ok(element) => element,
            Err(kind) => {
                checker.fault(kind.on(page));
                return Step::Skipped;
            }
        };
        self.floor = element.end;
        let before = (index > 0).then_some(self.range.from).flatten();
        checker.order(page, index, element.key, before, self.range.from);
        if self.range.below.is_some_and(|below| element.key >= below) {
            checker.fault(FaultKind::KeyRange { index: index as u64 }.on(page));
        }
        self.range.from = Some(element.key);
        let after = (self.next < self.node.count)
            .then(|| self.node.branch(self.next, self.floor).ok())
            .flatten();
        let range = Range {
            from: Some(element.key),
            below: after.map(|after| after.key).or(self.range.below),
        };
        match checker.file.node(element.child) {
            Ok(child) if checker.claim(child.page, child.len()) && !checker.is_kept(child.page) => {
                Step::Child(child, range)
            }
            Ok(_) => Step::Skipped,
            Err(fault) => {
                checker.fault(fault);
                Step::Skipped
            }
        }
    }
}

/// The first faults that a report could name, and how many there are in all.
fn first_and_count(mut faults: impl Iterator<Item = Fault>) -> (Vec<Fault>, u64) {
    let named: Vec<_> = faults.by_ref().take(NAMED_FAULTS).collect();
    let count = named.len() as u64 + faults.count() as u64;
    (named, count)
}
