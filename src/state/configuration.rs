//! The last good configuration of a file, which an agent goes on with while that one is refused: `_configurations`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};
use sha2::{Digest as _, Sha256};

use super::{Error, FOLDER_MODE, failed, read_bounded};
use crate::durable;
use crate::model::Digest;

/// No cluster is called so: their names begin with a letter or a digit.
const CONFIGURATIONS: &str = "_configurations";
/// A configuration may be closed to others, and so is what is kept of it.
const CONFIGURATION_MODE: u32 = 0o600;
const CONFIGURATION_MAX: u64 = 64 << 20;

/// Keeps `record` of the configuration at `path` in `base`, if it differs from what is kept. Makes no base folder, and
/// leaves that of another user alone: what is made there now would be in its way later.
pub fn remember_configuration(base: &Path, path: &Path, record: &[u8]) -> Result<(), Error> {
    let is_own = |found: fs::Metadata| found.is_dir() && Uid::from_raw(found.uid()) == geteuid();
    if !fs::metadata(base).is_ok_and(is_own) || remembered_configuration(base, path)?.as_deref() == Some(record) {
        return Ok(());
    }
    durable::create_dirs(&base.join(CONFIGURATIONS), FOLDER_MODE)?;
    Ok(durable::replace(
        &configuration_path(base, path)?,
        record,
        CONFIGURATION_MODE,
    )?)
}

/// What is kept in `base` of the configuration at `path`.
pub fn remembered_configuration(base: &Path, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    read_bounded(&configuration_path(base, path)?, CONFIGURATION_MAX)
}

fn configuration_path(base: &Path, path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(failed("find", path))?;
    let digest = Digest(Sha256::digest(absolute.as_os_str().as_encoded_bytes()).into());
    Ok(base.join(CONFIGURATIONS).join(format!("{digest}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_remembered_by_its_path_where_the_memory_is_ours() {
        let base = tempfile::tempdir().unwrap();
        let (a, b) = (Path::new("/etc/lifeboat/config.toml"), Path::new("/a/config.toml"));
        assert_eq!(remembered_configuration(base.path(), a).unwrap(), None);
        remember_configuration(base.path(), a, b"one").unwrap();
        remember_configuration(base.path(), a, b"two").unwrap();
        remember_configuration(base.path(), b, b"three").unwrap();
        assert_eq!(remembered_configuration(base.path(), a).unwrap().unwrap(), b"two");
        assert_eq!(remembered_configuration(base.path(), b).unwrap().unwrap(), b"three");
        let path = configuration_path(base.path(), a).unwrap();
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o600);

        let missing = base.path().join("missing");
        remember_configuration(&missing, a, b"one").unwrap();
        assert!(!missing.exists(), "no base folder is made for it");
    }
}
