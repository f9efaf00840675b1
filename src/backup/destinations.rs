//! The destinations of one backup: each may fail alone, and is then left out and named.

use super::full::{Error, Job};
use crate::catalog::{Catalog, ChainPath, Manifest, ObjectName, Pin, Pinned, Stream};
use crate::model::{ByteSize, Digest};
use crate::pipeline::BranchError;
use crate::store::{self, FileStore, ReadBack, Upload};

/// Room that is left on a destination beside the backup itself.
const SPARE_BYTES: u64 = 64 << 20;

/// A place to write to, opened or not.
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// The store, or why it cannot be used.
    pub store: Result<FileStore, store::Error>,
}

/// What became of one destination.
#[derive(Debug)]
pub struct Written {
    /// Its name.
    pub destination: String,
    /// The error that kept the backup out of it.
    pub result: Result<(), DestinationError>,
}

/// Why a destination does not have the backup.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It failed or fell behind while the stream ran.
    #[error(transparent)]
    Stream(#[from] BranchError),
    /// It has too little room.
    #[error("needs about {needed} and has {free} free")]
    TooLittleSpace {
        /// An estimate of the stored size.
        needed: ByteSize,
        /// What there is.
        free: ByteSize,
    },
    /// What was read back is not what was written.
    #[error("`{object}` read back differs from what was written: {found} instead of {written}")]
    ReadBack {
        /// The object, which has been removed again.
        object: String,
        /// Its digest.
        found: Digest,
        /// What it should be.
        written: Digest,
    },
}

/// Why each that failed did.
pub(super) fn reasons(written: &[Written]) -> String {
    let reasons = written.iter().filter_map(|written| {
        let error = written.result.as_ref().err()?;
        Some(format!("{}: {error}", written.destination))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// Those that take part, and those that do not any more.
pub(super) struct Sinks {
    order: Vec<String>,
    open: Vec<Open>,
    failed: Vec<Written>,
}

struct Open {
    name: String,
    store: FileStore,
}

impl Sinks {
    pub fn sort_out(destinations: Vec<Destination>) -> Sinks {
        let mut sinks = Sinks {
            order: destinations
                .iter()
                .map(|destination| destination.name.clone())
                .collect(),
            open: Vec::new(),
            failed: Vec::new(),
        };
        for Destination { name, store } in destinations {
            match store {
                Ok(store) => sinks.open.push(Open { name, store }),
                Err(error) => sinks.fail(name, error),
            }
        }
        sinks
    }

    /// What is in them. One that cannot be listed takes no further part.
    pub fn catalogs(&mut self) -> Catalog {
        let catalogs = self.each(|open| open.store.catalog(&open.name));
        Catalog::merge(catalogs)
    }

    /// Leaves out those that have too little room for a snapshot of `total` bytes.
    pub fn refuse_without_space(&mut self, total: u64, before: &Catalog) {
        let needed = estimate(total, before) + SPARE_BYTES;
        self.each(|open| {
            let free = open.store.free_space()?.available;
            if free >= needed {
                return Ok(());
            }
            Err(DestinationError::TooLittleSpace {
                needed: ByteSize(needed),
                free: ByteSize(free),
            })
        });
    }

    /// Begins the object in each.
    pub fn begin(&mut self, path: &ChainPath) -> Result<Vec<Upload>, Error> {
        let object = ObjectName::Full(path.clone());
        let uploads = self.each(|open| open.store.begin(&object));
        self.some_left()?;
        Ok(uploads)
    }

    /// What to say when every one failed while the stream ran.
    pub fn none_left(mut self, errors: Vec<BranchError>) -> Error {
        for (open, error) in std::mem::take(&mut self.open).into_iter().zip(errors) {
            self.fail(open.name, error);
        }
        Error::NoDestination(self.failed)
    }

    /// Makes the object visible in each, reads it back from the disk and compares.
    pub async fn commit(
        &mut self,
        branches: Vec<Result<Upload, BranchError>>,
        path: &ChainPath,
        stored: &Stream,
    ) -> Result<(), Error> {
        let object = ObjectName::Full(path.clone());
        let mut running = Vec::new();
        for (open, branch) in std::mem::take(&mut self.open).into_iter().zip(branches) {
            let (object, stored) = (object.clone(), *stored);
            running.push(tokio::task::spawn_blocking(move || {
                let committed = branch
                    .map_err(DestinationError::from)
                    .and_then(|upload| commit_one(&open.store, upload, &object, &stored));
                (open, committed)
            }));
        }
        for task in running {
            let (open, committed) = task.await.expect("a panic aborts the process");
            match committed {
                Ok(()) => self.open.push(open),
                Err(error) => self.fail(open.name, error),
            }
        }
        self.some_left()
    }

    /// Takes back what was committed, as far as it can be.
    pub fn withdraw(&mut self, path: &ChainPath) {
        let object = ObjectName::Full(path.clone());
        self.each(|open| open.store.remove(&object));
    }

    /// Writes the manifest everywhere: from here on the backup exists.
    pub fn publish(mut self, manifest: &Manifest, job: &Job) -> Result<Vec<Written>, Error> {
        let bytes = manifest.to_bytes();
        let chain = manifest.chain_path();
        let pin = Pin::new(manifest.finished_at, &job.host, job.note.clone()).to_bytes();
        self.each(|open| {
            // The pin first, so that no moment is left for retention to find the backup without it.
            if job.pinned == Pinned::Yes {
                open.store.put_new(&ObjectName::Pin(chain.clone()), &pin)?;
            }
            open.store.put_new(&manifest.name(), &bytes)
        });
        self.some_left()?;
        let good = self.open.into_iter().map(|open| Written {
            destination: open.name,
            result: Ok(()),
        });
        let mut written: Vec<Written> = good.chain(self.failed).collect();
        written.sort_by_key(|written| self.order.iter().position(|name| *name == written.destination));
        Ok(written)
    }

    /// Does something in each; those where it fails take no further part.
    fn each<T, E: Into<DestinationError>>(&mut self, mut act: impl FnMut(&Open) -> Result<T, E>) -> Vec<T> {
        let mut results = Vec::new();
        for open in std::mem::take(&mut self.open) {
            match act(&open) {
                Ok(result) => {
                    results.push(result);
                    self.open.push(open);
                }
                Err(error) => self.fail(open.name, error),
            }
        }
        results
    }

    fn fail(&mut self, destination: String, error: impl Into<DestinationError>) {
        self.failed.push(Written {
            destination,
            result: Err(error.into()),
        });
    }

    fn some_left(&mut self) -> Result<(), Error> {
        match self.open.is_empty() {
            true => Err(Error::NoDestination(std::mem::take(&mut self.failed))),
            false => Ok(()),
        }
    }
}

fn commit_one(store: &FileStore, upload: Upload, object: &ObjectName, stored: &Stream) -> Result<(), DestinationError> {
    upload.commit()?;
    let ReadBack { bytes, sha256 } = store.read_back(object)?;
    if bytes == stored.bytes && sha256 == stored.sha256 {
        return Ok(());
    }
    store.remove(object)?;
    Err(DestinationError::ReadBack {
        object: object.to_string(),
        found: sha256,
        written: stored.sha256,
    })
}

/// A guess for the first backup: etcd's databases compress to a third and less. Should it be wrong, the disk says so,
/// and nothing is left behind.
const FIRST_RATIO: f64 = 1.0 / 3.0;

/// How large a snapshot of `total` bytes will be when it is stored: as the last one was, with a margin.
fn estimate(total: u64, before: &Catalog) -> u64 {
    let last = before.backups().last().map(|backup| backup.manifest());
    let ratio = match last.filter(|last| last.plain.bytes > 0) {
        Some(last) => last.stored.bytes as f64 / last.plain.bytes as f64,
        None => FIRST_RATIO,
    };
    let estimated = total as f64 * ratio * 1.25;
    (estimated as u64).min(total)
}
