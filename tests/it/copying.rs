//! Copies between destinations: by hand, and by the agent for one that was away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, files_below};
use super::support::running::{Running, until};
use super::support::shared;
use super::support::slow::Slow;
use super::support::tools::Version;

/// Paths of manifests, and their bytes.
type Manifests = BTreeSet<(String, Vec<u8>)>;

/// The backups of a destination by their manifests.
fn manifests(store: &Path) -> Manifests {
    let files = files_below(store).into_iter();
    let files = files.filter(|file| file.display().to_string().contains("/full-"));
    files
        .map(|file| (file.display().to_string(), fs::read(store.join(&file)).unwrap()))
        .collect()
}

#[test]
fn what_a_destination_lacks_is_copied_as_it_is_and_once() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let first = host.backup();
    let far = host.add_destination("far");
    let second = host
        .lifeboat(["backup", "--to", "local"])
        .expect_code(0)
        .stdout
        .trim()
        .to_owned();
    host.lifeboat(["pin", &first]).expect_code(0);
    let one = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far", &first])
        .expect_code(0);
    assert_eq!(one.json()["copied"], serde_json::json!([first]));
    let there = host.lifeboat(["--json", "list", "--destination", "far"]).json();
    assert_eq!(there["backups"][0]["pinned"], true, "{there}");
    // Cut off after its object: the next copy goes on.
    let object = files_below(&host.store()).into_iter().find(|file| {
        let file = file.display().to_string();
        file.contains(&second) && file.ends_with(".age")
    });
    let object = object.unwrap();
    fs::create_dir_all(far.join(&object).parent().unwrap()).unwrap();
    fs::copy(host.store().join(&object), far.join(&object)).unwrap();
    let rest = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far"])
        .expect_code(0);
    assert_eq!(rest.json()["copied"], serde_json::json!([second]));
    assert_eq!(manifests(&host.store()), manifests(&far));
    let again = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far", &first])
        .expect_code(0);
    assert_eq!(again.json()["had"], serde_json::json!([first]));
    host.lifeboat(["verify", "--all", "--destination", "far"])
        .expect_code(0);
    host.lifeboat(["copy", "--from", "far", "--to", "nowhere"])
        .expect_code(2);
    // One whose bytes are not those of the backup is refused.
    fs::remove_dir_all(far.join(CLUSTER).join(object.components().nth(1).unwrap())).unwrap();
    fs::write(host.store().join(&object), b"rotten").unwrap();
    let bad = host.lifeboat(["copy", "--from", "local", "--to", "far", &second]);
    bad.expect_code(5)
        .says(&[&second, "in destination local is bad", "`--from`"]);
    assert!(!manifests(&far).iter().any(|(name, _)| name.contains(&second)));
    // Without IDs it is none of those that are meant.
    let others = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far"])
        .expect_code(0);
    assert_eq!(others.json()["copied"], serde_json::json!([first]));
    // One that was lost there is not there.
    let first_there = files_below(&far).into_iter().find(|file| {
        let file = file.display().to_string();
        file.contains(&first) && file.ends_with(".age")
    });
    fs::remove_file(far.join(first_there.unwrap())).unwrap();
    for args in [
        &["copy", "--from", "local", "--to", "far"][..],
        &["copy", "--from", "local", "--to", "far", &first],
    ] {
        let lost = host.lifeboat(args).expect_code(1);
        lost.says(&[&first, "its copy there is bad", "--damaged"]);
    }
}

#[test]
fn a_destination_that_was_away_is_caught_up_by_the_agent_and_nothing_is_doubled() {
    is_caught_up("");
}

#[test]
fn a_shared_destination_is_caught_up_under_the_claim_of_each_slot() {
    let Some((host, missed)) = is_caught_up("shared = true\n") else {
        return;
    };
    let far = host.path("far");
    // Of each backup that was copied, the last claim of its slot says so.
    let folder = far.join(CLUSTER).join("slots/often");
    for (_, manifest) in missed {
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let slot = manifest["slot"].as_str().unwrap().replace(['-', ':'], "");
        let slot = format!("{}Z", slot.split(['.', 'Z']).next().unwrap());
        let claims = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut claims: Vec<_> = claims
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&slot))
            .collect();
        claims.sort();
        let last = claims.last().unwrap_or_else(|| panic!("no claim of {slot}"));
        let claim: Value = serde_json::from_slice(&fs::read(last).unwrap()).unwrap();
        assert_eq!(
            (&claim["state"], &claim["chain"]),
            (&"done".into(), &manifest["chain"]),
            "{slot}"
        );
    }
}

/// Takes the destination `far` away from a running agent, gives it back and looks at both destinations when it has all; `more`
/// is what else is configured of it. Gives what it had missed.
fn is_caught_up(more: &str) -> Option<(Host, Manifests)> {
    let etcd = Etcd::start(Version::V3_5, Options::default())?;
    let host = Host::new(&etcd);
    let schedule = "[schedules.often]\nkind = \"full\"\nevery = \"3s\"\njitter = \"0s\"\n";
    host.configure(&etcd, schedule);
    let far = host.add_destination("far");
    let written = fs::read_to_string(host.config()).unwrap();
    let member = &etcd.members[0].name;
    fs::write(host.config(), format!("{written}{more}[host]\nmember = \"{member}\"\n")).unwrap();
    let client = etcd.client();
    client.put("/key", "1", 0).unwrap();
    let agent = host.start(["agent"]);
    let count = |store: &Path| manifests(store).len();
    until("a backup in both", || count(&far) >= 1 && count(&host.store()) >= 1);
    fs::rename(&far, host.path("unplugged")).unwrap();
    let before = count(&host.store());
    until("backups that the other one misses", || {
        count(&host.store()) >= before + 3
    });
    let all = manifests(&host.store());
    let missed = all.difference(&manifests(&host.path("unplugged"))).cloned().collect();
    fs::rename(host.path("unplugged"), &far).unwrap();
    until("the other one to be caught up", || {
        let (near, other) = (manifests(&host.store()), manifests(&far));
        other.len() > before + 3 && near.difference(&other).count() <= 1
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
    // One backup for each slot, the same in both.
    let slots = |store: &Path| -> Vec<String> {
        let documents = manifests(store).into_iter();
        let mut slots: Vec<String> = documents
            .map(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).unwrap()["slot"].to_string())
            .collect();
        slots.sort();
        slots
    };
    for store in [&host.store(), &far] {
        let slots = slots(store);
        let distinct: BTreeSet<_> = slots.iter().collect();
        assert_eq!(distinct.len(), slots.len(), "{slots:?}");
    }
    Some((host, missed))
}

/// The deltas of all chains below a destination.
fn deltas(store: &Path) -> BTreeSet<PathBuf> {
    let files = files_below(store).into_iter();
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "delta"))
        .collect()
}

#[test]
fn what_a_chain_has_got_since_it_was_copied_the_next_copy_brings() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        "[deltas]\nenabled = true\nevery = \"1s\"\ndestinations = [\"local\"]\n",
    );
    let far = host.add_destination("far");
    let client = etcd.client();
    client.put("/key", "0", 0).unwrap();
    let id = host
        .lifeboat(["backup", "--to", "local"])
        .expect_code(0)
        .stdout
        .trim()
        .to_owned();
    let captured = |value: &str, more: usize| {
        let before = deltas(&host.store()).len();
        let agent = host.start(["agent"]);
        for written in 0..more {
            client.put("/key", value, 0).unwrap();
            until("its delta", || deltas(&host.store()).len() > before + written);
        }
        agent.signal("TERM");
        agent.wait().expect_code(0);
    };
    let copy = || {
        host.lifeboat(["--json", "copy", "--from", "local", "--to", "far"])
            .expect_code(0)
            .json()
    };
    captured("1", 1);
    assert_eq!(copy()["copied"], serde_json::json!([id]));
    captured("2", 2);
    let second = copy();
    assert_eq!(
        (&second["copied"], &second["completed"]),
        (&serde_json::json!([]), &serde_json::json!([id])),
        "{second}"
    );
    assert_eq!(deltas(&far), deltas(&host.store()));
    let window = |name: &str| {
        let listed = host.lifeboat(["--json", "list", "--destination", name]).json();
        listed["windows"][0]["to_revision"].clone()
    };
    assert_eq!(window("far"), window("local"));
    let third = host.lifeboat(["copy", "--from", "local", "--to", "far"]).expect_code(0);
    assert!(third.stdout.contains("far lacks nothing"), "{}", third.stdout);
}

#[test]
fn a_hole_in_a_chain_that_capture_has_left_is_filled_by_the_agent() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let schedule = "[schedules.often]\nkind = \"full\"\nevery = \"5s\"\njitter = \"0s\"\n";
    host.configure(&etcd, &format!("{schedule}[deltas]\nenabled = true\nevery = \"1s\"\n"));
    let far = host.add_destination("far");
    let client = etcd.client();
    let agent = host.start(["agent"]);
    // One that another chain follows, with deltas, in both.
    let left = || {
        client.put("/key", "1", 0).unwrap();
        let (near, far) = (deltas(&host.store()), deltas(&far));
        let chain = |file: &PathBuf| file.parent().unwrap().to_owned();
        let newest = far.intersection(&near).map(chain).max()?;
        let older = far.intersection(&near).find(|file| chain(file) < newest);
        older.cloned()
    };
    until("a chain that was left", || left().is_some());
    let lost = far.join(left().unwrap());
    fs::remove_file(&lost).unwrap();
    until("the hole to be filled", || {
        client.put("/key", "2", 0).unwrap();
        lost.exists()
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
}

/// A schedule of which one slot is caught up, and the next is far.
const ONCE: &str = "[schedules.often]\nkind = \"full\"\nevery = \"24h\"\nlate_after = \"30 days\"\njitter = \"0s\"\n";

/// A slot that came while no agent ran, of which this host knows nothing.
fn forget_what_was_done(host: &Host) {
    let folder = host.path("state").join(CLUSTER).join("schedules");
    fs::create_dir_all(&folder).unwrap();
    let handled = r#"{"since":"2020-01-01T00:00:00Z","runs":[]}"#;
    let memory = format!(r#"{{"format":1,"when":"every 1 d","handled":{handled},"last_success":null}}"#);
    fs::write(folder.join("often.json"), memory).unwrap();
}

/// The objects of all backups below a destination.
fn objects(store: &Path) -> Vec<PathBuf> {
    let files = files_below(store).into_iter();
    let objects = files.filter(|file| file.extension().is_some_and(|extension| extension == "age"));
    objects.map(|file| store.join(file)).collect()
}

#[test]
fn a_backup_of_the_slot_that_cannot_be_copied_is_taken_anew() {
    let Some(etcd) = shared::unchanging() else { return };
    let rot = |near: &Path, _: &Path| {
        let object = objects(near).pop().unwrap();
        let bytes = fs::metadata(&object).unwrap().len();
        fs::write(&object, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    };
    // Its manifest is there, and its object is lost.
    let lose = |near: &Path, far: &Path| {
        let (name, bytes) = manifests(near).pop_first().unwrap();
        fs::create_dir_all(far.join(&name).parent().unwrap()).unwrap();
        fs::write(far.join(&name), bytes).unwrap();
    };
    type Spoil<'a> = &'a (dyn Fn(&Path, &Path) + Sync);
    let ways: [(Spoil<'_>, usize); 2] = [(&rot, 2), (&lose, 3)];
    std::thread::scope(|scope| {
        for (spoil, count) in ways {
            scope.spawn(move || {
                let host = Host::new(etcd);
                host.configure(etcd, ONCE);
                forget_what_was_done(&host);
                let agent = host.start(["agent"]);
                until("a backup of the slot", || manifests(&host.store()).len() == 1);
                agent.signal("TERM");
                agent.wait().expect_code(0);

                let far = host.add_destination("far");
                // One that is of no slot.
                host.lifeboat(["backup", "--to", "far"]).expect_code(0);
                spoil(&host.store(), &far);
                forget_what_was_done(&host);
                let agent = host.start(["agent"]);
                until("another backup of the slot", || {
                    manifests(&far).len() == count && objects(&far).len() == 2
                });
                agent.signal("TERM");
                agent.wait().expect_code(0);
                assert_eq!(manifests(&host.store()).len(), 1, "where it is, it is not taken again");
            });
        }
    });
}

#[test]
fn a_destination_that_is_slow_gets_the_same_backup_from_another() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(etcd, ONCE);
    let far = host.add_destination("far");
    forget_what_was_done(&host);
    let Some(slow) = Slow::new(&host.path("slow")) else {
        return;
    };
    let is_fast_again = host.path("fast");
    let mut agent = host.command(["agent"]);
    slow.write_to(&mut agent, &far, &is_fast_again);
    let agent = Running::start(agent);
    until("a backup in the fast one", || manifests(&host.store()).len() == 1);
    assert!(manifests(&far).is_empty(), "it was left behind");
    fs::write(&is_fast_again, "").unwrap();
    until("a backup in the slow one", || !manifests(&far).is_empty());
    agent.signal("TERM");
    let ended = agent.wait().expect_code(0);
    assert!(ended.stderr.contains("copied from local"), "{}", ended.stderr);
    assert_eq!(manifests(&host.store()), manifests(&far), "etcd is not asked again");
}
