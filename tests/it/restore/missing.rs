//! Directories that are not there, or not what they were: not mounted yet, removed, copied, behind a link.

use super::*;

#[test]
fn what_is_not_mounted_yet_is_waited_for_and_nothing_is_made_up_in_its_place() {
    let Some(bench) = Bench::running(1) else { return };
    let unmounted = |step: Step| {
        bench.units.kill();
        let aside = bench.etcd.directory().join("aside");
        move_tree(bench.data_dir(), &aside);
        fs::create_dir(bench.data_dir()).expect("the test's directory can be written");
        bench.units.reload().expect("it can");
        // What an etcd leaves that was started there.
        let left = bench.data_dir().join("member/snap");
        fs::create_dir_all(&left).expect("the test's directory can be written");
        let failed = bench.resume();
        assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{step:?}: {failed:?}");
        assert_eq!(bench.last().step, step);
        bench.units.start(UNIT).expect("it can be asked for");
        assert!(!bench.units.runs(), "{step:?}: it is held");
        assert!(
            left.is_dir() && !bench.data_dir().join(".lifeboat").exists(),
            "{step:?}"
        );
        fs::remove_dir_all(bench.data_dir()).expect("the test's directory can be written");
        move_tree(&aside, bench.data_dir());
    };
    let mut number = 0;
    for (step, death) in [
        (Step::Stop, Death::BeforeStep),
        (Step::Swap, Death::BeforeStep),
        (Step::Swap, Death::AfterStep),
        (Step::Serve, Death::BeforeStep),
    ] {
        number += 1;
        die(&bench, number, step, death);
        unmounted(if step == Step::Serve { Step::Start } else { step });
        assert_eq!(
            bench.resume().expect("it is mounted"),
            Some(Outcome::Restored),
            "{step:?}"
        );
        assert!(!bench.is_old());

        let listener = |step: Step| match step {
            Step::BackSwap => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let mut back = Run::roll_back(bench.ledger_store(), bench.tools(&listener)).expect("it was restored");
        assert!(matches!(back.go(Patience::Healthy), Err(Error::Stopped { .. })));
        drop(back);
        unmounted(Step::BackSwap);
        let back = bench.resume().expect("it is mounted");
        assert!(matches!(back, Some(Outcome::Undone { .. })), "{back:?}");
        assert!(bench.is_old());
    }
}

#[test]
fn a_log_that_is_not_mounted_yet_is_waited_for_and_takes_no_restore_back() {
    let Some((bench, wal_dir)) = Bench::with_separate_log() else {
        return;
    };
    die(&bench, 1, Step::Serve, Death::BeforeStep);
    bench.units.kill();
    let aside = bench.etcd.directory().join("aside");
    move_tree(&wal_dir, &aside);
    fs::create_dir(&wal_dir).expect("the test's directory can be written");
    // What an etcd leaves that was started there.
    fs::write(wal_dir.join("0000000000000000-0000000000000000.wal"), "").expect("the test's directory can be written");
    for _ in 0..2 {
        let failed = bench.resume();
        assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{failed:?}");
        assert_eq!((bench.last().step, bench.last().reason), (Step::Start, None));
        bench.units.start(UNIT).expect("it can be asked for");
        assert!(!bench.units.runs(), "it is held");
    }
    fs::remove_dir_all(&wal_dir).expect("the test's directory can be written");
    move_tree(&aside, &wal_dir);
    assert_eq!(bench.resume().expect("it is mounted"), Some(Outcome::Restored));
    assert!(!bench.is_old() && !bench.ledger_paths.lock().exists());
}

#[test]
fn a_data_directory_by_a_link_of_somebody_else_turns_nothing_back() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(bench) = Bench::running(1) else { return };
    let aside = bench.etcd.directory().join("aside");
    let nobody = 65_534;
    for (number, at) in [(1, Step::Swap), (2, Step::Serve)] {
        die(&bench, number, at, Death::BeforeStep);
        bench.units.kill();
        move_tree(bench.data_dir(), &aside);
        symlink(&aside, bench.data_dir()).expect("the test's directory can be written");
        lchown(bench.data_dir(), Some(nobody), None).expect("root may");
        let resumed = bench.resume();
        match at {
            Step::Swap => {
                assert!(matches!(&resumed, Err(Error::ExchangeDir(_))), "{resumed:?}");
                assert_eq!((bench.last().step, bench.last().reason), (Step::Swap, None));
            }
            // What was swapped is there: etcd serves, and only what is left over is not tidied up.
            _ => {
                assert!(matches!(&resumed, Err(Error::ExchangeDir(_))), "{resumed:?}");
                assert_eq!(bench.last().step, Step::Settle);
                assert!(bench.units.runs());
            }
        }
        lchown(bench.data_dir(), Some(0), None).expect("root may");
        assert_eq!(bench.resume().expect("it is taken over"), Some(Outcome::Restored));
        bench.units.stop(UNIT).expect("it can");
        fs::remove_file(bench.data_dir()).expect("the test's directory can be written");
        move_tree(&aside, bench.data_dir());
        bench.units.start(UNIT).expect("it can");
        assert!(!bench.is_old());
    }
}

#[test]
fn old_data_that_was_removed_or_copied_is_not_taken_for_back_and_etcd_goes_on() {
    let Some(bench) = Bench::running(1) else { return };
    assert_eq!(
        bench.restore(1, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    let kept = kept_path(bench.data_dir(), bench.last().id());
    let refused = || {
        let calls = bench.units.calls.borrow().len();
        let refused = bench.roll_back();
        assert!(matches!(&refused, Err(Error::NotKept { .. })), "{refused:?}");
        assert!(!bench.ledger_paths.is_open() && !bench.ledger_paths.lock().exists());
        assert_eq!(bench.units.calls.borrow().len(), calls, "etcd was not touched");
        assert!(!bench.is_old());
    };
    let aside = kept.with_file_name("aside");
    move_tree(&kept, &aside);
    copy_tree(&aside, &kept);
    refused();
    fs::remove_dir_all(&kept).expect("the test's directory can be written");
    refused();
    move_tree(&aside, &kept);
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
    assert!(bench.is_old());
}

#[test]
fn old_data_that_is_gone_or_less_than_it_was_stops_no_etcd_and_starts_none_on_it() {
    let Some(bench) = Bench::running(1) else { return };
    let kept = |bench: &Bench| kept_path(bench.data_dir(), bench.last().id()).join("member");
    let wipe = |kept: &Path| fs::remove_dir_all(kept).expect("the test's directory can be written");
    let lose_the_log = |kept: &Path| wipe(&kept.join("wal"));
    let cut_the_database = |kept: &Path| {
        let database = File::options().write(true).open(kept.join("snap/db"));
        let cut = database.and_then(|file| file.set_len(4096));
        cut.expect("the test's directory can be written");
    };
    let harms: [&dyn Fn(&Path); 3] = [&wipe, &lose_the_log, &cut_the_database];
    let mut number = 0;
    for harm in harms {
        // One that came to its end, and one that waits; and as a lifeboat of old has noted it, without an inventory.
        for (at, is_listed) in [(None, true), (None, false), (Some(Step::Serve), true)] {
            number += 1;
            match at {
                None => drop(bench.restore(number, &go_on).expect("it comes to its end")),
                Some(at) => die(&bench, number, at, Death::BeforeStep),
            }
            bench.wait_until_served();
            let (id, kept) = (bench.last().id().clone(), kept(&bench));
            let file = match at {
                None => bench.ledger_paths.folder.join(format!("closed/{id}.json")),
                Some(_) => bench.ledger_paths.folder.join("ledger.json"),
            };
            if !is_listed {
                let written = fs::read(&file).expect("it is there");
                let mut ledger: serde_json::Value = serde_json::from_slice(&written).expect("it is one");
                let before = ledger["data_before"].as_object_mut().expect("it has one");
                before.remove("member_files").expect("it has one");
                before.remove("log_files").expect("it has one");
                fs::write(&file, ledger.to_string()).expect("the test's directory can be written");
            }
            let written = fs::read(&file).expect("it is there");
            let aside = kept.with_file_name("whole");
            copy_tree(&kept, &aside);
            harm(&kept);
            let calls = bench.units.calls.borrow().len();
            for _ in 0..2 {
                let refused = bench.roll_back();
                assert!(matches!(&refused, Err(Error::NotKept { .. })), "{number}: {refused:?}");
            }
            assert_eq!(bench.units.calls.borrow().len(), calls, "etcd was not touched");
            assert_eq!(
                fs::read(&file).expect("it is there"),
                written,
                "what is open stays as it was"
            );
            assert!(!bench.is_old() && !bench.ledger_paths.lock().exists());
            if at.is_some() {
                assert_eq!(bench.resume().expect("it goes on"), Some(Outcome::Restored));
            }
            release(&bench.ledger_store(), &id, &bench.units, &to_the_end).expect("it can be given up");
        }
    }
}

#[test]
fn old_data_that_is_harmed_while_the_way_back_is_gone_is_not_started() {
    let Some(bench) = Bench::running(1) else { return };
    bench.restore(1, &go_on).expect("it comes to its end");
    let kept = kept_path(bench.data_dir(), bench.last().id()).join("member/wal");
    let listener = |step: Step| match step {
        Step::BackSwap => {
            fs::remove_dir_all(&kept).ok();
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    };
    let mut back = Run::roll_back(bench.ledger_store(), bench.tools(&listener)).expect("it is there");
    let failed = back.go(Patience::Healthy);
    assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{failed:?}");
    drop(back);
    for _ in 0..2 {
        let failed = bench.resume();
        assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{failed:?}");
        assert_eq!(bench.last().step, Step::BackSwap);
        bench.units.start(UNIT).expect("it can be asked for");
        assert!(!bench.units.runs(), "it would begin an empty cluster");
        assert!(bench.data_dir().join("member/snap/db").exists(), "the new data is left");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands for somebody else")]
pub(super) fn move_tree(from: &Path, to: &Path) {
    fs::rename(from, to).expect("the test's directory can be written");
}
