//! The agent against a real etcd: schedules, rotation, reload, and every way to end it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host};
use super::support::running::{Running, until};
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

fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_code(0).stderr
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
    assert_eq!(said.matches("the configuration is refused").count(), 1, "{said}");
    assert!(said.contains("right again"), "{said}");
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
fn an_etcd_that_is_down_is_tried_again_and_shows_in_the_status() {
    let Some(mut etcd) = etcd() else { return };
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        &OFTEN.replace("2s", "1h").replace("jitter", "catch_up = true\njitter"),
    );
    etcd.stop();
    // A slot that came while no agent ran.
    let folder = host.path("state").join(CLUSTER).join("schedules");
    fs::create_dir_all(&folder).unwrap();
    let memory =
        r#"{"format":1,"when":"every 1 h","handled":{"since":"2020-01-01T00:00:00Z","runs":[]},"last_success":null}"#;
    fs::write(folder.join("often.json"), memory).unwrap();
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
