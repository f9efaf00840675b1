//! The snapshot of a point behind a full backup: made in memory, or in a file without a name where the operator has said in which
//! folder. It is plain while it is made, and gone with the process.

use std::cell::Cell;
use std::fs::File;
use std::io::Seek as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::point::Chosen;
use super::rebuild::{expected, refused_by};
use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener, failed, host};
use crate::durable::{nameless, room_at};
use crate::layout::Manifest;
use crate::model::ByteSize;
use crate::rebuild::{self, Exported, Rewrite, Wanted, export_at};
use crate::source;

/// Why nothing was made of a source.
pub(super) enum NotMade {
    Rebuild(rebuild::Error),
    /// A delta cannot be read, once so many revisions were applied.
    Unread(source::Error, u64),
    /// More than may be taken of the memory.
    TooLarge {
        most: u64,
    },
}

impl From<rebuild::Error> for NotMade {
    fn from(error: rebuild::Error) -> NotMade {
        NotMade::Rebuild(error)
    }
}

impl NotMade {
    /// The same as whoever asked sees it.
    pub fn refused(&self, manifest: Option<&Manifest>) -> Failure {
        match self {
            NotMade::TooLarge { most } => too_large(*most, *most),
            NotMade::Rebuild(error) => refused_by(error, manifest),
            NotMade::Unread(error, _) => source_failure(error, manifest),
        }
    }
}

/// Where it is made.
pub(super) struct Room {
    file: File,
    /// The second file, where it is written anew.
    anew: Option<File>,
    /// What it is called in errors.
    path: PathBuf,
    /// How long it may become.
    most: u64,
}

/// How much longer deltas are once they are opened, for a first look at whether there is room.
const OPENED: u64 = 4;

/// About how long the snapshot of what was found gets.
pub(super) fn needed_bytes(found: &Found) -> u64 {
    let base = found.manifest.as_ref().map_or(0, |manifest| manifest.plain.bytes);
    let behind = found.chosen().map_or(0, Chosen::bytes);
    base.saturating_add(behind.saturating_mul(OPENED))
}

impl Room {
    /// Begins it with room for about `bytes`; they are needed twice where it is written anew.
    pub fn begin(bytes: u64, work_dir: Option<&Path>, rewrite: Rewrite) -> Result<Room, Failure> {
        let needed = rewrite.needed_bytes(bytes);
        let (most, path) = match work_dir {
            None => (host::spare_memory(), PathBuf::from("the snapshot in memory")),
            Some(folder) => (u64::MAX, folder.to_owned()),
        };
        if needed > most {
            return Err(too_large(needed, most));
        }
        if let Some((folder, room)) = work_dir.and_then(|folder| Some((folder, room_at(folder)?)))
            && room.available < needed
        {
            let (free, needed) = (ByteSize(room.available), ByteSize(needed));
            let message = format!("{} has {free} free, and about {needed} are needed", folder.display());
            return Err(Failure::new(Exit::Failed, message).next("name a folder on another disk with `--work-dir`"));
        }
        let file = || match work_dir {
            None => nameless::in_memory().map_err(failed),
            Some(folder) => nameless::in_folder(folder)
                .map_err(|error| failed(error).next("name a folder that this user may write to")),
        };
        Ok(Room {
            file: file()?,
            anew: match rewrite {
                Rewrite::Not => None,
                Rewrite::Defragmented | Rewrite::Compacted | Rewrite::ToFit { .. } => Some(file()?),
            },
            path,
            most,
        })
    }

    /// Makes the snapshot of the point that was found, of the first copy that will do.
    pub fn make(
        &self,
        found: &Found,
        listener: &dyn Listener,
        is_stopped: &dyn Fn() -> bool,
        refused: &dyn Fn(&NotMade) -> Failure,
    ) -> Result<Exported, Failure> {
        found.with_each(
            listener,
            |source, manifest| {
                let (is_too_large, applied) = (Cell::new(false), Cell::new(0));
                // What an earlier copy has left.
                for mut file in self.files() {
                    let emptied = file.set_len(0).and_then(|()| file.rewind());
                    emptied
                        .map_err(|error| rebuild::Error::from(crate::durable::failed("empty", &self.path)(error)))?;
                }
                let shown = listener.progress("opening");
                let length = source.length();
                let each = |progress: rebuild::Progress| {
                    match progress {
                        rebuild::Progress::Reading { bytes } => shown(bytes, length.unwrap_or(bytes)),
                        rebuild::Progress::Applying { revisions, .. } => applied.set(revisions),
                        rebuild::Progress::Checking | rebuild::Progress::Publishing => {}
                    }
                    let bytes: u64 = self.files().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
                    is_too_large.set(bytes > self.most);
                    match is_too_large.get() || is_stopped() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                let wanted = Wanted {
                    digest: rebuild::DigestRule::Required,
                    expected: manifest.map(expected),
                    compacted_into: self.anew.as_ref(),
                };
                let made = export_at(source, found.changes(), (&self.file, &self.path), wanted, &each);
                made.map_err(|error| match error {
                    rebuild::Error::Interrupted if is_too_large.get() => NotMade::TooLarge { most: self.most },
                    rebuild::Error::Source(error) if applied.get() > 0 => NotMade::Unread(error, applied.get()),
                    error => NotMade::Rebuild(error),
                })
            },
            |error| matches!(error, NotMade::Rebuild(error) if error.is_fault_of_source()),
            |error| refused(&error),
        )
    }

    /// The file that the snapshot is in once it is made.
    pub fn into_file(self) -> File {
        self.anew.unwrap_or(self.file)
    }

    fn files(&self) -> impl Iterator<Item = &File> {
        [&self.file].into_iter().chain(&self.anew)
    }
}

fn too_large(needed: u64, most: u64) -> Failure {
    let (needed, most) = (ByteSize(needed), ByteSize(most));
    let message = format!("it takes {needed} of memory or more, and {most} of this host's may be used");
    Failure::new(Exit::Failed, message).next(
        "name a folder with `--work-dir DIR`: the plain data lies there, in a file without a name, until it is done",
    )
}

/// What the operator should know of what was made.
pub(super) fn warnings(exported: &Exported) -> Vec<String> {
    let leases = exported.guessed_leases.len();
    let guessed = (leases > 0).then(|| {
        format!("how long {leases} of the leases live that keys hang on is in no delta: an hour was taken for each")
    });
    let applied = exported.applied.as_ref();
    guessed
        .into_iter()
        .chain(applied.and_then(rebuild::not_compared))
        .collect()
}
