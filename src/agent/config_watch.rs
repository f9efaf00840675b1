//! Notices that a file of the configuration changed: it watches the directories, because a file that is renamed into
//! place is another one.
//!
//! What lies elsewhere, behind a link, is not seen that way. So the files themselves are looked at as well, now and then,
//! by [`Files::have_changed`]: where the name leads and what is there, not what it says.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind, event::AccessMode};
use tokio::sync::mpsc;

use crate::config;

/// The watched directories. Dropped, they are watched no more.
pub struct Files {
    watcher: RecommendedWatcher,
    drop_ins: Option<PathBuf>,
    is_watching_drop_ins: bool,
    changed: mpsc::Receiver<()>,
    path: PathBuf,
    /// What the files were when they were last read.
    read: BTreeMap<PathBuf, Option<Print>>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Print {
    leads_to: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    changed_at: (i64, i64),
    written_at: (i64, i64),
}

impl Files {
    /// Watches the directory of `path` and that of its drop-ins.
    pub fn watch(path: &Path) -> Result<Files, notify::Error> {
        let (sender, changed) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
            // An error means that events were lost; a full channel has already told what this would.
            if event.map_or(true, |event| is_change(event.kind)) {
                sender.try_send(()).ok();
            }
        })?;
        let mut files = Files {
            watcher,
            drop_ins: (path.extension().is_some_and(|extension| extension == "toml")).then(|| path.with_extension("d")),
            is_watching_drop_ins: false,
            changed,
            path: path.to_owned(),
            read: BTreeMap::new(),
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        files.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        files.look_for_drop_ins();
        Ok(files)
    }

    /// Done when something changed since the last time.
    pub async fn changed(&mut self) {
        if self.changed.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the files are others than at [`Files::take_note`]; `also` is one that the configuration names.
    pub fn have_changed(&self, also: Option<&Path>) -> bool {
        prints(&self.path, also) != self.read
    }

    /// Remembers what the files are, before they are read.
    pub fn take_note(&mut self, also: Option<&Path>) {
        self.read = prints(&self.path, also);
    }

    /// Watches the directory of the drop-ins if it has come, or come again, since.
    pub fn look_for_drop_ins(&mut self) {
        let Some(drop_ins) = &self.drop_ins else { return };
        if self.is_watching_drop_ins {
            // It may be another one by now.
            self.watcher.unwatch(drop_ins).ok();
        }
        self.is_watching_drop_ins = self.watcher.watch(drop_ins, RecursiveMode::NonRecursive).is_ok();
    }
}

fn prints(path: &Path, also: Option<&Path>) -> BTreeMap<PathBuf, Option<Print>> {
    let files = config::files(path).into_iter().chain(also.map(Path::to_owned));
    files.map(|file| (file.clone(), print(&file))).collect()
}

/// None of what cannot be reached: that it cannot is told when it is read.
fn print(file: &Path) -> Option<Print> {
    let found = std::fs::metadata(file).ok()?;
    Some(Print {
        leads_to: std::fs::canonicalize(file).ok()?,
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
        changed_at: (found.ctime(), found.ctime_nsec()),
        written_at: (found.mtime(), found.mtime_nsec()),
    })
}

/// Whether something was written; our own reading is an event too.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test stands for a program of somebody else"
    )]
    fn a_link_that_leads_elsewhere_is_a_change_and_reading_is_none() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for version in ["1", "2"] {
            fs::create_dir(there.path().join(version)).unwrap();
            fs::write(there.path().join(version).join("config.toml"), "same").unwrap();
        }
        let swap = |version: &str| {
            symlink(version, there.path().join("new")).unwrap();
            fs::rename(there.path().join("new"), there.path().join("data")).unwrap();
        };
        swap("1");
        let path = here.path().join("config.toml");
        symlink(there.path().join("data/config.toml"), &path).unwrap();
        let mut files = Files::watch(&path).unwrap();
        assert!(files.have_changed(None), "nothing was read yet");
        files.take_note(None);
        fs::read(&path).unwrap();
        assert!(!files.have_changed(None));
        swap("2");
        assert!(files.have_changed(None));
        files.take_note(None);
        let recipients = there.path().join("recipients");
        assert!(files.have_changed(Some(&recipients)), "another file was named");
        files.take_note(Some(&recipients));
        fs::write(&recipients, "age1").unwrap();
        assert!(files.have_changed(Some(&recipients)));
        files.take_note(Some(&recipients));
        fs::create_dir(here.path().join("config.d")).unwrap();
        assert!(!files.have_changed(Some(&recipients)));
        fs::write(here.path().join("config.d/10-a.toml"), "").unwrap();
        assert!(files.have_changed(Some(&recipients)));
    }
}
