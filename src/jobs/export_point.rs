//! A plain snapshot of a point behind a full backup: the backup and the changes behind it, made beside the file that it becomes.
//! What goes to standard output is made in memory, or where the operator has said.
//!
//! What is made meanwhile is as plain as the file itself, lies in the same folder under a name that begins with a dot, and is
//! removed at the end; the next run for the same file removes what a killed one has left.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::export::{self, DigestRule, Exported, is_stdout, write_new};
use super::point_snapshot::{NotMade, Room, needed_bytes, warnings};
use super::rebuild::{expected, refused_by};
use super::source::Found;
use super::{Exit, Failure, Listener, failed};
use crate::datadir;
use crate::durable::Dir;
use crate::model::Digest;
use crate::rebuild::{self, Homes, Progress, Rewrite, Wish};

/// What the data is called in the folder that it is made in.
const MADE: &str = "point";

/// Writes the point that was chosen to `path`, whose file must not exist, or to standard output; with `rewrite` made smaller on
/// the way. `work_dir` is where the latter is made, if not in memory.
pub fn export_point(
    found: &Found,
    rewrite: Rewrite,
    (path, work_dir): (&Path, Option<&Path>),
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Exported, Failure> {
    if is_stdout(path) {
        return to_stdout(found, rewrite, work_dir, listener, stop);
    }
    let refused = |error| export::failure(error, found.manifest.as_ref());
    if path.exists() {
        return Err(refused(export::Error::Exists(path.to_owned())));
    }
    let absolute = std::path::absolute(path).map_err(failed)?;
    let (Some(folder), Some(file)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Failure::new(Exit::Usage, format!("{} names no file", path.display())));
    };
    let home = Dir::open(folder).map_err(failed)?;
    let name = format!(".{}.partial-point", file.to_string_lossy());
    remove(&home, &name)?;
    let made = home.make(&name).map_err(failed)?;
    let written = make(found, rewrite, &made, listener, stop).and_then(|database| {
        let bytes = database.metadata().map_err(failed)?.len();
        let needed = bytes.saturating_add(crate::etcd::DIGEST_BYTES);
        write_new(path, needed, |to| copy(&database, to, path, stop)).map_err(refused)
    });
    let removed = remove(&home, &name);
    let written = written?;
    removed?;
    Ok(written)
}

/// Nothing goes out before all of it is made and proven.
fn to_stdout(
    found: &Found,
    rewrite: Rewrite,
    work_dir: Option<&Path>,
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Exported, Failure> {
    let room = Room::begin(needed_bytes(found), work_dir, rewrite)?;
    let manifest = found.manifest.as_ref();
    let made = room.make(found, listener, stop, &|error: &NotMade| error.refused(manifest));
    found.tell_notes(listener);
    let made = made?;
    warnings(&made).iter().for_each(|warning| listener.warn(warning));
    let mut file = room.into_file();
    let refused = |error| export::failure(export::Error::Write("-".into(), error), manifest);
    file.rewind().map_err(refused)?;
    let (mut to, mut block) = (io::stdout().lock(), vec![0; 1 << 20]);
    loop {
        if stop() {
            return Err(export::failure(export::Error::Interrupted, manifest));
        }
        let length = file.read(&mut block).map_err(refused)?;
        let read = block.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        to.write_all(read).map_err(refused)?;
    }
    to.flush().map_err(refused)?;
    Ok(Exported {
        bytes: made.bytes,
        sha256: made.sha256,
        digest: DigestRule::Required,
    })
}

fn remove(home: &Dir, name: &str) -> Result<(), Failure> {
    match home.look(name).map_err(failed)? {
        Some(_) => home.remove_tree(name).map_err(failed),
        None => Ok(()),
    }
}

/// Makes the database of the point, checked and proven as every other.
fn make(
    found: &Found,
    rewrite: Rewrite,
    home: &Dir,
    listener: &dyn Listener,
    stop: &dyn Fn() -> bool,
) -> Result<File, Failure> {
    let homes = Homes {
        data: home,
        log: None,
        name: MADE,
        owner: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let made = found.with_each(
        listener,
        |source, manifest| {
            if home.look(MADE)?.is_some() {
                home.remove_tree(MADE)?;
            }
            let wish = Wish {
                bump: None,
                line: None,
                digest: rebuild::DigestRule::Required,
                rewrite,
                expected: manifest.map(expected),
            };
            let shown = listener.progress("export");
            let length = source.length();
            let each = |progress: Progress| {
                if let Progress::Reading { bytes } = progress {
                    shown(bytes, length.unwrap_or(bytes));
                }
                match stop() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            rebuild::prepare_in(homes, source, found.changes(), &wish, &each).map(|(_, rebuilt)| rebuilt)
        },
        rebuild::Error::is_fault_of_source,
        |error| refused_by(&error, found.manifest.as_ref()),
    );
    found.tell_notes(listener);
    let made = made?;
    made.warnings_of_source()
        .iter()
        .for_each(|warning| listener.warn(warning));
    let missing = || Failure::new(Exit::Failed, "what was made is gone: run it again");
    let mut folder = home.dir(MADE).map_err(failed)?.ok_or_else(missing)?;
    for part in datadir::SNAP_DIR.split('/') {
        folder = folder.dir(part).map_err(failed)?.ok_or_else(missing)?;
    }
    folder.file(datadir::DB).map_err(failed)?.ok_or_else(missing)
}

/// The database, and its digest behind it.
fn copy(mut database: &File, to: &mut &File, path: &Path, stop: &dyn Fn() -> bool) -> Result<Exported, export::Error> {
    let refused = |error| export::Error::Write(path.to_owned(), error);
    let (mut hasher, mut whole) = (Sha256::new(), Sha256::new());
    let (mut block, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        if stop() {
            return Err(export::Error::Interrupted);
        }
        let length = database.read(&mut block).map_err(refused)?;
        let read = block.get(..length).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        hasher.update(read);
        whole.update(read);
        to.write_all(read).map_err(refused)?;
        bytes += length as u64;
    }
    let digest = hasher.finalize();
    whole.update(digest);
    to.write_all(&digest).map_err(refused)?;
    to.flush().map_err(refused)?;
    Ok(Exported {
        bytes: bytes + crate::etcd::DIGEST_BYTES,
        sha256: Digest(whole.finalize().into()),
        digest: DigestRule::Required,
    })
}
