//! What is said of errors of a restore and of the way back, with the exit code and the next step.

use super::super::{Exit, Failure};
use crate::model::with_causes;
use crate::restore::{Error, LedgerError, RestoreId, Spots, Step, YardError, open_ledger};

/// A failure of a restore or of the way back.
pub(in crate::cli) fn failure(error: Error) -> Failure {
    let text = with_causes(&error);
    let failed = |exit| Failure::new(exit, &text);
    match &error {
        Error::Open { .. } => failed(Exit::Refused)
            .next("finish it with `lifeboat restore --wait`, or put everything back with `lifeboat rollback`"),
        Error::NoRestore => failed(Exit::NotFound),
        Error::Released { .. } | Error::NothingBefore { .. } => {
            failed(Exit::Refused).next("restore a backup instead: `lifeboat list`")
        }
        Error::NotKept { .. } => failed(Exit::Refused).next(
            "bring the old data back to where it was kept, or restore a backup instead: `lifeboat list`. What was copied there \
             is not known to be it: to use that all the same, stop etcd, put it in the place of `member`, take away the \
             drop-in 50-lifeboat.conf of etcd's unit and start etcd",
        ),
        Error::Ledger(LedgerError::Locked) => failed(Exit::Locked).next("wait until it is done"),
        Error::Ledger(LedgerError::Corrupt { .. }) => failed(Exit::Damaged).next(format!(
            "see what is in the file, and meanwhile {}. To begin anew, move it away and restore a backup",
            held(&Spots::default())
        )),
        Error::Ledger(_) | Error::Files(_) | Error::Units { .. } | Error::Look(_) | Error::Stopped { .. } => {
            failed(Exit::Failed).next(go_on("when the cause is gone"))
        }
        Error::NotGuarded { .. } => failed(Exit::Failed).next(go_on(
            "see with `systemctl cat` whether the unit is masked or is another one under that name; then",
        )),
        Error::Held { .. } => failed(Exit::Refused).next(go_on("stop that process; then")),
        Error::Yard(YardError::Missing { .. }) => failed(Exit::Failed).next(go_on("when it is mounted")),
        Error::Yard(YardError::NotOurs { .. } | YardError::Files(_)) => {
            failed(Exit::Failed).next(go_on("nothing in it was deleted; when that is mended"))
        }
        Error::Yard(YardError::Gone { .. } | YardError::Strange { .. }) => failed(Exit::Refused).next(format!(
            "{}. If what was there is gone for good, move {} away and restore a backup",
            go_on("nothing was deleted; when what was there before is in its place again"),
            Spots::default().ledger().display()
        )),
    }
}

/// What to do after an error, once something is done about it.
fn go_on(once: &str) -> String {
    let spots = Spots::default();
    let open = open_ledger(&spots).ok().flatten();
    let open = open.as_ref().map(|open| (open.id(), open.step));
    after(once, open, held(&spots))
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
fn held(spots: &Spots) -> &'static str {
    match spots.lock().exists() {
        true => "etcd is kept from starting",
        false => "etcd may run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_and_what_goes_on_with_it_is_said_as_it_is() {
        let id: RestoreId = "20261120T101530Z-9f3c4a1b".parse().unwrap();
        let at = |step| after("when the cause is gone", Some((&id, step)), "etcd may run");
        assert_eq!(
            at(Step::Serve),
            "when the cause is gone, go on with `lifeboat restore --wait`, or go back with `lifeboat rollback`: restore \
             20261120T101530Z-9f3c4a1b is open, and etcd may run"
        );
        assert!(!at(Step::Return).contains("--wait") && at(Step::Return).contains("rollback"));
        assert!(at(Step::Build).ends_with("nothing was changed"));
        assert_eq!(after("then", None, "etcd may run"), "then, run it again");
    }
}
