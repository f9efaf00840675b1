//! What keeps an etcd from starting that has no data, whose it is, and what ends it.

use super::*;

#[test]
fn where_nothing_was_before_nothing_is_started_after_a_failure_and_a_restore_gets_around_it() {
    let Some(bench) = Bench::stopped(1) else { return };
    let mut run = bench.begin_in_vain(1);
    assert!(matches!(run.go(Patience::Started), Ok(Outcome::Undone { .. })));
    drop(run);
    bench.units.start(UNIT).expect("it can be asked for");
    assert!(
        !bench.units.runs(),
        "with its old settings it would begin an empty cluster"
    );
    assert!(!bench.data_dir().join("member").exists());

    assert_eq!(
        bench.restore(2, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    assert!(!bench.is_old());
    assert!(matches!(bench.roll_back(), Err(Error::NothingBefore { .. })));
}

#[test]
fn an_etcd_that_ran_is_started_on_its_old_data_though_its_log_was_not_found() {
    let Some((mut bench, wal_dir)) = Bench::with_separate_log() else {
        return;
    };
    // Where a script starts it, nobody sees that.
    bench.wal_dir = None;
    let mut run = bench.begin_in_vain(1);
    assert!(matches!(run.go(Patience::Started), Ok(Outcome::Undone { .. })));
    drop(run);
    assert!(bench.is_old() && !bench.ledger_paths.lock().exists());
    assert!(wal_dir.is_dir() && !bench.data_dir().join("member/wal").exists());
}

#[test]
fn what_keeps_etcd_down_for_want_of_data_is_not_taken_away_by_another_restore() {
    let Some(bench) = Bench::stopped(1) else { return };
    let empty = bench.data_dir().join("member");
    let stays_down = |when: &str| {
        bench.units.start(UNIT).expect("it can be asked for");
        assert!(!bench.units.runs(), "{when}: it would begin an empty cluster");
    };
    // A directory without a log is no data, though it has the name.
    fs::create_dir_all(empty.join("snap")).expect("the test's directory can be written");
    die(&bench, 1, Step::Serve, Death::BeforeStep);
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
    let first = bench.last().id().clone();
    assert!(empty.join("snap").is_dir());
    stays_down("after the first");

    // One that fails before it knows what it replaces.
    let mute = |step: Step| {
        bench.units.is_mute.set(step == Step::Guard);
        ControlFlow::Continue(())
    };
    let failed = bench.restore(2, &mute);
    assert!(matches!(failed, Ok(Outcome::Undone { .. })), "{failed:?}");
    let second = bench.last().id().clone();
    assert_ne!(first, second);
    stays_down("after the second");
    release(&bench.ledger_store(), &second, &bench.units, &to_the_end).expect("it can be released");
    stays_down("after the release of the second");
    assert_eq!(
        bench.restore(3, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    assert!(!bench.is_old());
    assert!(matches!(bench.roll_back(), Err(Error::NothingBefore { .. })));
    assert!(bench.units.runs());
}

#[test]
fn a_restore_whose_ledger_was_moved_away_keeps_no_etcd_down_that_has_its_data() {
    let Some(bench) = Bench::running(1) else { return };
    let unknown = "20250101T000000Z-00000000";
    bench.units.stop(UNIT).expect("it can");
    fs::create_dir_all(&bench.ledger_paths.folder).expect("the test's directory can be written");
    fs::write(bench.ledger_paths.lock(), unknown).expect("the test's directory can be written");

    // Nobody has seen yet whether there is data.
    let mute = |step: Step| {
        bench.units.is_mute.set(step == Step::Guard);
        ControlFlow::Continue(())
    };
    assert!(matches!(bench.restore(1, &mute), Ok(Outcome::Undone { .. })));
    let held = || bench.ledger_store().held().expect("it can be read");
    assert_eq!(held().as_deref(), Some(unknown));

    let mut run = bench.begin_in_vain(2);
    assert!(matches!(run.go(Patience::Started), Ok(Outcome::Undone { .. })));
    let notes = run.notes().to_vec();
    drop(run);
    assert_eq!(held(), None, "{notes:?}");
    assert!(
        notes.iter().any(|note| note.contains("systemctl start etcd.service")),
        "{notes:?}"
    );
    bench.units.start(UNIT).expect("it can");
    assert!(bench.is_old());
}

#[test]
fn a_restore_whose_data_was_wiped_makes_way_for_another() {
    let Some(bench) = Bench::stopped(1) else { return };
    die(&bench, 1, Step::Serve, Death::BeforeStep);
    bench.units.stop(UNIT).expect("it can");
    fs::remove_dir_all(bench.data_dir()).expect("the test's directory can be written");
    assert!(matches!(bench.roll_back(), Err(Error::ExchangeDir(_))));
    let first = bench.last().id().to_string();
    fs::remove_file(bench.ledger_paths.ledger()).expect("it is there");
    assert_eq!(
        releasable(&bench.ledger_paths).expect("none is open").stray,
        Some(first)
    );
    let mut run = bench.begin_in_vain(2);
    assert!(matches!(run.go(Patience::Started), Ok(Outcome::Undone { .. })));
    drop(run);
    bench.units.start(UNIT).expect("it can be asked for");
    assert!(!bench.units.runs(), "it would begin an empty cluster");
    assert_eq!(
        bench.restore(3, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    assert!(!bench.is_old() && !bench.ledger_paths.lock().exists());
}

#[test]
fn a_restore_that_nobody_knows_is_released_and_one_that_is_known_is_left() {
    let Some(bench) = Bench::stopped(1) else { return };
    die(&bench, 1, Step::Serve, Death::BeforeStep);
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
    assert_eq!(releasable(&bench.ledger_paths).expect("none is open").stray, None);
    release_stray(&bench.ledger_store()).expect("it can be asked for");
    assert!(bench.ledger_paths.lock().exists(), "that one is known");
    fs::write(bench.ledger_paths.lock(), [0xff, b'x']).expect("the test's directory can be written");
    release_stray(&bench.ledger_store()).expect("it can be released");
    assert!(!bench.ledger_paths.lock().exists());
}

#[test]
fn the_release_of_a_restore_lets_etcd_start_that_it_keeps_down() {
    let Some(bench) = Bench::stopped(1) else { return };
    die(&bench, 1, Step::Serve, Death::BeforeStep);
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
    bench.units.start(UNIT).expect("it can be asked for");
    assert!(!bench.units.runs());
    let last = bench.last();
    release(&bench.ledger_store(), last.id(), &bench.units, &to_the_end).expect("it can be released");
    assert!(!bench.ledger_paths.lock().exists() && !last.guard.path.exists());
}
