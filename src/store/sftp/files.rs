//! What is done with names on a server: folders, links, what keeps them over a crash.

use russh_sftp::client::error::Error as Reply;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};

use super::connection::{Fault, Session};
use super::upload::Ended;
use crate::store::backend::FreeSpace;
use crate::store::folder::FOLDER_MODE;

/// Whether what was asked for is not there.
pub(super) fn is_missing(fault: &Fault) -> bool {
    matches!(fault, Fault::Told(StatusCode::NoSuchFile, _))
}

/// What is at a path, links not followed; none if nothing is.
pub(super) async fn look(session: &Session, path: &str) -> Result<Option<FileAttributes>, Fault> {
    match session.hear(session.sftp.lstat(path)).await {
        Ok(found) => Ok(Some(found.attrs)),
        Err(fault) if is_missing(&fault) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Makes the folder of `path` and those above it, but never above the folder `store`, and that one itself only if
/// `makes_store`: it is gone if what keeps it is.
pub(super) async fn make_folders_of(
    session: &Session,
    store: &str,
    path: &str,
    makes_store: bool,
) -> Result<(), Fault> {
    let inside = path.strip_prefix(store).unwrap_or_default().trim_start_matches('/');
    let mut folder = store.to_owned();
    if makes_store {
        make_folder(session, &folder).await?;
    }
    let mut parts = inside.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            break;
        }
        folder = format!("{folder}/{part}");
        make_folder(session, &folder).await?;
    }
    Ok(())
}

async fn make_folder(session: &Session, path: &str) -> Result<(), Fault> {
    let attributes = FileAttributes {
        permissions: Some(FOLDER_MODE),
        ..FileAttributes::empty()
    };
    match session.hear(session.sftp.mkdir(path, attributes)).await {
        Ok(_) => Ok(()),
        // It is there already, or was made meanwhile; servers have no word of their own for that.
        Err(fault @ Fault::Told(StatusCode::Failure | StatusCode::PermissionDenied, _)) => {
            match look(session, path).await? {
                Some(found) if found.is_dir() => Ok(()),
                Some(_) | None => Err(fault),
            }
        }
        Err(fault) => Err(fault),
    }
}

/// Removes the folders from that of `path` up to `store` that have nothing in them.
pub(super) async fn remove_empty_folders(session: &Session, store: &str, path: &str) {
    let mut path = path;
    while let Some((folder, _)) = path.rsplit_once('/') {
        let is_inside = folder.len() > store.len() && folder.starts_with(store);
        // One that is not empty refuses, and that is the test.
        if !is_inside || session.hear(session.sftp.rmdir(folder)).await.is_err() {
            break;
        }
        path = folder;
    }
}

/// Gives the file `temp` the name `target`, if nobody has it.
pub(super) async fn name(session: &Session, temp: &str, target: &str) -> Result<Ended, Fault> {
    if session.offers("hardlink@openssh.com") {
        match session.hear(session.sftp.hardlink(temp, target)).await {
            Ok(_) => {
                remove_temp(session, temp).await?;
                return Ok(Ended::Done);
            }
            // The name is taken, or the file system there has no second names.
            Err(Fault::Told(StatusCode::Failure | StatusCode::OpUnsupported | StatusCode::PermissionDenied, _)) => {}
            Err(fault) => return Err(fault),
        }
    }
    if look(session, target).await?.is_some() {
        remove_temp(session, temp).await?;
        return Ok(Ended::Taken);
    }
    // Of this version of the protocol, which takes no name away from another file.
    session.hear(session.sftp.rename(temp, target)).await?;
    Ok(Ended::Done)
}

async fn remove_temp(session: &Session, temp: &str) -> Result<(), Fault> {
    match session.hear(session.sftp.remove(temp)).await {
        Err(fault) if !is_missing(&fault) => Err(fault),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Gives the file `temp` the name `target`, whoever has it.
pub(super) async fn rename_over(session: &Session, temp: &str, target: &str) -> Result<(), Fault> {
    const POSIX: &str = "posix-rename@openssh.com";
    if session.offers(POSIX) {
        let mut names = Vec::new();
        for name in [temp, target] {
            names.extend_from_slice(&(name.len() as u32).to_be_bytes());
            names.extend_from_slice(name.as_bytes());
        }
        let renamed = session.hear(session.sftp.extended(POSIX, names)).await?;
        return match renamed {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(Fault::from(Reply::Status(status))),
            _ => Err(Fault::from(Reply::UnexpectedPacket)),
        };
    }
    match session.hear(session.sftp.remove(target)).await {
        Err(fault) if !is_missing(&fault) => return Err(fault),
        Ok(_) | Err(_) => {}
    }
    session.hear(session.sftp.rename(temp, target)).await.map(drop)
}

/// Has the server bring the folder of `path` to its disk. OpenSSH opens folders, too; of one that does not there is no other
/// way to ask, and its file system has to see to it.
pub(super) async fn sync_folder_of(session: &Session, path: &str) {
    let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    if !session.offers("fsync@openssh.com") {
        return;
    }
    let opened = session.sftp.open(folder, OpenFlags::READ, FileAttributes::empty());
    if let Ok(opened) = session.hear(opened).await {
        session.hear(session.sftp.fsync(&opened.handle)).await.ok();
        session.hear(session.sftp.close(&opened.handle)).await.ok();
    }
}

/// The space that is left, where the server tells.
pub(super) async fn space(session: &Session, path: &str) -> Result<Option<FreeSpace>, Fault> {
    if !session.offers("statvfs@openssh.com") {
        return Ok(None);
    }
    let found = session.hear(session.sftp.statvfs(path)).await?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size);
    Ok(Some(FreeSpace {
        available: bytes(found.blocks_avail),
        total: bytes(found.blocks),
    }))
}
