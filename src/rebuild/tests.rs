//! What is in place, and what is not, however a rebuild ends.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::bbolt;
use crate::datadir::InitialCluster;
use crate::keyspace::{CompactionMarks, Inspection, LiveKeys};

pub(super) const SNAPSHOT: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap"
));

/// The places of one test: `d` for the data, `w` for the log.
pub(super) struct Bench(tempfile::TempDir);

impl Bench {
    /// With directories that are absent, or that exist and are empty.
    pub(super) fn each() -> [Bench; 2] {
        let (absent, empty) = (Bench(tempfile::tempdir().unwrap()), Bench(tempfile::tempdir().unwrap()));
        fs::create_dir(empty.at("d")).unwrap();
        fs::create_dir(empty.at("w")).unwrap();
        [absent, empty]
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(super) fn plan(&self, wal_dir: Option<&str>) -> Plan {
        let cluster: InitialCluster = "m1=http://127.0.0.1:2380".parse().unwrap();
        let membership = Membership::new(&cluster, "token").unwrap();
        Plan {
            member: membership.member("m1").unwrap().clone(),
            membership,
            data_dir: self.at("d"),
            wal_dir: wal_dir.map(|dir| self.at(dir)),
            bump: None,
            line: None,
            digest: DigestRule::Required,
            rewrite: Rewrite::Not,
            left: None,
            history: None,
            expected: None,
        }
    }

    fn rebuild(&self, wal_dir: Option<&str>, listener: Listener<'_>) -> Result<Rebuilt, Error> {
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), Some(SNAPSHOT.len() as u64), None).unwrap();
        rebuild(source, None, &self.plan(wal_dir), listener)
    }

    /// All files below, and all directories that are empty.
    pub(super) fn found(&self) -> Vec<String> {
        let (mut found, mut open) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(dir) = open.pop() {
            let entries: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap()).collect();
            if entries.is_empty() {
                found.push(dir);
            }
            for entry in entries {
                match entry.file_type().unwrap().is_dir() {
                    true => open.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        let relative = found.iter().map(|path| path.strip_prefix(self.0.path()).unwrap());
        let mut relative: Vec<String> = relative.map(|path| path.display().to_string()).collect();
        relative.sort();
        relative
    }

    /// Data and log as a run leaves them that is killed when the data was published and the log was not.
    fn killed_between(&self) {
        let mut log = Staging::begin(&self.at("w")).unwrap();
        let mut data = Staging::begin(&self.at("d")).unwrap();
        let snap = data.make_dirs(datadir::SNAP_DIR).unwrap();
        data.create(&snap, datadir::DB).unwrap().write_all(b"database").unwrap();
        log.create(&log.content().clone(), wal::FILE_NAME).unwrap();
        data.announce(log.target()).unwrap();
        data.move_up(MEMBER).unwrap();
        data.die();
        log.die();
    }
}

pub(super) fn go(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

const LOG: &str = "0000000000000000-0000000000000000.wal";

fn complete(log: &str) -> Vec<String> {
    let mut files = [
        "d/member/snap/0000000000000001-0000000000000001.snap",
        "d/member/snap/db",
    ]
    .map(str::to_owned)
    .to_vec();
    files.push(format!("{log}/{LOG}"));
    files
}

#[test]
fn a_rebuild_leaves_what_etcd_wants_and_nothing_else() {
    for bench in Bench::each() {
        bench.rebuild(Some("w"), &go).unwrap();
        assert_eq!(bench.found(), complete("w"));
    }
    let [bench, _] = Bench::each();
    for log in [None, Some("d/member/wal")] {
        bench.rebuild(log, &go).unwrap();
        assert_eq!(bench.found(), complete("d/member/wal"));
        assert!(matches!(bench.rebuild(log, &go), Err(Error::NotEmpty { .. })));
        fs::remove_dir_all(bench.at("d")).unwrap();
    }
}

#[test]
fn whoever_stops_it_at_any_step_finds_nothing() {
    let reading = |progress| matches!(progress, Progress::Reading { .. });
    let checking = |progress| progress == Progress::Checking;
    let publishing = |progress| progress == Progress::Publishing;
    let steps: [&dyn Fn(Progress) -> bool; 3] = [&reading, &checking, &publishing];
    for stops_at in steps {
        for bench in Bench::each() {
            let before = bench.found();
            let listener = |progress| match stops_at(progress) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            for log in [None, Some("w")] {
                assert!(matches!(bench.rebuild(log, &listener), Err(Error::Interrupted)));
                assert_eq!(bench.found(), before);
            }
        }
    }
}

#[test]
fn data_whose_log_cannot_follow_is_taken_back() {
    for bench in Bench::each() {
        let listener = |progress| {
            if progress == Progress::Publishing {
                fs::create_dir_all(bench.at("w")).unwrap();
                fs::write(bench.at("w").join(LOG), b"a rival's").unwrap();
            }
            ControlFlow::Continue(())
        };
        let error = bench.rebuild(Some("w"), &listener).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
        assert_eq!(fs::read(bench.at("w").join(LOG)).unwrap(), b"a rival's");
        let data_left = bench.at("d").is_dir().then_some("d".to_owned());
        let expected: Vec<String> = data_left.into_iter().chain([format!("w/{LOG}")]).collect();
        assert_eq!(bench.found(), expected);
    }
}

#[test]
fn data_without_its_log_that_an_etcd_holds_stays_and_the_next_run_begins_anew() {
    for bench in Bench::each() {
        let held = std::cell::RefCell::new(None);
        let listener = |progress| {
            if progress == Progress::Publishing {
                let files = bench.found();
                let database = files.iter().find(|path| path.ends_with("/db")).unwrap();
                let database = File::open(bench.at(database)).unwrap();
                database.lock().unwrap();
                held.replace(Some(database));
                fs::create_dir_all(bench.at("w")).unwrap();
                fs::write(bench.at("w").join(LOG), b"a rival's").unwrap();
            }
            ControlFlow::Continue(())
        };
        let error = bench.rebuild(Some("w"), &listener).unwrap_err();
        assert!(matches!(error, Error::WithoutLog { .. }), "{error}");
        assert!(bench.at("d/member/snap/db").is_file());
        drop(held.take());
        fs::remove_dir_all(bench.at("w")).unwrap();
        bench.rebuild(Some("w"), &go).unwrap();
        assert_eq!(bench.found(), complete("w"));
    }
}

#[test]
fn the_run_after_one_that_was_killed_between_data_and_log_goes_on() {
    for bench in Bench::each() {
        bench.killed_between();
        assert!(bench.at("d/member/snap/db").is_file() && !bench.at("w").join(LOG).exists());
        bench.rebuild(Some("w"), &go).unwrap();
        assert_eq!(bench.found(), complete("w"));
    }
}

#[test]
fn data_that_somebody_used_or_completed_is_not_taken_back() {
    let used = |bench: &Bench| fs::write(bench.at("d/member/snap/db"), b"of etcd").unwrap();
    let has_log = |bench: &Bench| {
        fs::create_dir_all(bench.at("w")).unwrap();
        fs::write(bench.at("w").join(LOG), b"").unwrap();
    };
    let has_log_inside = |bench: &Bench| fs::create_dir(bench.at("d/member/wal")).unwrap();
    let copied = |bench: &Bench| {
        let database = bench.at("d/member/snap/db");
        let bytes = fs::read(&database).unwrap();
        fs::remove_file(&database).unwrap();
        fs::write(&database, bytes).unwrap();
    };
    let changes: [&dyn Fn(&Bench); 4] = [&used, &has_log, &has_log_inside, &copied];
    for change in changes {
        for bench in Bench::each() {
            bench.killed_between();
            change(&bench);
            let before = fs::read(bench.at("d/member/snap/db")).unwrap();
            for log in [Some("w"), Some("other"), None] {
                assert!(matches!(bench.rebuild(log, &go), Err(Error::NotEmpty { .. })));
                assert_eq!(fs::read(bench.at("d/member/snap/db")).unwrap(), before);
            }
        }
    }
}

#[test]
fn data_that_an_etcd_holds_is_not_taken_back() {
    for bench in Bench::each() {
        bench.killed_between();
        let held = File::open(bench.at("d/member/snap/db")).unwrap();
        held.lock().unwrap();
        assert!(matches!(bench.rebuild(Some("w"), &go), Err(Error::Running { .. })));
        assert!(bench.at("d/member/snap/db").is_file());
    }
}

#[test]
fn what_a_dead_run_left_is_removed_and_a_live_one_is_not_disturbed() {
    for bench in Bench::each() {
        let before = bench.found();
        let live = Staging::begin(&bench.at("d")).unwrap();
        assert!(matches!(bench.rebuild(None, &go), Err(Error::Busy { .. })));
        assert!(live.content().path().is_dir());
        live.die();
        assert_ne!(bench.found(), before);
        bench.rebuild(None, &|_| ControlFlow::Break(())).unwrap_err();
        assert_eq!(bench.found(), before);
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_gets_nothing_and_is_not_given_away() {
    for bench in Bench::each() {
        fs::create_dir(bench.at("victim")).unwrap();
        let root = nix::unistd::geteuid().is_root();
        if root {
            for dir in ["", "d"].map(|dir| bench.at(dir)) {
                std::os::unix::fs::chown(dir, Some(12345), Some(12345)).ok();
            }
        }
        let listener = |progress| {
            if progress == Progress::Checking {
                swap(&bench);
            }
            ControlFlow::Continue(())
        };
        bench.rebuild(None, &listener).unwrap_err();
        assert_eq!(fs::read_dir(bench.at("victim")).unwrap().count(), 0);
        assert_eq!(
            fs::metadata(bench.at("victim")).unwrap().uid(),
            nix::unistd::geteuid().as_raw()
        );
        if root {
            assert_eq!(fs::metadata(bench.at("d/member/snap/db")).unwrap().uid(), 12345);
        }
    }
}

/// Puts a link to `victim` in the place of the directory in the making.
#[expect(clippy::disallowed_methods, reason = "somebody else renames")]
fn swap(bench: &Bench) {
    for home in [bench.at(""), bench.at("d")] {
        for entry in fs::read_dir(&home).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.display().to_string().contains(half_made_dirs::PARTIAL) {
                fs::rename(&path, bench.at("away")).unwrap();
                symlink(bench.at("victim"), &path).unwrap();
            }
        }
    }
}

#[test]
fn pipes_and_links_are_not_waited_for_and_not_followed() {
    let [bench, _] = Bench::each();
    let pipe =
        |path: &str| nix::unistd::mkfifo(&bench.at(path), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    fs::create_dir_all(bench.at("d/member/snap")).unwrap();
    pipe("d/member/snap/db");
    assert!(matches!(bench.rebuild(None, &go), Err(Error::NotEmpty { .. })));
    fs::remove_dir_all(bench.at("d")).unwrap();
    fs::create_dir(bench.at("victim")).unwrap();
    fs::write(bench.at("victim/file"), b"").unwrap();
    pipe("d.partial-00000000");
    symlink(bench.at("victim"), bench.at("d.partial-00000001")).unwrap();
    bench.rebuild(None, &go).unwrap();
    assert!(bench.at("victim/file").is_file());
}

/// What the database in `d` holds, and its bytes.
pub(super) fn laid_out(bench: &Bench) -> (Inspection, CompactionMarks, Vec<u8>) {
    let bytes = fs::read(bench.at("d/member/snap/db")).unwrap();
    let file = bbolt::File::open(&bytes).unwrap();
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
    assert_eq!(walk.faults().collect::<Vec<_>>(), [""; 0]);
    let marks = CompactionMarks::read(&file);
    (walk, marks, bytes)
}

#[test]
fn a_database_that_is_written_anew_holds_the_same_in_less() {
    let rebuilt = |rewrite, bump| {
        let bench = &Bench::each()[0];
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), Some(SNAPSHOT.len() as u64), None).unwrap();
        let plan = Plan {
            rewrite,
            bump: NonZeroU64::new(bump),
            ..bench.plan(None)
        };
        let rebuilt = rebuild(source, None, &plan, &go).unwrap();
        assert_eq!(bench.found(), complete("d/member/wal"));
        let (walk, marks, bytes) = laid_out(bench);
        assert_eq!(rebuilt.database_bytes, bytes.len() as u64);
        (rebuilt, walk, marks, bytes)
    };
    let (as_it_is, plain, ..) = rebuilt(Rewrite::Not, 0);
    assert_eq!((as_it_is.rewritten, as_it_is.compacted_bytes), (None, None));
    for rewrite in [Rewrite::Defragmented, Rewrite::Compacted] {
        let (.., first) = rebuilt(rewrite, 0);
        let (rebuilt, walk, _, bytes) = rebuilt(rewrite, 0);
        assert!(first == bytes, "two hosts get two databases");
        assert!(rebuilt.database_bytes < as_it_is.database_bytes);
        assert_eq!(
            (walk.hash_kv(), walk.summary.revision()),
            (plain.hash_kv(), plain.summary.revision())
        );
        assert_eq!(walk.summary.leases, plain.summary.leases);
        assert_eq!(walk.replayed.live_keys, plain.replayed.live_keys);
        let rewritten = rebuilt.rewritten.unwrap();
        assert_eq!(rewritten.bytes_before, SNAPSHOT.len() as u64 - 32);
        assert_eq!(rewritten.is_compacted, rewrite == Rewrite::Compacted);
        // What the new members take the place of.
        let free = walk.report.reachable().missing().count();
        assert!(free <= 3, "{free} free pages of {}", bytes.len() / 4096);
    }

    // Where revisions jump, no history is left.
    let (_, jumped, ..) = rebuilt(Rewrite::Not, 1000);
    let (small, walk, marks, _) = rebuilt(Rewrite::Compacted, 1000);
    assert_eq!(small.revision.get(), 1346);
    assert_eq!(walk.hash_kv(), jumped.hash_kv());
    assert_eq!(walk.replayed.live_keys, jumped.replayed.live_keys);
    // What raises them is a key, and none that clients see.
    assert_eq!(jumped.replayed.clients_keys(), plain.replayed.live_keys);
    assert_eq!(small.live_keys, as_it_is.live_keys);
    let live = walk.replayed.live_keys.unwrap();
    assert!(walk.replayed.entries <= live + 2, "{} of {live}", walk.replayed.entries);
    assert_eq!(
        (marks.scheduled.map(Revision::get), marks.finished.map(Revision::get)),
        (Some(1346), Some(346))
    );
}

#[test]
fn what_would_be_too_long_is_compacted_if_that_is_enough() {
    let rebuilt = |rewrite| {
        let bench = &Bench::each()[0];
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
        let plan = Plan {
            rewrite,
            ..bench.plan(None)
        };
        rebuild(source, None, &plan, &go).unwrap()
    };
    let long = SNAPSHOT.len() as u64 - 32;
    let compacted = rebuilt(Rewrite::ToFit { below: 1 }).compacted_bytes.unwrap();
    assert!(compacted < long);
    for (below, is_compacted) in [
        (compacted, false),
        (compacted + 1, true),
        (long, true),
        (long + 1, false),
    ] {
        let rebuilt = rebuilt(Rewrite::ToFit { below });
        assert_eq!(
            rebuilt.rewritten.is_some_and(|rewritten| rewritten.is_compacted),
            is_compacted
        );
        // It is asked only where it may be too long.
        assert_eq!(rebuilt.compacted_bytes, (below <= long).then_some(compacted));
        match is_compacted {
            true => assert!(rebuilt.database_bytes < compacted + (64 << 10)),
            false => assert!(rebuilt.database_bytes >= long),
        }
    }
}

#[test]
fn what_is_too_long_once_revisions_have_jumped_is_compacted_though_it_is_not_before() {
    let rebuilt = |below, bump| {
        let bench = &Bench::each()[0];
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
        let plan = Plan {
            rewrite: Rewrite::ToFit { below },
            bump: NonZeroU64::new(bump),
            ..bench.plan(None)
        };
        rebuild(source, None, &plan, &go).unwrap()
    };
    // One more entry, behind a leaf of at least a page.
    let below = SNAPSHOT.len() as u64 - 32 + 4096;
    assert!(rebuilt(below, 1000).rewritten.is_some());
    assert!(rebuilt(below, 0).rewritten.is_none());
}

#[test]
fn what_was_written_anew_is_founded_though_another_run_has_made_it() {
    let cluster: InitialCluster = "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:2381".parse().unwrap();
    let membership = Membership::new(&cluster, "token").unwrap();
    let own = membership.member("m2").unwrap();
    let mut made = Vec::new();
    for is_taken_up in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let home = Dir::open(place.path()).unwrap();
        let homes = Homes {
            data: &home,
            log: None,
            name: "x",
            owner: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        };
        let recorded = {
            let file = bbolt::File::open(&SNAPSHOT[..SNAPSHOT.len() - 32]).unwrap();
            Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {})
                .unwrap()
                .hash_kv()
        };
        let wish = Wish {
            bump: NonZeroU64::new(1000),
            line: None,
            digest: DigestRule::Required,
            rewrite: Rewrite::Compacted,
            expected: Some(Expected {
                sha256: Digest(
                    sha2::Digest::finalize(sha2::Digest::chain_update(
                        <sha2::Sha256 as sha2::Digest>::new(),
                        SNAPSHOT,
                    ))
                    .into(),
                ),
                revision: Revision::new(346).unwrap(),
                hash_kv: Some(recorded),
            }),
        };
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
        let (prepared, rebuilt) = prepare_in(homes, source, None, &wish, &go).unwrap();
        assert_eq!(rebuilt.proof, ContentProof::HashKv);
        let prepared = match is_taken_up {
            true => prepared_in(homes, "snapshot", &wish).unwrap(),
            false => prepared,
        };
        found_in(homes, Some(prepared), &membership, own).unwrap();
        assert!(is_founded_in(homes, &membership).unwrap());
        made.push(fs::read(place.path().join("x/member/snap/db")).unwrap());
    }
    assert!(made[0] == made[1], "who takes it up makes another one");
}
