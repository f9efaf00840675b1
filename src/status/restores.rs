//! What restores have left on this host: one that is open, data that is kept, settings that stay.
//!
//! The ledgers are root's. Others learn from the notice that a restore is open, and no more.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::durable;
use crate::error_chain::with_causes;
use crate::etcd_settings::{Change, Overlay};
use crate::jobs::restore::SettingsNow;
use crate::model::ByteSize;
use crate::restore::{
    End, Kept, Ledger, LedgerError, LedgerPaths, Plan, Seen, Step, closed, kept_folders, open_ledger,
};
use crate::text::{age, rfc3339};

/// What there is, as programs see it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Restores {
    /// The restore that is open, as far as this user sees it.
    open: Option<Open>,
    /// Data that `release` gives up.
    kept: Vec<KeptRow>,
    /// Files with settings of the restored cluster, which etcd is started with.
    settings: Vec<PathBuf>,
    /// What the operator should change in his own settings since the last restore.
    settings_to_change: Vec<Change>,
    /// Flags of etcd's command beside the variables of those files: etcd does not start with both.
    flags_in_conflict: Vec<String>,
    /// How the other members are, while they meet.
    members: Vec<Seen>,
    /// What of this could not be read.
    unread: Option<Unread>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Open {
    Read {
        id: String,
        backup: String,
        since: String,
        age: String,
        step: Step,
        reason: Option<String>,
    },
    Noticed {
        id: String,
    },
}

#[derive(Debug, PartialEq, Serialize)]
struct KeptRow {
    id: String,
    backup: String,
    since: String,
    age: String,
    end: Option<End>,
    /// A `release` of it has begun and not ended: nothing of it comes back.
    is_being_released: bool,
    paths: Vec<PathBuf>,
    bytes: u64,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unread {
    /// The ledgers are root's, and this is not root.
    ForRoot(PathBuf),
    /// What is wrong with them.
    Failed(String),
}

impl Restores {
    /// Reads what this user may.
    ///
    /// `settings_now` looks at the settings as they are beside what a plan made of the cluster.
    pub fn find(ledger_paths: &LedgerPaths, now: Timestamp, settings_now: &dyn Fn(&Plan) -> SettingsNow) -> Restores {
        let read = || -> Result<Restores, LedgerError> {
            let open = open_ledger(ledger_paths)?.map(|ledger| Open::of(&ledger, now));
            let open = open.or_else(|| Open::noticed(ledger_paths));
            let ledgers = closed(ledger_paths)?;
            let kept = ledgers.iter().filter(|ledger| ledger.kept != Kept::Released);
            let rows = kept.map(|ledger| KeptRow::of(ledger, now));
            let settings = settings(&ledgers);
            let now = match (restored(&ledgers).last(), ledgers.last()) {
                (Some(last), _) => settings_now(&last.plan),
                // One that was taken back leaves a variable, too.
                (None, Some(last)) if !settings.is_empty() => SettingsNow {
                    to_change: Vec::new(),
                    ..settings_now(&last.plan)
                },
                (None, _) => SettingsNow::default(),
            };
            Ok(Restores {
                open,
                kept: rows
                    .filter(|row| row.is_being_released || !row.paths.is_empty())
                    .collect(),
                settings,
                settings_to_change: now.to_change,
                flags_in_conflict: now.in_conflict,
                members: ledger_paths.seen(),
                unread: None,
            })
        };
        read().unwrap_or_else(|error| Restores {
            open: Open::noticed(ledger_paths),
            members: ledger_paths.seen(),
            unread: Some(match is_denied(&error) {
                true => Unread::ForRoot(ledger_paths.folder.clone()),
                false => Unread::Failed(with_causes(&error)),
            }),
            ..Restores::default()
        })
    }

    /// What is wrong: a restore that has begun to change what etcd uses and has not ended, a ledger that is damaged, or flags
    /// beside variables that a restore has laid on.
    pub fn problem(&self) -> Option<String> {
        if let Some(Unread::Failed(error)) = &self.unread {
            return Some(format!("what restores have done on this host cannot be read: {error}"));
        }
        if self.open.is_none() && !self.flags_in_conflict.is_empty() {
            let files: Vec<String> = self.settings.iter().map(|path| path.display().to_string()).collect();
            return Some(format!(
                "etcd will not start again: its command has {} beside variables of the same names that the last restore has set \
                 in {}; remove those files and run `systemctl daemon-reload`, or take the flags out",
                self.flags_in_conflict.join(" "),
                files.join(", ")
            ));
        }
        match self.open.as_ref()? {
            Open::Noticed { id } => Some(format!(
                "restore {id} is open on this host: as root, `lifeboat status` says how far it is, and \
                 `lifeboat restore --wait` finishes it"
            )),
            Open::Read { step: Step::Build, .. } => None,
            open @ Open::Read { step, reason, .. } if step.is_back() => {
                let because = reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
                let at = step.words();
                Some(format!(
                    "{open} is being taken back{because}, now: {at}; finish that with `lifeboat rollback`"
                ))
            }
            open @ Open::Read { step, .. } => Some(format!(
                "{open} is open, now: {}; finish it with `lifeboat restore --wait`, or put everything back with \
                 `lifeboat rollback`",
                step.words()
            )),
        }
    }

    /// What is good to know.
    pub fn notes(&self) -> Vec<String> {
        let builds = self.open.iter().filter_map(|open| match open {
            Open::Read { step: Step::Build, .. } => Some(format!("{open} makes its data, and has changed nothing yet")),
            Open::Read { .. } | Open::Noticed { .. } => None,
        });
        let members = self
            .members
            .iter()
            .map(|seen| format!("{}, since {}", seen.words, rfc3339(seen.since)));
        builds
            .chain(members)
            .chain(self.kept.iter().map(KeptRow::note))
            .chain(self.told_to_change())
            .collect()
    }

    /// What the operator should change in his own settings.
    fn told_to_change(&self) -> Option<String> {
        let changes: Vec<String> = self.settings_to_change.iter().map(ToString::to_string).collect();
        (!changes.is_empty()).then(|| {
            format!(
                "etcd's own settings are not yet those of the restored cluster, which counts should its data directory ever be \
                 empty; change {}",
                changes.join("; ")
            )
        })
    }

    /// What else there is to see, in a sentence.
    pub fn rest(&self) -> Option<String> {
        match (&self.unread, &self.open) {
            (Some(Unread::ForRoot(folder)), None) => Some(format!(
                "none is open; whether one has left something in {} is for root to see: `sudo lifeboat status`",
                folder.display()
            )),
            _ if self.settings.is_empty() => None,
            _ => {
                let paths: Vec<String> = self.settings.iter().map(|path| path.display().to_string()).collect();
                Some(format!(
                    "etcd is started with what the last one has set in {}",
                    paths.join(", ")
                ))
            }
        }
    }
}

impl Open {
    fn of(ledger: &Ledger, now: Timestamp) -> Open {
        Open::Read {
            id: ledger.id().to_string(),
            backup: ledger.plan.cluster.backup.name.clone(),
            since: rfc3339(ledger.opened_at),
            age: age(ledger.opened_at, now),
            step: ledger.step,
            reason: ledger.reason.clone(),
        }
    }

    fn noticed(ledger_paths: &LedgerPaths) -> Option<Open> {
        let id = ledger_paths.noticed()?;
        Some(Open::Noticed { id })
    }
}

impl std::fmt::Display for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Open::Read {
                id, backup, since, age, ..
            } => write!(f, "restore {id} of {backup}, begun {since} ({age} ago),"),
            Open::Noticed { id } => write!(f, "restore {id}"),
        }
    }
}

impl KeptRow {
    fn of(ledger: &Ledger, now: Timestamp) -> KeptRow {
        let (paths, bytes) = kept_folders(ledger);
        let since = ledger.end.map_or(ledger.opened_at, |(_, at)| at);
        KeptRow {
            id: ledger.id().to_string(),
            backup: ledger.plan.cluster.backup.name.clone(),
            since: rfc3339(since),
            age: age(since, now),
            end: ledger.end.map(|(end, _)| end),
            is_being_released: ledger.kept == Kept::Releasing,
            paths,
            bytes,
        }
    }

    fn note(&self) -> String {
        let what = match self.end {
            Some(End::Undone) => "what was set aside when",
            Some(End::Restored) | None => "the data from before",
        };
        let then = match self.end {
            Some(End::Undone) => " was taken back",
            Some(End::Restored) | None => "",
        };
        let (id, backup, size) = (&self.id, &self.backup, ByteSize(self.bytes));
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        if self.is_being_released {
            let left = match paths.is_empty() {
                true => String::new(),
                false => format!("; {size} are left in {}", paths.join(", ")),
            };
            return format!(
                "the release of restore {id} of {backup} was begun and has not ended: nothing of it comes back{left}; \
                 `lifeboat release` finishes it"
            );
        }
        format!(
            "{what} restore {id} of {backup}{then} is kept since {} ({} ago), {size} in {}: `lifeboat release` gives it up",
            self.since,
            self.age,
            paths.join(", ")
        )
    }
}

/// The restores that ended well and were not taken back.
fn restored(ledgers: &[Ledger]) -> impl Iterator<Item = &Ledger> {
    ledgers
        .iter()
        .filter(|ledger| ledger.end.is_some_and(|(end, _)| end == End::Restored))
}

/// The files of restores that are in force.
fn settings(ledgers: &[Ledger]) -> Vec<PathBuf> {
    let paths = ledgers.iter().flat_map(|ledger| match ledger.end {
        Some((End::Restored, _)) => ledger.plan.files_of_settings().map(Path::to_owned).collect::<Vec<_>>(),
        // Of one that was taken back, what keeps an empty directory from beginning a cluster.
        Some((End::Undone, _)) => {
            let laid = ledger.plan.host.overlay.iter().flat_map(Overlay::paths);
            laid.map(Path::to_owned).collect()
        }
        None => Vec::new(),
    });
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.exists()).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn is_denied(error: &LedgerError) -> bool {
    match error {
        LedgerError::Files(durable::Error::Io { source, .. }) => source.kind() == io::ErrorKind::PermissionDenied,
        LedgerError::Files(durable::Error::Exists { .. }) | LedgerError::Locked | LedgerError::Corrupt { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(step: Step) -> Restores {
        let open = Open::Read {
            id: "20261120T101530Z-9f3c4a1b".to_owned(),
            backup: "backup 20261119T101530Z-00000001".to_owned(),
            since: "2026-11-20T10:15:30Z".to_owned(),
            age: "5 min".to_owned(),
            step,
            reason: step.is_back().then(|| "etcd.service failed".to_owned()),
        };
        Restores {
            open: Some(open),
            ..Restores::default()
        }
    }

    #[test]
    fn a_restore_that_is_open_is_wrong_once_it_changes_what_etcd_uses() {
        assert_eq!(open(Step::Build).problem(), None);
        assert!(open(Step::Build).notes()[0].contains("changed nothing yet"));
        for step in Step::ALL.into_iter().filter(|step| *step != Step::Build) {
            let problem = open(step).problem().unwrap();
            for part in ["9f3c4a1b of backup 2026", "begun 2026-11-20T10:15:30Z", step.words()] {
                assert!(problem.contains(part), "no `{part}` in {problem}");
            }
            assert_eq!(problem.contains("etcd.service failed"), step.is_back(), "{problem}");
            assert_eq!(
                problem.contains("`lifeboat restore --wait`"),
                !step.is_back(),
                "{problem}"
            );
            assert!(problem.contains("`lifeboat rollback`"), "{problem}");
        }
    }

    #[test]
    fn who_may_not_read_the_ledgers_learns_what_matters() {
        let unread = |open| Restores {
            open,
            unread: Some(Unread::ForRoot("/var/lib/lifeboat-restore".into())),
            ..Restores::default()
        };
        assert_eq!(unread(None).problem(), None);
        let rest = unread(None).rest().unwrap();
        assert!(rest.contains("for root") && rest.contains("none is open"), "{rest}");
        let noticed = unread(Some(Open::Noticed { id: "X".to_owned() }));
        assert!(noticed.problem().unwrap().contains("restore X is open"));
        assert_eq!(noticed.rest(), None, "that is said already");
    }

    #[test]
    fn a_ledger_that_is_damaged_is_wrong_and_none_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ledger_paths = LedgerPaths {
            folder: dir.path().join("restore"),
            notice: dir.path().join("open"),
        };
        let find = || Restores::find(&ledger_paths, Timestamp::UNIX_EPOCH, &|_| SettingsNow::default());
        assert_eq!(find(), Restores::default());
        fs::write(&ledger_paths.notice, "20261120T101530Z-9f3c4a1b\n").unwrap();
        assert!(
            find().problem().unwrap().contains("9f3c4a1b is open"),
            "left by a run that died"
        );
        fs::remove_file(&ledger_paths.notice).unwrap();
        fs::create_dir(&ledger_paths.folder).unwrap();
        fs::write(ledger_paths.folder.join("ledger.json"), "{").unwrap();
        let problem = find().problem().unwrap();
        assert!(problem.contains("ledger.json"), "{problem}");
    }

    #[test]
    fn flags_beside_variables_that_a_restore_has_set_are_wrong() {
        let restores = Restores {
            settings: vec!["/etc/lifeboat/restore/etcd.service.env".into()],
            flags_in_conflict: vec!["--initial-cluster".to_owned(), "--initial-cluster-state".to_owned()],
            ..Restores::default()
        };
        let problem = restores.problem().unwrap();
        for part in [
            "will not start again",
            "--initial-cluster --initial-cluster-state",
            "etcd.service.env",
            "systemctl daemon-reload",
        ] {
            assert!(problem.contains(part), "no `{part}` in {problem}");
        }
    }

    #[test]
    fn what_is_kept_is_told_with_its_size_and_how_it_is_given_up() {
        let kept = |end| KeptRow {
            id: "R".to_owned(),
            backup: "backup B".to_owned(),
            since: "2026-11-20T10:15:30Z".to_owned(),
            age: "5 min".to_owned(),
            end: Some(end),
            is_being_released: false,
            paths: vec!["/data/.lifeboat/kept-R".into()],
            bytes: 3 << 20,
        };
        let note = kept(End::Restored).note();
        for part in [
            "data from before restore R",
            "3.00 MiB in /data/.lifeboat/kept-R",
            "`lifeboat release`",
        ] {
            assert!(note.contains(part), "no `{part}` in {note}");
        }
        assert!(kept(End::Undone).note().contains("set aside"));
        let begun = |paths| KeptRow {
            is_being_released: true,
            paths,
            ..kept(End::Restored)
        };
        let note = begun(vec!["/data/.lifeboat/gone-R".into()]).note();
        for part in [
            "has not ended",
            "nothing of it comes back",
            "left in /data",
            "`lifeboat release` finishes",
        ] {
            assert!(note.contains(part), "no `{part}` in {note}");
        }
        assert!(!begun(Vec::new()).note().contains("left in"));
    }
}
