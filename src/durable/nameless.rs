//! Files without a name: nobody opens them by one, and they are gone with the process.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Dir, Error, partial_name};

/// A file in memory, and nowhere else, swap aside.
pub fn in_memory() -> io::Result<File> {
    Ok(File::from(memfd_create("lifeboat", MFdFlags::MFD_CLOEXEC)?))
}

/// A file on the file system of `folder`, which is there already; only whoever made it can read it. A run that is killed
/// between two calls of the kernel leaves an empty file there.
pub fn in_folder(folder: &Path) -> Result<File, Error> {
    let dir = Dir::open(folder)?;
    let name = partial_name("lifeboat").map_err(super::failed("get random bytes for a file in", folder))?;
    let file = dir.create(&name)?;
    dir.remove_file(&name)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn what_is_written_is_read_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        for mut file in [in_memory().unwrap(), in_folder(folder.path()).unwrap()] {
            file.write_all(b"it").unwrap();
            file.rewind().unwrap();
            let mut read = String::new();
            file.read_to_string(&mut read).unwrap();
            assert_eq!(read, "it");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
