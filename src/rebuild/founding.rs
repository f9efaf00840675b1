//! A data directory in two parts: the data, which is checked while etcd still runs, and who the members are, which may be
//! known only later. The second part is a few pages behind the data, the mark and the log.
//!
//! Invariant: the second part can be taken again from wherever a run that died left it, as long as it is for the same members.

use std::fs::File;
use std::os::unix::fs::fchown;

use nix::unistd::{getegid, geteuid};

use super::copy_in::{Hashes, copy_in};
use super::database::{self, Sound};
use super::first_segment::{write, write_log};
use super::staging::Staging;
use super::{Error, Homes, Listener, MEMBER, Progress, Rebuilt, Wish, bytes_of, checked, go_on, publish};
use super::{rewriting, target_dirs};
use crate::datadir::{self, Membership, snap, wal};
use crate::durable::{Dir, failed};
use crate::keyspace::Member;
use crate::source::{Changes, Source};

/// Data that is in its folder, checked, and of no cluster yet.
#[must_use]
pub struct Prepared {
    sound: Sound,
}

/// Lays out and checks the data of `source` and of the `changes` behind it, as [`super::rebuild_in`] does; who the members are
/// is still to come. What is told of it is as it will be then.
pub fn prepare_in(
    homes: Homes<'_>,
    mut source: Source,
    changes: Option<Changes>,
    wish: &Wish,
    listener: Listener<'_>,
) -> Result<(Prepared, Rebuilt), Error> {
    let mut data = Staging::within(homes.data, homes.name, (geteuid().as_raw(), getegid().as_raw()))?;
    let needed = wish.rewrite.needed_bytes(bytes_of(&source, changes.as_ref()));
    target_dirs::refuse_without_space(needed, data.content(), homes.log)?;
    let folder = data.make_dirs(datadir::SNAP_DIR)?;
    let database = data.create(&folder, datadir::DB)?;
    let (path, hashes) = (folder.path().join(datadir::DB), Hashes::of(&source, wish));
    let landed = copy_in(&mut source, database, &path, hashes, listener)?;
    go_on(listener, Progress::Checking)?;
    let sound = checked(&source, landed, wish)?;
    let sound = sound.followed_by(changes, wish, listener)?;
    let sound = rewriting::rewritten(sound, wish, &mut data, &folder)?;
    let rebuilt = sound.preview()?;
    data.settle()?;
    go_on(listener, Progress::Publishing)?;
    publish(data, MEMBER)?;
    let owner = Some(homes.owner);
    Ok((Prepared { sound }, Rebuilt { owner, ..rebuilt }))
}

/// Checks once more what an earlier run has prepared; `name` is what it is called in messages.
pub fn prepared_in(homes: Homes<'_>, name: &str, wish: &Wish) -> Result<Prepared, Error> {
    let (_, snap) = folders(homes)?;
    let sound = Sound::again(name, database_in(&snap)?, wish)?;
    Ok(Prepared { sound })
}

/// Whether what was prepared has been made that of this cluster already, but for its log perhaps.
pub fn is_founded_in(homes: Homes<'_>, membership: &Membership) -> Result<bool, Error> {
    let (_, snap) = folders(homes)?;
    database::is_of(homes.name, &database_in(&snap)?, membership.members())
}

/// Makes what was prepared that of member `own` of a cluster, and gives it to its owner. Without `prepared` it has been
/// made so by a run that died before its end.
pub fn found_in(
    homes: Homes<'_>,
    prepared: Option<Prepared>,
    membership: &Membership,
    own: &Member,
) -> Result<(), Error> {
    let (member, snap) = folders(homes)?;
    if let Some(Prepared { sound }) = prepared {
        sound.found(membership.members())?;
    }
    let database = database_in(&snap)?;
    let mark_name = snap::file_name(membership);
    if snap.look(&mark_name)?.is_some() {
        snap.remove_file(&mark_name)?;
    }
    let mark = snap.create(&mark_name)?;
    write(&mark, &snap, &snap::file(membership))?;
    let records = wal::first_segment(membership, own);
    let log_dir = match homes.log {
        Some(log) => {
            found_log(log, homes, &records)?;
            None
        }
        None => Some(log_in(&member, &records, homes.owner)?),
    };
    for (file, dir) in [(&database, &snap), (&mark, &snap)] {
        settle(file, dir, homes.owner)?;
    }
    for dir in [Some(&snap), log_dir.as_ref(), Some(&member)].into_iter().flatten() {
        dir.give(homes.owner)?;
        dir.sync()?;
    }
    Ok(())
}

/// The log in the member's own folder.
fn log_in(member: &Dir, records: &[u8], owner: (u32, u32)) -> Result<Dir, Error> {
    let name = "wal";
    if member.look(name)?.is_some() {
        member.remove_tree(name)?;
    }
    let dir = member.make(name)?;
    let log = dir.create(wal::FILE_NAME)?;
    write_log(&log, &dir, records)?;
    settle(&log, &dir, owner)?;
    Ok(dir)
}

/// The log in a folder of its own.
fn found_log(log: &Dir, homes: Homes<'_>, records: &[u8]) -> Result<(), Error> {
    if log.look(homes.name)?.is_some() {
        log.remove_tree(homes.name)?;
    }
    let mut made = Staging::within(log, homes.name, homes.owner)?;
    let file = made.create(&made.content().clone(), wal::FILE_NAME)?;
    write_log(&file, made.content(), records)?;
    made.settle()?;
    publish(made, wal::FILE_NAME)
}

fn settle(file: &File, dir: &Dir, (user, group): (u32, u32)) -> Result<(), Error> {
    fchown(file, Some(user), Some(group)).map_err(failed("give away a file in", dir.path()))?;
    Ok(file.sync_all().map_err(failed("sync a file in", dir.path()))?)
}

/// The folders of the member and of its database.
fn folders(homes: Homes<'_>) -> Result<(Dir, Dir), Error> {
    let missing = || {
        let path = homes.data.path().join(homes.name).join(datadir::SNAP_DIR);
        failed("open", &path)(std::io::ErrorKind::NotFound.into())
    };
    let made = homes.data.dir(homes.name)?.ok_or_else(missing)?;
    let member = made.dir(MEMBER)?.ok_or_else(missing)?;
    let snap = member.dir("snap")?.ok_or_else(missing)?;
    Ok((member, snap))
}

fn database_in(snap: &Dir) -> Result<File, Error> {
    let missing = || failed("open", &snap.path().join(datadir::DB))(std::io::ErrorKind::NotFound.into());
    Ok(snap.own_file(datadir::DB)?.ok_or_else(missing)?)
}
