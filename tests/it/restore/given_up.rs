//! Old data that is given up: cut off at any step, and with files that cannot be removed.

use std::process::Command;

use super::*;
use crate::support::tools::skip;

/// Whether a file can be made one that nobody removes; says that the test is skipped where not.
fn immutable(path: &Path, is_so: bool) -> bool {
    let change = Command::new("chattr")
        .arg(if is_so { "+i" } else { "-i" })
        .arg(path)
        .output();
    change.is_ok_and(|done| done.status.success())
}

/// What `release` has begun is never brought back, and no obstacle to anything else.
#[track_caller]
fn assert_given_up(bench: &Bench, number: u32, when: &str) {
    let calls = bench.units.calls.borrow().len();
    let refused = bench.roll_back();
    assert!(matches!(&refused, Err(Error::Releasing { .. })), "{when}: {refused:?}");
    assert_eq!(bench.units.calls.borrow().len(), calls, "{when}: etcd was not touched");
    assert!(!bench.is_old() && !bench.ledger_paths.is_open(), "{when}");
    // Another restore goes its own way.
    bench.restore(number, &go_on).expect("it comes to its end");
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })), "{when}");
    bench.wait_until_served();
    let left = releasable(&bench.ledger_paths).expect("none is open").ledgers;
    assert!(left.iter().any(|ledger| ledger.kept == Kept::Releasing), "{when}");
    for ledger in &left {
        release(&bench.ledger_store(), ledger.id(), &bench.units, &to_the_end).expect("it can be finished");
    }
    assert!(!bench.data_dir().join(".lifeboat").exists(), "{when}: nothing is left");
    assert!(
        releasable(&bench.ledger_paths)
            .expect("none is open")
            .ledgers
            .is_empty(),
        "{when}"
    );
    assert!(matches!(bench.roll_back(), Err(Error::Released { .. })), "{when}");
    assert!(bench.units.runs(), "{when}");
}

#[test]
fn a_release_that_is_cut_off_at_any_step_is_finished_by_the_next_and_never_taken_back() {
    let Some(bench) = Bench::running(1) else { return };
    let mut number = 0;
    for at in GiveUp::ALL {
        number += 2;
        bench.restore(number, &go_on).expect("it comes to its end");
        let id = bench.last().id().clone();
        let listener = |step: GiveUp| match step == at {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let cut_off = release(&bench.ledger_store(), &id, &bench.units, &listener);
        assert!(matches!(&cut_off, Err(Error::Releasing { .. })), "{at:?}: {cut_off:?}");
        let kept = kept_path(bench.data_dir(), &id);
        assert_eq!(kept.exists(), at <= GiveUp::Condemn, "{at:?}");
        if at == GiveUp::Record {
            assert!(
                matches!(bench.roll_back(), Ok(Outcome::Undone { .. })),
                "nothing was begun"
            );
            continue;
        }
        if at == GiveUp::Delete {
            // It died in the middle of that.
            let gone = kept.with_file_name(format!("gone-{id}"));
            fs::remove_dir_all(gone.join("member/wal")).expect("the test's directory can be written");
        }
        assert_given_up(&bench, number + 1, &format!("{at:?}"));
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_told_and_its_release_finished_when_it_can() {
    let Some(bench) = Bench::running(1) else { return };
    let mut number = 0;
    for stuck in ["", "member", "member/snap", "member/snap/db", "member/wal"] {
        number += 2;
        bench.restore(number, &go_on).expect("it comes to its end");
        let id = bench.last().id().clone();
        let kept = kept_path(bench.data_dir(), &id);
        let gone = kept.with_file_name(format!("gone-{id}"));
        if !immutable(&kept.join(stuck), true) {
            skip(
                "right to make files immutable",
                "chattr +i needs root and a file system that can",
            );
            return;
        }
        for _ in 0..2 {
            let failed = release(&bench.ledger_store(), &id, &bench.units, &to_the_end);
            assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{stuck}: {failed:?}");
            // A folder that cannot be renamed keeps its name.
            assert_eq!(kept.exists(), stuck.is_empty(), "{stuck}");
            assert_eq!(bench.last().kept, Kept::Releasing, "{stuck}");
        }
        let there = if stuck.is_empty() { &kept } else { &gone };
        assert!(immutable(&there.join(stuck), false), "{stuck}: it is there");
        assert_given_up(&bench, number + 1, stuck);
    }
}

#[test]
fn settings_that_a_restore_left_go_with_its_release_unless_somebody_changed_them() {
    let Some(bench) = Bench::running(1) else { return };
    let drop_in = bench.units.drop_in("50-lifeboat.conf");
    bench.restore(1, &go_on).expect("it comes to its end");
    let first = bench.last();
    bench.restore(2, &go_on).expect("it comes to its end");
    let second = bench.last();
    let overlay = first.plan.host.overlay.clone().expect("it lays one on");
    let variables = overlay.environment_file;
    release(&bench.ledger_store(), first.id(), &bench.units, &to_the_end).expect("it can be given up");
    assert!(drop_in.exists() && variables.exists(), "they are the second one's");
    let changed = fs::read_to_string(&drop_in).expect("it is there") + "# mine\n";
    fs::write(&drop_in, &changed).expect("the test's directory can be written");
    release(&bench.ledger_store(), second.id(), &bench.units, &to_the_end).expect("it can be given up");
    assert_eq!(fs::read_to_string(&drop_in).expect("it is there"), changed);
    assert!(variables.exists(), "it is referred to");

    bench.restore(3, &go_on).expect("it comes to its end");
    assert!(drop_in.exists());
    let id = bench.last().id().clone();
    release(&bench.ledger_store(), &id, &bench.units, &to_the_end).expect("it can be given up");
    assert!(!drop_in.exists() && !variables.exists());
    // etcd starts with its own settings, which it does not need.
    bench.units.stop(UNIT).expect("it can");
    bench.units.start(UNIT).expect("it can");
    assert!(!bench.is_old());
}

#[test]
fn what_is_kept_on_a_disk_that_is_away_is_not_taken_for_released() {
    let Some(bench) = Bench::running(1) else { return };
    bench.restore(1, &go_on).expect("it comes to its end");
    let id = bench.last().id().clone();
    bench.units.stop(UNIT).expect("it can");
    let aside = bench.etcd.directory().join("aside");
    missing::move_tree(bench.data_dir(), &aside);
    for is_made in [false, true] {
        if is_made {
            fs::create_dir(bench.data_dir()).expect("the test's directory can be written");
        }
        let failed = release(&bench.ledger_store(), &id, &bench.units, &to_the_end);
        assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{failed:?}");
        assert_eq!(bench.last().kept, Kept::Here);
    }
    fs::remove_dir(bench.data_dir()).expect("the test's directory can be written");
    missing::move_tree(&aside, bench.data_dir());
    release(&bench.ledger_store(), &id, &bench.units, &to_the_end).expect("it is there");
    assert_eq!(bench.last().kept, Kept::Released);
    assert!(!bench.data_dir().join(".lifeboat").exists());
    // Somebody who took our folder away himself is not told to mount it.
    bench.units.start(UNIT).expect("it can");
    bench.restore(2, &go_on).expect("it comes to its end");
    fs::remove_dir_all(bench.data_dir().join(".lifeboat")).expect("the test's directory can be written");
    let id = bench.last().id().clone();
    release(&bench.ledger_store(), &id, &bench.units, &to_the_end).expect("there is nothing to it");
    assert_eq!(bench.last().kept, Kept::Released);
}
