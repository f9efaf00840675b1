//! How far a destination is behind the others: told at once, wrong only when it lasts, over when it is caught up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, files_below};
use super::support::running::until;
use super::support::tools::Version;

const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"3s\"\njitter = \"0s\"\nlate_after = \"1h\"\n";

/// The folders of the backups in a destination, oldest first.
fn chains(store: &Path) -> Vec<PathBuf> {
    let manifests = files_below(store).into_iter();
    let manifests = manifests.filter(|file| file.display().to_string().contains("/full-"));
    let mut folders: Vec<_> = manifests.filter_map(|file| Some(file.parent()?.to_owned())).collect();
    folders.sort();
    folders
}

/// Adds a destination, and has the agent take so many backups to both.
fn with_backups_in_both(host: &Host, backups: usize) -> PathBuf {
    let far = host.add_destination("far");
    let agent = host.start(["agent"]);
    until("backups in both", || {
        chains(&far).len() >= backups && chains(&host.store()).len() >= backups
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
    far
}

#[test]
fn a_destination_that_lacks_backups_is_told_and_wrong_only_when_it_stays_behind() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let far = with_backups_in_both(&host, 3);
    let row = |status: &Value| -> Value {
        let mut rows = status["destinations"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == "far").unwrap().clone()
    };
    let events = |status: &Value| -> Vec<String> {
        let problems = status["problems"].as_array().unwrap().iter();
        problems
            .map(|problem| problem["event"].as_str().unwrap().to_owned())
            .collect()
    };
    // The agent may have been stopped between the two.
    let all = chains(&far);
    let lost: Vec<String> = all[..2]
        .iter()
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let before = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(row(&before)["behind"]["backups"], 0, "{before}");
    for folder in &all[..2] {
        fs::remove_dir_all(far.join(folder)).unwrap();
    }
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    let behind = &row(&status)["behind"];
    assert_eq!(
        (&behind["backups"], &behind["ids"]),
        (&json!(2), &json!(lost)),
        "{status}"
    );
    assert_eq!(
        (&behind["oldest"]["id"], &behind["oldest"]["from"]),
        (&json!(lost[0]), &json!("local"))
    );
    // Only that the agent does not run.
    assert_eq!(events(&status), ["agent-stopped"], "{status}");
    let text = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(text.contains("far: 2 backups behind, oldest 20"), "{text}");

    // It has lasted.
    let memory = host.path("state").join(CLUSTER).join("behind.json");
    let since = json!({ "format": 1, "since": { "far": { "often": "2026-01-01T00:00:00Z" } } });
    fs::write(&memory, since.to_string()).unwrap();
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(events(&status), ["agent-stopped", "destination-behind"], "{status}");
    let problem = &status["problems"][1];
    assert_eq!(
        (&problem["about"]["destination"], &problem["about"]["schedule"]),
        (&json!("far"), &json!("often"))
    );
    let message = problem["message"].as_str().unwrap();
    for part in [
        "destination far lacks 2 backups of schedule often since 2026-01-01T00:00:00Z",
        "`lifeboat copy --from local --to far`",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(row(&status)["behind"]["since"], "2026-01-01T00:00:00Z");

    // The agent tells of it, and brings it to an end.
    let agent = host.start(["agent"]);
    let caught_up = || {
        let status = host.lifeboat(["--json", "status"]).json();
        row(&status)["behind"]["since"].is_null() && events(&status).is_empty()
    };
    until("the destination to be caught up", caught_up);
    agent.signal("TERM");
    agent.wait().expect_code(0);
    let since: Value = serde_json::from_slice(&fs::read(&memory).unwrap()).unwrap();
    assert_eq!(since["since"]["far"], Value::Null, "{since}");
}

#[test]
fn a_store_put_back_is_seen_by_another_that_was_not_though_the_host_has_forgotten() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let far = with_backups_in_both(&host, 2);
    let id = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let near = chains(&host.store());
    // The agent may have been stopped between the two.
    let newest = chains(&far)
        .into_iter()
        .rfind(|folder| near.iter().any(|there| id(there) == id(folder)));
    let newest = id(&newest.unwrap());
    let lost: BTreeSet<PathBuf> = chains(&far).into_iter().filter(|folder| id(folder) >= newest).collect();
    for folder in lost {
        fs::remove_dir_all(far.join(folder)).unwrap();
    }
    fs::remove_dir_all(host.path("state")).unwrap();

    let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
    let latest = listed["latest"].as_str().unwrap();
    assert!(latest >= newest.as_str(), "{listed:#}");
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    let mut rows = status["destinations"].as_array().unwrap().iter();
    let row = rows.find(|row| row["name"] == "far").unwrap();
    let lacks = row["behind"]["ids"].as_array().unwrap();
    assert!(lacks.iter().any(|lacks| lacks.as_str() == Some(&newest)), "{status:#}");
}

#[test]
fn a_destination_that_is_added_to_a_running_host_owes_nothing_from_before() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let agent = host.start(["agent"]);
    until("backups", || chains(&host.store()).len() >= 3);
    agent.signal("TERM");
    agent.wait().expect_code(0);
    // A schedule whose last slot is done, and whose next one is far.
    host.reconfigure("every = \"3s\"", "every = \"8000h\"");
    let memory = host.path("state").join(CLUSTER).join("schedules/often.json");
    let mut done: Value = serde_json::from_slice(&fs::read(&memory).unwrap()).unwrap();
    let slot = done["last_success"]["slot"].clone();
    done["when"] = json!("every 333 d 8 h");
    done["handled"] = json!({ "since": slot, "runs": [{ "first": slot, "last": slot }] });
    fs::write(&memory, done.to_string()).unwrap();
    let before = chains(&host.store());

    let agent = host.start(["agent"]);
    let status = || host.lifeboat(["--json", "status"]).json();
    until("an agent that is well", || {
        let status = status();
        status["agent"]["running"] == true && status["problems"] == json!([])
    });
    let far = host.add_destination("far");
    agent.signal("HUP");
    let row = |status: &Value| -> Value {
        let mut rows = status["destinations"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == "far").cloned().unwrap_or_default()
    };
    let report = host.path("state").join(CLUSTER).join("status.json");
    until("the agent to look at it", || {
        let report: Value = fs::read(&report).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
        let destinations = report["stores"]["destinations"].as_array().cloned().unwrap_or_default();
        destinations.iter().any(|row| row["name"] == "far")
    });
    let now = status();
    assert_eq!(
        (&now["problems"], &row(&now)["behind"]["backups"]),
        (&json!([]), &json!(0)),
        "{now:#}"
    );
    host.lifeboat(["status"]).expect_code(0);
    host.lifeboat(["check"]).expect_code(0);
    let metrics = host.lifeboat(["metrics"]).expect_code(0).stdout;
    let behind = metrics
        .lines()
        .find(|line| line.starts_with("lifeboat_destination_behind_backups{") && line.contains("\"far\""));
    assert!(behind.is_some_and(|line| line.ends_with(" 0")), "{metrics}");

    // From then on it gets every backup, and is owed what it lacks of them.
    host.reconfigure("every = \"8000h\"", "every = \"3s\"");
    agent.signal("HUP");
    until("backups in it", || chains(&far).len() >= 2);
    agent.signal("TERM");
    agent.wait().expect_code(0);
    let there = chains(&far);
    assert!(
        there.iter().all(|chain| !before.contains(chain)),
        "{there:?}, {before:?}"
    );
    fs::remove_dir_all(far.join(&there[0])).unwrap();
    let now = status();
    assert_eq!(row(&now)["behind"]["backups"], 1, "{now:#}");
}

#[test]
fn the_agent_remembers_since_when_a_destination_is_behind() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let far = with_backups_in_both(&host, 2);
    fs::remove_dir_all(far.join(&chains(&far)[0])).unwrap();
    // No slot comes any more: nothing is copied.
    host.reconfigure("every = \"3s\"", "every = \"8000h\"\ncatch_up = false");
    let memory = host.path("state").join(CLUSTER).join("behind.json");
    let since = || -> Value {
        let text = fs::read(&memory).unwrap();
        serde_json::from_slice::<Value>(&text).expect("it is replaced whole")["since"]["far"]["often"].clone()
    };
    let agent = host.start(["agent"]);
    until("the agent to see it", || since() != Value::Null);
    let first = since();
    agent.signal("TERM");
    agent.wait().expect_code(0);
    let agent = host.start(["agent"]);
    let status = || host.lifeboat(["--json", "status"]).expect_code(0).json();
    until("the next agent", || status()["agent"]["running"] == true);
    let report = host.path("state").join(CLUSTER).join("status.json");
    until("its look", || {
        let report: Value = fs::read(&report).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
        let destinations = report["stores"]["destinations"].as_array().cloned().unwrap_or_default();
        destinations.iter().any(|row| row["behind"]["since"] == first)
    });
    assert_eq!(since(), first);
    agent.signal("TERM");
    agent.wait().expect_code(0);
}
