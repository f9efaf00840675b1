//! What stands in the way of a restore on the host itself: an init system that refuses, a guard that does not hold, mounts.

use super::*;

#[test]
fn a_start_that_is_refused_for_good_turns_back() {
    let Some(bench) = Bench::running(1) else { return };
    let masked_at = |at: Step| {
        let bench = &bench;
        move |step: Step| {
            bench.units.is_masked.set(step >= at);
            ControlFlow::Continue(())
        }
    };
    let outcome = bench.restore(1, &masked_at(Step::Start)).expect("it comes to its end");
    let Outcome::Undone { why, down: Some(down) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("masked") && down.contains("masked"), "{why}; {down}");
    bench.units.is_masked.set(false);
    bench.units.start(UNIT).expect("it can");
    assert!(bench.is_old() && !bench.ledger_paths.is_open());

    // The same where it is taken up by the next run, as long as nothing was started.
    die(&bench, 2, Step::Start, Death::BeforeStep);
    bench.units.is_masked.set(true);
    let resumed = bench.resume().expect("it comes to its end");
    assert!(matches!(resumed, Some(Outcome::Undone { .. })), "{resumed:?}");
    bench.units.is_masked.set(false);
    bench.units.start(UNIT).expect("it can");
    assert!(bench.is_old());
}

#[test]
fn what_may_have_served_is_not_taken_away_for_want_of_a_start() {
    let Some(bench) = Bench::running(1) else { return };
    for (number, at, death) in [
        (1, Step::Start, Death::AfterStep),
        (2, Step::Serve, Death::BeforeStep),
        (3, Step::Serve, Death::AfterStep),
    ] {
        die(&bench, number, at, death);
        bench.wait_until_served();
        bench.client().put("/new", "write", 0).expect("it takes writes");
        bench.units.kill();
        bench.lose_run();
        bench.units.is_masked.set(true);
        for _ in 0..2 {
            let failed = bench.resume();
            assert!(
                matches!(&failed, Err(error) if error.is_refused_by_systemd()),
                "{at:?} {death:?}: {failed:?}"
            );
            assert_eq!((bench.last().step, bench.last().reason), (Step::Start, None));
        }
        bench.units.is_masked.set(false);
        assert_eq!(bench.resume().expect("it comes to its end"), Some(Outcome::Restored));
        assert!(bench.client().get("/new").expect("it serves").is_some());
        assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
        assert!(bench.is_old());
    }
}

#[test]
fn a_guard_that_a_later_drop_in_empties_stops_nothing() {
    let Some(bench) = Bench::running(1) else { return };
    let later = bench.units.drop_in("override.conf");
    let empty = || {
        fs::write(&later, "[Unit]\nConditionPathExists=\n").expect("the test's directory can be written");
        bench.units.reload().expect("it can");
    };
    empty();
    let calls = bench.units.calls.borrow().len();
    let outcome = bench.restore(1, &go_on).expect("it comes to its end");
    assert!(
        matches!(&outcome, Outcome::Undone { why, .. } if why.contains("empties `ConditionPathExists=`")),
        "{outcome:?}"
    );
    assert_eq!(bench.units.calls.borrow().len(), calls, "etcd was not touched");
    fs::remove_file(&later).expect("it is there");
    assert!(bench.is_old());

    // One that comes when etcd is down already.
    let listener = |step: Step| {
        if step == Step::Swap {
            empty();
        }
        ControlFlow::Continue(())
    };
    let failed = bench.restore(2, &listener);
    let is_overruled = |error: &Error| {
        matches!(
            error,
            Error::NotGuarded {
                why: Guarded::Overruled,
                ..
            }
        )
    };
    assert!(matches!(&failed, Err(error) if is_overruled(error)), "{failed:?}");
    assert!(bench.last().before.data.is_some() && !kept_path(bench.data_dir(), bench.last().id()).exists());
    fs::remove_file(&later).expect("it is there");
    let resumed = bench.resume().expect("it comes to its end");
    assert!(matches!(resumed, Some(Outcome::Undone { .. })), "{resumed:?}");
    assert!(bench.is_old());
}

#[test]
fn what_is_mounted_in_the_data_meanwhile_is_neither_moved_nor_started_on() {
    let Some(bench) = Bench::running(1) else { return };
    let log = bench.data_dir().join("member/wal");
    let mount = || Tmpfs::mount(&log, 8);
    let Some(first) = mount() else { return };
    let calls = bench.units.calls.borrow().len();
    let outcome = bench.restore(1, &go_on).expect("it comes to its end");
    assert!(
        matches!(&outcome, Outcome::Undone { why, .. } if why.contains("is a mount point")),
        "{outcome:?}"
    );
    assert_eq!(bench.units.calls.borrow().len(), calls, "etcd was not touched");
    drop(first);
    assert!(bench.is_old());

    let held = |step: Step| {
        let tmpfs = mount().expect("it could before");
        for _ in 0..2 {
            let failed = bench.resume();
            assert!(matches!(&failed, Err(Error::Mounted { .. })), "{step:?}: {failed:?}");
            assert_eq!(bench.last().step, step);
            bench.units.start(UNIT).expect("it can be asked for");
            assert!(!bench.units.runs(), "{step:?}: it would begin on what is mounted");
        }
        drop(tmpfs);
    };
    let mut number = 1;
    for (at, death, taken_up) in [
        (Step::Stop, Death::AfterStep, Step::Stop),
        (Step::Swap, Death::BeforeStep, Step::Swap),
        (Step::Serve, Death::BeforeStep, Step::Start),
    ] {
        number += 1;
        die(&bench, number, at, death);
        bench.units.kill();
        bench.lose_run();
        held(taken_up);
        assert_eq!(bench.resume().expect("it comes to its end"), Some(Outcome::Restored));
        assert!(!bench.is_old());
        let listener = |step: Step| match step {
            Step::BackSwap => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let mut back = Run::roll_back(bench.ledger_store(), bench.tools(&listener)).expect("it was restored");
        assert!(matches!(back.go(Patience::Healthy), Err(Error::Stopped { .. })));
        drop(back);
        held(Step::BackSwap);
        let back = bench.resume().expect("it comes to its end");
        assert!(matches!(back, Some(Outcome::Undone { .. })), "{back:?}");
        assert!(bench.is_old());
    }
}
