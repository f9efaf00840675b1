//! Members that do not answer, and streams that break off.

use super::*;

#[test]
fn members_that_do_not_answer() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let url = &etcd.members[0].client_url;
    // Bound and never accepting: the kernel connects, and then nobody speaks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mute = format!("http://{}", silent.local_addr().expect("it is bound"));
    host.reconfigure(url, &mute);
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&[&mute, "no answer", "next: ", "lifeboat check", "--online"]);
    drop(silent);
    host.lifeboat(["backup"]).expect_code(1).says(&[
        &mute,
        "onnection refused",
        "next: ",
        "lifeboat check",
        "--online",
    ]);
    untouched(&host);
    let found = host.lifeboat(["check", "--online"]).expect_code(1).says(&["m1", &mute]);
    assert!(found.stdout.contains("no answer"), "{}", found.stdout);
}

#[test]
fn a_member_that_is_not_up_yet_is_waited_for() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    etcd.stop();
    host.lifeboat(["backup", "--wait", "1s"])
        .expect_code(1)
        .says(&["onnection refused"]);
    let running = host.start(["backup", "--wait", "60s"]);
    etcd.boot();
    running.wait().expect_code(0);
}

#[test]
fn streams_that_break_off() {
    let Some(etcd) = shared::unchanging() else { return };
    let url = &etcd.members[0].client_url;
    let next = ["nothing was kept", "--member"];

    let (host, gate) = held(etcd);
    host.reconfigure("[encryption]", "[backup]\nidle_timeout = \"1s\"\n[encryption]");
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running
        .wait()
        .expect_code(1)
        .says(&[&gate.url, "no answer to Snapshot for 1 s"])
        .says(&next);
    untouched(&host);

    let host = Host::new(etcd);
    let gate = Gate::flipping(url);
    host.reconfigure(url, &gate.url);
    let damaged = host.lifeboat(["backup"]).expect_code(5);
    damaged.says(&[&gate.url, "SHA-256", "changed on the way", "next: "]);
    untouched(&host);

    let Some(mut dying) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    // More than the wire can hold, or all of it would be on the way when the member dies.
    for number in 0..18 {
        let mut value = vec![0; 1 << 20];
        getrandom::fill(&mut value).expect("the kernel gives random numbers");
        dying.client().put(&format!("/{number}"), value, 0).expect("it runs");
    }
    let (host, gate) = held(&dying);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    dying.kill(0);
    gate.open();
    running.wait().expect_code(1).says(&[&gate.url, "Snapshot"]).says(&next);
    untouched(&host);
}
