//! The destinations of one backup: each may fail alone, and is then left out and named.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Pulse;
use super::full::Error;
use super::sink::Sink;
use super::uncommitted::AtWork;
use crate::catalog::Catalog;
use crate::destinations::Destination;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, Check, HostName, Manifest, ObjectName, Pin, Stream};
use crate::model::{ByteSize, Digest};
use crate::pipeline::{BranchError, Ending, LAG_BUDGET, LONG_LAG_BUDGET};
use crate::store::{self, Faster, Store};

/// How long a store may take for a small thing.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

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
    /// It does not answer.
    #[error("no answer for {} s", .after.as_secs())]
    Hangs {
        /// How long it was waited for.
        after: Duration,
    },
    /// It has too little room.
    #[error("needs about {needed} and has {free} free: free some, keep fewer backups, or name another destination")]
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
        Some(format!("{}: {}", written.destination, with_causes(error)))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// Those that take part, and those that do not any more.
pub(super) struct Sinks {
    order: Vec<String>,
    open: Vec<Open>,
    /// Those that are at work still while another is done, which does not wait for them.
    behind: JoinSet<Ended>,
    /// Those that were left behind for others: they are what is left where these fail.
    spare: Vec<Open>,
    /// How many took part in the stream.
    took_part: usize,
    failed: Vec<Written>,
    pulse: Pulse,
    at_work: AtWork,
}

struct Open {
    name: String,
    store: Store,
    /// The object, from its beginning until the pipeline takes it.
    sink: Option<Sink>,
}

impl Sinks {
    pub fn sort_out(destinations: Vec<Destination>, pulse: &Pulse, at_work: AtWork) -> Result<Sinks, Error> {
        let mut sinks = Sinks {
            order: destinations
                .iter()
                .map(|destination| destination.name.clone())
                .collect(),
            open: Vec::new(),
            behind: JoinSet::new(),
            spare: Vec::new(),
            took_part: 0,
            failed: Vec::new(),
            pulse: pulse.clone(),
            at_work,
        };
        for Destination { name, store } in destinations {
            match store {
                Ok(store) => sinks.open.push(Open {
                    name,
                    store,
                    sink: None,
                }),
                Err(error) => sinks.fail(name, error),
            }
        }
        sinks.some_left()?;
        Ok(sinks)
    }

    /// Begins the object in each.
    pub async fn begin(&mut self, path: &ChainPath) -> Result<(), Error> {
        let object = ObjectName::Full(path.clone());
        let at_work = self.at_work.clone();
        self.each(PATIENCE, move |open| {
            open.sink = Some(Sink::begin(&open.store, &object, &at_work)?);
            Ok(())
        })
        .await
    }

    /// Leaves out those that have too little room for a snapshot of `total` bytes.
    pub async fn refuse_without_space(&mut self, total: u64, before: &Catalog) -> Result<(), Error> {
        let estimated = estimate(total, before);
        self.each(PATIENCE, move |open| {
            let Some(space) = open.store.free_space()? else {
                return Ok(());
            };
            let needed = estimated.saturating_add(space.spare());
            if space.available >= needed {
                return Ok(());
            }
            Err(DestinationError::TooLittleSpace {
                needed: ByteSize(needed),
                free: ByteSize(space.available),
            })
        })
        .await
    }

    /// The objects, for the pipeline to write to, in the order of the destinations that are left, with how long the others wait
    /// for each.
    pub fn take_uploads(&mut self) -> Vec<(Sink, Duration)> {
        self.took_part = self.open.len();
        let gives = |open: &Open| !open.store.is_limited() && open.store.reads_back();
        let givers = self.open.iter().filter(|open| gives(open)).count();
        let sinks = self.open.iter_mut().map(|open| {
            let mut sink = open.sink.take().expect("it was begun in each that is left");
            // Nobody waits for one to which another can be copied.
            let others = givers - usize::from(gives(open));
            let (faster, budget) = match others > 0 {
                true => (Faster::Fails, LAG_BUDGET),
                false => (Faster::Waits, LONG_LAG_BUDGET),
            };
            sink.when_faster(faster);
            (sink, budget)
        });
        sinks.collect()
    }

    /// What to say when every one failed while the stream ran.
    pub fn none_left(&mut self, errors: Vec<BranchError>) -> Error {
        for (open, error) in std::mem::take(&mut self.open).into_iter().zip(errors) {
            self.leave_out(open, error);
        }
        self.some_left().expect_err("each has failed")
    }

    fn leave_out(&mut self, open: Open, error: BranchError) {
        let is_spare = is_left_behind(&error);
        self.fail(open.name.clone(), error);
        self.spare.extend(is_spare.then_some(open));
    }

    /// Whether it is worth to begin again: those that are left were only left behind, for others that have failed since.
    pub fn can_go_again(&self) -> bool {
        !self.open.is_empty()
    }

    /// Makes the object visible in each, reads it back from the disk and compares. Once one has it, the others go on beside:
    /// a backup is one as soon as it is in a single place.
    pub async fn commit(
        &mut self,
        branches: Vec<Ending<Sink>>,
        path: &ChainPath,
        stored: &Stream,
    ) -> Result<(), Error> {
        let (object, stored) = (ObjectName::Full(path.clone()), *stored);
        let patience = PATIENCE + store::time_to_sync(stored.bytes);
        for (open, branch) in std::mem::take(&mut self.open).into_iter().zip(branches) {
            let (object, pulse) = (object.clone(), self.pulse.clone());
            self.behind.spawn(async move {
                let name = open.name.clone();
                let joined = tokio::task::spawn_blocking(|| branch.join()).await;
                match joined.expect("a panic aborts the process") {
                    Ok(sink) => {
                        let act = move |open: &mut Open| sink.commit(&open.name, &object, &stored, &pulse);
                        match within(patience, open, act).await {
                            Ok(open) => Ended::Committed(open),
                            Err(error) => Ended::Failed(name, error),
                        }
                    }
                    Err(error) => Ended::Broken(open, error),
                }
            });
        }
        let mut deadline = None;
        while let Some(ended) = next_of(&mut self.behind, deadline).await {
            match ended {
                Ended::Committed(open) => {
                    self.pulse.beat();
                    self.open.push(open);
                    deadline.get_or_insert_with(tokio::time::Instant::now);
                }
                Ended::Failed(name, error) => self.fail(name, error),
                Ended::Broken(open, error) => self.leave_out(open, error),
            }
        }
        self.some_left()
    }

    /// The manifest as it is to be stored, the same in each that is left: signed, where this host has a key.
    pub fn signed(&self, manifest: &Manifest) -> Vec<u8> {
        let document = manifest.to_bytes();
        match self.open.first() {
            Some(open) => open.store.authority().sign(&manifest.name(), &document),
            None => document,
        }
    }

    /// Writes the manifest everywhere: from here on the backup exists. First where the object is; where it is not yet, as soon
    /// as it is, or not at all once somebody asks to end: it can be copied there.
    pub async fn publish(
        mut self,
        manifest: &Manifest,
        document: &[u8],
        pin: Option<&Pin>,
        host: &HostName,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Vec<Written>, Error> {
        let publishing = Arc::new(Publishing {
            manifest: (manifest.name(), document.to_vec()),
            pin: pin.map(|pin| (ObjectName::Pin(manifest.chain_path()), pin.to_bytes())),
            check: acknowledged(manifest, host),
        });
        let act = publishing.clone();
        self.try_each(PATIENCE, move |open| act.publish(open)).await;
        let mut published = std::mem::take(&mut self.open);
        let waited_since = tokio::time::Instant::now();
        tokio::pin!(interrupted);
        loop {
            let late = tokio::select! {
                // What is done already is not given up.
                biased;
                late = next_of(&mut self.behind, None) => late,
                () = &mut interrupted => break,
            };
            match late {
                None => break,
                Some(Ended::Committed(open)) => {
                    self.open.push(open);
                    let act = publishing.clone();
                    self.try_each(PATIENCE, move |open| act.publish(open)).await;
                    published.append(&mut self.open);
                }
                Some(Ended::Failed(name, error)) => self.fail(name, error),
                Some(Ended::Broken(open, error)) => self.fail(open.name, error),
            }
        }
        // Whoever was not heard of is behind.
        for name in self.order.clone() {
            let is_heard_of = published.iter().any(|open| open.name == name)
                || self.failed.iter().any(|failed| failed.destination == name);
            if !is_heard_of {
                let (waited, written) = (waited_since.elapsed(), manifest.stored.bytes);
                self.fail(name, BranchError::TooSlow { waited, written });
            }
        }
        if published.is_empty() {
            return Err(Error::NoDestination(self.failed));
        }
        let good = published.into_iter().map(|open| Written {
            destination: open.name,
            result: Ok(()),
        });
        let mut written: Vec<Written> = good.chain(self.failed).collect();
        written.sort_by_key(|written| self.order.iter().position(|name| *name == written.destination));
        Ok(written)
    }

    /// Does something in each, all at once. Those where it fails or takes longer than `patience` take no further part;
    /// fails itself when none is left.
    async fn each(
        &mut self,
        patience: Duration,
        act: impl Fn(&mut Open) -> Result<(), DestinationError> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.try_each(patience, act).await;
        self.some_left()
    }

    /// The same, where it may fail in all.
    async fn try_each(
        &mut self,
        patience: Duration,
        act: impl Fn(&mut Open) -> Result<(), DestinationError> + Clone + Send + 'static,
    ) {
        let mut running = Vec::new();
        for open in std::mem::take(&mut self.open) {
            running.push((open.name.clone(), tokio::spawn(within(patience, open, act.clone()))));
        }
        for (name, task) in running {
            match task.await.expect("a panic aborts the process") {
                Ok(open) => {
                    self.pulse.beat();
                    self.open.push(open);
                }
                Err(error) => self.fail(name, error),
            }
        }
    }

    fn fail(&mut self, destination: String, error: impl Into<DestinationError>) {
        self.failed.push(Written {
            destination,
            result: Err(error.into()),
        });
    }

    /// Fails where none is left; those that were only left behind are open then, to begin again, unless there was nobody else.
    fn some_left(&mut self) -> Result<(), Error> {
        if !self.open.is_empty() {
            return Ok(());
        }
        let spare = std::mem::take(&mut self.spare);
        if !spare.is_empty() && spare.len() < self.took_part {
            let is_spare = |failed: &Written| spare.iter().any(|open| open.name == failed.destination);
            self.failed.retain(|failed| !is_spare(failed));
            self.open = spare;
            return Err(Error::NoDestination(Vec::new()));
        }
        Err(Error::NoDestination(std::mem::take(&mut self.failed)))
    }
}

/// How it ended in one of them.
enum Ended {
    /// The object is there, proven.
    Committed(Open),
    /// It is not.
    Failed(String, DestinationError),
    /// Not all of it came there.
    Broken(Open, BranchError),
}

/// Whether one was left behind because it is slow, or may be written to no faster: it can have all that others have.
pub fn is_left_behind(error: &BranchError) -> bool {
    match error {
        BranchError::TooSlow { .. } => true,
        BranchError::Write { source, .. } => {
            let of_store = source.get_ref().and_then(|source| source.downcast_ref());
            matches!(of_store, Some(store::Error::Limited { .. }))
        }
    }
}

/// Does something in one of them, which takes no further part where it fails or takes longer than `patience`.
async fn within(
    patience: Duration,
    mut open: Open,
    act: impl FnOnce(&mut Open) -> Result<(), DestinationError> + Send + 'static,
) -> Result<Open, DestinationError> {
    let task = tokio::task::spawn_blocking(move || act(&mut open).map(|()| open));
    match tokio::time::timeout(patience, task).await {
        Ok(done) => done.expect("a panic aborts the process"),
        Err(_) => Err(DestinationError::Hangs { after: patience }),
    }
}

/// The next that is done; nothing at the deadline, or once none is left.
async fn next_of<T: 'static>(running: &mut JoinSet<T>, deadline: Option<tokio::time::Instant>) -> Option<T> {
    let next = running.join_next();
    let joined = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, next).await.ok()?,
        None => next.await,
    };
    Some(joined?.expect("a panic aborts the process, and nobody aborts them"))
}

/// What makes an object a backup.
struct Publishing {
    manifest: (ObjectName, Vec<u8>),
    pin: Option<(ObjectName, Vec<u8>)>,
    /// For stores from which nothing is read back.
    check: (ObjectName, Vec<u8>),
}

impl Publishing {
    fn publish(&self, open: &mut Open) -> Result<(), DestinationError> {
        // The pin first, so that no moment is left for retention to find the backup without it.
        if let Some((name, pin)) = &self.pin {
            open.store.put_document(name, pin)?;
        }
        // Before the manifest, too: nobody is to take for read back what was not.
        if !open.store.reads_back() {
            let (name, check) = &self.check;
            open.store.put_document(name, check)?;
        }
        let (name, manifest) = &self.manifest;
        Ok(open.store.put_new(name, manifest)?)
    }
}

/// What stands beside a backup that was not read back.
fn acknowledged(manifest: &Manifest, host: &HostName) -> (ObjectName, Vec<u8>) {
    let check = Check::acknowledged(manifest, host);
    let name = ObjectName::Check(manifest.chain_path(), check.checked_at, host.clone());
    (name, check.to_bytes())
}

/// A guess for the first backup: etcd's databases compress to a third and less. Should it be wrong, the disk says so,
/// and nothing is left behind.
const FIRST_RATIO: f64 = 1.0 / 3.0;

/// The last backups by whose ratios the next one is estimated.
const LAST: usize = 5;

/// How large a snapshot of `total` bytes will be when it is stored: as the least compressed of the last ones, with a margin.
fn estimate(total: u64, before: &Catalog) -> u64 {
    let last = before.backups().iter().rev().map(|backup| backup.manifest());
    let last = last.filter(|last| last.plain.bytes > 0).take(LAST);
    let ratios = last.map(|last| last.stored.bytes as f64 / last.plain.bytes as f64);
    let ratio = ratios.reduce(f64::max).unwrap_or(FIRST_RATIO);
    let estimated = total as f64 * ratio * 1.25;
    (estimated as u64).min(total)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use sha2::{Digest as _, Sha256};

    use super::super::uncommitted::Traces;
    use super::*;
    use crate::layout::manifest::tests::manifest;
    use crate::model::ClusterId;
    use crate::store::tests::store;

    const CHAIN: &str = "20261120T101530Z-00000001";

    /// Three stores, each with all bytes of the object of a manifest.
    async fn sent(stores: [&Store; 3]) -> (Sinks, [Sink; 3], Manifest) {
        let content = vec![7; 100_000];
        let mut manifest = manifest(0xab, CHAIN, 7);
        manifest.stored = Stream {
            bytes: content.len() as u64,
            sha256: Digest(Sha256::digest(&content).into()),
        };
        let named = ["local", "near", "far"].into_iter().zip(stores);
        let destinations = named.map(|(name, store)| Destination {
            name: name.to_owned(),
            store: Ok(store.clone()),
        });
        let mut sinks = Sinks::sort_out(destinations.collect(), &Pulse::default(), Traces::new().at_work()).unwrap();
        sinks.begin(&manifest.chain_path()).await.unwrap();
        let uploads = sinks.take_uploads().into_iter().map(|(sink, _)| sink);
        let mut uploads = <[Sink; 3]>::try_from(uploads.collect::<Vec<_>>()).ok().unwrap();
        uploads
            .iter_mut()
            .for_each(|upload| upload.write_all(&content).unwrap());
        (sinks, uploads, manifest)
    }

    /// Publishes it, and tells who has it.
    async fn published(sinks: Sinks, manifest: &Manifest, interrupted: impl Future<Output = ()>) -> Vec<String> {
        let host = "h1".parse().unwrap();
        let document = manifest.to_bytes();
        let written = sinks
            .publish(manifest, &document, None, &host, interrupted)
            .await
            .unwrap();
        assert_eq!(written.len(), 3);
        for one in &written {
            let is_behind = matches!(one.result, Err(DestinationError::Stream(BranchError::TooSlow { .. })));
            assert!(one.result.is_ok() || is_behind || one.destination == "local", "{one:?}");
        }
        let good = written.into_iter().filter(|written| written.result.is_ok());
        good.map(|written| written.destination).collect()
    }

    fn has(store: &Store, manifest: &Manifest) -> bool {
        store.read_small(&manifest.name(), 1 << 20).is_ok()
    }

    #[tokio::test]
    async fn each_has_the_backup_as_soon_as_it_can_and_waits_for_no_other() {
        let stores = [store(), store(), store()];
        let [local, near, far] = stores.each_ref().map(|(_, store)| store);
        let (mut sinks, [first, second, third], manifest) = sent([local, near, far]).await;
        let ((near_done, second_ends), (far_done, third_ends)) = (Ending::later(), Ending::later());
        let endings = vec![Ending::done(first), second_ends, third_ends];
        sinks
            .commit(endings, &manifest.chain_path(), &manifest.stored)
            .await
            .unwrap();
        let publishing = published(sinks, &manifest, std::future::pending());
        let watching = async {
            while !has(local, &manifest) {
                tokio::task::yield_now().await;
            }
            assert!(!has(near, &manifest) && !has(far, &manifest));
            near_done(second);
            while !has(near, &manifest) {
                tokio::task::yield_now().await;
            }
            assert!(!has(far, &manifest));
            far_done(third);
        };
        let (good, ()) = tokio::join!(publishing, watching);
        assert_eq!(good, ["local", "near", "far"]);
        assert!(has(far, &manifest));
    }

    #[tokio::test]
    async fn those_that_were_left_behind_are_what_is_left_where_the_others_fail() {
        let stores = [store(), store(), store()];
        let [local, near, far] = stores.each_ref().map(|(_, store)| store);
        let slow = || BranchError::TooSlow {
            waited: LAG_BUDGET,
            written: 1,
        };
        let full = || BranchError::Write {
            written: 1,
            source: io::ErrorKind::StorageFull.into(),
        };
        // While the stream runs, and at its end.
        let (mut sinks, _, _) = sent([local, near, far]).await;
        let told = sinks.none_left(vec![full(), full(), slow()]);
        assert!(matches!(told, Error::NoDestination(_)) && sinks.can_go_again());
        assert_eq!(sinks.open.iter().map(|open| &open.name).collect::<Vec<_>>(), ["far"]);
        assert_eq!(sinks.failed.len(), 2);
        let (mut sinks, [first, ..], manifest) = sent([local, near, far]).await;
        let altered = Stream {
            sha256: Digest([0; 32]),
            ..manifest.stored
        };
        let endings = vec![Ending::done(first), Ending::broken(full()), Ending::broken(slow())];
        let told = sinks.commit(endings, &manifest.chain_path(), &altered).await;
        assert!(matches!(told, Err(Error::NoDestination(_))) && sinks.can_go_again());
        assert_eq!(sinks.failed.len(), 2);
        // One that is slow alone is at fault itself.
        sinks.begin(&manifest.chain_path()).await.unwrap();
        assert_eq!(sinks.take_uploads().len(), 1);
        let Error::NoDestination(failed) = sinks.none_left(vec![slow()]) else {
            panic!("none is left")
        };
        assert_eq!(failed.len(), 3);
        assert!(!sinks.can_go_again());
    }

    #[tokio::test]
    async fn a_slow_one_is_enough_where_the_first_refuses_the_manifest() {
        let stores = [store(), store(), store()];
        let [local, near, far] = stores.each_ref().map(|(_, store)| store);
        let (mut sinks, [first, second, third], manifest) = sent([local, near, far]).await;
        local.put_new(&manifest.name(), b"somebody else's").unwrap();
        let (done, second_ends) = Ending::later();
        let (_never, third_ends) = Ending::later();
        let endings = vec![Ending::done(first), second_ends, third_ends];
        sinks
            .commit(endings, &manifest.chain_path(), &manifest.stored)
            .await
            .unwrap();
        done(second);
        let interrupted = async {
            while !has(near, &manifest) {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(
            published(sinks, &manifest, interrupted).await,
            ["near"],
            "and far is behind"
        );
        drop(third);
    }

    #[test]
    fn one_that_is_limited_is_waited_for_once_no_other_is_left() {
        let ((_a, local), (_b, far)) = (store(), store());
        let far = far.limited_to(Some(ByteSize(1 << 20)));
        let opened = [("local", &local), ("far", &far)].map(|(name, store)| Destination {
            name: name.to_owned(),
            store: Ok(store.clone()),
        });
        let path = ChainPath {
            cluster: ClusterId(0xab),
            chain: "20261120T101530Z-00000001".parse().unwrap(),
        };
        let traces = Traces::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut sinks = Sinks::sort_out(opened.into(), &Pulse::default(), traces.at_work())
            .ok()
            .unwrap();
        runtime.block_on(async {
            sinks.begin(&path).await.ok().unwrap();
            let fails = |open: &mut Open| match open.name.as_str() {
                "local" => Err(DestinationError::Hangs { after: PATIENCE }),
                _ => Ok(()),
            };
            sinks.each(PATIENCE, fails).await.ok().unwrap();
        });
        let [(mut only, _)] = <[_; 1]>::try_from(sinks.take_uploads()).ok().unwrap();
        // More than what goes at once.
        only.write_all(&vec![7; (8 << 20) + (100 << 10)]).unwrap();
    }
}
