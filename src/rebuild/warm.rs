//! A data directory that is kept up with the changes behind the backup that it was laid out from, until an etcd is to run on it.
//!
//! Changes are written behind the pages of its database, which stays the one that it was meanwhile. They are held to their order
//! and to what members have reported, and all of the new state is read once; only then, and once its pages are on the disk, the
//! two metas follow, each on the disk before the next is written. So whenever a run is killed, the database is of the revision before or of
//! the one after, and what lies behind it goes with the next run.
//!
//! Invariant: nothing is written to data on which an etcd has run, nor while one holds it.
//! Invariant: the log and the `.snap` file are those of the first day: no revision stands in them.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use super::database::{self, Sound, missing_leases, over, proven};
use super::{
    Applied, DigestRule, Error, Expected, Homes, Listener, MEMBER, Plan, Progress, Rebuilt, Rewrite, Wish, go_on,
    rebuild_in,
};
use crate::datadir::{self, wal};
use crate::durable::{Dir, Lock, Mapped, failed};
use crate::keyspace::{History, Inspection, LeaseId};
use crate::model::{HashKv, Revision};
use crate::source::{Changes, Source};

/// What takes the place of the data, in its directory, until it does; afterwards what was there.
const NEXT: &str = ".lifeboat-next";

/// The database, written anew beside itself.
const NEW: &str = "db.new";

/// What whoever keeps it up has to know of it, in `member`: whenever data is there, this is. etcd passes it over.
pub(super) const HISTORY: &str = ".lifeboat-follow.json";

/// No such file is longer.
const HISTORY_BYTES: u64 = 64 << 10;

/// How many bytes of the database may be free for each that is in use (as one of so many), and besides, before it is written
/// anew: what is free counts for etcd's quota.
const MOST_FREE: (u64, u64) = (4, 32 << 20);

/// Both metas, however large a page is.
const METAS: usize = 128 << 10;

/// What is wished of data that was laid out.
const AS_IT_IS: Wish = Wish {
    bump: None,
    line: None,
    digest: DigestRule::Skipped,
    rewrite: Rewrite::Not,
    expected: None,
};

/// A data directory that is kept up. It holds the lock of the database, as etcd does.
pub struct Warm {
    sound: Sound,
    /// Of its database.
    lock: Lock,
    plan: Plan,
    member: Dir,
    snap: Dir,
}

impl Warm {
    /// Opens what was laid out by `plan` before, and checks all of it. What a run that died has left goes.
    ///
    /// Fails where it is in use, where an etcd has run on it, or where it is another member's.
    pub fn open(plan: &Plan) -> Result<Warm, Error> {
        let missing = || Error::NotWarm {
            path: plan.data_dir.clone(),
        };
        let data = Dir::open(&plan.data_dir)?;
        let member = data.dir(MEMBER)?.ok_or_else(missing)?;
        let snap = member.dir("snap")?.ok_or_else(missing)?;
        let file = snap.own_file(datadir::DB)?.ok_or_else(missing)?;
        let lock = lock(&file, &plan.data_dir)?;
        if !is_log_new(&member, plan)? || !database::is_of(datadir::DB, &file, plan.membership.members())? {
            return Err(missing());
        }
        if data.look(NEXT)?.is_some() {
            data.remove_tree(NEXT)?;
        }
        if snap.look(NEW)?.is_some() {
            snap.remove_file(NEW)?;
        }
        let name = plan.data_dir.display().to_string();
        let sound = Sound::again(&name, file, &AS_IT_IS)?;
        Ok(Warm {
            sound,
            lock,
            plan: plan.clone(),
            member,
            snap,
        })
    }

    /// Lays out another backup, and the changes behind it, beside what is there, and has it take its place in one step. What was
    /// there is gone then.
    pub fn replace(
        &mut self,
        source: Source,
        changes: Option<Changes>,
        expected: Option<Expected>,
        plan: &Plan,
        listener: Listener<'_>,
    ) -> Result<Rebuilt, Error> {
        self.refuse_used()?;
        let data = Dir::open(&plan.data_dir)?;
        if data.look(NEXT)?.is_some() {
            data.remove_tree(NEXT)?;
        }
        let missing = || Error::NotWarm {
            path: plan.data_dir.clone(),
        };
        let metadata = data.dir(MEMBER)?.ok_or_else(missing)?.metadata()?;
        let homes = Homes {
            data: &data,
            log: None,
            name: NEXT,
            owner: (metadata.uid(), metadata.gid()),
        };
        let plan = &Plan {
            expected,
            ..plan.clone()
        };
        let rebuilt = rebuild_in(homes, source, changes, plan, listener)?;
        let next = data.dir(NEXT)?.ok_or_else(missing)?;
        exchange(&next, MEMBER, &data, MEMBER)?;
        spoil(&self.sound.file);
        // What was there goes with it.
        *self = Warm::open(plan)?;
        Ok(rebuilt)
    }

    /// What its plan was laid out with as `history`; nothing where it was laid out otherwise.
    pub fn history(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.member.file(HISTORY)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.take(HISTORY_BYTES).read_to_end(&mut bytes);
        read.map_err(failed("read", &self.member.path().join(HISTORY)))?;
        Ok(Some(bytes))
    }

    /// The revision of its store.
    pub fn revision(&self) -> Revision {
        self.sound.revision()
    }

    /// HashKV, as a member on this data reports it.
    pub fn hash_kv(&self) -> HashKv {
        self.sound.walked.hash_kv()
    }

    /// How long the database is.
    pub fn bytes(&self) -> u64 {
        self.sound.bytes()
    }

    /// Whether clients must authenticate: users and passwords are those of the full backup.
    pub fn has_users(&self) -> bool {
        self.sound.walked.summary.auth.enabled
    }

    /// Takes in the changes up to the revision that they are meant for; all of them, or none.
    pub fn advance(&mut self, changes: Changes, listener: Listener<'_>) -> Result<Applied, Error> {
        self.refuse_used()?;
        let before = self.sound.bytes();
        let staged = self.sound.staged(changes, listener);
        let staged = staged.inspect_err(|_| {
            // Nothing refers to what was written. Should it stay, the next run cuts it off.
            self.sound.file.set_len(before).ok();
        })?;
        self.sound.take(staged)
    }

    /// Whether so much of it is free by now that it is to be written anew.
    pub fn is_grown(&self) -> bool {
        let pages = self.sound.walked.report.reachable();
        let used = match pages.file_pages() {
            0 => 0,
            all => (u128::from(self.bytes()) * u128::from(pages.len()) / u128::from(all)) as u64,
        };
        self.bytes().saturating_sub(used) > used / MOST_FREE.0 + MOST_FREE.1
    }

    /// Fails where an etcd has run on it since it was opened: one that opened the file before may have waited for the lock.
    fn refuse_used(&self) -> Result<(), Error> {
        match is_log_new(&self.member, &self.plan)? {
            true => Ok(()),
            false => Err(Error::NotWarm {
                path: self.plan.data_dir.clone(),
            }),
        }
    }

    /// Writes its database anew, without free pages. After an error it is as it was.
    pub fn tidy(&mut self) -> Result<(), Error> {
        self.refuse_used()?;
        let snap = &self.snap;
        let path = snap.path().join(NEW);
        if snap.look(NEW)?.is_some() {
            snap.remove_file(NEW)?;
        }
        let before = &self.sound.file;
        let owner = before.metadata().map_err(failed("look at", &path))?;
        let same = before.try_clone().map_err(failed("keep open", &path))?;
        let sound = Sound::again(&self.sound.name, same, &AS_IT_IS)?;
        let file = snap.create(NEW)?;
        // Whoever opens it by its name meets the lock of the one or of the other.
        let lock = lock(&file, &path)?;
        let sound = sound.rewritten(History::Whole, file)?;
        let made = &sound.file;
        fchown(made, Some(owner.uid()), Some(owner.gid())).map_err(failed("give away", &path))?;
        made.sync_all().map_err(failed("sync", &path))?;
        exchange(snap, NEW, snap, datadir::DB)?;
        spoil(&self.sound.file);
        self.sound = sound;
        self.lock = lock;
        self.snap.remove_file(NEW)?;
        Ok(self.snap.sync()?)
    }
}

/// Lets two entries change places, and brings that to the disk.
fn exchange(from: &Dir, name: &str, to: &Dir, to_name: &str) -> Result<(), Error> {
    let path = from.path().join(name);
    let cannot = || failed("exchange", &path)(io::ErrorKind::Unsupported.into());
    from.exchange(name, to, to_name)?.ok_or_else(cannot)?;
    to.sync()?;
    Ok(from.sync()?)
}

/// Has nobody start on a file that has no name any more: an etcd that opened it and waits for its lock gets that when this
/// program lets go of the file. It finds no database then, ends, and its unit starts it on the one that has the name.
fn spoil(file: &File) {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let zeros = vec![0; METAS.min(usize::try_from(length).unwrap_or(METAS))];
    file.write_all_at(&zeros, 0).ok();
}

fn lock(file: &File, path: &Path) -> Result<Lock, Error> {
    let same = file.try_clone().map_err(failed("keep open", path))?;
    Lock::exclusive(same).map_err(|not| match not.error {
        TryLockError::WouldBlock => Error::Running { path: path.to_owned() },
        TryLockError::Error(error) => failed("lock", path)(error).into(),
    })
}

/// Whether the log is the one that was laid out: whoever runs on it writes to it first.
fn is_log_new(member: &Dir, plan: &Plan) -> Result<bool, Error> {
    let Some(dir) = member.dir("wal")? else {
        return Ok(false);
    };
    let (names, records) = (dir.names_up_to(2)?, wal::first_segment(&plan.membership, &plan.member));
    let Some(file) = dir
        .file(wal::FILE_NAME)?
        .filter(|_| names.is_some_and(|names| names.len() == 1))
    else {
        return Ok(false);
    };
    // A record begins with its length: zeros end the log.
    let mut found = Vec::new();
    let most = records.len() as u64 + 8;
    file.take(most)
        .read_to_end(&mut found)
        .map_err(failed("read the log in", dir.path()))?;
    let (log, rest) = found.split_at(found.len().min(records.len()));
    Ok(log == records && rest.iter().all(|byte| *byte == 0))
}

/// A state that is on its way: its pages are written, and nothing refers to them yet.
struct Staged {
    metas: [(u64, Vec<u8>); 2],
    map: Mapped,
    walked: Inspection,
    applied: Applied,
    guessed: Vec<LeaseId>,
}

impl Sound {
    /// Writes changes behind it, and proves what they come to.
    fn staged(&self, changes: Changes, listener: Listener<'_>) -> Result<Staged, Error> {
        let at: PathBuf = datadir::DB.into();
        let (mut unsealed, mut appended) = self.append(changes, listener)?;
        unsealed.sink().settle().map_err(failed("write to", &at))?;
        let (metas, len) = (unsealed.metas(), unsealed.file_len().map_err(Error::Build)?);
        drop(unsealed);
        self.file.set_len(len).map_err(failed("set the length of", &at))?;
        let parts: Vec<(u64, &[u8])> = metas.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        let map = Mapped::with(&self.file, &parts).map_err(failed("map", &at))?;
        go_on(listener, Progress::Checking)?;
        let guessed = std::mem::take(&mut appended.guessed);
        let (walked, _, applied) = over(&self.name, &map, |made| proven(&self.name, appended, made, &AS_IT_IS))?;
        Ok(Staged {
            metas,
            map,
            walked,
            applied,
            guessed,
        })
    }

    /// Lets the metas point to what was staged. After an error it is of one revision or of the other.
    fn take(&mut self, staged: Staged) -> Result<Applied, Error> {
        let Staged {
            metas,
            map,
            walked,
            applied,
            guessed,
        } = staged;
        let at: PathBuf = datadir::DB.into();
        // The metas are written in place: from here on only the map is looked at that has its own.
        self.map = map;
        self.file.sync_all().map_err(failed("sync", &at))?;
        for (offset, bytes) in metas {
            self.file
                .write_all_at(&bytes, offset)
                .map_err(failed("write to", &at))?;
            self.file.sync_data().map_err(failed("sync", &at))?;
        }
        self.added = missing_leases(&walked.summary, &walked.replayed);
        self.guessed = guessed;
        self.applied = Some(applied);
        self.walked = walked;
        Ok(applied)
    }
}
