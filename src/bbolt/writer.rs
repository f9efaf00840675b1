//! Writing databases: new ones, and new states of a database on top of its old pages.
//!
//! Every page is written once, behind all others; nothing is changed in place but the two metas, at the end. That
//! end is a step of its own, so that the caller can bring the pages to the disk first.
//!
//! Invariant: what is written passes [`check`](super::check()) by [`Rules::Ours`](super::Rules::Ours); a bucket that
//! is kept, by the rules it passed before.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;

use super::bucket::{Bucket, Place};
use super::check::Report;
use super::file::File;
use super::freelist;
use super::page::{ELEMENT_BUCKET, Fault, Meta, Node, NodeType};
use super::page_set::PageSet;
use super::tree::{self, Layout, Leaf, PutError, Refusal, Root, Tree};
use super::{BucketMisuse, Error};

/// Page sizes that we write: those of the machines that etcd runs on, and bbolt's smallest.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 16;

/// What precedes the inline page in a bucket's value: root page and sequence.
const BUCKET_HEADER_LEN: usize = 16;

/// Where the pages of a database go.
pub trait PageSink {
    /// Puts all of `bytes` at `offset`. A gap that this leaves before them is filled later or stays zero.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// The same of bytes that may be kept to be written later: `bytes` is empty then. What fails later is told by what comes
    /// next; [`PageSink::write_at`] comes behind all that was taken.
    fn take_at(&mut self, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        bytes.clear();
        Ok(())
    }
}

impl PageSink for Vec<u8> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(place) = self.get_mut(start..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// How much is written to a file with one call: larger writes make the kernel take larger pieces of memory, which cost a
/// virtual machine more than the calls do.
const WRITE_BYTES: usize = 128 << 10;

impl PageSink for std::fs::File {
    fn write_at(&mut self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(WRITE_BYTES) {
            self.write_all_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl<S: PageSink> PageSink for &mut S {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }

    fn take_at(&mut self, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        (**self).take_at(offset, bytes)
    }
}

/// A database in the making. Dropped before the end it leaves pages that nothing refers to.
#[derive(Debug)]
#[must_use]
pub struct Writer<'a, S> {
    layout: Layout<S>,
    /// The database below and the pages it uses.
    base: Option<(File<'a>, PageSet)>,
    /// Values of the root leaf by bucket name.
    buckets: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What becomes of the pages of buckets of the base. Of those not in here nothing stays.
    fates: BTreeMap<Vec<u8>, Fate>,
    unfinished: Option<Vec<u8>>,
}

/// What stays of a bucket of the database below.
#[derive(Debug)]
enum Fate {
    /// All of it.
    Kept,
    /// All but the nodes at these pages.
    Extended { given_up: Vec<u64> },
}

impl<'a, S: PageSink> Writer<'a, S> {
    /// Begins a new database in an empty `sink`.
    ///
    /// Fails when `page_size` is not a power of two from 1 KiB to 64 KiB.
    pub fn fresh(sink: S, page_size: u32) -> Result<Self, Error> {
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(Error::PageSize { page_size });
        }
        Ok(Writer::new(Layout::new(sink, page_size, 2)?, None))
    }

    /// Begins a new state of `base`, of which `sink` holds a copy equal byte for byte, on new pages behind the old.
    /// Buckets that are neither kept nor written are gone.
    ///
    /// Fails when `report` is not that of a sound `base`.
    pub fn over(sink: S, base: &File<'a>, report: &Report) -> Result<Self, Error> {
        if !report.is_sound() || report.reachable().file_pages() != base.pages() {
            return Err(Error::Unsound {
                faults: report.fault_count(),
            });
        }
        let layout = Layout::new(sink, base.page_size(), base.pages())?;
        Ok(Writer::new(layout, Some((*base, report.reachable().clone()))))
    }

    /// Keeps a bucket of the database below where it is.
    ///
    /// Fails when there is none of that name, or when it was kept or written before.
    pub fn keep(&mut self, name: &[u8]) -> Result<(), Error> {
        self.claim_name(name)?;
        let base = self.base.as_ref().map(|(base, _)| base);
        let found = base
            .map(|base| Bucket::paged(*base, base.root()?).find(name))
            .transpose()?;
        let (_, _, element) = found.flatten().ok_or_else(|| misuse(name, BucketMisuse::Absent))?;
        self.buckets.insert(name.to_vec(), element.value.to_vec());
        self.fates.insert(name.to_vec(), Fate::Kept);
        Ok(())
    }

    /// Keeps a bucket of the database below and writes on behind its last key: only the pages at its right edge are
    /// written anew.
    ///
    /// Fails as [`Writer::keep`] does, and when the sink fails.
    pub fn extend(&mut self, name: &[u8]) -> Result<BucketWriter<'_, 'a, S>, Error> {
        self.claim_name(name)?;
        let base = self.base.as_ref().map(|(base, _)| *base);
        let bucket = base.map(|base| base.bucket(name)).transpose()?.flatten();
        let bucket = bucket.ok_or_else(|| misuse(name, BucketMisuse::Absent))?;
        let mut writer = self.begin(name);
        let resumed = Tree::resume(&bucket, &mut writer.writer.layout);
        match resumed.map_err(|error| put_error(error, name, &[], &[]))? {
            Some((tree, given_up)) => {
                writer.tree = tree;
                writer.writer.fates.insert(name.to_vec(), Fate::Extended { given_up });
            }
            None => {
                for entry in bucket.iter() {
                    let (key, value) = entry?;
                    writer.put(key, value)?;
                }
            }
        }
        Ok(writer)
    }

    /// Begins a bucket; an older one of that name is replaced.
    ///
    /// Fails when that name was kept or written before.
    pub fn bucket(&mut self, name: &[u8]) -> Result<BucketWriter<'_, 'a, S>, Error> {
        self.claim_name(name)?;
        Ok(self.begin(name))
    }

    /// Writes the root and the freelist, after which only the metas are missing.
    ///
    /// Fails when a bucket was left unfinished or the sink fails.
    pub fn finish(mut self) -> Result<Unsealed<S>, Error> {
        if let Some(name) = &self.unfinished {
            return Err(misuse(name, BucketMisuse::Unfinished));
        }
        let mut root = Leaf::default();
        for (name, value) in &self.buckets {
            root.push(name, value).map_err(|_| entry_size(name, name, value))?;
        }
        let root = root.write(ELEMENT_BUCKET, &mut self.layout)?;
        let last_txid = self.base.as_ref().map_or(0, |(base, _)| base.meta().txid);
        let free = self.free_pages()?;
        let free_count = free.as_ref().map_or(0, |in_use| in_use.missing().count() as u64);
        let freelist = self.layout.next_page();
        let page_size = self.layout.page_size() as u64;
        let overflow = freelist::encoded_len(free_count).div_ceil(page_size) - 1;
        let overflow = u32::try_from(overflow).map_err(|_| Error::Exhausted)?;
        let ids = free.iter().flat_map(PageSet::missing);
        self.layout
            .raw(&freelist::encode(freelist, overflow, free_count, ids))?;
        // Even, so that the newer meta is the first page, where a transaction of an even number has its meta.
        let txid = last_txid.checked_add(2).ok_or(Error::Exhausted)? & !1;
        let meta = Meta {
            page_size: page_size as u32,
            root,
            freelist: Some(freelist),
            pages: self.layout.next_page(),
            txid,
        };
        Ok(Unsealed {
            sink: self.layout.sink,
            meta,
            free_pages: free_count,
        })
    }

    fn new(layout: Layout<S>, base: Option<(File<'a>, PageSet)>) -> Self {
        Writer {
            layout,
            base,
            buckets: BTreeMap::new(),
            fates: BTreeMap::new(),
            unfinished: None,
        }
    }

    fn begin(&mut self, name: &[u8]) -> BucketWriter<'_, 'a, S> {
        self.unfinished = Some(name.to_vec());
        BucketWriter {
            writer: self,
            name: name.to_vec(),
            tree: Tree::default(),
        }
    }

    fn claim_name(&mut self, name: &[u8]) -> Result<(), Error> {
        if let Some(unfinished) = &self.unfinished {
            return Err(misuse(unfinished, BucketMisuse::Unfinished));
        }
        if self.buckets.contains_key(name) {
            return Err(misuse(name, BucketMisuse::Twice));
        }
        Ok(())
    }

    /// The pages of the base that stay in use; all others of it are free from now on.
    fn free_pages(&mut self) -> Result<Option<PageSet>, Error> {
        let Some((base, mut in_use)) = self.base.take() else {
            return Ok(None);
        };
        for bucket in base.buckets()? {
            let (name, bucket) = bucket?;
            match self.fates.get(name) {
                Some(Fate::Kept) => {}
                Some(Fate::Extended { given_up }) => {
                    for page in given_up {
                        release(&base, &base.node(*page)?, &mut in_use);
                    }
                }
                None if bucket.place() == Place::Paged => release_tree(&base, bucket.root(), &mut in_use)?,
                None => {}
            }
        }
        release_tree(&base, base.root()?, &mut in_use)?;
        if let Some(page) = base.meta().freelist {
            let pages = u64::from(base.header(page)?.overflow) + 1;
            (page..page.saturating_add(pages)).for_each(|page| in_use.remove(page));
        }
        Ok(Some(in_use))
    }
}

/// One bucket in the making. Must be finished: the writer refuses to go on otherwise.
#[derive(Debug)]
#[must_use]
pub struct BucketWriter<'w, 'a, S> {
    writer: &'w mut Writer<'a, S>,
    name: Vec<u8>,
    tree: Tree,
}

impl<S: PageSink> BucketWriter<'_, '_, S> {
    /// Adds an entry behind the others.
    ///
    /// Fails when the key is not greater than the last one, when it is empty or longer than 32 KiB, when the value
    /// is longer than 2 GiB, or when the sink fails.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let done = self.tree.put(key, value, &mut self.writer.layout);
        done.map_err(|error| put_error(error, &self.name, key, value))
    }

    /// Completes the bucket.
    ///
    /// Fails when the sink fails.
    pub fn finish(self) -> Result<(), Error> {
        let mut value = vec![0; BUCKET_HEADER_LEN];
        match self.tree.finish(&mut self.writer.layout)? {
            Root::Page(page) => {
                value.splice(..8, page.to_le_bytes());
            }
            Root::Small(leaf) => value.extend_from_slice(&leaf.encode_inline()),
        }
        self.writer.buckets.insert(self.name, value);
        self.writer.unfinished = None;
        Ok(())
    }
}

/// A database with all pages but the metas: until it is sealed it is still the one below, or none.
#[derive(Debug)]
#[must_use]
pub struct Unsealed<S> {
    sink: S,
    meta: Meta,
    free_pages: u64,
}

impl<S: PageSink> Unsealed<S> {
    /// Where the pages went, to be brought to the disk before the metas follow.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// The two metas that are missing, each with its place in the file, in the order in which they are written.
    pub fn metas(&self) -> [(u64, Vec<u8>); 2] {
        let older = Meta {
            txid: self.meta.txid - 1,
            ..self.meta
        };
        [
            (u64::from(self.meta.page_size), older.encode(1)),
            (0, self.meta.encode(0)),
        ]
    }

    /// The length of the file that it will be.
    ///
    /// Fails where that is no length.
    pub fn file_len(&self) -> Result<u64, Error> {
        self.meta.file_len().ok_or(Error::Exhausted)
    }

    /// Writes the two metas; the older of them names the same root.
    ///
    /// Fails when the sink fails.
    pub fn seal(mut self) -> Result<(S, Written), Error> {
        for (offset, meta) in self.metas() {
            tree::write(&mut self.sink, offset, &meta)?;
        }
        let len = self.file_len()?;
        Ok((
            self.sink,
            Written {
                meta: self.meta,
                len,
                free_pages: self.free_pages,
            },
        ))
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The newer of the two metas.
    pub meta: Meta,
    /// The length of the file in bytes.
    pub len: u64,
    /// How many pages of the database below are free now.
    pub free_pages: u64,
}

/// Takes all pages of a tree out of use.
fn release_tree<'a>(base: &File<'a>, root: Node<'a>, in_use: &mut PageSet) -> Result<(), Fault> {
    let mut pending = vec![root];
    while let Some(node) = pending.pop() {
        // A tree of a sound file has no page twice; were it another file, this would still end.
        if !in_use.contains(node.page) {
            continue;
        }
        release(base, &node, in_use);
        if node.node_type == NodeType::Branch {
            for index in 0..node.count {
                let element = node.branch(index, 0).map_err(|kind| kind.on(node.page))?;
                pending.push(base.node(element.child)?);
            }
        }
    }
    Ok(())
}

fn release(base: &File<'_>, node: &Node<'_>, in_use: &mut PageSet) {
    let pages = node.len() as u64 / u64::from(base.page_size());
    (node.page..node.page.saturating_add(pages)).for_each(|page| in_use.remove(page));
}

fn put_error(error: PutError, bucket: &[u8], key: &[u8], value: &[u8]) -> Error {
    match error {
        PutError::Refused(Refusal::Order) => Error::KeyOrder { bucket: lossy(bucket) },
        PutError::Refused(Refusal::Size) => entry_size(bucket, key, value),
        PutError::Failed(error) => error,
    }
}

fn entry_size(bucket: &[u8], key: &[u8], value: &[u8]) -> Error {
    Error::EntrySize {
        bucket: lossy(bucket),
        key: key.len() as u64,
        value: value.len() as u64,
    }
}

fn misuse(bucket: &[u8], why: BucketMisuse) -> Error {
    Error::Bucket {
        bucket: lossy(bucket),
        why,
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
