//! What this host remembers, one folder for each cluster name: stores it has seen, chains it has begun, who works now.
//!
//! ```text
//! CLUSTER/jobs.lock                one job at a time; locked by flock(2), the content names the holder
//! CLUSTER/chains/CHAIN.json        a backup that was begun and has not ended; locked while its run lives
//! CLUSTER/stores/DESTINATION.json  the store that was seen there last
//! CLUSTER/recipients.json          those that were accepted on this host
//! CLUSTER/clock.json               the highest time that was seen
//! CLUSTER/signing.key              0600: the key by which this host signs; see `signing`
//! CLUSTER/signer.json              its public half
//! CLUSTER/signers.json             the newest list of signers that was seen
//! CLUSTER/seen-signers.json        who signed what was seen, where nobody is named
//! CLUSTER/tips.json                the newest backups that each destination has shown
//! CLUSTER/destinations.json        since when this host feeds each destination
//! CLUSTER/last-word.json           the operator's last word on which history is meant
//! CLUSTER/seen.lock                held while one of the five above is changed
//! CLUSTER/documents/DESTINATION    documents that were read once and do not change; see `store::document_cache`
//! CLUSTER/news.json                what a command tells the agent; see `news`
//! CLUSTER/behind.json              since when destinations lack backups that others have
//! _configurations/SHA256.json      the last good configuration of the file whose path has that digest
//! ```
//!
//! What to do about a chain whose run is gone is left to `store`'s sweep.
//!
//! Invariant: a memory that cannot be read is an error, never an empty memory.
//!
//! Invariant: liveness is a lock that the kernel drops with its holder, never a process id that may be another's now.

mod agent_lock;
mod behind;
mod clock;
mod configuration;
mod fed_since;
mod last_seen;
mod last_word;
mod news;
mod recipients;
mod signing;
mod state_dir;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use behind::BehindSince;
pub use configuration::{remember_configuration, remembered_configuration};
pub use fed_since::Fed;
pub use last_seen::{SeenThere, SeenTips};
pub use news::{LastNews, NEWS};
pub use state_dir::{AGENTS_REPORT, base_folder, base_folder_to_read};

use crate::durable::{self, Lock, NotLocked, Partial};
use crate::layout::instant;
use crate::model::{ChainId, ClusterName};
use crate::store::{Begun, Kept, Known, StoreId};

pub use crate::model::AGENTS_USER;

const FORMAT: u64 = 1;

// Nothing here is secret, and `status` is for every user of the host.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

const RECORD_MAX: u64 = 64 << 10;

const POLL_LOCK_EVERY: Duration = Duration::from_millis(100);

/// What went wrong with this host's memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no folder to remember in.
    #[error(
        "no folder for the state: set STATE_DIRECTORY, XDG_STATE_HOME or HOME, or run as the owner of /var/lib/lifeboat"
    )]
    NoFolder,
    /// Another job works on this cluster.
    #[error("another run is active: {}", holder_text(.holder))]
    Locked {
        /// Who, if it has said so already.
        holder: Option<Holder>,
    },
    /// What was remembered cannot be read.
    #[error("`{}` cannot be understood ({detail}): look at it, and remove it if what it held may be forgotten", .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The chain is being made by another run.
    #[error("`{}` exists already", .path.display())]
    AlreadyBegun {
        /// Its record.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{doing} `{}`", .path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

fn holder_text(holder: &Option<Holder>) -> String {
    holder
        .as_ref()
        .map_or_else(|| "it has not said which".to_owned(), Holder::to_string)
}

/// Whether the disk can take no more, or nothing.
fn has_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

impl From<durable::Error> for Error {
    fn from(error: durable::Error) -> Error {
        match error {
            durable::Error::Exists { path } => Error::AlreadyBegun { path },
            durable::Error::Io { doing, path, source } => Error::Io { doing, path, source },
        }
    }
}

/// What this host remembers of one cluster name. Nothing is made before there is something to remember.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

/// A document: what it says, under its format.
#[derive(Serialize, Deserialize)]
struct Document<T> {
    format: u64,
    #[serde(flatten)]
    content: T,
}

/// The content of `stores/DESTINATION.json`.
#[derive(Serialize, Deserialize)]
struct SeenStore {
    url: String,
    store_id: StoreId,
}

impl State {
    /// The memory of `cluster` in the folder `base`.
    pub fn at(base: &Path, cluster: &ClusterName) -> State {
        let folder = base.join(cluster.as_str());
        State { folder }
    }

    /// The memory that is kept in `folder`.
    pub fn of_folder(folder: &Path) -> State {
        let folder = folder.to_owned();
        State { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the document of this name says; none where nothing was remembered yet.
    fn recall<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        read_document(&self.folder.join(name))
    }

    /// Remembers this under that name, in the place of what was.
    fn remember<T: Serialize>(&self, name: &str, content: T) -> Result<(), Error> {
        durable::create_dirs(&self.folder, FOLDER_MODE)?;
        Ok(durable::replace(
            &self.folder.join(name),
            &document(content),
            FILE_MODE,
        )?)
    }

    /// The store that was last seen at `url` under the name `destination`; none if that name had another URL then.
    pub fn seen_store(&self, destination: &str, url: &str) -> Result<Option<Known>, Error> {
        let path = self.store_path(destination);
        let seen: Option<SeenStore> = read_document(&path)?;
        let known = seen.filter(|seen| seen.url == url);
        Ok(known.map(|seen| Known {
            id: seen.store_id,
            record: path,
        }))
    }

    /// Remembers the store that was seen at `url` under the name `destination`.
    pub fn remember_store(&self, destination: &str, url: &str, store_id: &StoreId) -> Result<(), Error> {
        if self
            .seen_store(destination, url)?
            .is_some_and(|known| known.id == *store_id)
        {
            return Ok(());
        }
        let seen = SeenStore {
            url: url.to_owned(),
            store_id: store_id.clone(),
        };
        let path = self.store_path(destination);
        self.make_folder("stores")?;
        Ok(durable::replace(&path, &document(seen), FILE_MODE)?)
    }

    /// Remembers, before the first byte is stored anywhere, that `run` begins `chain` on this host. Where there is no room
    /// for it the backup goes on without: what it leaves, should it be killed, is swept by its age.
    pub fn begin_chain(&self, chain: &ChainId, run: &Holder) -> Result<BegunChain, Error> {
        match self.record_chain(chain, run) {
            Err(Error::Io { source, .. }) if has_no_room(&source) => Ok(BegunChain { record: None }),
            recorded => Ok(BegunChain {
                record: Some(recorded?),
            }),
        }
    }

    fn record_chain(&self, chain: &ChainId, run: &Holder) -> Result<ChainRecord, Error> {
        self.make_folder("chains")?;
        let path = self.chain_path(chain);
        let partial = Partial::create(&path, FILE_MODE)?;
        // Locked before it has its name, so that nobody ever sees a record of a live run without a lock.
        let same = partial.file().try_clone().map_err(failed("open", &path))?;
        let lock = Lock::exclusive(same).map_err(|not| failed("lock", &path)(not.error.into()))?;
        // The content is for people: what counts is the name and the lock.
        let written = partial.file().write_all(&document(run));
        written.map_err(failed("write", &path))?;
        partial.commit_new()?;
        Ok(ChainRecord { path, _lock: lock })
    }

    /// The chains that this host began and has not ended.
    pub fn begun(&self) -> Result<Begun, Error> {
        let mut begun = Begun::default();
        for chain in self.recorded_chains()? {
            let path = self.chain_path(&chain);
            let file = match durable::open_plain(&path) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue, // it has just ended
                opened => opened.map_err(failed("open", &path))?,
            };
            match Lock::shared(file).map_err(|not| not.error) {
                Ok(_) => begun.dead.insert(chain),
                Err(TryLockError::WouldBlock) => begun.live.insert(chain),
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
            };
        }
        Ok(begun)
    }

    /// Forgets a chain whose run is gone, once no destination holds anything of it.
    pub fn forget_chain(&self, chain: &ChainId) -> Result<(), Error> {
        let path = self.chain_path(chain);
        // One that was killed in between has left the name under which it wrote the record.
        match durable::remove_partials(&path) {
            Err(durable::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        remove_record(&path)
    }

    fn recorded_chains(&self) -> Result<BTreeSet<ChainId>, Error> {
        let folder = self.folder.join("chains");
        let entries = match fs::read_dir(&folder) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            opened => opened.map_err(failed("list", &folder))?,
        };
        let mut chains = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &folder))?.file_name();
            let chain = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            chains.extend(chain);
        }
        Ok(chains)
    }

    fn make_folder(&self, name: &str) -> Result<(), Error> {
        Ok(durable::create_dirs(&self.folder.join(name), FOLDER_MODE)?)
    }

    fn chain_path(&self, chain: &ChainId) -> PathBuf {
        self.folder.join(format!("chains/{chain}.json"))
    }

    /// Where documents of a destination are kept that were read once.
    pub fn documents_of(&self, destination: &str) -> Kept {
        Kept::at(self.folder.join("documents").join(one_component(destination)))
    }

    fn store_path(&self, destination: &str) -> PathBuf {
        self.folder.join(format!("stores/{}.json", one_component(destination)))
    }
}

/// A chain that this run has begun. Dropped without `finish`, the record stays and tells that the run is gone.
#[must_use]
#[derive(Debug)]
pub struct BegunChain {
    record: Option<ChainRecord>,
}

#[derive(Debug)]
struct ChainRecord {
    path: PathBuf,
    _lock: Lock,
}

impl BegunChain {
    /// Forgets the chain: its manifest is there, or nothing of it is.
    pub fn finish(self) -> Result<(), Error> {
        self.record.map_or(Ok(()), |record| remove_record(&record.path))
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// When it began.
    #[serde(with = "instant")]
    pub since: Timestamp,
    /// What it does.
    pub command: String,
}

impl Holder {
    /// This process, which began `command` at `now`.
    pub fn this(command: &str, now: Timestamp) -> Holder {
        Holder {
            pid: std::process::id(),
            since: now,
            command: command.to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, process {}, since {:.0}", self.command, self.pid, self.since)
    }
}

/// The right to work on a cluster: one job at a time on a host. Dropped, it is given up.
#[must_use]
#[derive(Debug)]
pub struct JobsLock {
    file: Lock,
    /// Who is told at its end, and of whom.
    told: Option<(State, Holder)>,
}

impl JobsLock {
    /// Takes the lock for `run`; waits for it up to `wait`, then says who has it.
    pub fn acquire(state: &State, run: &Holder, wait: Duration) -> Result<JobsLock, Error> {
        durable::create_dirs(&state.folder, FOLDER_MODE)?;
        let file = lock(&state.folder.join("jobs.lock"), wait)?;
        // The lock is what counts: a full disk must not keep out the run that makes room on it.
        file.set_len(0)
            .and_then(|()| (&*file).rewind())
            .and_then(|()| (&*file).write_all(&to_bytes(run)))
            .ok();
        Ok(JobsLock { file, told: None })
    }

    /// Has the agent told at its end that `run` may have changed something.
    pub fn telling_agent(mut self, state: &State, run: &Holder) -> JobsLock {
        self.told = Some((state.clone(), run.clone()));
        self
    }
}

impl Drop for JobsLock {
    fn drop(&mut self) {
        // The lock is what counts and goes after this; an old name in it would only mislead a reader.
        self.file.set_len(0).ok();
        if let Some((state, run)) = &self.told {
            state.tell_agent(run);
        }
    }
}

/// Locks the file at `path`, which is made if it is not there; waits for that up to `wait`.
fn lock(path: &Path, wait: Duration) -> Result<Lock, Error> {
    let file = durable::open_lock(path, FILE_MODE).or_else(|source| match has_no_room(&source) {
        // A file that is there can be locked all the same.
        true => durable::open_plain(path).map_err(|_| source),
        false => Err(source),
    });
    let mut file = file.map_err(failed("open", path))?;
    let begun = Instant::now();
    loop {
        file = match Lock::exclusive(file) {
            Ok(lock) => return Ok(lock),
            Err(NotLocked { of, error }) => match error {
                TryLockError::Error(source) => return Err(failed("lock", path)(source)),
                TryLockError::WouldBlock => of,
            },
        };
        let left = wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let holder = read_holder(&mut file);
            return Err(Error::Locked { holder });
        }
        // flock(2) cannot wait for a limited time.
        std::thread::sleep(left.min(POLL_LOCK_EVERY));
    }
}

/// What the holder of a lock has written; nothing if it has not come to that, or is just leaving.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(RECORD_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What the document at `path` says; none where there is none.
fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read_record(path)? else {
        return Ok(None);
    };
    let corrupt = |detail: String| Error::Corrupt {
        path: path.to_owned(),
        detail,
    };
    let read: Document<T> = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    match read.format {
        FORMAT => Ok(Some(read.content)),
        newer => Err(corrupt(format!("format {newer} is of a newer lifeboat"))),
    }
}

fn document<T: Serialize>(content: T) -> Vec<u8> {
    let format = FORMAT;
    to_bytes(&Document { format, content })
}

fn read_record(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    read_bounded(path, RECORD_MAX)
}

fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    match durable::read_plain(path, most) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read.map_err(failed("read", path))?)),
    }
}

fn remove_record(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("remove", path)(source)),
        // Not synced: a record that comes back after a power cut tells of a dead run that left nothing.
        Ok(()) => Ok(()),
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("our records have only text keys");
    bytes.push(b'\n');
    bytes
}

/// A name as one component of a path: what is not plain is written as `%` and two digits.
fn one_component(name: &str) -> String {
    let mut component = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => component.push(char::from(byte)),
            _ => component.push_str(&format!("%{byte:02x}")),
        }
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        (base, state)
    }

    fn id(digit: &str) -> StoreId {
        digit.repeat(32).parse().unwrap()
    }

    fn run(command: &str) -> Holder {
        Holder::this(command, Timestamp::UNIX_EPOCH)
    }

    fn chain() -> ChainId {
        "20261120T101530Z-9f3c4a1b".parse().unwrap()
    }

    #[test]
    fn looking_makes_nothing() {
        let (base, state) = state();
        assert_eq!(state.seen_store("local", "file:///a").unwrap(), None);
        assert_eq!(state.begun().unwrap(), Begun::default());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_store_is_remembered_by_destination_and_url() {
        let (_base, state) = state();
        let seen = |destination: &str, url: &str| {
            let known = state.seen_store(destination, url).unwrap();
            known.map(|known| (known.id, known.record.strip_prefix(state.folder()).unwrap().to_owned()))
        };
        let known = |number: &str, record: &str| Some((id(number), PathBuf::from(record)));
        state.remember_store("local", "file:///a", &id("1")).unwrap();
        state.remember_store("../evil", "file:///b", &id("2")).unwrap();
        assert_eq!(seen("local", "file:///a"), known("1", "stores/local.json"));
        assert_eq!(seen("local", "file:///b"), None);
        assert_eq!(seen("../evil", "file:///b"), known("2", "stores/%2e%2e%2fevil.json"));
        assert!(state.folder().join("stores/%2e%2e%2fevil.json").is_file());
        state.remember_store("local", "file:///b", &id("3")).unwrap();
        assert_eq!(seen("local", "file:///b"), known("3", "stores/local.json"));
    }

    #[test]
    fn a_corrupt_memory_is_reported_and_kept() {
        let (_base, state) = state();
        state.remember_store("local", "file:///a", &id("1")).unwrap();
        let path = state.folder().join("stores/local.json");
        for rotten in [
            "",
            "{}",
            "{\"format\":2,\"url\":\"file:///a\",\"store_id\":\"11111111111111111111111111111111\"}",
        ] {
            fs::write(&path, rotten).unwrap();
            assert!(
                matches!(state.seen_store("local", "file:///a"), Err(Error::Corrupt { .. })),
                "{rotten}"
            );
            assert!(matches!(
                state.remember_store("local", "file:///a", &id("1")),
                Err(Error::Corrupt { .. })
            ));
            assert_eq!(fs::read_to_string(&path).unwrap(), rotten);
        }
    }

    #[test]
    fn a_chain_is_live_while_its_run_is_and_dead_when_the_run_is_gone() {
        let (_base, state) = state();
        let begun = state.begin_chain(&chain(), &run("backup")).unwrap();
        assert!(matches!(
            state.begin_chain(&chain(), &run("backup")),
            Err(Error::AlreadyBegun { .. })
        ));
        let live = state.begun().unwrap();
        assert!(live.live.contains(&chain()) && live.dead.is_empty());
        drop(begun);
        let dead = state.begun().unwrap();
        assert!(dead.dead.contains(&chain()) && dead.live.is_empty());
        // Killed between the record's name and the end of the one under which it was written.
        let path = state.chain_path(&chain());
        let written = path.with_file_name(durable::partial_name(&format!("{}.json", chain())).unwrap());
        fs::hard_link(&path, &written).unwrap();
        state.forget_chain(&chain()).unwrap();
        assert!(!written.exists() && !path.exists());
        state.forget_chain(&chain()).unwrap();
        assert_eq!(state.begun().unwrap(), Begun::default());
    }

    #[test]
    fn a_chain_that_ended_is_forgotten() {
        let (_base, state) = state();
        state.begin_chain(&chain(), &run("backup")).unwrap().finish().unwrap();
        assert_eq!(state.begun().unwrap(), Begun::default());
    }

    #[test]
    fn the_second_job_learns_who_is_first() {
        let (_base, state) = state();
        let first = JobsLock::acquire(&state, &run("lifeboat backup"), Duration::ZERO).unwrap();
        let error = JobsLock::acquire(&state, &run("lifeboat prune"), Duration::ZERO).unwrap_err();
        let Error::Locked { holder: Some(holder) } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (holder.pid, holder.command.as_str()),
            (std::process::id(), "lifeboat backup")
        );
        assert!(error.to_string().contains("`lifeboat backup`, process "), "{error}");
        drop(first);
        drop(JobsLock::acquire(&state, &run("lifeboat prune"), Duration::ZERO).unwrap());
    }

    #[test]
    fn a_job_that_waits_gets_its_turn() {
        let (_base, state) = state();
        let first = JobsLock::acquire(&state, &run("first"), Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| JobsLock::acquire(&state, &run("second"), Duration::from_secs(60)).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn other_clusters_have_locks_of_their_own() {
        let (base, state) = state();
        let _first = JobsLock::acquire(&state, &run("first"), Duration::ZERO).unwrap();
        let other = State::at(base.path(), &"test".parse().unwrap());
        drop(JobsLock::acquire(&other, &run("second"), Duration::ZERO).unwrap());
    }
}
