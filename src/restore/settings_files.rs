//! Files of settings: what was there before, the new ones, and the way back.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::ledger::FileBefore;
use super::plan::PlannedFile;
use crate::durable::{self, Error, failed};
use crate::etcd_settings::NewFile;

/// Settings are small.
const MOST_BYTES: u64 = 1 << 20;
const FOLDER_MODE: u32 = 0o755;
const LAID_MODE: u32 = 0o644;

/// What is at a path now.
pub(super) fn before(path: &Path) -> Result<FileBefore, Error> {
    let absent = || FileBefore {
        path: path.to_owned(),
        content: None,
        mode: 0,
        owner: (0, 0),
    };
    let file = match durable::open_linked(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(absent()),
        opened => opened.map_err(failed("open", path))?,
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    let mut content = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut content);
    read.map_err(failed("read", path))?;
    if content.len() as u64 > MOST_BYTES {
        let large = io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB");
        return Err(failed("read", path)(large));
    }
    Ok(FileBefore {
        path: path.to_owned(),
        content: Some(content),
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
    })
}

/// Puts a file in its place.
pub(super) fn put(file: &PlannedFile) -> Result<(), Error> {
    write(&file.path, &file.content, file.mode, Some(file.owner))
}

/// Lays a file over etcd's settings.
pub(super) fn lay(file: &NewFile) -> Result<(), Error> {
    write(&file.path, &file.content, LAID_MODE, None)
}

/// Whether a file that is laid over etcd's settings is there, as it is to be.
pub(super) fn is(file: &NewFile) -> Result<bool, Error> {
    Ok(before(&file.path)?.content.as_ref() == Some(&file.content))
}

/// Puts back what was at a path.
pub(super) fn put_back(before: &FileBefore) -> Result<(), Error> {
    match &before.content {
        Some(content) => write(&before.path, content, before.mode, Some(before.owner)),
        None => {
            remove(&before.path)?;
            if let Some(folder) = before.path.parent() {
                // Ours, if nothing else is in it.
                fs::remove_dir(folder).ok();
            }
            Ok(())
        }
    }
}

/// Removes a file, durably; that it is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => durable::sync_dir(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn write(path: &Path, content: &str, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        durable::create_dirs(folder, FOLDER_MODE)?;
    }
    match owner {
        Some(owner) => durable::replace_owned(path, content.as_bytes(), mode, owner),
        None => durable::replace(path, content.as_bytes(), mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_comes_back_and_what_was_not_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("folder/new"));
        fs::write(&old, "before").unwrap();
        let owner = before(&old).unwrap().owner;
        let befores = [before(&old).unwrap(), before(&new).unwrap()];
        for path in [&old, &new] {
            let (content, mode) = ("after".to_owned(), 0o640);
            let path = path.clone();
            put(&PlannedFile {
                path,
                content,
                mode,
                owner,
            })
            .unwrap();
        }
        assert_eq!(fs::read_to_string(&new).unwrap(), "after");
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o7777, 0o640);
        for _ in 0..2 {
            befores.iter().for_each(|before| put_back(before).unwrap());
            assert_eq!(before(&old).unwrap(), befores[0]);
            assert!(!dir.path().join("folder").exists());
        }
    }
}
