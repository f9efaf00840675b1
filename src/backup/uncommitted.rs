//! What a run has put into the stores before its manifest is there, so that all of it can be taken back.
//!
//! What a run that is killed leaves is left to the store's sweep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::error_chain::with_causes;
use crate::layout::ObjectName;
use crate::store::{Error, Store};

/// An object that has its name, in the store of a destination.
struct Placed {
    destination: String,
    store: Store,
    object: ObjectName,
}

#[derive(Default)]
struct Shared {
    is_given_up: AtomicBool,
    placed: Mutex<Vec<Placed>>,
}

/// Held by everything that is at work in a store: its end is waited for.
#[derive(Clone)]
pub(super) struct AtWork {
    shared: Arc<Shared>,
    _alive: mpsc::Sender<()>,
}

impl AtWork {
    /// Whether nobody wants the backup any more.
    pub fn is_given_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Relaxed)
    }

    /// An object has got its name.
    pub fn placed(&self, destination: &str, store: &Store, object: &ObjectName) {
        let mut placed = self.shared.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.push(Placed {
            destination: destination.to_owned(),
            store: store.clone(),
            object: object.clone(),
        });
    }
}

/// The traces of one run.
pub(super) struct Traces {
    at_work: AtWork,
    ended: mpsc::Receiver<()>,
}

impl Traces {
    /// None yet.
    pub fn new() -> Traces {
        let (alive, ended) = mpsc::channel(1);
        let at_work = AtWork {
            shared: Arc::default(),
            _alive: alive,
        };
        Traces { at_work, ended }
    }

    /// For what goes to work.
    pub fn at_work(&self) -> AtWork {
        self.at_work.clone()
    }

    /// Ends what is at work, and removes what has its name already. Tells which store refuses, or takes longer than
    /// `patience`.
    pub async fn take_back(self, patience: Duration) -> Vec<String> {
        let Traces { at_work, mut ended } = self;
        let shared = at_work.shared.clone();
        shared.is_given_up.store(true, Ordering::Relaxed);
        drop(at_work);
        let hangs = |what: &str| vec![format!("{what} does not end within {} s", patience.as_secs())];
        // What hangs in one store keeps nothing in another.
        let is_late = tokio::time::timeout(patience, ended.recv()).await.is_err();
        let mut left = if is_late { hangs("writing") } else { Vec::new() };
        let removing = tokio::task::spawn_blocking(move || {
            let placed = std::mem::take(&mut *shared.placed.lock().unwrap_or_else(PoisonError::into_inner));
            placed.iter().filter_map(Placed::remove).collect()
        });
        let stays: Vec<String> = match tokio::time::timeout(patience, removing).await {
            Ok(stays) => stays.expect("a panic aborts the process"),
            Err(_) => hangs("removing it"),
        };
        left.extend(stays);
        left
    }
}

impl Placed {
    /// Removes it; what to say if it stays.
    fn remove(&self) -> Option<String> {
        match self.store.remove(&self.object) {
            Ok(()) | Err(Error::NotFound { .. }) => None,
            Err(error) => Some(format!("destination {}: {}", self.destination, with_causes(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha2::{Digest as _, Sha256};

    use super::super::destinations::Sinks;
    use super::super::{Error as BackupError, Pulse};
    use super::*;
    use crate::destinations::Destination;
    use crate::layout::{ChainPath, Stream};
    use crate::model::Digest;
    use crate::pipeline::Ending;
    use crate::store::tests::store_in;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn path() -> ChainPath {
        let path = "ab/20261120T101530Z-00000001/full.db.zst.age";
        match path.parse().unwrap() {
            ObjectName::Full(path) => path,
            other => panic!("{other} is no full backup"),
        }
    }

    /// Two stores that have all bytes of an object.
    async fn written(stores: &[Store], traces: &Traces) -> (Sinks, Vec<super::super::sink::Sink>, Stream) {
        let destinations = stores.iter().map(|store| Destination {
            name: store.folder().display().to_string(),
            store: Ok(store.clone()),
        });
        let mut sinks = Sinks::sort_out(destinations.collect(), &Pulse::default(), traces.at_work()).unwrap();
        sinks.begin(&path()).await.unwrap();
        let uploads = sinks.take_uploads().into_iter().map(|(sink, _)| sink);
        let mut uploads: Vec<_> = uploads.collect();
        let content = vec![7; 3 << 20];
        uploads
            .iter_mut()
            .for_each(|upload| upload.write_all(&content).unwrap());
        let stored = Stream {
            bytes: content.len() as u64,
            sha256: Digest(Sha256::digest(&content).into()),
        };
        (sinks, uploads, stored)
    }

    fn objects(stores: &[Store]) -> usize {
        stores.iter().map(|store| store.list().unwrap().len() - 1).sum()
    }

    #[tokio::test]
    async fn what_was_read_back_already_is_taken_back() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let stores = folders.each_ref().map(|folder| store_in(folder.path()));
        let traces = Traces::new();
        let (mut sinks, uploads, stored) = written(&stores, &traces).await;
        let committed: Result<(), BackupError> = sinks
            .commit(uploads.into_iter().map(Ending::done).collect(), &path(), &stored)
            .await;
        committed.unwrap();
        // Whoever is done first does not wait for the other.
        while objects(&stores) < 2 {
            tokio::task::yield_now().await;
        }
        drop(sinks);
        assert_eq!(traces.take_back(PATIENCE).await, [""; 0]);
        assert_eq!(objects(&stores), 0);
        assert!(!stores[0].folder().join("ab").exists(), "nor its folders");
    }

    #[tokio::test]
    async fn what_is_being_read_back_is_waited_for_and_taken_back() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let stores = folders.each_ref().map(|folder| store_in(folder.path()));
        let traces = Traces::new();
        let (mut sinks, uploads, stored) = written(&stores, &traces).await;
        let uploads = uploads.into_iter().map(Ending::done).collect();
        let path = path();
        tokio::select! {
            biased;
            _ = sinks.commit(uploads, &path, &stored) => panic!("it ends where nobody has asked it yet"),
            () = std::future::ready(()) => {}
        }
        drop(sinks);
        assert_eq!(traces.take_back(PATIENCE).await, [""; 0]);
        assert_eq!(objects(&stores), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_taken_back_is_named() {
        let folders = [tempfile::tempdir().unwrap()];
        let stores = folders.each_ref().map(|folder| store_in(folder.path()));
        let traces = Traces::new();
        let (sinks, uploads, _) = written(&stores, &traces).await;
        drop(sinks);
        let left = traces.take_back(Duration::from_millis(1)).await;
        assert!(left[0].contains("does not end"), "{left:?}");
        let told = BackupError::Interrupted { left }.to_string();
        assert!(told.contains("may still be there"), "{told}");
        drop(uploads);
        assert_eq!(objects(&stores), 0);
    }
}
