//! `verify` of what a real agent has captured of a real etcd: every byte of deltas and packs counts, and what is wrong is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::Page;
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, files_below};
use super::support::random::Random;
use super::support::running::until;
use super::support::tools::Version;

/// Each put of the test is a delta of its own, so that packs come soon.
const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"1s\"\nmax_bytes = \"64KiB\"\n";

/// A file of the chain, and the revisions in its name.
#[derive(Debug, Clone)]
struct Object {
    path: PathBuf,
    from: i64,
    to: i64,
}

fn objects(store: &Path, ending: &str) -> Vec<Object> {
    let of = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned();
        let (from, rest) = name.split_once('-')?;
        let (to, _) = rest.split_once('.')?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        Some(Object { path, from, to })
    };
    let files = files_below(store).into_iter().map(|path| store.join(path));
    let mut objects: Vec<Object> = files.filter_map(of).collect();
    objects.sort_by_key(|object| (object.from, object.to));
    objects
}

struct Case {
    host: Host,
    far: PathBuf,
    chain: String,
    last: i64,
}

impl Case {
    fn verify(&self, code: i32, more: &[&str]) -> Value {
        let args = [&["--json", "verify", "latest"][..], more].concat();
        self.host.lifeboat(args).expect_code(code).json()
    }

    /// What was found behind the copy in a destination.
    fn deltas(found: &Value, destination: &str) -> Value {
        let copies = found["checked"][0]["destinations"].as_array().unwrap();
        let copy = copies.iter().find(|copy| copy["name"] == destination).unwrap();
        assert_eq!(copy["ok"], true, "the backup itself is good: {found}");
        copy["deltas"].clone()
    }

    /// That this damage of an object in `local` is found, with and without a key; then it is undone.
    #[track_caller]
    fn finds(&self, object: &Object, good_to: Option<i64>, says: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let sound = fs::read(&object.path).unwrap();
        let mut spoilt = sound.clone();
        damage(&mut spoilt);
        fs::write(&object.path, spoilt).unwrap();
        let identity = self.host.identity().display().to_string();
        for more in [&[][..], &["--identity", &identity]] {
            let found = self.verify(5, more);
            let local = Case::deltas(&found, "local");
            let fault = &local["faults"][0];
            assert_eq!(local["faults"].as_array().map(Vec::len), Some(1), "{local}");
            assert!(text(&fault["object"]).ends_with(name(object)), "{fault}");
            assert!(text(&fault["fault"]).contains(says), "{fault}");
            assert_eq!(fault["good_to_revision"].as_i64(), good_to, "{fault}");
            assert_eq!(Case::deltas(&found, "far")["ok"], true, "{found}");
            assert_eq!(found["checked"][0]["ok"], false, "{found}");
        }
        fs::write(&object.path, sound).unwrap();
    }
}

fn name(object: &Object) -> &str {
    object.path.file_name().and_then(|name| name.to_str()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Twenty deltas in two destinations, the first sixteen of which are a pack.
fn case() -> Option<Case> {
    let etcd = Etcd::start(Version::V3_6, Options::default())?;
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let far = host.add_destination("far");
    let agent = host.start(["agent"]);
    let window = || host.lifeboat(["--json", "list"]).json()["windows"][0].clone();
    until("the first backup", || !window().is_null());
    let (mut random, mut last) = (Random::new(3), 0);
    let stores = [host.store(), far.clone()];
    let is_there = |to: i64| {
        let reaches = |store: &PathBuf| objects(store, ".delta").last().is_some_and(|delta| delta.to >= to);
        stores.iter().all(reaches)
    };
    let is_packed = || stores.iter().all(|store| !objects(store, ".pack").is_empty());
    for number in 0..20 {
        let value: String = (0..70 << 10)
            .map(|_| char::from(b'a' + random.below(26) as u8))
            .collect();
        last = client.put(&format!("/key/{}", number % 3), value.as_str(), 0).unwrap();
        until("the delta of each", || is_there(last));
    }
    until("a pack", is_packed);
    // The pack is not of all: what comes behind it stands for itself.
    client.put("/one-more", "x", 0).unwrap();
    last = client.put("/key/0", "x", 0).unwrap().max(last);
    until("the last delta", || is_there(last));
    let is_marked = |store: &PathBuf| {
        files_below(store)
            .iter()
            .any(|path| path.extension().is_some_and(|e| e == "mark"))
    };
    until("a mark", || stores.iter().all(is_marked));
    agent.signal("TERM");
    drop(agent.wait());
    let chain = text(&window()["chain"]).to_owned();
    Some(Case { host, far, chain, last })
}

#[test]
fn deltas_and_packs_are_read_and_what_is_wrong_with_them_is_named() {
    let Some(case) = case() else { return };
    let (host, chain, last) = (&case.host, &case.chain, case.last);
    let identity = host.identity().display().to_string();
    let (page, mut seen) = (Page::read(), BTreeSet::new());
    for more in [&[][..], &["--identity", &identity]] {
        let found = case.verify(0, more);
        page.check("verify", &found, &mut seen);
        for destination in ["local", "far"] {
            let deltas = Case::deltas(&found, destination);
            assert_eq!(
                (&deltas["ok"], &deltas["left"]),
                (&Value::from(true), &Value::from(0)),
                "{deltas}"
            );
            assert_eq!(
                (&deltas["to_revision"], &deltas["good_to_revision"]),
                (&Value::from(last), &Value::from(last))
            );
            assert_eq!(deltas["opened"], !more.is_empty(), "{deltas}");
            let why = match more {
                [] => Value::from("no identity was given"),
                [..] => Value::Null,
            };
            assert_eq!(
                (&deltas["not_opened"], &found["checked"][0]["not_opened"]),
                (&why, &why)
            );
            assert!(deltas["objects"].as_u64() > Some(20), "{deltas}");
        }
    }
    let told = host.lifeboat(["verify", "--identity", &identity]).expect_code(0).stdout;
    assert!(told.contains(&format!("good  {chain} in local, deltas: ")), "{told}");
    assert!(
        told.contains(&format!("intact (decrypted), every point to revision {last}")),
        "{told}"
    );

    // What a key alone shows was not looked at, and that is said.
    let keyless = host.lifeboat(["verify"]).expect_code(0).stdout;
    let depth =
        format!("every point to revision {last} by names and heads (records were not opened: no identity was given)");
    assert!(
        keyless.contains(&depth) && keyless.contains("not looked at: "),
        "{keyless}"
    );
    assert!(!told.contains("not looked at: "), "{told}");

    // What the pack holds is there by itself, too: nothing is lost by either.
    let pack = objects(&host.store(), ".pack").remove(0);
    let deltas = objects(&host.store(), ".delta");
    let packed: Vec<&Object> = deltas.iter().filter(|delta| delta.to <= pack.to).collect();
    let alone: Vec<&Object> = deltas.iter().filter(|delta| delta.from > pack.to).collect();
    assert!(packed.len() >= 16 && alone.len() >= 2, "{deltas:?}");
    case.finds(packed[3], None, "damaged", |bytes| *bytes.last_mut().unwrap() ^= 1);
    case.finds(&pack, None, "damaged", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    // As it is once what was packed is removed.
    packed.iter().for_each(|delta| fs::remove_file(&delta.path).unwrap());
    case.verify(0, &["--identity", &identity]);
    let base = Some(pack.from - 1);
    case.finds(&pack, base, "damaged", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    case.finds(&pack, base, "damaged", |bytes| *bytes.last_mut().unwrap() ^= 1);

    let before = Some(alone[1].from - 1);
    case.finds(alone[1], before, "their SHA-256 is", |bytes| {
        *bytes.last_mut().unwrap() ^= 1
    });
    case.finds(alone[1], before, "first bytes are damaged", |bytes| bytes.fill(0));
    case.finds(alone[1], before, "there are ", |bytes| bytes.truncate(bytes.len() - 7));
    case.finds(alone[1], before, "first bytes are damaged", |bytes| bytes.truncate(20));
    let other = fs::read(&alone[0].path).unwrap();
    case.finds(alone[1], before, "place", |bytes| *bytes = other);
    case.verify(0, &[]);

    // A link that is missing, and the way back by what the other destination has.
    fs::remove_file(&alone[0].path).unwrap();
    let missing = host.lifeboat(["verify"]).expect_code(5);
    let from = alone[0].from;
    assert_eq!(from, alone[0].to, "each put is a delta of its own");
    for part in [
        format!("BAD   {chain} in local, deltas: nothing that is stored holds revision {from}"),
        format!("revision {} is the last good one before it", from - 1),
        format!(" --from far --to local {chain}`"),
    ] {
        assert!(missing.stdout.contains(&part), "{}", missing.stdout);
    }
    assert!(!missing.stdout.contains("prune --damaged"), "{}", missing.stdout);
    // It is remembered beside the backup, which is none the worse for it.
    let listed = host.lifeboat(["list"]).expect_code(0);
    assert!(
        listed.stderr.contains(&format!("deltas of {chain} are bad in local")),
        "{}",
        listed.stderr
    );
    assert_eq!(
        host.lifeboat(["--json", "list"]).json()["backups"][0]["faults"],
        serde_json::json!([])
    );
    let status = host.lifeboat(["status"]).expect_code(1);
    assert!(status.stdout.contains("are bad in local"), "{}", status.stdout);
    // Where no destination has it, what is left is said.
    let there = objects(&case.far, ".delta")
        .into_iter()
        .find(|delta| delta.from == from)
        .unwrap();
    let sound = fs::read(&there.path).unwrap();
    fs::remove_file(&there.path).unwrap();
    let found = case.verify(5, &[]);
    page.check("verify", &found, &mut seen);
    let next = Case::deltas(&found, "local")["next"].clone();
    assert!(text(&next).contains(&format!("behind revision {}", from - 1)), "{next}");
    fs::write(&there.path, sound).unwrap();
    host.lifeboat(["copy", "--from", "far", "--to", "local", chain])
        .expect_code(0);
    case.verify(0, &["--identity", &identity]);
    let listed = host.lifeboat(["list"]).expect_code(0);
    assert!(!listed.stderr.contains("are bad"), "{}", listed.stderr);
    for field in ["checked_deltas.next", "delta_fault.good_to_revision"] {
        assert!(seen.contains(field), "{seen:?}");
    }
    assert!(host.store().join(CLUSTER).exists());
}
