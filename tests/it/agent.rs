//! The agent against a real etcd: schedules, rotation, reload, and every way to end it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::support::counting::Counting;
use super::support::etcd::{Etcd, Options};
use super::support::gate::Gate;
use super::support::hanging::Hanging;
use super::support::host::{CLUSTER, Host, copy_tree, files_below};
use super::support::running::{Running, until};
use super::support::tmpfs::Tmpfs;
use super::support::tools::Version;

const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";
const KEEP_TWO: &str = "[destinations.local.retention]\nkeep_last = 2\n";

fn etcd() -> Option<Etcd> {
    let etcd = Etcd::start(Version::V3_5, Options::default())?;
    let client = etcd.client();
    for number in 0..20 {
        client.put(&format!("/key/{number}"), vec![b'x'; 20_000], 0).unwrap();
    }
    Some(etcd)
}

fn status(host: &Host) -> Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    serde_json::from_str(&text).expect("it is replaced whole")
}

fn backups(host: &Host) -> Vec<Value> {
    let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
    listed["backups"].as_array().unwrap().clone()
}

fn ids(host: &Host) -> BTreeSet<String> {
    backups(host)
        .iter()
        .map(|backup| backup["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Puts a file into the drop-in directory as configuration management does: whole, by a rename.
fn drop_in(host: &Host, name: &str, text: &str) {
    let folder = host.path("config.d");
    fs::create_dir_all(&folder).unwrap();
    let partial = folder.join(".partial");
    fs::write(&partial, text).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the test stands for a program of somebody else"
    )]
    fs::rename(partial, folder.join(name)).unwrap();
}

/// A slot that came while no agent ran, of the schedule `often`.
fn forget_what_was_done(host: &Host, every: &str) {
    let folder = host.path("state").join(CLUSTER).join("schedules");
    fs::create_dir_all(&folder).unwrap();
    let handled = r#"{"since":"2020-01-01T00:00:00Z","runs":[]}"#;
    let memory = format!(r#"{{"format":1,"when":"every {every}","handled":{handled},"last_success":null}}"#);
    fs::write(folder.join("often.json"), memory).unwrap();
}

/// Once a day: one slot is caught up, and the next is far.
fn once() -> String {
    OFTEN
        .replace("2s", "24h")
        .replace("jitter", "late_after = \"30 days\"\njitter")
}

fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_code(0).stderr
}

#[test]
fn a_scheduled_run_lists_each_destination_and_reads_each_manifest_once() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    let far = host.path("far");
    fs::create_dir(&far).unwrap();
    let destinations = format!("{KEEP_TWO}[destinations.far]\nurl = \"file://{}\"\n", far.display());
    host.configure(&etcd, &destinations);
    let before: Vec<String> = (0..3).map(|_| host.backup()).collect();
    // One goes to `local`, which removes two of the four then; the history goes on in `far` too.
    let to_local = once().replace("jitter", "destinations = [\"local\"]\njitter");
    host.configure(&etcd, &format!("{destinations}{to_local}"));
    forget_what_was_done(&host, "1 d");
    let Some(counting) = Counting::new(&host.path("counting")) else {
        return;
    };
    let mut agent = host.command(["agent"]);
    counting.watch(&mut agent);
    let agent = Running::start(agent);
    until("the end of the run", || {
        let status = status(&host);
        status["schedules"][0]["last"].is_object() && status["running"].is_null()
    });
    stop(agent);
    let manifests = |store: &std::path::Path| -> Vec<std::path::PathBuf> {
        let files = files_below(store).into_iter().map(|file| store.join(file));
        files
            .filter(|file| file.display().to_string().contains("/full-"))
            .collect()
    };
    assert_eq!(manifests(&host.store()).len(), 2, "retention was applied");
    for store in [host.store(), far.clone()] {
        let listed = counting.count("list", &store.join(CLUSTER));
        assert_eq!(listed, 1, "{}", store.display());
    }
    for manifest in manifests(&far) {
        assert_eq!(counting.count("open", &manifest), 1, "{}", manifest.display());
    }
    assert_eq!(before.len(), manifests(&far).len());
}

#[test]
fn the_agent_takes_backups_on_schedule_rotates_them_and_follows_its_configuration() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, &format!("{KEEP_TWO}{OFTEN}"));
    let agent = host.start(["agent"]);

    let mut seen = BTreeSet::new();
    until("four backups", || {
        seen.extend(ids(&host));
        seen.len() >= 4
    });
    until("the first ones to be removed", || ids(&host).len() <= 2);
    let newest = backups(&host).pop().unwrap();
    let manifest = host.manifest(newest["id"].as_str().unwrap());
    assert_eq!(
        (&manifest["origin"], &manifest["schedule"]),
        (&"schedule".into(), &"often".into())
    );
    let slot: jiff::Timestamp = manifest["slot"].as_str().unwrap().parse().unwrap();
    assert_eq!(slot.as_second() % 2, 0);
    let well = host.lifeboat(["--json", "status"]).expect_code(0).json();
    assert_eq!((&well["ok"], &well["agent"]["running"]), (&true.into(), &true.into()));
    host.lifeboat(["agent"]).expect_code(6);

    drop_in(&host, "20-other.toml", &OFTEN.replace("often", "other"));
    until("a backup of the schedule that was dropped in", || {
        backups(&host).iter().any(|backup| {
            let id = backup["id"].as_str().unwrap();
            let shown = host.lifeboat(["--json", "show", id]);
            // It may be pruned meanwhile.
            shown.code == 0 && shown.json()["manifest"]["schedule"] == "other"
        })
    });

    drop_in(
        &host,
        "30-broken.toml",
        "[schedules.broken]\nkind = \"full\"\nwhen = \"sometimes\"\n",
    );
    until("the broken file to be refused", || {
        status(&host)["configuration_error"]
            .as_str()
            .is_some_and(|error| error.contains("30-broken.toml"))
    });
    let others = status(&host)["schedules"].as_array().unwrap().len();
    assert_eq!(others, 2);
    fs::remove_file(host.path("config.d/30-broken.toml")).unwrap();
    let before = ids(&host);
    until("the configuration to be right again", || {
        status(&host)["configuration_error"].is_null()
    });
    until("backups to go on", || ids(&host).is_disjoint(&before));

    let said = stop(agent);
    assert_eq!(
        said.matches("the configuration is invalid; the previous one stays in force")
            .count(),
        1,
        "{said}"
    );
    assert!(said.contains("valid again"), "{said}");
    // In one line, with what `check` would say first.
    let refused = said.lines().find(|line| line.contains("stays in force")).unwrap();
    assert!(
        refused.contains("30-broken.toml") && !refused.contains("\\n"),
        "{refused}"
    );
    let ended = host.lifeboat(["--json", "status"]).expect_code(1).json();
    let problems = ended["problems"].to_string();
    assert!(problems.contains("the agent does not run"), "{problems}");
}

#[test]
fn told_to_stop_in_the_middle_of_a_backup_it_leaves_nothing() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let gate = Gate::before(&etcd.members[0].client_url, 64 << 10);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let agent = host.start(["agent"]);
    gate.wait_until_held();
    stop(agent);
    let left: Vec<_> = host.stored_files();
    assert_eq!(left, [std::path::Path::new(CLUSTER).join("store.json")]);
}

#[test]
fn killed_in_the_middle_of_a_backup_its_leavings_are_swept_by_the_next() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let gate = Gate::before(&etcd.members[0].client_url, 64 << 10);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let agent = host.start(["agent"]);
    gate.wait_until_held();
    agent.signal("KILL");
    agent.wait().expect_code(-1);
    let left: BTreeSet<_> = host.stored_files().into_iter().collect();
    assert!(left.len() > 1, "it had begun: {left:?}");
    assert!(backups(&host).is_empty());

    gate.open();
    let agent = host.start(["agent"]);
    until("a backup after the kill", || !backups(&host).is_empty());
    stop(agent);
    let now: BTreeSet<_> = host.stored_files().into_iter().collect();
    let still: Vec<_> = left.intersection(&now).collect();
    assert_eq!(still, [&std::path::Path::new(CLUSTER).join("store.json")]);
}

#[test]
fn a_dead_run_is_forgotten_though_no_schedule_names_all_destinations() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, &once().replace("kind", "destinations = [\"local\"]\nkind"));
    let second = host.add_destination("second");
    host.backup();
    let chain = "20261120T101530Z-0000dead";
    let left = second.join(CLUSTER).join("ab").join(chain).join("full.db.zst.age");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "cut short").unwrap();
    let chains = host.path("state").join(CLUSTER).join("chains");
    fs::write(chains.join(format!("{chain}.json")), "{}").unwrap();
    forget_what_was_done(&host, "1 d");
    let agent = host.start(["agent"]);
    until("a backup", || backups(&host).len() == 2);
    assert!(!left.exists(), "nobody else looks there");
    until("the run to be forgotten", || {
        fs::read_dir(&chains).unwrap().count() == 0
    });
    stop(agent);
}

#[test]
fn a_state_that_is_full_ends_no_backups_and_shows_in_the_status() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.backup();
    let state = host.path("state");
    let kept = host.path("state-before");
    copy_tree(&state, &kept);
    let Some(tmpfs) = Tmpfs::mount(&state, 1) else { return };
    copy_tree(&kept, &state);
    drop_in(&host, "10-often.toml", &format!("{OFTEN}{KEEP_TWO}"));
    let agent = host.start(["agent"]);
    until("a backup that the agent took", || ids(&host).len() == 2);
    let filler = tmpfs.fill();
    let before = ids(&host);
    until("backups that were taken since, and none too many", || {
        let now = ids(&host);
        now.len() == 2 && now.is_disjoint(&before)
    });
    until("a word on it in the status", || {
        // What the agent removes makes room for a moment.
        tmpfs.fill();
        let status = host.lifeboat(["status"]);
        status.code == 1
            && status
                .stdout
                .contains("the agent runs, but has written no `status.json`")
    });
    host.lifeboat(["prune", "--wait", "30s"]).expect_code(0);
    fs::remove_file(filler).unwrap();
    until("that all is well again", || {
        status(&host)["doubts"] == serde_json::json!([])
    });
    let said = stop(agent);
    assert!(
        said.contains("the agent cannot record what it did on this host"),
        "{said}"
    );
}

#[test]
fn a_destination_that_is_full_is_told_as_what_lacks_the_backup_however_often_it_was_tried() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    let small = host.add_destination("small");
    fs::create_dir_all(&small).unwrap();
    let Some(tmpfs) = Tmpfs::mount(&small, 1) else { return };
    let filler = tmpfs.fill();
    drop_in(
        &host,
        "10-seldom.toml",
        "[schedules.seldom]\nkind = \"full\"\nevery = \"20s\"\njitter = \"0s\"\n",
    );
    let agent = host.start(["agent"]);
    let failed = || {
        let status = host.lifeboat(["--json", "status"]).json();
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let messages = problems.iter().filter_map(|problem| problem["message"].as_str());
        messages
            .filter(|message| message.contains("failed"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    until("a second failure", || {
        failed().contains("failed 2 times") || failed().contains("failed 3 times")
    });
    let said = failed();
    let backup = ids(&host).into_iter().next_back().unwrap();
    assert!(said.contains(&format!("destination small lacks {backup}: ")), "{said}");
    fs::remove_file(filler).unwrap();
    until("that it has what it lacked", || failed().is_empty());
    let said = stop(agent);
    assert!(!said.contains("no destination has the backup"), "{said}");
}

#[test]
fn a_destination_that_hangs_keeps_no_backup_from_the_others_and_gets_its_own_when_it_answers() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    let nas = host.add_destination("nas");
    host.backup();
    let Some(hanging) = Hanging::mount(&nas) else { return };
    drop_in(&host, "10-often.toml", &format!("{OFTEN}{KEEP_TWO}"));
    let agent = host.start(["agent"]);
    let in_store = || files_below(&host.store());
    let before = in_store();
    until("backups in the destination that answers", || {
        let now = in_store();
        !now.is_empty()
            && now
                .iter()
                .all(|file| !before.contains(file) || file.ends_with("store.json"))
    });
    until("a word on it in the status", || {
        let status = host.lifeboat(["status"]);
        status.code == 1 && status.stdout.contains("hangs, it is left out until it answers")
    });
    drop(hanging);
    let id = |file: &std::path::PathBuf| file.file_name().unwrap().to_owned();
    until("backups in the other again", || {
        let of_the_agent: Vec<_> = in_store().iter().map(id).collect();
        files_below(&nas)
            .iter()
            .map(id)
            .any(|name| of_the_agent.contains(&name) && name.to_string_lossy().starts_with("full-"))
    });
    stop(agent);
}

#[test]
fn an_etcd_that_is_down_is_tried_again_and_shows_in_the_status() {
    let Some(mut etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        &OFTEN.replace("2s", "1h").replace("jitter", "catch_up = true\njitter"),
    );
    etcd.stop();
    forget_what_was_done(&host, "1 h");
    let agent = host.start(["agent"]);
    until("two failures", || {
        status(&host)["schedules"][0]["failure"]["attempts"]
            .as_u64()
            .is_some_and(|attempts| attempts >= 2)
    });
    let wrong = host.lifeboat(["--json", "status"]).expect_code(1).json();
    let problems = wrong["problems"].to_string();
    assert!(problems.contains("schedule often failed"), "{problems}");
    assert!(problems.contains("late since"), "{problems}");
    stop(agent);
}

#[test]
fn a_slot_that_comes_while_a_command_runs_waits_for_it_and_has_not_failed() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, &once());
    forget_what_was_done(&host, "1 d");
    let gate = Gate::before(&etcd.members[0].client_url, 64 << 10);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let command = host.start(["backup"]);
    gate.wait_until_held();
    let agent = host.start(["agent"]);
    until("the slot to wait", || {
        let waits = status(&host)["schedules"][0]["waits"].to_string();
        waits.contains("another run is active: `backup`")
    });
    assert_eq!(status(&host)["schedules"][0]["failure"], Value::Null);
    assert!(backups(&host).is_empty());
    gate.open();
    command.wait().expect_code(0);
    until("the slot to be taken", || backups(&host).len() == 2);
    until("that to be known", || {
        status(&host)["schedules"][0]["waits"] == serde_json::json!([])
    });
    let newest = backups(&host).pop().unwrap();
    let manifest = host.manifest(newest["id"].as_str().unwrap());
    assert_eq!(manifest["origin"], "schedule");
    let said = stop(agent);
    assert_eq!(said.matches("another run is active").count(), 1, "{said}");
}

#[test]
fn a_destination_that_failed_gets_the_backup_of_the_slot_alone_once_it_is_mended() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, &once());
    forget_what_was_done(&host, "1 d");
    let second = host.add_destination("second");
    fs::remove_dir(&second).unwrap();
    let manifests = |folder: &std::path::Path| -> Vec<Value> {
        let files = files_below(folder).into_iter().filter(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("full-") && name.ends_with(".json")
        });
        files
            .map(|file| serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap())
            .collect()
    };
    let agent = host.start(["agent"]);
    until("two failures", || {
        status(&host)["schedules"][0]["failure"]["attempts"].as_u64() >= Some(2)
    });
    let wrong = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert!(
        wrong["problems"].to_string().contains("schedule often failed"),
        "{wrong}"
    );
    let problems = wrong["problems"].to_string();
    assert!(problems.contains(second.to_str().unwrap()), "{problems}");
    assert_eq!(manifests(&host.store()).len(), 1);

    // Started anew, it knows what is there already.
    stop(agent);
    let agent = host.start(["agent"]);
    until("a failure after the start", || {
        status(&host)["schedules"][0]["failure"]["attempts"] == 1
    });
    fs::create_dir(&second).unwrap();
    until("the second destination to have it", || {
        status(&host)["schedules"][0]["last"]["copies"]
            .as_array()
            .map_or(0, Vec::len)
            == 2
    });
    let (first, second) = (manifests(&host.store()), manifests(&second));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0]["slot"], second[0]["slot"]);
    assert_eq!(first[0]["chain"], second[0]["chain"], "copied: etcd is not asked again");
    let well = status(&host);
    let schedule = &well["schedules"][0];
    assert_eq!(
        (&schedule["failure"], &schedule["missing"]),
        (&Value::Null, &serde_json::json!([]))
    );
    stop(agent);
}

#[test]
fn a_backup_that_runs_keeps_the_configuration_that_it_began_with() {
    let Some(etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let gate = Gate::before(&etcd.members[0].client_url, 64 << 10);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let agent = host.start(["agent"]);
    gate.wait_until_held();
    let before = status(&host)["configured_at"].clone();
    let other = host.path("other");
    fs::create_dir(&other).unwrap();
    let old = host.store();
    host.reconfigure(old.to_str().unwrap(), other.to_str().unwrap());
    agent.signal("HUP");
    until("the new configuration to be taken over", || {
        status(&host)["configured_at"] != before
    });
    assert!(status(&host)["running"].is_object(), "the backup goes on");
    gate.open();
    until("a backup in the new place", || files_below(&other).len() >= 3);
    stop(agent);
    let kept = files_below(&old);
    let is_manifest = |path: &&std::path::PathBuf| path.to_string_lossy().contains("/full-");
    assert_eq!(
        kept.iter().filter(is_manifest).count(),
        1,
        "the one that ran ended where it began: {kept:?}"
    );
}
