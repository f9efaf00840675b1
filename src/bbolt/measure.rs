//! How long a new database gets, from the lengths of its keys and values alone: nothing is copied or written.
//!
//! Invariant: the length is exactly that of what [`Writer::fresh`](super::Writer::fresh) makes of the same entries.

use super::page::{ELEMENT_LEN, HEADER_LEN};
use super::tree::{LARGE_LEAF, MAX_COUNT};

/// Root page and sequence of a bucket, before its inline page.
const BUCKET_HEADER_LEN: usize = 16;

/// A database that is measured, bucket by bucket.
#[derive(Debug, Clone)]
#[must_use]
pub struct Measure {
    page_size: usize,
    pages: u64,
    /// Bytes of the root leaf.
    root: usize,
    bucket: Option<(usize, Tree)>,
}

impl Measure {
    /// An empty database with pages of that size.
    pub fn new(page_size: u32) -> Self {
        Measure {
            page_size: page_size as usize,
            // The metas, and the freelist.
            pages: 3,
            root: HEADER_LEN,
            bucket: None,
        }
    }

    /// Begins a bucket with a name of that length; the one before it is complete.
    pub fn bucket(&mut self, name: usize) {
        self.end_bucket();
        self.bucket = Some((name, Tree::default()));
    }

    /// Adds an entry to the bucket; without a bucket it is not counted.
    #[inline]
    pub fn put(&mut self, key: usize, value: usize) {
        if let Some((_, tree)) = &mut self.bucket {
            self.pages += tree.put(key, value, self.page_size);
        }
    }

    /// The length of the file.
    pub fn file_len(mut self) -> u64 {
        self.end_bucket();
        let pages = self.pages + pages(self.root, self.page_size);
        pages.saturating_mul(self.page_size as u64)
    }

    fn end_bucket(&mut self) {
        if let Some((name, tree)) = self.bucket.take() {
            let (pages, inline) = tree.finish(self.page_size);
            self.pages += pages;
            self.root += ELEMENT_LEN + name + BUCKET_HEADER_LEN + inline;
        }
    }
}

/// The pages of a node of `len` bytes.
fn pages(len: usize, page_size: usize) -> u64 {
    len.div_ceil(page_size) as u64
}

/// As [`super::tree::Tree`], with lengths only.
#[derive(Debug, Clone, Default)]
struct Tree {
    count: usize,
    len: usize,
    /// The length of the leaf's first key.
    first: usize,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Default)]
struct Level {
    /// The lengths of the children's keys.
    keys: Vec<usize>,
    len: usize,
    full: Option<usize>,
}

impl Tree {
    /// Returns how many pages this completes.
    #[inline]
    fn put(&mut self, key: usize, value: usize, page_size: usize) -> u64 {
        let entry = ELEMENT_LEN.saturating_add(key).saturating_add(value);
        let len = HEADER_LEN.saturating_add(self.len).saturating_add(entry);
        let full = (self.count >= 2 && len > page_size / 10 * 9)
            || (self.count >= 1 && len > LARGE_LEAF)
            || self.count >= MAX_COUNT;
        let pages = if full { self.flush_leaf(page_size) } else { 0 };
        if self.count == 0 {
            self.first = key;
        }
        self.count += 1;
        self.len = self.len.saturating_add(entry);
        pages
    }

    /// Returns how many pages this completes, and the bytes of an inline page, if it is small enough for one.
    fn finish(mut self, page_size: usize) -> (u64, usize) {
        let leaf = HEADER_LEN + self.len;
        if self.levels.is_empty() {
            return match leaf <= page_size / 4 {
                true => (0, leaf),
                false => (pages(leaf, page_size), 0),
            };
        }
        let mut done = self.flush_leaf(page_size);
        let mut height = 0;
        while let Some(level) = self.levels.get_mut(height) {
            let count = level.keys.len();
            let first = if level.full.is_some() && count > 3 {
                count - 2
            } else {
                count
            };
            let rest = level.keys.split_off(first);
            let parts = [std::mem::take(&mut level.keys), rest];
            height += 1;
            for keys in parts.into_iter().filter(|keys| !keys.is_empty()) {
                done += branch_pages(&keys, page_size);
                if height < self.levels.len() || first < count {
                    done += self.add_child(height, keys.first().copied().unwrap_or_default(), page_size);
                }
            }
        }
        (done, 0)
    }

    #[cold]
    fn flush_leaf(&mut self, page_size: usize) -> u64 {
        let leaf = pages(HEADER_LEN + self.len, page_size);
        (self.count, self.len) = (0, 0);
        leaf + self.add_child(0, self.first, page_size)
    }

    fn add_child(&mut self, height: usize, key: usize, page_size: usize) -> u64 {
        let (mut height, mut child, mut done) = (height, Some(key), 0);
        while let Some(key) = child {
            if self.levels.len() <= height {
                self.levels.push(Level::default());
            }
            child = None;
            if let Some(level) = self.levels.get_mut(height)
                && let Some(keys) = level.push(key, page_size)
            {
                done += branch_pages(&keys, page_size);
                child = keys.first().copied();
            }
            height += 1;
        }
        done
    }
}

impl Level {
    /// Returns the keys of the branch that this completes.
    fn push(&mut self, key: usize, page_size: usize) -> Option<Vec<usize>> {
        let (len, count) = (ELEMENT_LEN + key, self.keys.len());
        let is_over = HEADER_LEN + self.len + len > page_size / 10 * 9 || count >= MAX_COUNT - 2;
        if self.full.is_none() && count >= 2 && is_over {
            self.full = Some(count);
        }
        self.keys.push(key);
        self.len += len;
        let full = self.full.filter(|full| self.keys.len() >= full + 2)?;
        let rest = self.keys.split_off(full);
        let keys = std::mem::replace(&mut self.keys, rest);
        self.len -= keys.iter().map(|key| ELEMENT_LEN + key).sum::<usize>();
        self.full = None;
        Some(keys)
    }
}

fn branch_pages(keys: &[usize], page_size: usize) -> u64 {
    let len: usize = keys.iter().map(|key| ELEMENT_LEN + key).sum();
    pages(HEADER_LEN + len, page_size)
}
