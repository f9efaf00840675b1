//! The database of the new cluster: the landed one, checked, with what a restore changes written behind its pages.
//!
//! Invariant: the metas point to new pages only once these are on the disk.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;

use super::append_buckets::{check_built, graft, seal};
use super::apply::{Appended, Base, append};
use super::writeback::Growing;
use super::{
    Applied, ContentProof, DigestRule, Error, Expected, Listener, Progress, Rebuilt, Rewrite, Rewritten, Salvaged,
    Wish, go_on, salvage,
};
use crate::bbolt;
use crate::datadir;
use crate::durable::{Mapped, failed};
use crate::error_chain::with_causes;
use crate::keyspace::entries::Executed;
use crate::keyspace::{
    self, Agreement, CompactionMarks, EtcdLine, History, Inspection, Lease, LeaseId, LiveKeys, Member, NewContent,
    Replayed, Restored, Summary, restored, rewrite,
};
use crate::model::{HashKv, Revision};
use crate::source::{Changes, trailing_digest};

/// The lifetime of a lease that keys hang on but whose own entry is missing: long enough for its owner to come back.
pub(super) const MISSING_LEASE_TTL_SECONDS: i64 = 3600;

/// A database that is sound, as it came from its source, and into which may be written who the new members are.
pub(super) struct Sound {
    pub name: String,
    pub file: File,
    pub map: Mapped,
    pub walked: Inspection,
    proof: ContentProof,
    pub added: Vec<Lease>,
    /// Leases that have an entry by now, for which nobody knew the time to live.
    pub guessed: Vec<LeaseId>,
    bump: Option<NonZeroU64>,
    line: Option<EtcdLine>,
    digest_was_absent: bool,
    /// How long it would be, compacted, where that was asked.
    compacted_bytes: Option<u64>,
    rewritten: Option<Rewritten>,
    /// What its log holds beyond it.
    log: Option<(Executed, Salvaged)>,
    /// What changes behind it came to, which are in it by now.
    pub applied: Option<Applied>,
}

impl Sound {
    /// Checks a landed database against what is wished; `bytes` came, a trailing digest included.
    pub(super) fn check(name: &str, landed: File, bytes: u64, wish: &Wish) -> Result<Sound, Error> {
        let digest_was_absent = trailing_digest(bytes) == 0;
        Sound::of(name, landed, wish, digest_was_absent)
    }

    /// Checks a database that an earlier run landed and checked; what that one may have begun to write behind its pages
    /// goes.
    pub(super) fn again(name: &str, file: File, wish: &Wish) -> Result<Sound, Error> {
        // What was compacted is past the revision that was recorded; it was proven when it was written anew.
        let compact_revision = {
            let map = mapped(&file)?;
            let landed = bbolt::File::open(&map).map_err(|error| unreadable(name, &error))?;
            CompactionMarks::read(&landed).compact_revision()
        };
        let expected = wish.expected.map(|expected| Expected {
            hash_kv: expected
                .hash_kv
                .filter(|hash| hash.compact_revision == compact_revision),
            ..expected
        });
        let wish = Wish {
            expected,
            rewrite: Rewrite::Not,
            ..*wish
        };
        Sound::of(name, file, &wish, wish.digest == DigestRule::Skipped)
    }

    fn of(name: &str, file: File, wish: &Wish, digest_was_absent: bool) -> Result<Sound, Error> {
        cut_unused_tail(name, &file)?;
        let map = mapped(&file)?;
        let recorded = wish.expected.and_then(|expected| expected.hash_kv);
        let (walked, compacted_bytes) = over(name, &map, |source| sized(name, source, wish, recorded))?;
        let proof = over(name, &map, |source| {
            prove(name, wish.expected.as_ref(), source, &walked)
        })?;
        let added = missing_leases(&walked.summary, &walked.replayed);
        Ok(Sound {
            name: name.to_owned(),
            file,
            map,
            walked,
            proof,
            added,
            guessed: Vec::new(),
            bump: wish.bump,
            line: wish.line,
            digest_was_absent,
            compacted_bytes,
            rewritten: None,
            log: None,
            applied: None,
        })
    }

    /// The same with the changes behind it, which are checked on the way; it is proven anew then.
    pub(super) fn followed_by(
        self,
        changes: Option<Changes>,
        wish: &Wish,
        listener: Listener<'_>,
    ) -> Result<Sound, Error> {
        let Some(changes) = changes else {
            return Ok(self);
        };
        let (unsealed, mut appended) = self.append(changes, listener)?;
        // The metas are written in place.
        drop(self.map);
        // It has no name yet: what is on the disk counts only once all of the directory is.
        let (_, written) = unsealed.seal().map_err(Error::Build)?;
        let sized_to = self.file.set_len(written.len);
        sized_to.map_err(failed("set the length of", Path::new(datadir::DB)))?;
        let map = mapped(&self.file)?;
        go_on(listener, Progress::Checking)?;
        let guessed = std::mem::take(&mut appended.guessed);
        let (walked, compacted_bytes, applied) =
            over(&self.name, &map, |made| proven(&self.name, appended, made, wish))?;
        let added = missing_leases(&walked.summary, &walked.replayed);
        let proof = match applied.checkpoints.matched {
            Some(matched) if matched == applied.to => ContentProof::HashKv,
            Some(_) | None => ContentProof::Content,
        };
        Ok(Sound {
            map,
            walked,
            proof,
            added,
            guessed,
            compacted_bytes,
            applied: Some(applied),
            ..self
        })
    }

    /// Writes changes behind its pages, which stay as they are until the metas point to the new ones.
    pub(super) fn append(
        &self,
        changes: Changes,
        listener: Listener<'_>,
    ) -> Result<(bbolt::Unsealed<Growing>, Appended), Error> {
        over(&self.name, &self.map, |source| {
            let base = Base {
                file: source,
                report: &self.walked.report,
                summary: &self.walked.summary,
                dangling: &self.added,
            };
            let sink = self.file.try_clone();
            let sink = sink.map_err(failed("keep open", Path::new(datadir::DB)))?;
            append(&base, Growing::behind(sink, self.bytes()), changes, listener)
        })
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// How long it would be, compacted, where that was asked.
    pub(super) fn compacted_bytes(&self) -> Option<u64> {
        self.compacted_bytes
    }

    /// The revision of its store.
    pub(super) fn revision(&self) -> Revision {
        self.walked.summary.revision()
    }

    /// How far its marks say that it is compacted.
    pub(super) fn marks(&self) -> CompactionMarks {
        self.walked.summary.meta.compaction
    }

    /// The same, written anew into an empty file: read once more by the strict rules, and compared with what it is from.
    pub(super) fn rewritten(self, history: History, file: File) -> Result<Sound, Error> {
        let sink = file.try_clone().map_err(failed("keep open", Path::new(datadir::DB)))?;
        let not_made = |error| match error {
            keyspace::Error::Rewrite { source } => Error::Build(source),
            error => Error::Content {
                name: self.name.clone(),
                error,
            },
        };
        let unsealed = over(&self.name, &self.map, |source| {
            rewrite(source, history, sink).map_err(not_made)
        })?;
        // It has no name yet: what is on the disk counts only once all of the directory is.
        unsealed.seal().map_err(Error::Build)?;
        let map = mapped(&file)?;
        let unsound = |fault: &dyn std::fmt::Display| Error::BuiltUnsound {
            fault: fault.to_string(),
        };
        let walked = over(&self.name, &map, |made| {
            over(&self.name, &self.map, |source| {
                keyspace::prove((source, &self.walked), made, history).map_err(|fault| unsound(&fault))
            })
        })
        .map_err(|error| match error {
            Error::BuiltUnsound { .. } => error,
            error => unsound(&error),
        })?;
        let rewritten = Rewritten {
            bytes_before: self.bytes(),
            is_compacted: matches!(history, History::CompactedAt(_)),
        };
        Ok(Sound {
            file,
            map,
            walked,
            rewritten: Some(rewritten),
            ..self
        })
    }

    /// The same with what the log in `dir` holds beyond it.
    pub(super) fn with_log(mut self, dir: &Path) -> Result<Sound, Error> {
        let source = bbolt::File::open(&self.map).map_err(|error| unreadable(&self.name, &error))?;
        let (executed, salvaged) = salvage::beyond(dir, &self.name, &source, &self.walked.summary)?;
        // A lease that keys hang on and that has no entry may have been granted anew.
        self.added
            .retain(|added| executed.leases.iter().all(|lease| lease.id != added.id));
        self.log = Some((executed, salvaged));
        Ok(self)
    }

    /// What will be laid out, but for who the members are; fails where it cannot be restored as wished.
    pub(super) fn preview(&self) -> Result<Rebuilt, Error> {
        let source = bbolt::File::open(&self.map).map_err(|error| unreadable(&self.name, &error))?;
        let restored = self.restored(&source, &[])?;
        Ok(self.rebuilt(&restored, self.map.len() as u64))
    }

    /// Turns it into the database of a cluster of these members.
    pub(super) fn found(self, members: &[Member]) -> Result<Rebuilt, Error> {
        let source = bbolt::File::open(&self.map).map_err(|error| unreadable(&self.name, &error))?;
        let restored = self.restored(&source, members)?;
        let unsealed = graft(&self.file, &source, &self.walked.report, &restored)?;
        let rebuilt = self.rebuilt(&restored, 0);
        // The metas are written in place.
        drop(self.map);
        let database_bytes = seal(unsealed)?;
        check_built(&self.file, database_bytes, &self.walked.report)?;
        let rebuilt = Rebuilt {
            database_bytes,
            ..rebuilt
        };
        match &self.log {
            None => Ok(rebuilt),
            Some((executed, _)) => with_log_counted(&self.file, self.walked.compact_revision, executed, rebuilt),
        }
    }

    fn restored(&self, source: &bbolt::File<'_>, members: &[Member]) -> Result<Restored, Error> {
        let wished = NewContent {
            members,
            last: self.walked.summary.last,
            bump: self.bump,
            leases: &self.added,
            line: self.line,
            executed: self.log.as_ref().map(|(executed, _)| executed),
        };
        restored(source, &wished).map_err(|error| Error::Content {
            name: self.name.clone(),
            error,
        })
    }

    fn rebuilt(&self, restored: &Restored, database_bytes: u64) -> Rebuilt {
        let Inspection { summary, replayed, .. } = &self.walked;
        let added = self.added.iter().map(|lease| lease.id);
        Rebuilt {
            revision: restored.revision,
            hash_kv: self.walked.hash_kv(),
            proof: self.proof,
            live_keys: replayed.clients_keys().unwrap_or(0),
            leases: summary.leases.iter().chain(&self.added).cloned().collect(),
            leased_keys: replayed.leases.iter().map(|(_, keys)| keys).sum(),
            added_leases: added.chain(self.guessed.iter().copied()).collect(),
            oddities: self.walked.warnings_beside_leases(),
            cleared_alarms: summary.alarms.clone(),
            auth: summary.auth,
            dropped_storage_version: restored.dropped_storage_version.clone(),
            cluster_version: summary.cluster_version.clone(),
            database_bytes,
            rewritten: self.rewritten,
            compacted_bytes: self.compacted_bytes,
            digest_was_absent: self.digest_was_absent,
            salvaged: self.log.as_ref().map(|(_, salvaged)| *salvaged),
            applied: self.applied,
            owner: None,
        }
    }
}

/// Walks over a database to which changes were appended, and holds it to them and to what members have reported.
pub(super) fn proven(
    name: &str,
    appended: Appended,
    made: &bbolt::File<'_>,
    wish: &Wish,
) -> Result<(Inspection, Option<u64>, Applied), Error> {
    if let Some(broken) = &appended.broken {
        return Err(appended.refused(broken, made).map_err(Error::Build)?);
    }
    let reported = appended.at_end(made);
    let sized = sized(name, made, wish, reported);
    let (walked, compacted_bytes) = sized.map_err(|error| Error::BuiltUnsound {
        fault: error.to_string(),
    })?;
    let at_end = reported.map(|reported| walked.compared_with(made, reported));
    let applied = appended.compared(at_end, made).map_err(Error::Build)??;
    Ok((walked, compacted_bytes, applied))
}

/// What the walk over a database could not know of one to which entries of a log were added: read from the log of the new
/// one.
fn with_log_counted(
    file: &File,
    compact_revision: i64,
    executed: &Executed,
    rebuilt: Rebuilt,
) -> Result<Rebuilt, Error> {
    let map = mapped(file)?;
    let unsound = |fault: &dyn std::fmt::Display| Error::BuiltUnsound {
        fault: fault.to_string(),
    };
    let built = bbolt::File::open(&map).map_err(|error| unsound(&error))?;
    let compact_revision = executed.compacted.map_or(compact_revision, Revision::get);
    let mut malformed = None;
    let replayed = keyspace::replayed(
        &built,
        LiveKeys::Counted,
        Some(executed.revision),
        &[compact_revision],
        |error| malformed = Some(error),
    );
    let replayed = replayed.map_err(|error| unsound(&error))?;
    if let Some(error) = malformed {
        return Err(unsound(&with_causes(&error)));
    }
    let hash = replayed.hashes.first().map(|hash| hash.at(executed.revision));
    let added = rebuilt
        .leases
        .iter()
        .filter(|lease| rebuilt.added_leases.contains(&lease.id));
    Ok(Rebuilt {
        hash_kv: hash.expect("it was asked for"),
        live_keys: replayed.clients_keys().unwrap_or(0),
        leased_keys: replayed.leases.iter().map(|(_, keys)| keys).sum(),
        leases: executed.leases.iter().chain(added).copied().collect(),
        ..rebuilt
    })
}

/// Whether a database holds exactly these members: it was founded already.
pub(super) fn is_of(name: &str, file: &File, members: &[Member]) -> Result<bool, Error> {
    let map = mapped(file)?;
    let source = bbolt::File::open(&map).map_err(|error| unreadable(name, &error))?;
    let bucket = source.bucket(b"members").map_err(|error| unreadable(name, &error))?;
    let Some(bucket) = bucket else { return Ok(false) };
    let mut wanted: Vec<Vec<u8>> = members.iter().map(Member::key).collect();
    wanted.sort_unstable();
    let mut found = Vec::new();
    for entry in bucket.iter() {
        let (key, _) = entry.map_err(|error| unreadable(name, &error))?;
        found.push(key.to_vec());
        if found.len() > wanted.len() {
            return Ok(false);
        }
    }
    Ok(found == wanted)
}

/// Fails where not even all the pages are there.
pub(super) fn is_whole(name: &str, file: &File) -> Result<(), Error> {
    let opened = bbolt::File::open(&mapped(file)?).map(drop);
    opened.map_err(|error| unreadable(name, &error))
}

/// A copy of a live file has a tail that is not in use; new pages go there, so it must not be mapped.
fn cut_unused_tail(name: &str, file: &File) -> Result<(), Error> {
    let used = {
        let map = mapped(file)?;
        let whole = bbolt::File::open(&map).map_err(|error| unreadable(name, &error))?;
        whole.pages() * u64::from(whole.page_size())
    };
    Ok(file.set_len(used).map_err(failed("truncate", Path::new(datadir::DB)))?)
}

/// Does something with all of a mapped database. What lies behind is let go.
pub(super) fn over<R>(
    name: &str,
    map: &Mapped,
    work: impl FnOnce(&bbolt::File<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let behind = map.behind();
    let follower = |bytes: &[u8]| behind.looks_at(bytes);
    let file = bbolt::File::open(map).map_err(|error| unreadable(name, &error))?;
    work(&file.followed_by(&follower))
}

/// Checks every page and entry of the source in one walk, and finds out how long it would be, compacted, where that decides.
fn sized(
    name: &str,
    source: &bbolt::File<'_>,
    wish: &Wish,
    recorded: Option<HashKv>,
) -> Result<(Inspection, Option<u64>), Error> {
    let size = wish.rewrite.size(source, wish.bump);
    let mut size = size.map_err(|error| unreadable(name, &error))?;
    let walked = walk(name, source, recorded, |bucket, key, value| {
        if let Some(size) = &mut size {
            size.entry(bucket, key, value);
        }
    })?;
    Ok((walked, size.map(|size| size.finish().0)))
}

/// Checks every page and entry of the source in one walk.
fn walk<'a>(
    name: &str,
    source: &bbolt::File<'a>,
    recorded: Option<HashKv>,
    see: impl FnMut(&'a [u8], &'a [u8], &'a [u8]),
) -> Result<Inspection, Error> {
    let recorded = recorded.map(|hash| hash.compact_revision);
    let inspected = Inspection::of(source, LiveKeys::Counted, recorded, see);
    let inspected = inspected.map_err(|error| unreadable(name, &error))?;
    match inspected.fault_count() {
        0 => Ok(inspected),
        count => Err(Error::Unsound {
            name: name.to_owned(),
            faults: inspected.faults().take(3).collect(),
            count,
        }),
    }
}

pub(super) fn mapped(file: &File) -> Result<Mapped, Error> {
    // It lies in a directory that this program made, with mode 0700, and belongs to whoever runs it: nobody else truncates
    // it. Our own writes go behind the mapped range, or to the metas, which are copied before.
    Ok(Mapped::new(file).map_err(failed("map", Path::new(datadir::DB)))?)
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unsound {
        name: name.to_owned(),
        faults: vec![error.to_string()],
        count: 1,
    }
}

/// Compares with what the manifest recorded.
fn prove(
    name: &str,
    expected: Option<&Expected>,
    source: &bbolt::File<'_>,
    walked: &Inspection,
) -> Result<ContentProof, Error> {
    let Some(expected) = expected else {
        return Ok(ContentProof::Content);
    };
    let differs = |what: String| Error::NotAsRecorded {
        name: name.to_owned(),
        what,
    };
    let found = walked.summary.revision();
    if found != expected.revision {
        let recorded = expected.revision;
        return Err(differs(format!("revision {found} instead of {recorded}")));
    }
    let Some(recorded) = expected.hash_kv else {
        return Ok(ContentProof::Content);
    };
    match walked.compared_with(source, recorded) {
        Agreement::Equal => Ok(ContentProof::HashKv),
        Agreement::Unknown => Ok(ContentProof::Content),
        Agreement::Different => Err(differs(format!(
            "HashKV differs from the {} that the member reported for revision {}",
            recorded.hash, recorded.revision
        ))),
    }
}

/// A key on a lease without an entry would never expire, and members could diverge over it.
pub(super) fn missing_leases(summary: &Summary, replayed: &Replayed) -> Vec<Lease> {
    let missing = summary.dangling(&replayed.leases);
    missing
        .iter()
        .map(|(id, _)| Lease::granted(*id, MISSING_LEASE_TTL_SECONDS))
        .collect()
}
