//! An object while it is being written.
//!
//! Invariant: until `commit` returns nobody sees the object; dropped before that, nothing of it is left.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::disk::{self, FILE_MODE};
use super::patience::{Asked, ask};
use super::{Error, failed};
use crate::durable::{self, Partial};

/// How much is written before the kernel is told to bring it to the disk. Large enough for long requests, small enough
/// that the final sync has little left to wait for and that etcd's pages are not driven out of the cache.
const WINDOW: u64 = 8 << 20;

/// A new object. Written to as a stream; `commit` makes it visible.
#[must_use]
#[derive(Debug)]
pub struct Upload {
    // Taken by `commit`; dropped, it removes the file.
    partial: Option<Partial>,
    target: PathBuf,
    store: PathBuf,
    /// Whose file system it is, and how long that may say nothing.
    root: PathBuf,
    limit: Duration,
    written: u64,
    pushed: u64,
}

impl Upload {
    /// Begins the object at `target`, somewhere below the folder `store`.
    pub(super) fn begin(store: &Path, target: PathBuf, root: PathBuf, limit: Duration) -> Result<Upload, Error> {
        // A sweep may take away the folder while it is empty, between these two steps.
        const ATTEMPTS: u32 = 3;
        let mut attempt = 1;
        let partial = loop {
            disk::make_folder_of(store, &target)?;
            match Partial::create(&target, FILE_MODE) {
                Ok(partial) => break partial,
                Err(durable::Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Upload {
            partial: Some(partial),
            target,
            store: store.to_owned(),
            root,
            limit,
            written: 0,
            pushed: 0,
        })
    }

    /// Makes the object durable and visible; `AlreadyExists` if another was faster.
    pub fn commit(mut self) -> Result<(), Error> {
        let partial = self
            .partial
            .take()
            .expect("only commit and drop take it, and each comes once");
        partial.commit_new()?;
        Ok(())
    }

    fn partial(&self) -> &Partial {
        self.partial
            .as_ref()
            .expect("only commit and drop take it, and each comes once")
    }

    /// Has the kernel write what is dirty, and forget what it has written. The advice is that and no more: it returns
    /// without waiting for the disk, and what is still dirty stays.
    fn push(&mut self) {
        let from = self.pushed.saturating_sub(WINDOW);
        let (Ok(offset), Ok(length)) = (i64::try_from(from), i64::try_from(self.written - from)) else {
            return;
        };
        // Advice that is not taken costs time, not safety.
        posix_fadvise(
            self.partial().file(),
            offset,
            length,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )
        .ok();
        self.pushed = self.written;
    }
}

impl Write for Upload {
    /// Errors carry a `store::Error`, so that they name the object wherever they surface.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self
            .partial()
            .file()
            .write(bytes)
            .map_err(|source| match source.kind() {
                io::ErrorKind::Interrupted => source,
                kind => io::Error::new(kind, failed("write", &self.target)(source)),
            })?;
        self.written += written as u64;
        if self.written - self.pushed >= WINDOW {
            self.push();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(partial) = self.partial.take() else { return };
        // Where the store is not asked, it is not removed by this thread either.
        let partial = ManuallyDrop::new(partial);
        let (store, target) = (std::mem::take(&mut self.store), std::mem::take(&mut self.target));
        let remove = move |_: &_| {
            drop(ManuallyDrop::into_inner(partial));
            disk::remove_empty_folders(&store, &target);
        };
        // What a store that hangs keeps is swept later.
        let removing = ask(&self.root.display().to_string(), self.limit, remove);
        removing.and_then(Asked::answer).ok();
    }
}
