//! Notices that a file of the configuration changed: it watches the directories, because a file that is renamed into
//! place is another one.

use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind, event::AccessMode};
use tokio::sync::mpsc;

/// The watched directories. Dropped, they are watched no more.
pub struct Files {
    watcher: RecommendedWatcher,
    drop_ins: Option<PathBuf>,
    is_watching_drop_ins: bool,
    changed: mpsc::Receiver<()>,
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

/// Whether something was written; our own reading is an event too.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}
