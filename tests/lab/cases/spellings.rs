//! etcd's settings in every spelling: a restore leaves them to the operator, and nothing of ours in the unit that is not
//! needed.

use std::fs;
use std::path::Path;

use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{CONFIG, install_on, lifeboat};
use crate::preparation::Suite;
use crate::spellings::{CLIENT_URL, DATA_DIR, NAME, PEER_URL, Spelling, spellings};

const SNAPSHOT: &str = "/root/snapshot.db";
const UNIT: &str = "/etc/systemd/system/etcd.service";
const DROP_INS: &str = "/etc/systemd/system/etcd.service.d";

pub fn etcd_is_restored_with_its_settings_however_they_are_spelled(lab: &Lab<'_>) {
    let host = host(lab);
    // What another systemd makes of them differs by kind, not by spelling; `make lab` runs all on both.
    let is_every_one = lab.is_thorough || lab.suite == Suite::Trixie;
    let all: Vec<Spelling> = match is_every_one {
        true => spellings(),
        false => spellings().into_iter().step_by(3).collect(),
    };
    let mut faults = Vec::new();
    for spelling in &all {
        lay(&host, spelling);
        let restored = restore(&host);
        if restored.code != 0 || restored.json()["outcome"] != "restored" {
            faults.push(format!("{}: {restored}", spelling.name));
            continue;
        }
        let said = restored.json();
        let laid = drop_ins(&host);
        let expected: &[&str] = if spelling.is_environment {
            &["50-lifeboat.conf"]
        } else {
            &[]
        };
        if laid != expected {
            faults.push(format!("{}: left in the unit: {laid:?}", spelling.name));
        }
        let says_existing = spelling.name.contains("existing");
        let is_warned = said["warnings"].to_string().contains("new, empty cluster");
        if is_warned == (spelling.is_environment || says_existing) {
            faults.push(format!("{}: {}", spelling.name, said["warnings"]));
        }
        if says_existing == said["settings_to_change"].to_string().contains("existing") {
            faults.push(format!("{}: {}", spelling.name, said["settings_to_change"]));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        all.len(),
        faults.join("\n")
    );
    let status = lifeboat(&host, ["--json", "status"]).json();
    assert!(status["restores"]["settings_to_change"].is_array(), "{status}");
}

pub fn a_change_of_the_operators_counts_after_a_restore(lab: &Lab<'_>) {
    let host = host(lab);
    let named = |name: &str| {
        let found = spellings().into_iter().find(|spelling| spelling.name == name);
        found.unwrap_or_else(|| panic!("no spelling `{name}`"))
    };
    let append = |path: &str, line: &str| {
        let text = fs::read_to_string(host.path(path)).expect("it is there");
        host.write(path, &format!("{text}{line}\n"));
    };
    let changes: [(&str, &dyn Fn()); 3] = [
        ("variables", &|| {
            append("/etc/default/etcd", "ETCD_HEARTBEAT_INTERVAL=191")
        }),
        ("YAML, plain", &|| {
            append("/etc/etcd/etcd.yml", "heartbeat-interval: 192")
        }),
        ("two dashes and a sign", &|| {
            let unit = fs::read_to_string(host.path(UNIT)).expect("it is there");
            host.write(
                UNIT,
                &unit.replace("etcd --name", "etcd --heartbeat-interval=193 --name"),
            );
            host.run(["systemctl", "daemon-reload"]);
        }),
    ];
    for (at, (name, change)) in changes.into_iter().enumerate() {
        lay(&host, &named(name));
        restore(&host).expect_code(0);
        change();
        host.run(["systemctl", "restart", "etcd"]);
        let shown = format!("{}ms", 191 + at);
        until(&format!("{name}: {shown} to be in force"), || {
            let said = host.journal("etcd");
            holds(
                said.contains(&shown),
                said.lines().last().unwrap_or_default().to_owned(),
            )
        });
    }

    // A flag that comes beside a variable which a restore has laid on: etcd refuses to start with both.
    lay(&host, &named("variables"));
    restore(&host).expect_code(0);
    let flag = "[Service]\nExecStart=\nExecStart=/usr/bin/etcd --initial-cluster-state=existing\n";
    host.write(&format!("{DROP_INS}/20-flag.conf"), flag);
    host.run(["systemctl", "daemon-reload"]);
    let status = lifeboat(&host, ["--json", "status"]).expect_code(1).json();
    assert_eq!(
        status["restores"]["flags_in_conflict"],
        serde_json::json!(["--initial-cluster-state"]),
        "{status}"
    );
    assert!(
        status["problems"].to_string().contains("will not start again"),
        "{status}"
    );
    host.run_any(["systemctl", "restart", "etcd"]).expect_code(1);

    // What would put another cluster together is refused, and nothing is touched.
    lay(&host, &named("variables"));
    append("/etc/default/etcd", "ETCD_FORCE_NEW_CLUSTER=true");
    let refused = restore(&host).expect_code(7);
    assert!(
        refused.stderr.contains("`ETCD_FORCE_NEW_CLUSTER` in /etc/default/etcd"),
        "{refused}"
    );
    let check = lifeboat(&host, ["check"]);
    assert!(
        check.stderr.contains("a restore on this host would be refused"),
        "{check}"
    );
    assert!(!host.path(DATA_DIR).exists() && drop_ins(&host).is_empty());

    // An earlier version's copy of a YAML file, and its command line for it, go with the next restore and come back with it.
    let yaml = named("YAML, plain");
    lay(&host, &yaml);
    let copy = "/etc/lifeboat/restore/etcd.service.yaml";
    let text = String::from_utf8_lossy(&yaml.files[0].1).into_owned();
    host.write(copy, &text);
    let old = format!("[Service]\nExecStart=\nExecStart=/usr/bin/etcd --config-file={copy}\n");
    host.write(&format!("{DROP_INS}/50-lifeboat.conf"), &old);
    host.run(["systemctl", "daemon-reload"]);
    host.run(["systemctl", "start", "etcd"]);
    restore(&host).expect_code(0);
    assert!(!host.path(copy).exists() && drop_ins(&host).is_empty());
    let command = host.property("etcd", "ExecStart");
    assert!(command.contains("/etc/etcd/etcd.yml"), "{command}");
    lifeboat(&host, ["rollback", "--yes"]).expect_code(0);
    assert_eq!(fs::read_to_string(host.path(copy)).expect("it is back"), text);
    assert_eq!(drop_ins(&host), ["50-lifeboat.conf"]);
}

/// A host with the product and an etcd whose settings are still to be laid.
fn host(lab: &Lab<'_>) -> Host {
    let mut host = lab.hosts(1).remove(0);
    host.boot();
    install_on(&host);
    let snapshot = "tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap";
    host.copy_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(snapshot), SNAPSHOT);
    let made = host.run(["lifeboat", "keygen", "--identity", "/root/backup-key.txt"]);
    let recipient = made.stdout.trim();
    let text = format!(
        "[cluster]\nname = \"lab\"\n[members.{NAME}]\nclient_urls = [\"{CLIENT_URL}\"]\npeer_urls = [\"{PEER_URL}\"]\n\
         [encryption]\nrecipients = [\"{recipient}\"]\n[host]\nmember = \"{NAME}\"\nunit = \"etcd.service\"\n\
         [destinations.local]\nurl = \"file:///var/backups/lifeboat\"\n[restore]\nhealth_timeout = \"30s\"\n"
    );
    host.write(CONFIG, &text);
    host
}

/// Lays settings, in the place of all that were there, and no data.
fn lay(host: &Host, spelling: &Spelling) {
    host.run_any(["systemctl", "stop", "etcd"]);
    host.shell(&format!(
        "rm -rf /var/lib/etcd/* /etc/etcd {DROP_INS} /etc/lifeboat/restore /etc/default/etcd /var/lib/lifeboat-restore; \
         mkdir -p /etc/etcd /var/lib/etcd; chown etcd: /var/lib/etcd"
    ));
    host.write(UNIT, &spelling.unit());
    for (path, content) in &spelling.files {
        let target = host.path(path);
        fs::create_dir_all(target.parent().expect("a file is in a directory")).expect("root can write");
        fs::write(target, content).expect("root can write");
    }
    host.shell("systemctl daemon-reload; systemctl reset-failed etcd 2>/dev/null || true");
}

fn restore(host: &Host) -> Done {
    lifeboat(host, ["--json", "restore", SNAPSHOT, "--yes"])
}

fn drop_ins(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.path(DROP_INS)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
