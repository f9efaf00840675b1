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

use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::accepted_history::{self, Word};
use super::super::gathering::Seen;
use super::super::plan::RestoreId;
use super::super::transitions::End;
use super::{FORMAT, Ledger};
use crate::durable::{self, Lock, failed};

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
pub struct LedgerPaths {
    /// The ledger's folder.
    pub folder: PathBuf,
    /// The file that tells everybody that a restore is open.
    pub notice: PathBuf,
}

impl Default for LedgerPaths {
    fn default() -> Self {
        LedgerPaths {
            folder: "/var/lib/lifeboat-restore".into(),
            notice: "/run/lifeboat-restore/open".into(),
        }
    }
}

impl LedgerPaths {
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

/// The folder of ledgers, in use by this run alone.
#[derive(Debug)]
pub struct LedgerStore {
    paths: LedgerPaths,
    _lock: Lock,
}

impl LedgerStore {
    /// Takes the folder for this run; makes it if need be.
    pub fn open(paths: LedgerPaths) -> Result<LedgerStore, Error> {
        durable::create_dirs(&paths.folder, FOLDER_MODE)?;
        let path = paths.folder.join("lock");
        let lock = durable::open_lock(&path, FILE_MODE).map_err(failed("open", &path))?;
        let lock = Lock::exclusive(lock).map_err(|not| match not.error {
            TryLockError::WouldBlock => Error::Locked,
            TryLockError::Error(source) => failed("lock", &path)(source).into(),
        })?;
        // Left by a run that died as it closed its ledger: backups would wait for nothing until the next boot.
        if paths.ledger().try_exists().is_ok_and(|exists| !exists) {
            remove(&paths.notice)?;
            remove(&paths.let_start())?;
        }
        Ok(LedgerStore { paths, _lock: lock })
    }

    /// Where it is.
    pub fn paths(&self) -> &LedgerPaths {
        &self.paths
    }

    /// The open restore.
    pub fn ledger(&self) -> Result<Option<Ledger>, Error> {
        open_ledger(&self.paths)
    }

    /// Writes the open restore; on the disk when this returns.
    pub fn write(&self, ledger: &Ledger) -> Result<(), Error> {
        if !ledger.touched_nothing() {
            self.give_notice(ledger)?;
        }
        Ok(durable::replace(&self.paths.ledger(), &bytes(ledger), FILE_MODE)?)
    }

    /// What is in the file that keeps etcd from starting, if that is there: the id of a restore.
    pub fn held(&self) -> Result<Option<String>, Error> {
        held(&self.paths)
    }

    /// Keeps etcd from starting, in the name of a restore.
    pub fn hold(&self, id: &str) -> Result<(), Error> {
        Ok(durable::replace(
            &self.paths.lock(),
            format!("{id}\n").as_bytes(),
            FILE_MODE,
        )?)
    }

    /// Lets etcd start, until the next boot.
    pub fn let_start(&self, id: &str) -> Result<(), Error> {
        let path = self.paths.let_start();
        if let Some(folder) = path.parent() {
            durable::create_dirs(folder, 0o755)?;
        }
        durable::replace(&path, format!("{id}\n").as_bytes(), 0o644)?;
        remove(&self.paths.lock())?;
        Ok(durable::sync_dir(&self.paths.folder)?)
    }

    /// Puts the open restore to those that ended.
    pub fn close(&self, ledger: &Ledger) -> Result<(), Error> {
        if let (Some(cluster), Some((end, _)), Some(built)) = (ledger.plan.cluster_id(), ledger.end, &ledger.built) {
            match end {
                End::Restored => {
                    Word::new(cluster, built.revision, format!("restore {}", ledger.id())).leave(&self.paths)?;
                }
                End::Undone => accepted_history::take_back(&self.paths, cluster)?,
            }
        }
        self.write_closed(ledger)?;
        remove(&self.paths.ledger())?;
        durable::sync_dir(&self.paths.folder)?;
        remove(&self.paths.notice)?;
        remove(&self.paths.let_start())
    }

    /// Writes a restore that ended.
    pub fn write_closed(&self, ledger: &Ledger) -> Result<(), Error> {
        durable::create_dirs(&self.paths.closed(), FOLDER_MODE)?;
        let path = self.paths.closed().join(format!("{}.json", ledger.id()));
        Ok(durable::replace(&path, &bytes(ledger), FILE_MODE)?)
    }

    /// The restores that ended, the first at the head.
    pub fn closed(&self) -> Result<Vec<Ledger>, Error> {
        closed(&self.paths)
    }

    /// Lets everybody see how the other members are; nobody to tell of takes that away. It only helps to see.
    pub(in crate::restore) fn tell_seen(&self, seen: &[Seen]) {
        let path = self.paths.members();
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
        let notice = &self.paths.notice;
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
pub fn open_ledger(paths: &LedgerPaths) -> Result<Option<Ledger>, Error> {
    read(&paths.ledger())
}

/// What is in the file that keeps etcd from starting, read without taking the folder.
pub fn held(paths: &LedgerPaths) -> Result<Option<String>, Error> {
    let path = paths.lock();
    let bytes = match durable::read_plain(&path, MOST_NOTICE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed("read", &path))?,
    };
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The restores that ended, the first at the head, read without taking the folder.
pub fn closed(paths: &LedgerPaths) -> Result<Vec<Ledger>, Error> {
    let folder = paths.closed();
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
    use super::super::super::plan::tests::wish;
    use super::super::super::plan::{Plan, PlannedFile};
    use super::super::super::transitions::Step;
    use super::super::Kept;
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

    fn paths(dir: &Path) -> LedgerPaths {
        LedgerPaths {
            folder: dir.join("restore"),
            notice: dir.join("run/open"),
        }
    }

    #[test]
    fn an_open_ledger_reads_back_and_is_seen_by_all_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let ledger_store = LedgerStore::open(paths.clone()).unwrap();
        assert_eq!(ledger_store.ledger().unwrap(), None);
        assert!(!paths.is_open());
        let mut ledger = ledger();
        ledger_store.write(&ledger).unwrap();
        assert!(!paths.is_open(), "what only builds holds nobody up, dead or alive");
        ledger.step = Step::Swap;
        ledger_store.write(&ledger).unwrap();
        assert_eq!(ledger_store.ledger().unwrap(), Some(ledger.clone()));
        assert!(paths.notice.is_file() && paths.is_open());
        ledger.end = Some((End::Restored, ledger.opened_at));
        ledger_store.close(&ledger).unwrap();
        assert_eq!(ledger_store.ledger().unwrap(), None);
        assert_eq!(ledger_store.closed().unwrap(), [ledger]);
        assert!(!paths.is_open());
    }

    #[test]
    fn a_notice_that_a_dying_run_left_is_taken_away_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let ledger_store = LedgerStore::open(paths.clone()).unwrap();
        let mut ledger = ledger();
        ledger.step = Step::Settle;
        ledger_store.write(&ledger).unwrap();
        assert_eq!(paths.noticed(), Some(ledger.id().to_string()));
        drop(ledger_store);
        drop(LedgerStore::open(paths.clone()).unwrap());
        assert!(paths.is_open(), "that one is open");
        fs::remove_file(paths.ledger()).unwrap();
        assert!(paths.is_open());
        drop(LedgerStore::open(paths.clone()).unwrap());
        assert!(!paths.is_open());
    }

    #[test]
    fn the_second_run_is_turned_away() {
        let dir = tempfile::tempdir().unwrap();
        let first = LedgerStore::open(paths(dir.path())).unwrap();
        assert!(matches!(LedgerStore::open(paths(dir.path())), Err(Error::Locked)));
        drop(first);
        LedgerStore::open(paths(dir.path())).unwrap();
    }

    /// The keys of one document, as paths, that another does not have with the same value.
    fn lost(then: &serde_json::Value, now: &serde_json::Value) -> Vec<String> {
        let serde_json::Value::Object(then) = then else {
            return if then == now { Vec::new() } else { vec![String::new()] };
        };
        let lost = then.iter().flat_map(|(key, value)| {
            let below = now.get(key).map_or(vec![String::new()], |now| lost(value, now));
            below.into_iter().map(move |path| format!("{key}.{path}"))
        });
        lost.collect()
    }

    #[test]
    fn the_formats_name_every_key_of_a_ledger_and_of_its_plan() {
        let text = include_str!("../../../docs/formats.md");
        let section = |from: &str, to: &str| {
            let rows = text.split_once(from).unwrap().1.split_once(to).unwrap().0;
            let cells = rows
                .lines()
                .filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
            let names = cells
                .flat_map(|cell| cell.split(", "))
                .map(|name| name.trim_matches('`').to_owned());
            names.collect::<std::collections::BTreeSet<String>>()
        };
        let keys = |value: &serde_json::Value| {
            let keys = value.as_object().unwrap().keys().cloned();
            keys.collect::<std::collections::BTreeSet<String>>()
        };
        // A reader of documents knows `format`; what only version 0.1 wrote is not written any more.
        let ledger = serde_json::to_value(ledger()).unwrap();
        let mut written = keys(&ledger);
        written.remove("format");
        written.insert("settled".to_owned());
        assert_eq!(
            section("| key | meaning |\n|---|---|\n| `step`", "The steps, in order"),
            {
                written.remove("step");
                written
            }
        );
        let mut planned = keys(&ledger["plan"]);
        planned.insert("files".to_owned());
        assert_eq!(
            section("| key of `plan` | meaning |\n|---|---|\n", "### The token"),
            planned
        );
    }

    #[test]
    fn ledgers_that_0_1_wrote_are_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/fixtures/ledgers-0.1");
        for (name, step, end, members, settled) in [
            ("open-swapped", Step::Settings, None, 1, 1),
            ("open-waiting", Step::Serve, None, 3, 1),
            ("closed-restored", Step::Settle, Some(End::Restored), 1, 1),
            ("closed-undone", Step::BackSettle, Some(End::Undone), 3, 1),
        ] {
            let ledger = read(&fixtures.join(format!("{name}.json"))).unwrap().unwrap();
            assert_eq!((ledger.step, ledger.end.map(|(end, _)| end)), (step, end), "{name}");
            assert_eq!(
                (ledger.plan.cluster.members.len(), ledger.settled.len()),
                (members, settled),
                "{name}"
            );
            // Who the member is was known at once, and nobody is met.
            assert!(
                ledger.plan.host.identity.is_some() && !ledger.plan.has_to_meet(),
                "{name}"
            );
            assert_eq!(
                ledger.plan.host.files.len(),
                2,
                "{name}: what it laid on is taken away again"
            );
            assert_eq!(ledger.kept, Kept::Here, "{name}");
            assert!(ledger.built.is_some() && ledger.before.data.is_some(), "{name}");
            // What goes on with it writes it as it is written now.
            let again: Ledger = serde_json::from_slice(&bytes(&ledger)).unwrap();
            assert_eq!(again, ledger, "{name}");
            let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
            let (then, now) = (fs::read(fixtures.join(format!("{name}.json"))).unwrap(), bytes(&ledger));
            assert_eq!(
                lost(&json(&then), &json(&now)),
                Vec::<String>::new(),
                "{name}: keys that are written no more"
            );
        }
    }

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger_store = LedgerStore::open(paths(dir.path())).unwrap();
        for rotten in ["", "{}", "{\"format\":2}", "{\"format\":1}"] {
            fs::write(dir.path().join("restore/ledger.json"), rotten).unwrap();
            assert!(matches!(ledger_store.ledger(), Err(Error::Corrupt { .. })), "{rotten}");
        }
    }
}
