//! Documents of a store that this host has read before, kept on it, so that each is asked for once.
//!
//! ```text
//! file  = *( length content )        length: four bytes, little endian; one document behind the other
//! ```
//!
//! Nothing says which document is which: a kept one is believed for a name only if it has the MD5 that the listing of the store
//! gives for that name, just now. So whatever becomes of this file, damaged or forged, costs requests at the most.
//!
//! Invariant: nothing is taken from here that is not what the store has, by its own listing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use md5::{Digest as _, Md5};
use nix::unistd::geteuid;

use crate::catalog::Document;
use crate::durable;
use crate::layout::{Listed, ListedObject, MAX_BYTES, ObjectName};

/// An MD5, as stores tell it in listings.
pub(super) type Sum = [u8; 16];

/// How large the file may become; what does not fit is read each time.
const LARGEST: u64 = 512 << 20;

/// A file in which less than half is of use is written anew, from this size on.
const WORTH_WRITING_ANEW: u64 = 1 << 20;

/// So many bytes of documents that were read now wait to be written.
const MOST_WAITING: usize = 4 << 20;

const MODE: u32 = 0o640;

/// Where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    path: PathBuf,
}

/// What was found in the file.
#[derive(Debug, Default)]
struct Found {
    file: Option<File>,
    /// How much of it could be understood.
    understood: u64,
    /// What is of use, and where it lies.
    used: BTreeMap<Sum, (u64, u32)>,
}

impl Found {
    /// A document with this sum.
    fn get(&self, wanted: Sum) -> Option<Vec<u8>> {
        let (at, length) = self.used.get(&wanted)?;
        let mut content = vec![0; *length as usize];
        self.file.as_ref()?.read_exact_at(&mut content, *at).ok()?;
        // It may have been written anew since.
        (sum(&content) == wanted).then_some(content)
    }
}

/// What was read now and is not kept yet, and where the file ends.
#[derive(Debug)]
struct New {
    documents: Vec<Vec<u8>>,
    bytes: usize,
    end: u64,
}

/// The documents of one listing, each of which is asked for once.
pub(super) struct Once<'a> {
    kept: &'a Kept,
    found: Found,
    /// What the listing tells of each.
    sums: BTreeMap<&'a ObjectName, Sum>,
    /// What was read now.
    new: Mutex<New>,
}

impl<'a> Once<'a> {
    pub fn of(kept: &'a Kept, objects: &'a [ListedObject], sums: &[Option<Sum>]) -> Once<'a> {
        let told = objects.iter().zip(sums);
        let documents = told.filter_map(|(object, sum)| match &object.name {
            // They are large, change, or are read one at a time.
            Listed::Ours(ObjectName::Full(_) | ObjectName::Canary(_) | ObjectName::Claim(..)) => None,
            Listed::Ours(name) => Some((name, (*sum)?)),
            _ => None,
        });
        let sums: BTreeMap<&ObjectName, Sum> = documents.collect();
        let found = kept.find(&sums.values().copied().collect());
        let end = found.understood;
        Once {
            kept,
            found,
            sums,
            new: Mutex::new(New {
                documents: Vec::new(),
                bytes: 0,
                end,
            }),
        }
    }

    /// The document of this name, as it is kept here or as it is read.
    pub fn document(&self, name: &ObjectName, read: impl FnOnce() -> Option<Document>) -> Option<Document> {
        if let Some(content) = self.sums.get(name).and_then(|sum| self.found.get(*sum)) {
            return Some(Document {
                name: name.clone(),
                content: Ok(content),
            });
        }
        let document = read()?;
        if let Ok(content) = &document.content
            && self.sums.get(&document.name) == Some(&sum(content))
        {
            let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.bytes += content.len();
            new.documents.push(content.clone());
            if new.bytes > MOST_WAITING {
                let documents = std::mem::take(&mut new.documents);
                new.bytes = 0;
                new.end = self.kept.append_at(new.end, &documents);
            }
        }
        Some(document)
    }

    /// Keeps what was read now.
    pub fn keep(self) {
        let new = self.new.into_inner().unwrap_or_else(PoisonError::into_inner);
        match new.end == self.found.understood {
            true => self.kept.add(&self.found, &new.documents),
            // What is of no use goes the next time.
            false => {
                self.kept.append_at(new.end, &new.documents);
            }
        }
    }
}

fn sum(content: &[u8]) -> Sum {
    Md5::digest(content).into()
}

impl Kept {
    /// In this file.
    pub fn at(path: PathBuf) -> Kept {
        Kept { path }
    }

    /// Where the kept documents are that are wanted. A file that cannot be read has none.
    fn find(&self, wanted: &BTreeSet<Sum>) -> Found {
        let mut found = Found::default();
        let Ok(file) = durable::open_plain(&self.path) else {
            return found;
        };
        let mut reader = BufReader::with_capacity(256 << 10, (&file).take(LARGEST));
        // Until it ends, or makes no sense any more.
        while let Ok(content) = next(&mut reader) {
            let length = content.len() as u32;
            let sum = sum(&content);
            if wanted.contains(&sum) {
                found.used.insert(sum, (found.understood + 4, length));
            }
            found.understood += 4 + u64::from(length);
        }
        found.file = Some(file);
        found
    }

    /// Keeps more documents behind those that were found. Only for the speed of the next time: that it fails is no error.
    fn add(&self, found: &Found, documents: &[Vec<u8>]) {
        let used: u64 = found.used.values().map(|(_, length)| 4 + u64::from(*length)).sum();
        let is_wasteful = found.understood > WORTH_WRITING_ANEW && used < found.understood / 2;
        match is_wasteful {
            true if self.may_write() => {
                self.write_anew(found, documents).ok();
            }
            true => {}
            false => {
                self.append_at(found.understood, documents);
            }
        }
    }

    /// Keeps more documents from here on, and says where the file ends then.
    fn append_at(&self, end: u64, documents: &[Vec<u8>]) -> u64 {
        if documents.is_empty() || !self.may_write() {
            return end;
        }
        self.append(end, documents).unwrap_or(end)
    }

    /// Whether the folder is this user's: whoever has it not, such as root, leaves nothing in it.
    fn may_write(&self) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let is_own = |folder: &Path| std::fs::symlink_metadata(folder).is_ok_and(|at| at.uid() == geteuid().as_raw());
        match folder.parent() {
            Some(state) if is_own(state) => durable::create_dirs(folder, 0o750).is_ok(),
            Some(_) | None => false,
        }
    }

    fn append(&self, understood: u64, documents: &[Vec<u8>]) -> io::Result<u64> {
        let file = durable::open_lock(&self.path, MODE)?;
        // Another process is at it: it keeps the same.
        let Ok(lock) = durable::Lock::exclusive(file) else {
            return Ok(understood);
        };
        let mut file: &File = &lock;
        // It has been since this one read it, and what it keeps now may be more.
        if file.metadata()?.len() < understood {
            return Ok(understood);
        }
        file.set_len(understood)?;
        file.seek(SeekFrom::Start(understood))?;
        let mut left = LARGEST.saturating_sub(understood);
        write(&mut file, documents.iter().map(Vec::as_slice), &mut left)?;
        file.stream_position()
    }

    fn write_anew(&self, found: &Found, documents: &[Vec<u8>]) -> io::Result<()> {
        let partial = durable::Partial::create(&self.path, MODE).map_err(io::Error::other)?;
        let mut left = LARGEST;
        for content in found.used.keys().filter_map(|sum| found.get(*sum)) {
            write(&mut partial.file(), std::iter::once(content.as_slice()), &mut left)?;
        }
        write(&mut partial.file(), documents.iter().map(Vec::as_slice), &mut left)?;
        partial.commit_replace().map_err(io::Error::other)
    }
}

fn next(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = vec![0; length];
    reader.read_exact(&mut content)?;
    Ok(content)
}

fn write<'a>(to: &mut impl Write, documents: impl Iterator<Item = &'a [u8]>, left: &mut u64) -> io::Result<()> {
    let mut block = Vec::new();
    for document in documents {
        let all = 4 + document.len() as u64;
        let Some(rest) = left.checked_sub(all) else { break };
        *left = rest;
        block.extend_from_slice(&u32::try_from(document.len()).unwrap_or(u32::MAX).to_le_bytes());
        block.extend_from_slice(document);
        if block.len() > 1 << 20 {
            to.write_all(&block)?;
            block.clear();
        }
    }
    to.write_all(&block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(folder: &tempfile::TempDir) -> Kept {
        Kept::at(folder.path().join("documents/s3"))
    }

    /// What is found of these, and how many are not.
    fn visit(kept: &Kept, of: &[&[u8]]) -> (Found, Vec<Vec<u8>>, usize) {
        let found = kept.find(&of.iter().map(|content| sum(content)).collect());
        let mut taken: Vec<Vec<u8>> = of.iter().filter_map(|content| found.get(sum(content))).collect();
        taken.sort();
        let missing = of.len() - taken.len();
        (found, taken, missing)
    }

    #[test]
    fn what_was_kept_is_found_by_what_the_store_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(&folder);
        let (none, taken, missing) = visit(&kept, &[b"one"]);
        assert_eq!((taken.len(), missing), (0, 1));
        kept.add(&none, &[b"one".to_vec(), b"two".to_vec()]);
        let (found, taken, missing) = visit(&kept, &[b"two", b"three", b"one"]);
        assert_eq!((taken, missing), (vec![b"one".to_vec(), b"two".to_vec()], 1));
        kept.add(&found, &[b"three".to_vec()]);
        assert_eq!(visit(&kept, &[b"two", b"three", b"one"]).1.len(), 3);
    }

    #[test]
    fn whatever_becomes_of_the_file_nothing_else_is_taken_and_it_mends_itself() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(&folder);
        let all: [&[u8]; 3] = [b"one", b"two", b"three"];
        let documents: Vec<Vec<u8>> = all.iter().map(|document| document.to_vec()).collect();
        kept.add(&Found::default(), &documents);
        let whole = durable::read_plain(&kept.path, 1000).unwrap();
        for cut in 0..whole.len() {
            for forged in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[cut] = forged;
                for bytes in [bytes, whole[..cut].to_vec()] {
                    durable::replace(&kept.path, &bytes, 0o600).unwrap();
                    let (found, taken, _) = visit(&kept, &all);
                    assert!(taken.iter().all(|taken| documents.contains(taken)));
                    let missing: Vec<Vec<u8>> = documents
                        .iter()
                        .filter(|document| !taken.contains(document))
                        .cloned()
                        .collect();
                    kept.add(&found, &missing);
                    assert_eq!(visit(&kept, &all).1.len(), 3);
                }
            }
        }
    }

    #[test]
    fn what_is_of_no_use_any_more_goes() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(&folder);
        let document = |number: u32| [number.to_le_bytes().as_slice(), &[0; 1000]].concat();
        let all: Vec<Vec<u8>> = (0..3000).map(document).collect();
        kept.add(&Found::default(), &all);
        let some: Vec<&[u8]> = all.iter().take(1000).map(Vec::as_slice).collect();
        let (found, taken, _) = visit(&kept, &some);
        assert_eq!(taken.len(), 1000);
        kept.add(&found, &[b"new".to_vec()]);
        let bytes = std::fs::metadata(&kept.path).unwrap().len();
        assert_eq!(bytes, 1000 * 1008 + 7);
        assert_eq!(visit(&kept, &some).1.len(), 1000);
        assert_eq!(visit(&kept, &[b"new"]).1.len(), 1);
    }
}
