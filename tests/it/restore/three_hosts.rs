//! The members of a restored cluster meet: hosts that come at their own time, die, forget, and do not all want the same.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use super::*;

/// Three hosts with a member each, of which nothing runs.
struct Hosts(Arc<Etcd>);

impl Hosts {
    fn three() -> Option<Hosts> {
        let options = Options {
            members: 3,
            ..Options::default()
        };
        Some(Hosts(Arc::new(Etcd::plan(Version::V3_5, options)?)))
    }

    fn bench(&self, index: usize) -> Bench {
        let home = self.0.directory().join(format!("host-{index}"));
        fs::create_dir_all(&home).expect("the test's directory can be written");
        Bench::of(Arc::clone(&self.0), index, home)
    }

    /// Does something on each host at once; what runs there is killed at the end.
    fn each<T: Send>(&self, what: impl Fn(usize, &Bench) -> T + Sync) -> Vec<T> {
        self.some(&[0, 1, 2], what)
    }

    fn some<T: Send>(&self, which: &[usize], what: impl Fn(usize, &Bench) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let what = &what;
            let running: Vec<_> = which
                .iter()
                .map(|index| scope.spawn(move || what(*index, &self.bench(*index))))
                .collect();
            let ended = running.into_iter().map(|host| host.join().expect("it does not panic"));
            ended.collect()
        })
    }

    /// All commit, and die before they have founded their data.
    fn commit(&self) {
        let all_have_committed = std::sync::Barrier::new(3);
        self.each(|_, bench| {
            let dies = |at: Step| match at {
                Step::Found => {
                    all_have_committed.wait();
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            };
            let end = bench.begin(1, &dies).and_then(|mut run| run.go(Patience::Healthy));
            assert!(matches!(end, Err(Error::Stopped { step: Step::Found })), "{end:?}");
        });
    }

    /// All of them go on with what is open, and their cluster serves what was restored.
    fn finish(&self) {
        let barrier = std::sync::Barrier::new(3);
        let clusters = self.each(|_, bench| {
            match bench.resume().expect("it comes to its end") {
                Some(outcome) => assert_eq!(outcome, Outcome::Restored),
                // Two of three are a quorum: it ended well before.
                None => {
                    bench.units.reload().expect("it is there");
                    bench.units.start(UNIT).expect("it starts");
                }
            }
            let last = bench.last();
            assert!(!bench.is_old());
            barrier.wait();
            last.plan.host.identity.expect("it was agreed on")
        });
        assert!(
            clusters.iter().all(|is| is.cluster_id == clusters[0].cluster_id),
            "{clusters:?}"
        );
    }
}

/// Whether an etcd was ever started on a host.
fn has_started(bench: &Bench) -> bool {
    bench.units.calls.borrow().contains(&"start")
}

fn waits(outcome: &Result<Outcome, Error>) -> bool {
    matches!(outcome, Ok(Outcome::Waiting { .. }))
}

#[test]
fn three_hosts_that_restore_at_their_own_time_are_one_cluster() {
    let Some(hosts) = Hosts::three() else { return };
    let first = hosts.some(&[0], |_, bench| {
        let outcome = bench.restore(1, &go_on);
        assert!(!has_started(bench) && bench.ledger_paths.is_open());
        assert!(matches!(
            bench.restore(2, &go_on),
            Err(Error::Open { step: Step::Meet, .. })
        ));
        outcome.map_err(|error| error.to_string())
    });
    assert_eq!(first, [Ok(Outcome::Waiting { there: 0 })]);
    hosts.some(&[1], |_, bench| {
        assert!(waits(&bench.restore(1, &go_on)) && !has_started(bench))
    });
    let barrier = std::sync::Barrier::new(3);
    let clusters = hosts.each(|index, bench| {
        let outcome = match index {
            2 => bench
                .begin(1, &go_on)
                .expect("none is open")
                .go(Patience::Healthy)
                .expect("it comes to its end"),
            _ => bench.resume().expect("it comes to its end").expect("one is open"),
        };
        assert_eq!(outcome, Outcome::Restored);
        assert!(!bench.is_old());
        assert!(bench.ledger_paths.seen().is_empty(), "nobody meets any more");
        let token = bench.last().plan.host.identity.expect("it was agreed on").token;
        let settings = fs::read_to_string(bench.home.join("restore.env")).expect("it was written");
        assert!(settings.contains(&token), "{settings}");
        barrier.wait();
        token
    });
    assert!(clusters.iter().all(|token| *token == clusters[0]), "{clusters:?}");
}

#[test]
fn the_first_host_killed_at_any_step_comes_back_to_the_rendezvous() {
    killed_at_any(0, &[Step::Meet, Step::Found, Step::Agree, Step::Swap, Step::Start]);
}

#[test]
fn the_second_host_killed_at_any_step_comes_back_to_the_rendezvous() {
    killed_at_any(1, &[Step::Meet, Step::Found, Step::Agree]);
}

#[test]
fn the_third_host_killed_at_any_step_comes_back_to_the_rendezvous() {
    killed_at_any(2, &[Step::Meet, Step::Found, Step::Agree]);
}

/// One of three hosts dies at each of these steps in turn, and all of them found one cluster all the same.
fn killed_at_any(victim: usize, steps: &[Step]) {
    let Some(hosts) = Hosts::three() else { return };
    for step in steps.iter().copied() {
        // The others get as far as they can.
        let ends = hosts.each(|index, bench| {
            let dies = |at: Step| match index == victim && at == step {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let outcome = bench.begin(1, &dies).and_then(|mut run| run.go(Patience::Started));
            // What it had committed to before it died the others may rely on.
            if step == Step::Meet {
                assert!(!has_started(bench), "it started without all");
            }
            outcome.map_err(|error| error.to_string())
        });
        assert!(
            ends[victim].as_ref().is_err_and(|why| why.contains("stopped before")),
            "{step:?}: {ends:?}"
        );
        hosts.finish();
        hosts.each(|_, bench| {
            // Its etcd ended with the host above.
            let ledger_store = bench.ledger_store();
            let done = ledger_store.closed().expect("they can be read");
            assert_eq!(done.len(), done.iter().filter(|ledger| ledger.end.is_some()).count());
            drop(ledger_store);
            fs::remove_dir_all(&bench.ledger_paths.folder).expect("it is there");
            fs::remove_dir_all(bench.data_dir()).expect("it is there");
        });
    }
}

#[test]
fn who_forgot_its_part_is_named_and_nobody_starts_without_it() {
    let Some(hosts) = Hosts::three() else { return };
    // All commit, and m3 dies before it has heard that.
    hosts.commit();
    hosts.some(&[2], |_, bench| {
        fs::remove_dir_all(&bench.ledger_paths.folder).expect("it is there");
        fs::remove_dir_all(bench.data_dir()).expect("it is there");
    });
    let notes = hosts.each(|index, bench| {
        let mut run = match index {
            2 => bench.begin(2, &go_on).expect("none is open"),
            _ => Run::resume(bench.ledger_store(), bench.tools(&go_on))
                .expect("it can be read")
                .expect("one is open"),
        };
        let outcome = run.go(Patience::Started);
        assert!(waits(&outcome) && !has_started(bench), "{outcome:?}");
        run.notes().join("; ")
    });
    assert!(notes[0].contains("m3 has lost its part"), "{notes:?}");
    assert!(notes[2].contains("an earlier restore of this host"), "{notes:?}");
    // The way out that is printed.
    hosts.each(|_, bench| assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })) && !has_started(bench)));
    hosts.each(|_, bench| drop(bench.begin(3, &go_on).expect("none is open").go(Patience::Started)));
    hosts.finish();
}

#[test]
fn hosts_that_restore_different_things_say_so_and_none_starts() {
    let Some(hosts) = Hosts::three() else { return };
    let notes = hosts.each(|index, bench| {
        let mut ledger = bench.ledger(1);
        if index == 2 {
            ledger.plan.cluster.bump.by = 7;
        }
        let mut run = Run::begin(bench.ledger_store(), ledger, bench.tools(&go_on)).expect("none is open");
        run.build(snapshot(), None, DigestRule::Required, &|_| ControlFlow::Continue(()))
            .expect("there is nothing wrong with it");
        let outcome = run.go(Patience::Started);
        assert!(waits(&outcome) && !has_started(bench), "{outcome:?}");
        run.notes().join("; ")
    });
    assert!(
        notes[0].contains("m3 restores something else: `bump_revision` 7 instead of 0"),
        "{notes:?}"
    );
    assert!(
        notes[2].contains("m1 restores something else") && notes[2].contains("m2 restores"),
        "{notes:?}"
    );
}

#[test]
fn a_stranger_at_a_members_address_is_named_and_believed_nothing() {
    let Some(hosts) = Hosts::three() else { return };
    let address = hosts.0.members[2].peer_url.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind(address).expect("nobody else has it");
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ];
    listener.set_nonblocking(true).expect("it can be");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let asked = asked.fetch_add(1, Ordering::Relaxed);
                        stream.write_all(answers[asked % answers.len()]).ok();
                        if asked % 5 == 4 {
                            // One that never ends.
                            let endless = vec![b'x'; 1 << 20];
                            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
                            stream.write_all(&endless).ok();
                        }
                    }
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        let outcomes = hosts.some(&[0, 1], |_, bench| {
            let outcome = bench.restore(1, &go_on);
            (outcome.map_err(|error| error.to_string()), has_started(bench))
        });
        // Before anything is asserted: a scope waits for its threads.
        stop.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            // The other one may have left off already.
            let waits = matches!(outcome, (Ok(Outcome::Waiting { there: 0 | 1 }), false));
            assert!(waits, "{outcome:?}");
        }
    });
    assert!(asked.into_inner() > answers.len(), "it was asked");
    drop(listener);
    // The real one comes.
    hosts.some(&[2], |_, bench| {
        drop(
            bench
                .begin(1, &|step| match step {
                    Step::Meet => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                })
                .expect("none is open")
                .go(Patience::Started),
        )
    });
    hosts.finish();
}

#[test]
fn where_an_etcd_runs_at_a_members_address_nobody_founds_anything() {
    let Some(hosts) = Hosts::three() else { return };
    let other = hosts.bench(1);
    other.units.start(UNIT).expect("it starts");
    let notes = hosts.some(&[0], |_, bench| {
        let mut run = bench.begin(1, &go_on).expect("none is open");
        let outcome = run.go(Patience::Started);
        assert!(waits(&outcome) && !has_started(bench), "{outcome:?}");
        run.notes().join("; ")
    });
    assert!(notes[0].contains("runs at m2: that cluster lives"), "{notes:?}");
}

#[test]
fn who_has_committed_waits_for_its_address_and_who_has_not_goes_back() {
    let Some(hosts) = Hosts::three() else { return };
    let address = hosts.0.members[0].peer_url.trim_start_matches("http://").to_owned();
    hosts.commit();
    // Whoever asks it to stop need not wait for the address.
    let taken = TcpListener::bind(&address).expect("nobody else has it");
    hosts.some(&[0], |_, bench| {
        let stop = || true;
        let tools = Tools {
            stop: &stop,
            ..bench.tools(&go_on)
        };
        let mut run = Run::resume(bench.ledger_store(), tools)
            .expect("it can be read")
            .expect("one is open");
        let end = run.go(Patience::Healthy);
        assert!(matches!(end, Err(Error::Port(_))), "{end:?}");
        drop(run);
        assert_eq!(bench.last().step, Step::Found, "the others rely on it");
        assert!(!has_started(bench));
    });
    drop(taken);
    hosts.finish();
}

#[test]
fn who_has_committed_goes_back_for_nothing_that_fails_before_etcd_is_started() {
    let Some(hosts) = Hosts::three() else { return };
    let open_to_others = |bench: &Bench, mode| {
        let own = bench.data_dir().join(".lifeboat");
        fs::set_permissions(own, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    hosts.commit();
    hosts.some(&[0], |_, bench| {
        open_to_others(bench, 0o755);
        for _ in 0..2 {
            let end = bench.resume();
            assert!(matches!(end, Err(Error::ExchangeDir(_))), "{end:?}");
            let last = bench.last();
            assert_eq!((last.step, last.reason), (Step::Found, None), "the others rely on it");
            assert!(!has_started(bench) && bench.ledger_paths.lock().exists());
        }
        open_to_others(bench, 0o700);
        // It cannot be written any more.
        fs::remove_file(bench.home.join("restore.env")).expect("it was laid beside the guard");
        fs::create_dir(bench.home.join("restore.env")).expect("the test's directory can be written");
    });
    let barrier = std::sync::Barrier::new(3);
    let ends = hosts.each(|_, bench| {
        let end = bench.resume().map_err(|error| error.to_string());
        barrier.wait();
        (end, bench.last().step, has_started(bench))
    });
    assert!(matches!(&ends[0], (Err(_), Step::Settings, false)), "{ends:?}");
    for served in &ends[1..] {
        assert!(matches!(served, (Ok(Some(Outcome::Restored)), _, true)), "{ends:?}");
    }
    hosts.some(&[0], |_, bench| {
        fs::remove_dir(bench.home.join("restore.env")).expect("the test's directory can be written");
    });
    hosts.finish();
}

#[test]
fn who_has_committed_is_taken_back_by_the_operator_alone() {
    let Some(hosts) = Hosts::three() else { return };
    hosts.commit();
    hosts.some(&[0], |_, bench| {
        let back = bench.roll_back();
        assert!(matches!(&back, Ok(Outcome::Undone { .. })), "{back:?}");
        assert!(!has_started(bench) && !bench.ledger_paths.is_open());
        // What was laid beside the guard has gone with it.
        let left = [bench.home.join("restore.env"), bench.units.drop_in("50-lifeboat.conf")];
        assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    });
}
