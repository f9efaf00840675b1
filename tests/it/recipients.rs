//! Recipients that somebody has changed: told until the operator says that they are meant.

use super::support::host::{CLUSTER, Host};
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
    std::fs::remove_file(host.path("state").join(format!("{CLUSTER}/recipients.json"))).expect("it was remembered");
    let strange = host.path("strange.txt").display().to_string();
    let strangers = host.lifeboat(["keygen", "--identity", &strange]).expect_code(0).stdout;
    host.reconfigure(host.recipient(), strangers.trim());
    host.lifeboat(["backup"]).expect_code(0).says(&[CHANGED]);
    host.lifeboat(["backup"]).expect_code(0).says(&[CHANGED]);
}
