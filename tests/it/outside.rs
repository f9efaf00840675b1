//! What happens beside the agent reaches its verdict within seconds: a destination that is unmounted, and what a command has done.
//!
//! By itself the agent looks every fifteen minutes, or each minute while a destination cannot be used; a test waits for
//! less than that.

use std::fs;

use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, files_below};
use super::support::running::until;
use super::support::tmpfs::Tmpfs;
use super::support::tools::Version;

/// What the agent says of its destinations, and what is wrong.
fn report(host: &Host) -> Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    serde_json::from_str(&text).expect("it is replaced whole")
}

fn doubts(host: &Host) -> Vec<String> {
    let report = report(host);
    let doubts = report["doubts"].as_array().map_or(&[][..], Vec::as_slice);
    let doubts = doubts.iter().map(|doubt| doubt["event"].as_str().unwrap().to_owned());
    doubts.collect()
}

fn has_looked(host: &Host) -> bool {
    report(host)["stores"].is_object()
}

#[test]
fn a_destination_that_is_unmounted_is_told_at_once_and_so_is_its_return() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let disk = host.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(disk) = Tmpfs::mount(&disk, 64) else { return };
    let bound = disk.bind(&host.store());
    host.backup();
    let agent = host.start(["agent"]);
    until("the first look", || has_looked(&host));
    assert_eq!(doubts(&host), [""; 0]);
    let is_readable = || report(&host)["stores"]["destinations"][0]["is_readable"] == true;
    assert!(is_readable());
    for _ in 0..2 {
        bound.unmount();
        until("the destination to be missed", || {
            !is_readable() && doubts(&host) == ["destination-disabled"]
        });
        bound.mount();
        until("the destination to be back", || {
            is_readable() && doubts(&host).is_empty()
        });
    }
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    assert_eq!(said.matches("mount it; if it is gone for good").count(), 2, "{said}");
    assert_eq!(said.matches("all is well again").count(), 2, "{said}");
}

#[test]
fn what_a_command_does_reaches_the_agents_verdict_at_once() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let agent = host.start(["agent"]);
    until("the first look", || doubts(&host) == ["no-backup"]);
    let id = host.backup();
    until("the backup to be seen", || {
        doubts(&host).is_empty() && report(&host)["stores"]["latest"]["id"] == id.as_str()
    });

    let other = host.path("other.txt");
    let made = host.lifeboat(["keygen".as_ref(), "--identity".as_ref(), other.as_os_str()]);
    let text = fs::read_to_string(host.config()).unwrap();
    let recipient = made.expect_code(0).stdout.trim().to_owned();
    fs::write(host.config(), text.replace(host.recipient(), &recipient)).unwrap();
    until("the other recipient to be told", || {
        doubts(&host) == ["recipients-changed"]
    });
    host.lifeboat(["check", "--accept-recipients"]);
    until("the recipient to be accepted", || doubts(&host).is_empty());

    // It cannot be seen from outside that it is bad.
    let second = host.backup();
    until("the second one to be seen", || {
        report(&host)["stores"]["latest"]["id"] == second.as_str()
    });
    let object = files_below(&host.store())
        .into_iter()
        .map(|file| host.store().join(file))
        .find(|file| file.display().to_string().contains(&format!("{second}/full.db")));
    let object = object.unwrap();
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).unwrap();
    host.lifeboat(["verify", &second]).expect_code(5);
    until("the bad backup to be told", || {
        report(&host)["stores"]["destinations"][0]["bad"] == 1 && doubts(&host) == ["backup-unproven"]
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
}
