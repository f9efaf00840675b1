//! A whole database: finding the metas, and the nodes behind page numbers.

use std::fmt;

use super::Error;
use super::bucket::{Bucket, Buckets, Names};
use super::page::{Fault, FaultKind, Header, MAX_PAGE_SIZE, MIN_PAGE_SIZE, Meta, MetaBytes, Node};

/// Hears of the bytes of each node, before they are looked at.
pub type Follower<'a> = &'a dyn Fn(&[u8]);

/// A database, read from the bytes of its file.
#[derive(Clone, Copy)]
pub struct File<'a> {
    bytes: &'a [u8],
    meta: Meta,
    page_size: usize,
    followed: Option<Follower<'a>>,
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl<'a> File<'a> {
    /// Opens the database in `bytes`, as its newer valid meta page has it. More bytes than it says it has are
    /// ignored; the digest at the end of a snapshot is best cut off before.
    ///
    /// Fails when there is no valid meta page, when the machine that wrote it had the other byte order, or when
    /// bytes are missing. Looks at nothing but the metas.
    pub fn open(bytes: &'a [u8]) -> Result<File<'a>, Error> {
        let len = bytes.len() as u64;
        let meta = newest_meta(bytes)?;
        let expected = meta.file_len().unwrap_or(u64::MAX);
        if len < expected {
            return Err(Error::Truncated { bytes: len, expected });
        }
        let bytes = usize::try_from(expected)
            .ok()
            .and_then(|expected| bytes.get(..expected));
        let (Some(bytes), Ok(page_size)) = (bytes, usize::try_from(meta.page_size)) else {
            return Err(Error::Truncated { bytes: len, expected });
        };
        Ok(File {
            bytes,
            meta,
            page_size,
            followed: None,
        })
    }

    /// Tells `follower` of each node that is visited from now on.
    pub fn followed_by(self, follower: Follower<'a>) -> Self {
        File {
            followed: Some(follower),
            ..self
        }
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// The meta that the database was opened by.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The high-water mark: how many pages the database has.
    pub fn pages(&self) -> u64 {
        self.meta.pages
    }

    /// All buckets by name, in order.
    ///
    /// Fails when the root page is damaged; later pages and the buckets themselves are reported by the iterator.
    pub fn buckets(&self) -> Result<Buckets<'a>, Error> {
        Ok(Buckets::new(*self, self.root()?))
    }

    /// The names of all buckets, in order, though what is in one may not be read.
    ///
    /// Fails when the root page is damaged; later pages are reported by the iterator.
    pub fn bucket_names(&self) -> Result<Names<'a>, Error> {
        Ok(Names::new(*self, self.root()?))
    }

    /// The bucket of that name.
    ///
    /// Fails when a page on the way to it is damaged.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a>>, Error> {
        let found = Bucket::paged(*self, self.root()?).find(name)?;
        let bucket = found.map(|(page, index, element)| Bucket::from_element(*self, page, index, &element));
        Ok(bucket.transpose()?)
    }

    pub(super) fn root(&self) -> Result<Node<'a>, Fault> {
        self.node(self.meta.root)
    }

    /// The branch or leaf that begins at page `id`.
    #[inline]
    pub(super) fn node(&self, id: u64) -> Result<Node<'a>, Fault> {
        let (header, bytes) = self.run(id)?;
        if let Some(follower) = self.followed {
            follower(bytes);
        }
        Node::new(id, &header, bytes).map_err(|kind| kind.on(id))
    }

    /// The header at page `id`, which is not a meta, and the bytes of the run that it begins.
    #[inline]
    pub(super) fn run(&self, id: u64) -> Result<(Header, &'a [u8]), Fault> {
        if id < 2 || id >= self.meta.pages {
            return Err(FaultKind::OutOfRange { pages: self.meta.pages }.on(id));
        }
        let header = self.header(id)?;
        let too_long = FaultKind::RunTooLong {
            overflow: header.overflow,
        };
        let run = usize::try_from(u64::from(header.overflow) + 1)
            .ok()
            .and_then(|pages| pages.checked_mul(self.page_size))
            .and_then(|len| self.bytes_from(id)?.get(..len));
        Ok((header, run.ok_or_else(|| too_long.on(id))?))
    }

    /// The header of any page, its id checked.
    #[inline]
    pub(super) fn header(&self, id: u64) -> Result<Header, Fault> {
        let out_of_range = FaultKind::OutOfRange { pages: self.meta.pages };
        let header = self
            .bytes_from(id)
            .and_then(Header::parse)
            .ok_or_else(|| out_of_range.on(id))?;
        if header.id != id {
            return Err(FaultKind::WrongId { found: header.id }.on(id));
        }
        Ok(header)
    }

    fn bytes_from(&self, id: u64) -> Option<&'a [u8]> {
        self.bytes.get(usize::try_from(id).ok()?.checked_mul(self.page_size)?..)
    }
}

/// The valid meta with the highest txid. A file whose first meta is broken has its second at the second page, and
/// the page size is what it says there.
fn newest_meta(bytes: &[u8]) -> Result<Meta, Error> {
    let at = |offset: u64| {
        let page = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        page.map_or(MetaBytes::Invalid, Meta::parse)
    };
    let mut swapped = false;
    match at(0) {
        MetaBytes::Valid(first) => {
            return Ok(match at(u64::from(first.page_size)) {
                MetaBytes::Valid(second) if second.page_size == first.page_size && second.txid > first.txid => second,
                MetaBytes::Valid(_) | MetaBytes::Swapped | MetaBytes::Invalid => first,
            });
        }
        MetaBytes::Swapped => swapped = true,
        MetaBytes::Invalid => {}
    }
    for page_size in (MIN_PAGE_SIZE.ilog2()..=MAX_PAGE_SIZE.ilog2()).map(|bit| 1_u32 << bit) {
        match at(u64::from(page_size)) {
            MetaBytes::Valid(second) if second.page_size == page_size => return Ok(second),
            MetaBytes::Swapped => swapped = true,
            MetaBytes::Valid(_) | MetaBytes::Invalid => {}
        }
    }
    if swapped {
        Err(Error::ForeignByteOrder)
    } else {
        Err(Error::NotBbolt {
            bytes: bytes.len() as u64,
        })
    }
}
