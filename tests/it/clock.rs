//! A clock that was set back: this host remembers the highest time that it has seen.

use std::fs;

use serde_json::{Value, json};

use super::support::host::{CLUSTER, Host};
use super::support::running::until;
use super::support::shared;

const SET_BACK: &str = "the clock of this host was set back";

#[test]
fn a_clock_that_was_set_back_is_told_and_nothing_goes_for_its_age_meanwhile() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(etcd, "[destinations.local.retention]\nkeep_within = \"1s\"\n");
    let first = host.backup();
    let memory = host.path("state").join(CLUSTER).join("clock.json");
    let highest = || -> Value {
        let text = fs::read(&memory).expect("a backup remembers the time");
        serde_json::from_slice::<Value>(&text).expect("it is replaced whole")["highest"].clone()
    };
    let now = highest();
    assert!(now.is_string(), "{now}");
    host.lifeboat(["status"]).expect_code(0);
    host.lifeboat(["check"]).expect_code(0);
    // As a host remembers that has seen a later time.
    let ahead = json!({ "format": 1, "highest": "2199-01-01T00:00:00Z", "below": null });
    fs::write(&memory, ahead.to_string()).unwrap();
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(status["problems"][0]["event"], "clock-set-back", "{status}");
    host.lifeboat(["check"]).expect_code(0).says(&[SET_BACK, "2199-01-01"]);
    // The first is old enough to go then.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let second = host
        .lifeboat(["backup"])
        .expect_code(0)
        .says(&[SET_BACK])
        .stdout
        .trim()
        .to_owned();
    let held = host
        .lifeboat(["prune"])
        .expect_code(0)
        .says(&["not removed for", SET_BACK]);
    assert!(!held.stdout.contains("remove "), "{}", held.stdout);
    let listed = host.lifeboat(["list"]).expect_code(0).stdout;
    assert!(listed.contains(&first) && listed.contains(&second), "{listed}");
    // It stays remembered, and goes on below that.
    assert_eq!(highest(), "2199-01-01T00:00:00Z");

    // A memory that cannot be read is no word that all is well.
    fs::write(&memory, "{}").unwrap();
    let held = host.lifeboat(["--json", "prune", "--dry-run"]).expect_code(3).json();
    let errors = held["errors"].as_array().unwrap();
    assert!(
        errors.len() == 1 && errors[0].as_str().unwrap().contains("is not known"),
        "{held}"
    );
    host.lifeboat(["status"]).expect_code(1);
    // As the message says.
    fs::remove_file(&memory).unwrap();
    host.lifeboat(["status"]).expect_code(0);
    let pruned = host.lifeboat(["prune"]).expect_code(0);
    assert!(pruned.stdout.contains(&format!("remove {first}")), "{}", pruned.stdout);
}

#[test]
fn an_agent_remembers_the_time_and_tells_of_a_clock_that_was_set_back_before_it_began() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(etcd, "[schedules.rarely]\nkind = \"full\"\nevery = \"8000h\"\n");
    let memory = host.path("state").join(CLUSTER).join("clock.json");
    let agent = host.start(["agent"]);
    until("the time to be remembered", || memory.exists());
    agent.signal("TERM");
    agent.wait().expect_code(0);
    let ahead = json!({ "format": 1, "highest": "2199-01-01T00:00:00Z", "below": null });
    fs::write(&memory, ahead.to_string()).unwrap();
    let agent = host.start(["agent"]);
    let report = host.path("state").join(CLUSTER).join("status.json");
    until("the agent to tell of it", || {
        fs::read_to_string(&report).is_ok_and(|text| text.contains("clock-set-back"))
    });
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    assert_eq!(said.matches(SET_BACK).count(), 1, "once:\n{said}");
}
