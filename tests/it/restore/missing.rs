//! Directories that are not there, or not what they were: not mounted yet, removed, copied, behind a link.

use std::net::TcpListener;

use super::*;

/// Has a restore taken up while a directory of etcd's is not mounted: it is left at a step, and nothing is started or made
/// up in its place, where an etcd that was started there has left something.
#[track_caller]
fn unmounted(bench: &Bench, dir: &Path, left: &str, step: Step) {
    bench.units.kill();
    let aside = bench.etcd.directory().join("aside");
    move_tree(dir, &aside);
    fs::create_dir(dir).expect("the test's directory can be written");
    bench.units.reload().expect("it can");
    let left = dir.join(left);
    fs::create_dir_all(&left).expect("the test's directory can be written");
    for _ in 0..2 {
        let run = Run::resume(bench.ledger_store(), bench.tools(&go_on)).expect("it can be read");
        let failed = run.expect("one is open").go(Patience::Started);
        assert!(matches!(&failed, Err(Error::ExchangeDir(_))), "{step:?}: {failed:?}");
        assert_eq!(bench.last().step, step);
        bench.units.start(UNIT).expect("it can be asked for");
        assert!(!bench.units.runs(), "{step:?}: it is held");
    }
    assert!(left.is_dir() && !dir.join(".lifeboat").exists(), "{step:?}");
    fs::remove_dir_all(dir).expect("the test's directory can be written");
    move_tree(&aside, dir);
}

/// What an etcd leaves that was started on an empty mount point of its data, or of its log.
const LEFT: &str = "member/snap";
const LEFT_LOG: &str = "0000000000000000-0000000000000000.wal";

#[test]
fn what_is_not_mounted_yet_is_waited_for_and_nothing_is_made_up_in_its_place() {
    let Some(bench) = Bench::running(1) else { return };
    let mut number = 0;
    // And where the way back is cut off, and left by whoever takes it up: the old settings do not need the data.
    for (step, death, cut_off_at, left_at) in [
        (Step::Stop, Death::BeforeStep, Step::BackSwap, Step::BackSwap),
        (Step::Swap, Death::BeforeStep, Step::BackSettings, Step::BackStart),
        (Step::Swap, Death::AfterStep, Step::BackStart, Step::BackStart),
        (Step::Serve, Death::BeforeStep, Step::BackSwap, Step::BackSwap),
    ] {
        number += 1;
        die(&bench, number, step, death);
        let resumed = if step == Step::Serve { Step::Start } else { step };
        unmounted(&bench, bench.data_dir(), LEFT, resumed);
        assert_eq!(
            bench.resume().expect("it is mounted"),
            Some(Outcome::Restored),
            "{step:?}"
        );
        assert!(!bench.is_old());
        cut_off_on_the_way_back(&bench, cut_off_at);
        unmounted(&bench, bench.data_dir(), LEFT, left_at);
        let back = bench.resume().expect("it is mounted");
        assert!(matches!(back, Some(Outcome::Undone { .. })), "{back:?}");
        assert!(bench.is_old());
    }
}

#[track_caller]
fn cut_off_on_the_way_back(bench: &Bench, at: Step) {
    let listener = |step: Step| match step == at {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let mut back = Run::roll_back(bench.ledger_store(), bench.tools(&listener)).expect("it was restored");
    assert!(matches!(back.go(Patience::Healthy), Err(Error::Stopped { .. })));
}

#[test]
fn a_member_that_waits_for_others_goes_back_to_nothing_while_its_data_or_its_log_is_not_mounted() {
    for has_log in [false, true] {
        let Some(mut bench) = Bench::stopped(3) else { return };
        if has_log {
            let wal_dir = bench.etcd.directory().join("wal");
            fs::create_dir(&wal_dir).expect("the test's directory can be written");
            bench.units.set("ETCD_WAL_DIR", wal_dir.to_str().expect("it is plain"));
            bench.wal_dir = Some(wal_dir);
        }
        // Old data of three that nobody needs to serve.
        bench.units.start(UNIT).expect("it starts");
        let log = bench
            .wal_dir
            .clone()
            .unwrap_or_else(|| bench.data_dir().join("member/wal"));
        until("etcd has laid out its data", || log.join(LEFT_LOG).exists());
        let waits = bench.restore(1, &go_on).map_err(|error| error.to_string());
        assert_eq!(waits, Ok(Outcome::Waiting { there: 0 }));
        let starts = || {
            let calls = bench.units.calls.borrow();
            calls.iter().filter(|call| **call == "start").count()
        };
        let (dir, left) = match &bench.wal_dir {
            Some(wal_dir) => (wal_dir.clone(), LEFT_LOG),
            None => (bench.data_dir().to_owned(), LEFT),
        };
        // The network comes late, too.
        let address = bench.member().peer_url.trim_start_matches("http://").to_owned();
        let taken = TcpListener::bind(address).expect("nobody else has it");
        unmounted(&bench, &dir, left, Step::Meet);
        drop(taken);
        assert_eq!(bench.last().reason, None, "the others are still waited for");
        cut_off_on_the_way_back(&bench, Step::BackStart);
        unmounted(&bench, &dir, left, Step::BackStart);
        assert_eq!(starts(), 1, "etcd was started on nothing");
        let back = bench.resume().expect("it is mounted");
        assert!(matches!(back, Some(Outcome::Undone { .. })), "{back:?}");
        assert!(bench.units.runs() && !bench.ledger_paths.lock().exists());
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
