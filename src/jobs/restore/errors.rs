//! What is said of errors of a restore and of the way back, with the exit code and the next step.

use std::path::Path;

use crate::datadir;
use crate::error_chain::with_causes;
use crate::jobs::{Exit, Failure};
use crate::restore::{
    Error, ExchangeDirError, Guarded, LedgerError, LedgerPaths, RestoreId, SiteError, Step, open_ledger,
};

/// A failure of a restore or of the way back.
pub fn failure(error: Error) -> Failure {
    let text = with_causes(&error);
    let failed = |exit| Failure::new(exit, &text);
    match &error {
        Error::Open { .. } => failed(Exit::Refused)
            .next("finish it with `lifeboat restore --wait`, or put everything back with `lifeboat rollback`"),
        Error::NoRestore => failed(Exit::NotFound),
        Error::Released { .. } | Error::NothingBefore { .. } => {
            failed(Exit::Refused).next("restore a backup instead: `lifeboat list`")
        }
        Error::Releasing { .. } => failed(Exit::Refused)
            .next("finish that with `lifeboat release`; what etcd uses now stays. Another backup can be restored: `lifeboat list`"),
        Error::NotKept {
            source: ExchangeDirError::Foreign { path, .. },
            ..
        } => failed(Exit::Refused).next(format!("{}; then, run it again", take_over(path))),
        Error::NotKept {
            source: ExchangeDirError::Missing { .. },
            ..
        } => failed(Exit::Refused).next("when it is mounted, run it again"),
        Error::NotKept {
            source: ExchangeDirError::Incomplete { .. },
            ..
        } => failed(Exit::Refused).next(
            "etcd goes on as it is; bring back what is missing, as it was, and run it again, or restore a backup instead: \
             `lifeboat list`",
        ),
        Error::NotKept { .. } => failed(Exit::Refused).next(
            "bring the old data back to where it was kept, or restore a backup instead: `lifeboat list`. What was copied there \
             is not known to be it: to use that all the same, stop etcd, put it in the place of `member`, take away the \
             drop-in 50-lifeboat.conf of etcd's unit and start etcd",
        ),
        Error::Ledger(LedgerError::Locked) => failed(Exit::Locked).next("wait until it is done"),
        Error::Ledger(LedgerError::Corrupt { .. }) => failed(Exit::Damaged).next(format!(
            "see what is in the file, and meanwhile {}. To begin anew, move it away and restore a backup",
            held(&LedgerPaths::default())
        )),
        // What systemd refuses it refuses again: whoever goes on by himself need not try.
        Error::Units { unit, source, .. } if source.is_refusal() => failed(Exit::Refused).next(go_on(&format!(
            "see `systemctl status {unit}`, and mend that (such as with `systemctl unmask {unit}`); then"
        ))),
        Error::Ledger(_) | Error::Files(_) | Error::Units { .. } | Error::Look(_) | Error::Stopped { .. } => {
            failed(Exit::Failed).next(go_on("when the cause is gone"))
        }
        Error::Port(_) | Error::Ask(_) => failed(Exit::Failed).next(go_on("when that is mended")),
        Error::Lives { .. } => failed(Exit::Refused),
        Error::Found(_) | Error::Founders(_) => failed(Exit::Failed).next(go_on("when the cause is gone")),
        Error::NotGuarded {
            unit,
            why: Guarded::Overruled,
            ..
        } => failed(Exit::Failed).next(go_on(&format!(
            "take `ConditionPathExists=` out of that drop-in (`systemctl cat {unit}` shows it), run `systemctl daemon-reload`; \
             then"
        ))),
        Error::NotGuarded { .. } => failed(Exit::Failed).next(go_on(
            "see with `systemctl cat` whether the unit is masked or is another one under that name; then",
        )),
        Error::Mounted { path } => failed(Exit::Refused).next(go_on(&elsewhere(path))),
        Error::Held { .. } => failed(Exit::Refused).next(go_on("stop that process; then")),
        Error::ExchangeDir(ExchangeDirError::Missing { .. }) => failed(Exit::Failed).next(or_begin_anew(&go_on("when it is mounted"))),
        Error::ExchangeDir(ExchangeDirError::Foreign { path, .. }) => failed(Exit::Failed).next(go_on(&format!("{}; then", take_over(path)))),
        Error::ExchangeDir(ExchangeDirError::NotOurs { .. }) => {
            failed(Exit::Failed).next(go_on("nothing in it was deleted; when that is mended"))
        }
        Error::ExchangeDir(ExchangeDirError::Files(_)) => failed(Exit::Failed).next(go_on("when that is mended")),
        Error::ExchangeDir(ExchangeDirError::Gone { .. } | ExchangeDirError::Incomplete { .. } | ExchangeDirError::Strange { .. }) => {
            let once = "nothing was deleted; when what was there before is in its place again";
            failed(Exit::Refused).next(or_begin_anew(&go_on(once)))
        }
    }
}

/// Why nothing is restored on this host as it is.
pub fn refused_here(error: SiteError) -> Failure {
    let text = with_causes(&error);
    let refused = |exit| Failure::new(exit, &text);
    match error {
        SiteError::LogInside(_) => refused(Exit::Refused).next(
            "a restore exchanges the data directory's `member` and the log each as a whole: stop etcd, move its log to a \
             directory beside `member` or elsewhere, give it that as its `--wal-dir`, start it, and run this again",
        ),
        SiteError::Foreign(link) => refused(Exit::Refused).next(take_over(&link.path)),
        SiteError::Mounted { path } => failure(Error::Mounted { path }),
        SiteError::NotLoaded { unit, .. } => {
            refused(Exit::Failed).next(format!("see `systemctl status {unit}`, and mend it"))
        }
        SiteError::OtherWay { .. } => {
            refused(Exit::Refused).next("remove that setting, run `systemctl daemon-reload`, and run this again")
        }
        SiteError::Settings(error) => refused(Exit::Failed).next(error.next_step()),
        SiteError::HeldByOther { .. } => refused(Exit::Refused).next("stop it, then run this again"),
        SiteError::TooLittleSpace { .. } => {
            refused(Exit::Failed).next("make room; the data of earlier restores is given up with `lifeboat release`")
        }
        SiteError::Owner(_)
        | SiteError::UnknownUser { .. }
        | SiteError::Log(_)
        | SiteError::Files(_)
        | SiteError::Look(_)
        | SiteError::Members(_) => refused(Exit::Failed),
    }
}

/// What to do about a mount in what is exchanged.
fn elsewhere(mount: &Path) -> String {
    match mount.ends_with(datadir::WAL_DIR) {
        true => "stop etcd, mount that file system elsewhere (in /etc/fstab too) with the log that is in it, and give etcd that place as \
                 its `--wal-dir`; then"
            .to_owned(),
        false => "stop etcd, and mount that file system elsewhere (in /etc/fstab too): what etcd has in `member` and in the \
                  directory of its log is to be in one file system each; then"
            .to_owned(),
    }
}

/// The way out where what is missing never comes.
fn or_begin_anew(next: &str) -> String {
    format!(
        "{next}. If what was there is gone for good, move {} away and restore a backup",
        LedgerPaths::default().ledger().display()
    )
}

/// What makes a link of somebody else one that root may follow.
fn take_over(link: &Path) -> String {
    let path = link.display();
    format!("see where it leads (`readlink -f {path}`); if that is meant, take it over with `chown -h root: {path}`")
}

/// What to do after an error, once something is done about it.
fn go_on(once: &str) -> String {
    let ledger_paths = LedgerPaths::default();
    let open = open_ledger(&ledger_paths).ok().flatten();
    let open = open.as_ref().map(|open| (open.id(), open.step));
    after(once, open, held(&ledger_paths))
}

/// The same where a restore is open, at a step, or none is.
fn after(once: &str, open: Option<(&RestoreId, Step)>, held: &str) -> String {
    match open {
        None => format!("{once}, run it again"),
        Some((_, Step::Build)) => format!("{once}, run it again: nothing was changed"),
        Some((id, step)) => {
            let ways = match step.is_back() {
                true => "go on with the way back by `lifeboat rollback`",
                false => "go on with `lifeboat restore --wait`, or go back with `lifeboat rollback`",
            };
            format!("{once}, {ways}: restore {id} is open, and {held}")
        }
    }
}

/// Whether etcd may start now.
fn held(ledger_paths: &LedgerPaths) -> &'static str {
    match ledger_paths.lock().exists() {
        true => "etcd is kept from starting",
        false => "etcd may run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_what_is_missing_never_comes_there_is_a_way_out() {
        let path = || "/var/lib/etcd".to_owned();
        let id: RestoreId = "20261120T101530Z-9f3c4a1b".parse().unwrap();
        let errors = [
            ExchangeDirError::Missing { path: path() },
            ExchangeDirError::Strange { path: path(), id },
        ];
        for error in errors {
            let failure = failure(Error::ExchangeDir(error));
            let next = failure.to_string();
            assert!(
                next.contains("move /var/lib/lifeboat-restore/ledger.json away"),
                "{next}"
            );
        }
    }

    #[test]
    fn a_link_of_somebody_else_is_to_be_taken_over_whether_a_restore_is_open_or_not() {
        let foreign = || ExchangeDirError::Foreign {
            path: "/var/lib/etcd".into(),
            owner: 998,
        };
        let id: RestoreId = "20261120T101530Z-9f3c4a1b".parse().unwrap();
        let source = foreign();
        for error in [Error::ExchangeDir(foreign()), Error::NotKept { id, source }] {
            let failure = failure(error);
            let next = failure.to_string();
            assert!(next.contains("`chown -h root: /var/lib/etcd`"), "{next}");
            assert!(!next.contains("bring the old data back"), "{next}");
        }
    }

    #[test]
    fn what_is_open_and_what_goes_on_with_it_is_said_as_it_is() {
        let id: RestoreId = "20261120T101530Z-9f3c4a1b".parse().unwrap();
        let at = |step| after("when the cause is gone", Some((&id, step)), "etcd may run");
        assert_eq!(
            at(Step::Serve),
            "when the cause is gone, go on with `lifeboat restore --wait`, or go back with `lifeboat rollback`: restore \
             20261120T101530Z-9f3c4a1b is open, and etcd may run"
        );
        assert!(!at(Step::BackSwap).contains("--wait") && at(Step::BackSwap).contains("rollback"));
        assert!(at(Step::Build).ends_with("nothing was changed"));
        assert_eq!(after("then", None, "etcd may run"), "then, run it again");
    }
}
