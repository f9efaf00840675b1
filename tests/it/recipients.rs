//! Recipients that somebody has changed: told until the operator says that they are meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::host::{CLUSTER, Host};
use super::support::running::until;
use super::support::shared;

const CHANGED: &str = "the recipients have changed";

#[test]
fn other_recipients_are_told_until_they_are_accepted() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    // What a host begins with is meant.
    let first = host.lifeboat(["backup"]).expect_code(0);
    assert!(!first.stderr.contains(CHANGED), "{}", first.stderr);
    host.lifeboat(["status"]).expect_code(0);
    let own = host.recipient().to_owned();
    let identity = host.identity().display().to_string();
    let strange = host.path("strange.txt").display().to_string();
    let strangers = host.lifeboat(["keygen", "--identity", &strange]).expect_code(0).stdout;
    let strangers = strangers.trim();

    host.reconfigure(&own, strangers);
    // Also after backups were made to them.
    for _ in 0..2 {
        let says = [CHANGED, strangers, &own, "--accept-recipients"];
        host.lifeboat(["check"]).expect_code(0).says(&says);
        host.lifeboat(["backup"]).expect_code(0).says(&says);
        let status = host.lifeboat(["status"]).expect_code(1).stdout;
        assert!(status.contains(CHANGED), "{status}");
    }
    let checked = host.lifeboat(["check", "--identity", &strange]).expect_code(0);
    let says = format!("is encrypted to {strangers}");
    assert!(checked.stdout.contains(&says), "{}", checked.stdout);
    host.lifeboat(["check", "--identity", &identity]).expect_code(8);

    let accepted = host.lifeboat(["check", "--accept-recipients"]).expect_code(0);
    assert!(!accepted.stderr.contains(CHANGED), "{}", accepted.stderr);
    host.lifeboat(["status"]).expect_code(0);
    let quiet = host.lifeboat(["backup"]).expect_code(0);
    assert!(!quiet.stderr.contains(CHANGED), "{}", quiet.stderr);

    // A key that opens the newest backup, and none of those to come.
    host.reconfigure(strangers, &own);
    let says = format!("does not open new backups: they are encrypted to {own}");
    host.lifeboat(["check", "--identity", &strange])
        .expect_code(0)
        .says(&[&says]);
}

#[test]
fn a_host_without_a_memory_goes_by_the_newest_backup() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.backup();
    fs::remove_file(host.path("state").join(format!("{CLUSTER}/recipients.json"))).expect("it was remembered");
    let strange = host.path("strange.txt").display().to_string();
    let strangers = host.lifeboat(["keygen", "--identity", &strange]).expect_code(0).stdout;
    host.reconfigure(host.recipient(), strangers.trim());
    host.lifeboat(["backup"]).expect_code(0).says(&[CHANGED]);
    host.lifeboat(["backup"]).expect_code(0).says(&[CHANGED]);
}

#[test]
fn an_agent_tells_of_other_recipients_and_a_backup_that_it_takes_is_not_the_end_of_it() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.backup();
    let strange = host.path("strange.txt").display().to_string();
    let strangers = host.lifeboat(["keygen", "--identity", &strange]).expect_code(0).stdout;
    let hook = host.path("hook");
    fs::write(&hook, "#!/bin/sh\necho \"$LIFEBOAT_EVENT\" >> \"${0%hook}told\"\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let often = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";
    host.configure(etcd, &format!("{often}[notify]\non_failure = [{hook:?}]\n"));
    host.reconfigure(host.recipient(), strangers.trim());
    let agent = host.start(["agent"]);
    let report = host.path("state").join(CLUSTER).join("status.json");
    let report = || -> serde_json::Value {
        let text = fs::read_to_string(&report).unwrap_or_else(|_| "null".to_owned());
        serde_json::from_str(&text).expect("it is replaced whole")
    };
    let slot = || report()["schedules"][0]["last"]["slot"].clone();
    let told = || fs::read_to_string(host.path("told")).unwrap_or_default();
    until("a stranger who can read the backups to be told", || {
        told() == "recipients-changed\n"
    });
    for _ in 0..2 {
        let before = slot();
        until("a backup", || slot() != before);
        let doubts = report()["doubts"].to_string();
        assert!(doubts.contains("recipients-changed"), "{doubts}");
    }

    // What was accepted cannot be read: that is no word that nothing has changed.
    let accepted = host.path("state").join(CLUSTER).join("recipients.json");
    fs::write(&accepted, "{}").unwrap();
    host.lifeboat(["check", "--accept-recipients"]).expect_code(0);
    until("the end of it", || told() == "recipients-changed\nrecovered\n");
    fs::write(&accepted, "{}").unwrap();
    until("it to be told again", || {
        told().ends_with("recovered\nrecipients-changed\n")
    });
    let status = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(
        status.contains("whether the recipients have changed is not known"),
        "{status}"
    );
    agent.signal("TERM");
    agent.wait().expect_code(0);
}
