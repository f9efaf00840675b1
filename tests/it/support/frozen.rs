//! A file system whose writes hang in the kernel as on a stalled disk: no signal ends them. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;

/// A file system of its own in a file. Dropped, it goes on and is unmounted.
pub struct Frozen {
    mount: PathBuf,
}

impl Frozen {
    /// Mounts one on a directory that is there, or says that the test is skipped and gives `None`.
    pub fn mount(dir: &Path) -> Option<Frozen> {
        let image = dir.with_extension("img");
        let file = fs::File::create(&image).expect("the test's directory can be written");
        file.set_len(200 << 20).expect("a sparse file can be made");
        let mount = dir.to_owned();
        let done = run("mkfs.ext4", &["-q".as_ref(), image.as_ref()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), dir.as_ref()]);
        match done {
            true => Some(Frozen { mount }),
            false => {
                tools::skip(
                    "right to mount",
                    "a file system that can be frozen needs root, mkfs.ext4 and loop devices",
                );
                None
            }
        }
    }

    /// From now on who writes hangs.
    pub fn freeze(&self) {
        assert!(run("fsfreeze", &["-f".as_ref(), self.mount.as_ref()]));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        run("fsfreeze", &["-u".as_ref(), self.mount.as_ref()]);
        run("umount", &["-l".as_ref(), self.mount.as_ref()]);
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let ended = Command::new(program).args(arguments).output();
    ended.is_ok_and(|ended| ended.status.success())
}
