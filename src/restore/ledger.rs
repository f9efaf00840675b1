//! How far a restore has come, on the disk: written and synced before each step.
//!
//! ```text
//! FOLDER/                  root's alone, 0700
//!   lock                   one run at a time, by flock(2)
//!   ledger.json            the open restore; at most one
//!   closed/ID.json         restores that ended, for `rollback` and `release`
//!   held                   the unit's guard: etcd does not start while this exists
//! RUN/open                 for everybody to see that a restore is open
//! RUN/let-start            the unit's guard: while a restore is open, etcd starts only if this exists. A boot takes it away
//! ```
//!
//! Invariant: a ledger that cannot be read is an error, never taken for none.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::gathering::Seen;
use super::inventory::Inventory;
use super::machine::{End, Step};
use super::plan::{Plan, PlannedFile, RestoreId};
use super::word::{self, Word};
use crate::durable::{self, failed};
use crate::model::{HashKv, Revision};

/// The version of the document.
const FORMAT: u64 = 1;
/// A plan with a few small files.
const MOST_BYTES: u64 = 16 << 20;
/// An id.
const MOST_NOTICE_BYTES: u64 = 1 << 10;
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why the ledger is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run works on it.
    #[error("another restore or rollback is running on this host")]
    Locked,
    /// It cannot be understood.
    #[error("the ledger `{}` cannot be understood: {detail}", .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system refused.
    #[error(transparent)]
    Files(#[from] durable::Error),
}

/// Where the ledger and what belongs to it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spots {
    /// The ledger's folder.
    pub folder: PathBuf,
    /// The file that tells everybody that a restore is open.
    pub notice: PathBuf,
}

impl Default for Spots {
    fn default() -> Self {
        Spots {
            folder: "/var/lib/lifeboat-restore".into(),
            notice: "/run/lifeboat-restore/open".into(),
        }
    }
}

impl Spots {
    /// The file while which exists etcd does not start.
    pub fn lock(&self) -> PathBuf {
        self.folder.join("held")
    }

    /// The file without which etcd does not start while a restore is open: after a boot that is up to whoever takes it up.
    pub fn let_start(&self) -> PathBuf {
        self.notice.with_file_name("let-start")
    }

    /// Whether a restore is open that has begun to change what etcd uses, as everybody may see it. One that builds is of
    /// no concern to others, and may have been killed while it did.
    pub fn is_open(&self) -> bool {
        // Whoever may look at the ledger itself need not rely on the notice, which a boot takes away.
        self.notice.exists()
            || self.ledger().exists()
                && !open_ledger(self).is_ok_and(|open| open.is_none_or(|open| open.touched_nothing()))
    }

    /// The id that the notice names: of the restore that is open, for those who may not read its ledger.
    pub fn noticed(&self) -> Option<String> {
        let text = durable::read_plain(&self.notice, MOST_NOTICE_BYTES).ok()?;
        let id: RestoreId = str::from_utf8(&text).ok()?.trim().parse().ok()?;
        Some(id.to_string())
    }

    /// The ledger of the restore that is open.
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.json")
    }

    /// The file that tells everybody how the other members are, while they meet.
    fn members(&self) -> PathBuf {
        self.notice.with_file_name("members.json")
    }

    /// How the other members are, as whoever meets them told last; empty while nobody does.
    pub fn seen(&self) -> Vec<Seen> {
        let read = durable::read_plain(&self.members(), MOST_BYTES);
        read.map_or_else(
            |_| Vec::new(),
            |bytes| serde_json::from_slice(&bytes).unwrap_or_default(),
        )
    }

    fn closed(&self) -> PathBuf {
        self.folder.join("closed")
    }
}

/// A file as it was before the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBefore {
    /// Where.
    pub path: PathBuf,
    /// What was in it; none if there was no file.
    pub content: Option<String>,
    /// Who might read it.
    pub mode: u32,
    /// User and group who owned it.
    pub owner: (u32, u32),
}

/// Whether there was a write-ahead log, without which etcd begins an empty cluster on whatever else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogBefore {
    /// There was; ledgers that do not say so are of times when nobody looked.
    #[default]
    There,
    /// There was none.
    Missing,
}

/// What the restore replaces: noted when nothing can change it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataBefore {
    /// The inode of the old `member`; none if there was no data.
    pub member: Option<u64>,
    /// The inodes of what was in the separate directory of the log.
    pub log: Vec<u64>,
    /// Whether there was a log at all.
    #[serde(default)]
    pub has_log: LogBefore,
    /// What was in `member`; none in ledgers of times when nobody looked, or if that was too much to list.
    #[serde(default)]
    pub member_files: Option<Inventory>,
    /// What was in the separate directory of the log.
    #[serde(default)]
    pub log_files: Option<Inventory>,
}

/// What was made and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The inode of the new `member`.
    pub member: u64,
    /// The inode of the new log's file, where that has a directory of its own.
    pub log: Option<u64>,
    /// The revision of the restored store, a bump included.
    pub revision: Revision,
    /// HashKV as the restored member reports it, before a bump's compaction.
    pub hash_kv: HashKv,
    /// Whether HashKV equals what the live member reported.
    pub is_proven: bool,
    /// Keys that live.
    pub live_keys: u64,
    /// Whether users and passwords are asked for.
    pub auth_enabled: bool,
}

impl Built {
    /// The inodes of both.
    pub fn inodes(&self) -> Vec<u64> {
        [self.member].into_iter().chain(self.log).collect()
    }
}

/// When etcd went down and came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Downtime {
    /// When it was asked to stop.
    pub from: Option<Timestamp>,
    /// When it was seen to serve again.
    pub until: Option<Timestamp>,
}

/// What has become of the old data since a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It is there.
    #[default]
    Here,
    /// It is being given up: from here on nothing of it comes back, whatever is there yet.
    Releasing,
    /// It was given up.
    Released,
}

/// One restore on this host, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    format: u64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The step that is being taken.
    pub step: Step,
    /// What it does.
    pub plan: Plan,
    /// Files as they are to be once the restored cluster serves; only ledgers of version 0.1 have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<PlannedFile>,
    /// The drop-in that guards the unit.
    pub guard: PlannedFile,
    /// Whether etcd ran when it began.
    pub ran: bool,
    /// The files that it replaces.
    pub files_before: Vec<FileBefore>,
    /// What was in the file that keeps etcd from starting, which an earlier restore had left for want of data.
    #[serde(default)]
    pub held_before: Option<String>,
    /// What etcd showed of its log when it began: one that is ready has one, wherever that is.
    #[serde(default)]
    pub log_shown: Option<LogBefore>,
    /// What it replaces.
    pub data_before: Option<DataBefore>,
    /// What was made.
    pub built: Option<Built>,
    /// Whether etcd was let start on the new data.
    pub started: bool,
    /// Whether it may have served the new data, and taken writes: then that is not taken away for want of a start.
    #[serde(default)]
    pub may_have_served: bool,
    /// How long etcd was down.
    pub downtime: Downtime,
    /// Why it went back.
    pub reason: Option<String>,
    /// How it ended, and when.
    pub end: Option<(End, Timestamp)>,
    /// What has become of the old data.
    pub kept: Kept,
}

impl Ledger {
    /// The ledger of a restore that begins.
    pub fn new(plan: Plan, guard: PlannedFile, now: Timestamp) -> Ledger {
        Ledger {
            format: FORMAT,
            opened_at: now,
            step: Step::Build,
            plan,
            settled: Vec::new(),
            guard,
            ran: false,
            files_before: Vec::new(),
            held_before: None,
            log_shown: None,
            data_before: None,
            built: None,
            started: false,
            may_have_served: false,
            downtime: Downtime::default(),
            reason: None,
            end: None,
            kept: Kept::Here,
        }
    }

    /// Its id.
    pub fn id(&self) -> &RestoreId {
        &self.plan.id
    }

    /// Whether it has not begun to change what etcd uses.
    pub fn touched_nothing(&self) -> bool {
        self.step == Step::Build
    }

    /// Whether there was nothing before that etcd could be started on.
    pub fn had_nothing(&self) -> bool {
        let is_nothing = |before: &DataBefore| before.member.is_none() || before.has_log == LogBefore::Missing;
        self.data_before.as_ref().is_some_and(is_nothing)
    }

    /// Whether there was data before, whatever can be done with it.
    pub fn had_data(&self) -> bool {
        self.data_before.as_ref().is_some_and(|before| before.member.is_some())
    }
}

/// The folder of ledgers, in use by this run alone.
#[derive(Debug)]
pub struct Book {
    spots: Spots,
    _lock: File,
}

impl Book {
    /// Takes the folder for this run; makes it if need be.
    pub fn open(spots: Spots) -> Result<Book, Error> {
        durable::create_dirs(&spots.folder, FOLDER_MODE)?;
        let path = spots.folder.join("lock");
        let lock = durable::open_lock(&path, FILE_MODE).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source).into()),
        }
        // Left by a run that died as it closed its ledger: backups would wait for nothing until the next boot.
        if spots.ledger().try_exists().is_ok_and(|exists| !exists) {
            remove(&spots.notice)?;
            remove(&spots.let_start())?;
        }
        Ok(Book { spots, _lock: lock })
    }

    /// Where it is.
    pub fn spots(&self) -> &Spots {
        &self.spots
    }

    /// The open restore.
    pub fn ledger(&self) -> Result<Option<Ledger>, Error> {
        open_ledger(&self.spots)
    }

    /// Writes the open restore; on the disk when this returns.
    pub fn write(&self, ledger: &Ledger) -> Result<(), Error> {
        if !ledger.touched_nothing() {
            self.give_notice(ledger)?;
        }
        Ok(durable::replace(&self.spots.ledger(), &bytes(ledger), FILE_MODE)?)
    }

    /// What is in the file that keeps etcd from starting, if that is there: the id of a restore.
    pub fn held(&self) -> Result<Option<String>, Error> {
        held(&self.spots)
    }

    /// Keeps etcd from starting, in the name of a restore.
    pub fn hold(&self, id: &str) -> Result<(), Error> {
        Ok(durable::replace(
            &self.spots.lock(),
            format!("{id}\n").as_bytes(),
            FILE_MODE,
        )?)
    }

    /// Lets etcd start, until the next boot.
    pub fn let_start(&self, id: &str) -> Result<(), Error> {
        let path = self.spots.let_start();
        if let Some(folder) = path.parent() {
            durable::create_dirs(folder, 0o755)?;
        }
        durable::replace(&path, format!("{id}\n").as_bytes(), 0o644)?;
        remove(&self.spots.lock())?;
        Ok(durable::sync_dir(&self.spots.folder)?)
    }

    /// Puts the open restore to those that ended.
    pub fn close(&self, ledger: &Ledger) -> Result<(), Error> {
        if let (Some(cluster), Some((end, _)), Some(built)) = (ledger.plan.cluster_id(), ledger.end, &ledger.built) {
            match end {
                End::Restored => {
                    Word::new(cluster, built.revision, format!("restore {}", ledger.id())).leave(&self.spots)?;
                }
                End::Undone => word::take_back(&self.spots, cluster)?,
            }
        }
        self.write_closed(ledger)?;
        remove(&self.spots.ledger())?;
        durable::sync_dir(&self.spots.folder)?;
        remove(&self.spots.notice)?;
        remove(&self.spots.let_start())
    }

    /// Writes a restore that ended.
    pub fn write_closed(&self, ledger: &Ledger) -> Result<(), Error> {
        durable::create_dirs(&self.spots.closed(), FOLDER_MODE)?;
        let path = self.spots.closed().join(format!("{}.json", ledger.id()));
        Ok(durable::replace(&path, &bytes(ledger), FILE_MODE)?)
    }

    /// The restores that ended, the first at the head.
    pub fn closed(&self) -> Result<Vec<Ledger>, Error> {
        closed(&self.spots)
    }

    /// Lets everybody see how the other members are; nobody to tell of takes that away. It only helps to see.
    pub(super) fn tell_seen(&self, seen: &[Seen]) {
        let path = self.spots.members();
        match seen.is_empty() {
            true => drop(fs::remove_file(path)),
            false => {
                let mut json = serde_json::to_vec_pretty(seen).expect("it has only text keys");
                json.push(b'\n');
                durable::replace(&path, &json, 0o644).ok();
            }
        }
    }

    /// Lets everybody see that a restore is open: its folder is closed to them.
    fn give_notice(&self, ledger: &Ledger) -> Result<(), Error> {
        let notice = &self.spots.notice;
        if notice.exists() {
            return Ok(());
        }
        if let Some(folder) = notice.parent() {
            durable::create_dirs(folder, 0o755)?;
        }
        Ok(durable::replace(
            notice,
            format!("{}\n", ledger.id()).as_bytes(),
            0o644,
        )?)
    }
}

/// The open restore, read without taking the folder.
pub fn open_ledger(spots: &Spots) -> Result<Option<Ledger>, Error> {
    read(&spots.ledger())
}

/// What is in the file that keeps etcd from starting, read without taking the folder.
pub fn held(spots: &Spots) -> Result<Option<String>, Error> {
    let path = spots.lock();
    let bytes = match durable::read_plain(&path, MOST_NOTICE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed("read", &path))?,
    };
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The restores that ended, the first at the head, read without taking the folder.
pub fn closed(spots: &Spots) -> Result<Vec<Ledger>, Error> {
    let folder = spots.closed();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed("list", &folder))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("list", &folder))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_one = stem.is_some_and(|stem| stem.parse::<RestoreId>().is_ok());
        if is_one && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().filter_map(|path| read(path).transpose()).collect()
}

fn read(path: &Path) -> Result<Option<Ledger>, Error> {
    let bytes = match durable::read_plain(path, MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed("read", path))?,
    };
    let corrupt = |detail: String| Error::Corrupt {
        path: path.to_owned(),
        detail,
    };
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let Format { format } = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if format != FORMAT {
        return Err(corrupt(format!("format {format} is of a newer lifeboat")));
    }
    let ledger = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    Ok(Some(ledger))
}

fn bytes(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(ledger).expect("a ledger has only text keys");
    bytes.push(b'\n');
    bytes
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::wish;
    use super::*;

    fn ledger() -> Ledger {
        let plan = Plan::new(wish("m1=http://a:2380")).unwrap();
        let guard = PlannedFile {
            path: "/etc/guard".into(),
            content: "x".to_owned(),
            mode: 0o644,
            owner: (0, 0),
        };
        Ledger::new(plan, guard, "2026-11-20T10:15:30Z".parse().unwrap())
    }

    fn spots(dir: &Path) -> Spots {
        Spots {
            folder: dir.join("restore"),
            notice: dir.join("run/open"),
        }
    }

    #[test]
    fn an_open_ledger_reads_back_and_is_seen_by_all_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let spots = spots(dir.path());
        let book = Book::open(spots.clone()).unwrap();
        assert_eq!(book.ledger().unwrap(), None);
        assert!(!spots.is_open());
        let mut ledger = ledger();
        book.write(&ledger).unwrap();
        assert!(!spots.is_open(), "what only builds holds nobody up, dead or alive");
        ledger.step = Step::Swap;
        book.write(&ledger).unwrap();
        assert_eq!(book.ledger().unwrap(), Some(ledger.clone()));
        assert!(spots.notice.is_file() && spots.is_open());
        ledger.end = Some((End::Restored, ledger.opened_at));
        book.close(&ledger).unwrap();
        assert_eq!(book.ledger().unwrap(), None);
        assert_eq!(book.closed().unwrap(), [ledger]);
        assert!(!spots.is_open());
    }

    #[test]
    fn a_notice_that_a_dying_run_left_is_taken_away_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let spots = spots(dir.path());
        let book = Book::open(spots.clone()).unwrap();
        let mut ledger = ledger();
        ledger.step = Step::Settle;
        book.write(&ledger).unwrap();
        assert_eq!(spots.noticed(), Some(ledger.id().to_string()));
        drop(book);
        drop(Book::open(spots.clone()).unwrap());
        assert!(spots.is_open(), "that one is open");
        fs::remove_file(spots.ledger()).unwrap();
        assert!(spots.is_open());
        drop(Book::open(spots.clone()).unwrap());
        assert!(!spots.is_open());
    }

    #[test]
    fn the_second_run_is_turned_away() {
        let dir = tempfile::tempdir().unwrap();
        let first = Book::open(spots(dir.path())).unwrap();
        assert!(matches!(Book::open(spots(dir.path())), Err(Error::Locked)));
        drop(first);
        Book::open(spots(dir.path())).unwrap();
    }

    #[test]
    fn ledgers_that_0_1_wrote_are_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/fixtures/ledgers-0.1");
        for (name, step, end, members, settled) in [
            ("open-swapped", Step::Settings, None, 1, 1),
            ("open-waiting", Step::Serve, None, 3, 1),
            ("closed-restored", Step::Settle, Some(End::Restored), 1, 1),
            ("closed-undone", Step::Clear, Some(End::Undone), 3, 1),
        ] {
            let ledger = read(&fixtures.join(format!("{name}.json"))).unwrap().unwrap();
            assert_eq!((ledger.step, ledger.end.map(|(end, _)| end)), (step, end), "{name}");
            assert_eq!(
                (ledger.plan.members.len(), ledger.settled.len()),
                (members, settled),
                "{name}"
            );
            // Who the member is was known at once, and nobody is met.
            assert!(ledger.plan.identity.is_some() && !ledger.plan.has_to_meet(), "{name}");
            assert_eq!(
                ledger.plan.files.len(),
                2,
                "{name}: what it laid on is taken away again"
            );
            assert_eq!(ledger.kept, Kept::Here, "{name}");
            assert!(ledger.built.is_some() && ledger.data_before.is_some(), "{name}");
            // What goes on with it writes it as it is written now.
            let again: Ledger = serde_json::from_slice(&bytes(&ledger)).unwrap();
            assert_eq!(again, ledger, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(spots(dir.path())).unwrap();
        for rotten in ["", "{}", "{\"format\":2}", "{\"format\":1}"] {
            fs::write(dir.path().join("restore/ledger.json"), rotten).unwrap();
            assert!(matches!(book.ledger(), Err(Error::Corrupt { .. })), "{rotten}");
        }
    }
}
