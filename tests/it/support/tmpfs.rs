//! A file system of its own, to be full or read-only. Needs root.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::tools;

/// A mounted tmpfs. Dropped, it is unmounted; should this process be killed, a shell that waits for its end does it.
pub struct Tmpfs {
    dir: PathBuf,
    watchdog: Child,
}

impl Tmpfs {
    /// Mounts one of a size in MiB on a directory that is there, or says that the test is skipped and gives `None`.
    pub fn mount(dir: &Path, mebibytes: u32) -> Option<Tmpfs> {
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Tmpfs {
                dir: dir.to_owned(),
                // Lazily: whatever still runs in it keeps it until it ends.
                watchdog: Command::new("sh")
                    .args(["-c", "read -r never; umount -l \"$0\""])
                    .arg(dir)
                    .stdin(Stdio::piped())
                    .spawn()
                    .expect("there is a shell"),
            }),
            _ => {
                tools::skip("right to mount", "a file system of a given size needs root");
                None
            }
        }
    }

    /// Makes it read-only.
    pub fn make_read_only(&self) {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.dir).status();
        assert!(
            remounted.is_ok_and(|status| status.success()),
            "our own mount can be changed"
        );
    }

    /// Fills it to the last byte, also what has become free since it was full; gives the file that does.
    pub fn fill(&self) -> PathBuf {
        let path = self.dir.join("filler");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.expect("there is room for a name");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().ok();
    }
}

/// A folder that is mounted in another place as well. Dropped, it is unmounted there.
pub struct Bound<'a> {
    _what: &'a Tmpfs,
    from: PathBuf,
    to: PathBuf,
    watchdog: Child,
}

impl Tmpfs {
    /// Mounts it on `to` as well.
    pub fn bind(&self, to: &Path) -> Bound<'_> {
        let bound = Bound {
            _what: self,
            from: self.dir.clone(),
            to: to.to_owned(),
            watchdog: Command::new("sh")
                .args(["-c", "read -r never; umount -l \"$0\" 2>/dev/null"])
                .arg(to)
                .stdin(Stdio::piped())
                .spawn()
                .expect("there is a shell"),
        };
        bound.mount();
        bound
    }
}

impl Bound<'_> {
    /// Mounts it again.
    pub fn mount(&self) {
        let bound = Command::new("mount")
            .arg("--bind")
            .args([&self.from, &self.to])
            .status();
        assert!(
            bound.is_ok_and(|status| status.success()),
            "what is mounted can be bound"
        );
    }

    /// Unmounts it.
    pub fn unmount(&self) {
        let gone = Command::new("umount").arg(&self.to).status();
        assert!(gone.is_ok_and(|status| status.success()), "nobody is in it");
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().ok();
    }
}
