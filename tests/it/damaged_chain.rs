//! What is damaged, missing, doubled or overlaps behind a full backup, of a real capture: it is named, and nothing wrong is
//! restored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::json::Page;
use super::support::client::HashKv;
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, Output, files_below};
use super::support::running::until;
use super::support::tools::Version;

const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"1s\"\nmax_bytes = \"64KiB\"\n";

/// A chain that has everything: deltas, a pack of the first of them, a mark, and two epochs, the second of which ended it.
struct Chain {
    etcd: Etcd,
    host: Host,
    id: String,
    dir: PathBuf,
    /// What the server said of each of its revisions.
    hashes: BTreeMap<i64, HashKv>,
    /// The last revision of the pack.
    packed: i64,
    tip: i64,
}

impl Chain {
    fn capture() -> Option<Chain> {
        let etcd = Etcd::start(Version::V3_6, Options::default())?;
        let client = etcd.client();
        client.put("/begun", "x", 0).unwrap();
        let host = Host::new(&etcd);
        host.configure(&etcd, DELTAS);
        let window = |host: &Host| host.lifeboat(["--json", "list"]).json()["windows"][0].clone();
        let agent = host.start(["agent"]);
        until("the first backup", || !window(&host).is_null());
        let id = window(&host)["chain"].as_str().unwrap().to_owned();
        let store = host.store();
        let manifest = files_below(&store).into_iter().find(|file| {
            let file = file.to_str().unwrap();
            file.contains(&id) && file.contains("full-") && file.ends_with(".json")
        });
        let dir = store.join(manifest.unwrap().parent().unwrap());
        let stored = |revision| {
            until("it to be stored", || {
                window(&host)["to_revision"].as_i64() >= Some(revision)
            })
        };
        // Each is large enough for a delta of its own.
        for number in 0..17 {
            client
                .put(&format!("/large/{number}"), vec![number; 70_000], 0)
                .unwrap();
        }
        until("a pack", || !files(&dir, ".pack").is_empty());
        for number in 0..3 {
            stored(client.put("/small", number.to_string(), 0).unwrap());
        }
        stored(client.delete("/begun").unwrap());
        until("a mark", || !files(&dir, ".mark").is_empty());
        agent.signal("TERM");
        agent.wait().expect_code(0);
        let from = window(&host)["from_revision"].as_i64().unwrap();
        let tip = window(&host)["to_revision"].as_i64().unwrap();
        let hashes = (from..=tip).map(|revision| (revision, client.hash_kv(revision).unwrap()));
        let hashes = hashes.collect();
        // What comes now is compacted before it is captured.
        client.put("/lost", "x", 0).unwrap();
        let last = client.put("/lost", "y", 0).unwrap();
        client.compact(last).unwrap();
        let agent = host.start(["agent"]);
        until("the end to be declared", || !files(&dir, ".gap").is_empty());
        agent.signal("TERM");
        agent.wait().expect_code(0);
        let pack = files(&dir, ".pack").into_iter().max_by_key(|file| span(file)).unwrap();
        Some(Chain {
            packed: span(&pack).1,
            etcd,
            host,
            id,
            dir,
            hashes,
            tip,
        })
    }

    /// The chain at a revision, laid out; nothing is left where that is refused.
    fn at(&self, revision: i64) -> Output {
        let target = Etcd::plan(self.etcd.version, Options::default()).expect("it was there before");
        let args = self.host.rebuild_args(&format!("{}:{revision}", self.id), &target, 0);
        let done = self.host.lifeboat(args.iter().map(String::as_str).chain(["--json"]));
        assert_eq!(target.members[0].data_dir.exists(), done.code == 0, "{}", done.stderr);
        done
    }

    /// It comes back as the server had it.
    #[track_caller]
    fn is_right_at(&self, revision: i64) -> Output {
        let done = self.at(revision).expect_code(0);
        let (hash, then) = (&done.json()["hash_kv"], self.hashes[&revision]);
        assert_eq!(hash["hash"], then.hash, "at {revision}");
        done
    }

    /// The deltas that no pack holds, in order.
    fn loose(&self) -> Vec<PathBuf> {
        let mut loose = files(&self.dir, ".delta");
        loose.retain(|file| span(file).0 > self.packed);
        assert!(loose.len() > 1, "{loose:?}");
        loose
    }
}

/// The files of a chain that end so, in order.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let all = files_below(dir).into_iter().map(|file| dir.join(file));
    all.filter(|file| file.to_string_lossy().ends_with(suffix)).collect()
}

/// The revisions in a name.
fn span(file: &Path) -> (i64, i64) {
    let name = name(file);
    let mut parts = name.split(['-', '.']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap())
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Does something while a file has other bytes.
fn with<T>(file: &Path, change: impl FnOnce(&mut Vec<u8>), done: impl FnOnce() -> T) -> T {
    let good = fs::read(file).unwrap();
    let mut bad = good.clone();
    change(&mut bad);
    assert_ne!(good, bad);
    fs::write(file, &bad).unwrap();
    let done = done();
    fs::write(file, &good).unwrap();
    done
}

/// Changes a byte of the head, or one near the end.
fn flips() -> [fn(&mut Vec<u8>); 2] {
    [
        |bytes| bytes[60] ^= 1,
        |bytes| {
            let at = bytes.len() - 20;
            bytes[at] ^= 1;
        },
    ]
}

#[test]
fn what_is_damaged_missing_doubled_or_overlaps_is_named_and_nothing_wrong_is_restored() {
    let Some(chain) = Chain::capture() else { return };
    let (tip, packed) = (chain.tip, chain.packed);
    let from = *chain.hashes.keys().next().unwrap();
    for revision in [from, from + 1, packed, tip] {
        chain.is_right_at(revision);
    }

    // A delta, of which there is nothing else.
    let loose = chain.loose();
    let (last, before) = (&loose[loose.len() - 1], span(&loose[loose.len() - 1]).0 - 1);
    for flip in flips() {
        with(last, flip, || {
            chain.at(tip).expect_code(5).says(&[&name(last)]);
            chain.is_right_at(before);
        });
    }
    with(
        last,
        |bytes| bytes.truncate(bytes.len() / 2),
        || {
            chain.at(tip).expect_code(5).says(&[&name(last)]);
            chain.is_right_at(before);
        },
    );

    // A pack: what it is made of is there still.
    let pack = files(&chain.dir, ".pack")
        .into_iter()
        .max_by_key(|file| span(file))
        .unwrap();
    let inside = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    with(&pack, flips()[0], || chain.is_right_at(tip).says(&[&name(&pack)]));
    with(&pack, inside, || chain.is_right_at(tip).says(&[&name(&pack)]));
    // Its index is for those who seek in it, and what it says is not needed here.
    with(&pack, flips()[1], || chain.is_right_at(tip));
    // It is all that there is.
    let mut held: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for delta in files(&chain.dir, ".delta") {
        if span(&delta).1 <= packed {
            held.push((delta.clone(), fs::read(&delta).unwrap()));
            fs::remove_file(&delta).unwrap();
        }
    }
    assert!(held.len() > 10);
    chain.is_right_at(from + 1);
    chain.is_right_at(tip);
    for flip in [flips()[0], inside] {
        with(&pack, flip, || {
            chain.at(tip).expect_code(5).says(&[&name(&pack)]);
            chain.is_right_at(from);
        });
    }
    with(&pack, flips()[1], || chain.is_right_at(packed));
    held.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());

    // A mark and the words of who writes: no restore to a revision depends on them.
    let marks = files(&chain.dir, ".mark");
    let epochs = files(&chain.dir.join("epochs"), ".json");
    assert_eq!(epochs.len(), 2, "{epochs:?}");
    for file in [&marks[0], &epochs[0], &epochs[1]] {
        with(file, flips()[0], || {
            chain.is_right_at(tip);
            chain.host.lifeboat(["list"]).expect_code(0);
        });
    }
    // The word that the chain has ended still ends it; why, cannot be read.
    let gap = &files(&chain.dir, ".gap")[0];
    let window = || {
        let listed = chain.host.lifeboat(["--json", "list"]).expect_code(0).json();
        let mut windows = listed["windows"].as_array().unwrap().iter();
        windows
            .find(|window| window["chain"] == chain.id.as_str())
            .unwrap()
            .clone()
    };
    let ends = || window()["ends"].as_str().unwrap_or_default().to_owned();
    assert!(ends().contains("etcd had compacted"), "{}", ends());
    with(gap, flips()[0], || {
        assert!(ends().contains("cannot be read"), "{}", ends());
        chain.is_right_at(tip);
    });

    // A link that is missing.
    let missing = &loose[0];
    let bytes = fs::read(missing).unwrap();
    fs::remove_file(missing).unwrap();
    let (first, behind) = span(missing);
    assert_eq!(window()["to_revision"], first - 1);
    assert!(ends().contains("are missing"), "{}", ends());
    chain
        .at(tip)
        .expect_code(4)
        .says(&[&format!("revisions {first} to {behind} are missing")]);
    chain.is_right_at(first - 1);

    // What another is called like, or what claims to be more than it is, takes the place of none.
    let named =
        |from: i64, to: i64, epoch: u32| missing.with_file_name(format!("{from:020}-{to:020}.{epoch:08}.delta"));
    let wide = named(first, tip, 7);
    fs::copy(last, &wide).unwrap();
    chain.at(tip).expect_code(5).says(&[&name(&wide)]);
    chain.at(first).expect_code(5).says(&[&name(&wide)]);
    chain.is_right_at(first - 1);
    fs::write(missing, &bytes).unwrap();
    chain.is_right_at(tip).says(&[&name(&wide)]);
    let double = named(first, behind, 8);
    fs::copy(missing, &double).unwrap();
    chain.is_right_at(tip);
    fs::remove_file(&wide).unwrap();
    fs::remove_file(&double).unwrap();

    // Its full backup is gone: what follows it is shown, and why it is of no use, and what to do.
    let full: Vec<PathBuf> = ["full.db.zst.age", ".json"]
        .into_iter()
        .flat_map(|end| files(&chain.dir, end))
        .filter(|file| name(file).starts_with("full"))
        .collect();
    assert_eq!(full.len(), 2, "{full:?}");
    let aside = |file: &Path| file.with_extension("aside");
    let moved = |from: &Path, to: &Path| fs::rename(from, to).unwrap();
    let manifest = full.iter().find(|file| name(file).ends_with(".json")).unwrap();
    moved(manifest, &aside(manifest));
    let shown = chain.host.lifeboat(["show", &chain.id]).expect_code(4);
    shown.says(&["has no manifest in local", "next: "]);
    full.iter()
        .filter(|file| *file != manifest)
        .for_each(|file| moved(file, &aside(file)));
    let shown = chain.host.lifeboat(["show", &chain.id]).expect_code(4).says(&[
        "is in no destination that was read",
        &format!("--from OTHER --to local {}", chain.id),
    ]);
    for part in [
        format!("of revisions {} to {tip}", from + 1),
        format!("ends before    revision {}", tip + 1),
        "stored in      local: ".to_owned(),
    ] {
        assert!(shown.stdout.contains(&part), "no `{part}` in {}", shown.stdout);
    }
    let shown = chain.host.lifeboat(["--json", "show", &chain.id]).expect_code(4).json();
    Page::read().check("show", &shown, &mut BTreeSet::new());
    assert_eq!(shown["headless"]["stretches"][0]["to_revision"], tip, "{shown}");
    // What is not there at all is not found.
    chain
        .host
        .lifeboat(["show", "20010101T000000Z-00000000"])
        .expect_code(4)
        .says(&["next: "]);
    full.iter().for_each(|file| moved(&aside(file), file));
    chain.is_right_at(tip);

    // One destination has it whole, and the other one not.
    chain.host.add_destination("far");
    chain
        .host
        .lifeboat(["copy", "--from", "local", "--to", "far"])
        .expect_code(0);
    with(last, flips()[1], || chain.is_right_at(tip));
    let far = chain.host.path("far").join(CLUSTER);
    let far = files_below(&far)
        .into_iter()
        .map(|file| far.join(file))
        .find(|file| name(file) == name(last))
        .unwrap();
    with(&far, flips()[1], || chain.is_right_at(tip));
    with(&far, flips()[1], || {
        with(last, flips()[0], || {
            chain.at(tip).expect_code(5).says(&[&name(last)]);
            chain.is_right_at(before);
        });
    });
    // Packs and deltas, again and again the same, overlap from the beginning on: all that is needed is there.
    assert_eq!(window()["to_revision"], tip);
}
