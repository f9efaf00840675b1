//! The power is cut at every call that a run makes: what was not synced is lost, torn or there in another order. Afterwards there is
//! the old state or a complete new one, and the program goes on from it.
//!
//! A run is recorded by a library that stands before the C library's calls ([`recorder`]), so that the program under test is the one
//! that is released. The rest is computed ([`disk`]); the program is run again on a share of what is left.

mod disk;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::preload;
use super::support::random::Random;
use super::support::running::until;
use super::support::tools::Version;
use disk::{Left, Recording};
use lifeboat::restore::Ledger;

const RECORDER: &str = include_str!("../support/recorder.c");
const SNAPSHOT: &str = "tests/vectors/fixtures/etcd-3.4.23-rev6.snap";
/// The variable that names where a recorded restore and this test wait for each other.
pub const MARKS: &str = "LIFEBOAT_TEST_MARKS";
/// What stands beside data whose log is still to follow.
const WORD: &str = "published";
/// How many states are computed for each cut, and on how many of all the program is run again.
const STATES: u64 = 24;
const RUNS: usize = 8;

/// Records what a command does below a folder.
fn record(
    shim: &Path,
    root: &Path,
    mut command: Command,
    recording: &mut Recording,
    inodes: &mut std::collections::HashMap<u64, usize>,
) {
    let log = shim.with_extension("log");
    fs::remove_file(&log).ok();
    preload::into(&mut command, shim);
    command.env("RECORD_BELOW", root).env("RECORD_TO", &log);
    let done = command.output().expect("the program can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    recording.add(&fs::read(&log).expect("it was recorded"), inodes);
}

/// Cuts the power after every call. `judge` is shown each state that can be left; of the states that differ, some are given to
/// `go_on` as well, laid out on the disk.
fn cut_everywhere(recording: &Recording, judge: impl Fn(&Left), mut go_on: Option<&mut dyn FnMut(&Left)>) {
    let share = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (states, runs) = (
        share("LIFEBOAT_STATES").unwrap_or(STATES),
        share("LIFEBOAT_RUNS").map_or(RUNS, |runs| runs as usize),
    );
    let mut random = Random::new(share("LIFEBOAT_SEED").unwrap_or(1));
    let (mut seen, mut differ) = (HashSet::new(), Vec::new());
    let mut computed = 0_u64;
    for after in 0..=recording.calls() {
        for _ in 0..states {
            let left = recording.cut(after, &mut random);
            computed += 1;
            let mut hasher = DefaultHasher::new();
            left.hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                judge(&left);
                differ.push(left);
            }
        }
    }
    let mut run = 0;
    let runs = if go_on.is_some() { runs } else { 0 };
    while run < runs && !differ.is_empty() {
        let left = differ.swap_remove(usize::try_from(random.below(differ.len() as u64)).expect("an index"));
        recording.lay_out(&left);
        if let Some(go_on) = &mut go_on {
            go_on(&left);
        }
        run += 1;
    }
    eprintln!(
        "{} calls, {computed} states, {} of them differ, run again on {run}",
        recording.calls(),
        seen.len()
    );
}

/// What is left of a folder.
fn below<'a>(left: &'a Left, folder: &str) -> BTreeMap<&'a str, &'a Option<disk::Content>> {
    let inside = left
        .iter()
        .filter(|(path, _)| path.as_str() == folder || path.starts_with(&format!("{folder}/")));
    inside.map(|(path, content)| (path.as_str(), content)).collect()
}

fn root_of(host: &Host, name: &str) -> PathBuf {
    let root = host.path(name);
    fs::create_dir(&root).expect("the test's directory can be written");
    fs::canonicalize(root).expect("it is there")
}

#[test]
fn a_rebuild_that_loses_power_leaves_nothing_or_all_and_the_next_one_does_it() {
    rebuild(false);
}

#[test]
fn a_rebuild_with_a_log_directory_that_loses_power_leaves_no_log_without_data() {
    rebuild(true);
}

fn rebuild(has_log_directory: bool) {
    let host = Host::without_cluster();
    let Some(shim) = preload::shim(&host.path("shim"), RECORDER, "a library that records what is written") else {
        return;
    };
    let root = root_of(&host, "disk");
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    let (data_dir, wal_dir) = (root.join("data"), root.join("log"));
    let text = |path: &Path| path.to_str().expect("names are plain").to_owned();
    let mut arguments = vec![
        "rebuild".to_owned(),
        text(&snapshot),
        "--data-dir".to_owned(),
        text(&data_dir),
    ];
    if has_log_directory {
        arguments.extend(["--wal-dir".to_owned(), text(&wal_dir)]);
    }
    let (mut recording, mut inodes) = Recording::of(&root);
    record(&shim, &root, host.command(&arguments), &mut recording, &mut inodes);
    let done = recording.at_last();
    let (data, log) = (below(&done, "/data"), below(&done, "/log"));
    assert!(
        data.len() > 3 && log.is_empty() != has_log_directory,
        "{:?}",
        done.keys()
    );
    let names = |left: &Left| left.keys().cloned().collect::<Vec<_>>();
    let is_there = |left: &Left| {
        let (has_data, has_log) = (below(left, "/data"), below(left, "/log"));
        // Beside the data stands a word while the log is not there yet.
        let of_done = |path: &&str| data.contains_key(path);
        let whole = has_data.is_empty() || data.iter().all(|(path, content)| has_data.get(path) == Some(content));
        assert!(whole, "neither nothing nor all of the data: {:?}", names(left));
        assert!(
            has_log.is_empty() || has_log == log,
            "neither nothing nor all of the log: {:?}",
            names(left)
        );
        assert!(
            has_log.is_empty() || !has_data.is_empty(),
            "a log without data: {:?}",
            names(left)
        );
        let others = has_data.keys().filter(|path| !of_done(path)).count();
        assert!(
            others == 0 || has_log.is_empty() && has_log_directory,
            "{:?}",
            names(left)
        );
        !has_data.is_empty() && others == 0 && (!has_log_directory || !has_log.is_empty())
    };
    cut_everywhere(
        &recording,
        |left| {
            is_there(left);
        },
        Some(&mut |left| {
            word_fits(&root, left);
            let again = host.lifeboat(&arguments);
            match is_there(left) {
                true => drop(again.expect_code(7)),
                false => drop(again.expect_code(0)),
            }
            let (now, _) = Recording::of(&root);
            let now = now.at_first();
            assert_eq!(
                below(&now, "/data").keys().collect::<Vec<_>>(),
                data.keys().collect::<Vec<_>>()
            );
            assert!(
                data.iter().all(|(path, content)| now.get(*path) == Some(*content)),
                "{path:?}",
                path = names(&now)
            );
            assert_eq!(below(&now, "/log"), log);
            // Of one that had all, the leftovers go with the next run elsewhere.
            let partial = now.keys().filter(|path| path.contains(".partial")).count();
            assert!(partial == 0 || is_there(left), "{:?}", names(&now));
        }),
    );
}

/// The database is known again by its inode and the time of its last change, which the disk of this test gives anew.
fn word_fits(root: &Path, left: &Left) {
    let is_word = |path: &&String| path.contains(".partial") && path.ends_with(WORD);
    let Some((word, databases)) = left.keys().find(is_word).map(|word| {
        let databases = left.keys().filter(|path| path.ends_with("member/snap/db"));
        (
            root.join(&word[1..]),
            databases.map(|path| root.join(&path[1..])).collect::<Vec<_>>(),
        )
    }) else {
        return;
    };
    let text = fs::read_to_string(&word).expect("it is plain");
    let Some((numbers, log)) = text.split_once('\n') else {
        return;
    };
    let numbers: Vec<&str> = numbers.split(' ').collect();
    let [_, bytes, seconds, nanoseconds] = numbers[..] else {
        return;
    };
    let (Ok(whole), Ok(part)) = (seconds.parse(), nanoseconds.parse()) else {
        return;
    };
    for database in databases {
        let file = fs::File::options().write(true).open(database).expect("it is there");
        let modified = std::time::UNIX_EPOCH + std::time::Duration::new(whole, part);
        file.set_modified(modified).expect("it is this test's");
        let inode = file.metadata().expect("it is open").ino();
        fs::write(&word, format!("{inode} {bytes} {seconds} {nanoseconds}\n{log}")).expect("it is this test's");
    }
}

#[test]
fn a_backup_that_loses_power_is_there_or_not_and_the_next_one_is_taken() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    etcd.client().put("/a", "b", 0).expect("it runs");
    let host = Host::new(&etcd);
    let Some(shim) = preload::shim(&host.path("shim"), RECORDER, "a library that records what is written") else {
        return;
    };
    // Store and state are on the disk that loses its power.
    let root = root_of(&host, "disk");
    for folder in ["store", "state"] {
        fs::remove_dir_all(host.path(folder)).expect("it is there");
        fs::create_dir(root.join(folder)).expect("it is new");
        std::os::unix::fs::symlink(root.join(folder), host.path(folder)).expect("it is new");
    }
    let (mut recording, mut inodes) = Recording::of(&root);
    host.reconfigure(
        &host.store().display().to_string(),
        &root.join("store").display().to_string(),
    );
    let command = |arguments: &[&str]| {
        let mut command = host.command(arguments);
        command.env("STATE_DIRECTORY", root.join("state"));
        command
    };
    for _ in 0..2 {
        record(&shim, &root, command(&["backup"]), &mut recording, &mut inodes);
    }
    let done = recording.at_last();
    let is_document = |path: &str| path.ends_with(".json") || path.ends_with(".age") || path.ends_with(".key");
    let documents: Vec<&String> = done.keys().filter(|path| is_document(path)).collect();
    let manifests = |left: &Left| left.keys().filter(|path| path.contains("/full-")).count();
    assert!(documents.len() > 5 && manifests(&done) == 2, "{documents:?}");
    let mut had: BTreeMap<String, Vec<disk::Content>> = BTreeMap::new();
    for after in 0..=recording.calls() {
        for (path, content) in recording.all_kept(after) {
            if let Some(content) = content.filter(|_| is_document(&path)) {
                let contents = had.entry(path).or_default();
                if !contents.contains(&content) {
                    contents.push(content);
                }
            }
        }
    }
    let fault = |left: &Left| {
        for (path, content) in left.iter().filter(|(path, _)| is_document(path)) {
            let content = content.as_ref().expect("documents are files");
            if !had[path].contains(content) {
                let bytes = content.bytes();
                return Some(format!("{path} is a part: {:?}", String::from_utf8_lossy(&bytes)));
            }
        }
        for manifest in left.keys().filter(|path| path.contains("/full-")) {
            let (folder, _) = manifest.rsplit_once('/').expect("it is in one");
            if !left.contains_key(&format!("{folder}/full.db.zst.age")) {
                return Some(format!("{manifest} is there without its object"));
            }
        }
        None
    };
    // A program that syncs nothing does not get through.
    let careless = recording.without_syncs();
    let mut random = Random::new(1);
    let mut states = (0..=careless.calls()).map(|after| careless.cut(after, &mut random));
    assert!(states.any(|left| fault(&left).is_some()), "such a check finds nothing");
    cut_everywhere(
        &recording,
        |left| assert_eq!(fault(left), None),
        Some(&mut |left| {
            let run = |arguments: &[&str]| {
                let done = command(arguments).output().expect("it runs");
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                (
                    done.status.code(),
                    String::from_utf8_lossy(&done.stdout).into_owned(),
                    said,
                )
            };
            let before = manifests(left);
            let (code, told, said) = run(&["--json", "list", "--all"]);
            let listed: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
            let count = listed["backups"].as_array().map(Vec::len);
            if before > 0 {
                assert_eq!((code, count), (Some(0), Some(before)), "{said}\n{:?}", left.keys());
            }
            let (code, _, said) = run(&["backup"]);
            assert_eq!(code, Some(0), "{said}\n{:?}", left.keys());
            let identity = host.identity().display().to_string();
            let (code, told, said) = run(&["--json", "verify", "--all", "--identity", &identity]);
            assert_eq!(code, Some(0), "{said}\n{told}");
            let (now, _) = Recording::of(&root);
            let now = now.at_first();
            assert_eq!(manifests(&now), before + 1);
        }),
    );
}

#[test]
fn a_restore_that_loses_power_leaves_the_old_data_whole_and_no_etcd_starts_on_anything_else() {
    if Etcd::plan(Version::V3_5, Options::default()).is_none() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory can be made");
    let place = fs::canonicalize(place.path())
        .map(|path| (path, place))
        .expect("it is there");
    let (place, _kept) = (place.0, place.1);
    let Some(shim) = preload::shim(&place.join("shim"), RECORDER, "a library that records what is written") else {
        return;
    };
    let (log, disk) = (shim.with_extension("log"), place.join("disk"));
    fs::create_dir(&disk).expect("it is new");
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--exact", "restore::a_restore_is_recorded", "--ignored", "--nocapture"]);
    preload::into(&mut command, &shim);
    command.env("TMPDIR", &disk).env(MARKS, &place);
    command.env("RECORD_BELOW", &disk).env("RECORD_TO", &log);
    let mut child = command.spawn().expect("the test can be started");
    until("the old data is there", || {
        let ended = child.try_wait().expect("it is our own child");
        assert!(ended.is_none(), "it ended: {ended:?}");
        place.join("home").exists()
    });
    let home = PathBuf::from(fs::read_to_string(place.join("home")).expect("it was written"));
    // What was recorded so far made the old data; its calls are of no concern, and etcd's own were not seen.
    let before = fs::metadata(&log).map_or(0, |log| log.len());
    let (mut recording, mut inodes) = Recording::of(&home);
    fs::write(place.join("go"), "").expect("it is new");
    assert!(child.wait().expect("it is our own child").success());
    let recorded = fs::read(&log).expect("it was recorded");
    recording.add(&recorded[usize::try_from(before).expect("it is small")..], &mut inodes);

    let (first, done) = (recording.at_first(), recording.at_last());
    let member = "/m1.etcd/member";
    let inside = |left: &Left, folder: &str| {
        let found = below(left, folder).into_iter();
        let found = found.map(|(path, content)| (path[folder.len()..].to_owned(), content.clone()));
        found.collect::<Vec<_>>()
    };
    let old = inside(&first, member);
    assert!(
        old.len() > 4 && inside(&done, member) != old,
        "it was swapped: {:?}",
        done.keys()
    );
    let guard = "/etcd.service.d/50-lifeboat-guard.conf";
    assert!(
        done.contains_key(guard) && done.contains_key("/restore/ledger.json"),
        "{:?}",
        done.keys()
    );
    let fault = |left: &Left| {
        // After a boot nothing is left in /run. The guard holds while there is a lock or a ledger.
        let is_guarded = left.get(guard) == done.get(guard);
        let is_held = left.contains_key("/restore/held") || left.contains_key("/restore/ledger.json");
        if !(is_guarded && is_held) && inside(left, member) != old {
            return Some("etcd would start on something else than the old data");
        }
        let places = left
            .keys()
            .filter(|path| path.starts_with("/m1.etcd/") && path.ends_with("/member"));
        if !places.into_iter().any(|place| inside(left, place) == old) {
            return Some("the old data is nowhere");
        }
        let ledger = left.get("/restore/ledger.json").and_then(Option::as_ref);
        if ledger.is_some_and(|ledger| serde_json::from_slice::<Ledger>(&ledger.bytes()).is_err()) {
            return Some("the ledger is a part");
        }
        // What was swapped in is what was made, all of it.
        let live = inside(left, member);
        let is_made = live == inside(&done, member);
        (!is_made && live != old && !live.is_empty())
            .then_some("what is live is neither the old data nor all of the new")
    };
    let careless = recording.without_syncs();
    let mut random = Random::new(1);
    let mut states = (0..=careless.calls()).map(|after| careless.cut(after, &mut random));
    assert!(states.any(|left| fault(&left).is_some()), "such a check finds nothing");
    let names = |left: &Left| left.keys().cloned().collect::<Vec<_>>();
    cut_everywhere(
        &recording,
        |left| assert_eq!(fault(left), None, "{:?}", names(left)),
        None,
    );
}
