//! Members that do not answer, and streams that break off.

use super::super::support::client::wait_for;
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
    fill(&dying, 18);
    let (host, gate) = held(&dying);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    dying.kill(0);
    gate.open();
    let broken = running.wait().expect_code(1).says(&[&gate.url, "Snapshot"]).says(&next);
    broken.says(&["the connection broke off: is etcd still running?"]);
    untouched(&host);
}

#[test]
fn a_member_that_falls_silent_is_given_up_for_another() {
    let Some(etcd) = Etcd::start(Version::V3_5, three()) else {
        return;
    };
    fill(&etcd, 10);
    let host = Host::new(&etcd);
    host.reconfigure("[encryption]", "[backup]\nidle_timeout = \"1s\"\n[encryption]");
    // Whoever is asked first is held in the middle of the stream; the second time it is not the first that is asked.
    let gates = gates_before(&etcd, &host, |url| Gate::before(url, MIDDLE));
    let running = host.start(["backup"]);
    until("a stream is held", || gates.iter().any(Gate::is_held));
    for gate in gates.iter().filter(|gate| !gate.is_held()) {
        gate.open();
    }
    let output = running.wait().expect_code(0);
    let output = output.says(&[
        "the backup was taken from m",
        "was given up: ",
        "no answer to Snapshot for 1 s",
    ]);
    let id = output.stdout.trim();
    host.lifeboat(["verify", id, "--identity", text(&host.identity())])
        .expect_code(0);
    assert_eq!(objects(&host).len(), 3, "object, manifest, check: {:?}", objects(&host));
    drop(gates);
}

#[test]
fn a_member_that_trickles_is_given_up_for_another() {
    let Some(etcd) = Etcd::start(Version::V3_5, three()) else {
        return;
    };
    fill(&etcd, 10);
    let host = Host::new(&etcd);
    let limits = "[backup]\nidle_timeout = \"5s\"\nfinish_within = \"1m\"\n[encryption]";
    host.reconfigure("[encryption]", limits);
    let gates = gates_before(&etcd, &host, |url| Gate::before(url, MIDDLE));
    let running = host.start(["backup"]);
    until("a stream is held", || gates.iter().any(Gate::is_held));
    let (slow, others): (Vec<&Gate>, Vec<&Gate>) = gates.iter().partition(|gate| gate.is_held());
    others.iter().for_each(|gate| gate.open());
    // A message of etcd's every two seconds or so: never silent, and never done. The gate passes 16 KiB at once.
    while !running.has_ended() {
        slow.iter().for_each(|gate| gate.hold_after(20 << 10));
        std::thread::sleep(std::time::Duration::from_millis(900));
    }
    let output = running.wait().expect_code(0);
    output.says(&["was given up: ", " sends ", "`backup.finish_within`"]);
    drop(gates);
}

#[test]
fn a_member_that_falls_silent_before_its_stream_is_given_up_for_another() {
    let Some(etcd) = Etcd::start(Version::V3_5, three()) else {
        return;
    };
    etcd.client().put("/a", "b", 0).expect("it runs");
    let host = Host::new(&etcd);
    // It tells how it is, but not who its cluster is.
    let peer = etcd.members[0].peer_url.clone();
    let gates = gates_before(&etcd, &host, |url| Gate::stopping_at(url, &peer));
    let running = host.start(["backup"]);
    until("the list of members is held", || gates.iter().any(Gate::is_held));
    for gate in gates.iter().filter(|gate| !gate.is_held()) {
        gate.open();
    }
    let output = running.wait().expect_code(0);
    output.says(&[
        "the backup was taken from m",
        "was given up: ",
        "no answer to MemberList for 10 s",
    ]);
    drop(gates);
}

#[test]
fn a_member_whose_snapshot_is_damaged_is_given_up_for_another() {
    let Some(etcd) = Etcd::start(Version::V3_5, three()) else {
        return;
    };
    etcd.client()
        .put("/pattern", [shared::PATTERN; 64 << 10], 0)
        .expect("it runs");
    let host = Host::new(&etcd);
    let direct = fs::read_to_string(host.config()).expect("it was written");
    let asked_first = host.manifest(&host.backup())["member"]["name"].clone();
    let first = etcd.members.iter().find(|member| asked_first == *member.name);
    let first = first.expect("it is one of them");
    let gate = Gate::flipping(&first.client_url);
    host.reconfigure(&first.client_url, &gate.url);
    let output = host.lifeboat(["backup"]).expect_code(0);
    output.says(&[
        &format!("{} was given up: ", first.name),
        &gate.url,
        "SHA-256",
        "changed on the way",
    ]);

    fs::write(host.config(), direct).expect("it can be written");
    let before = objects(&host);
    let _gates = gates_before(&etcd, &host, Gate::flipping);
    let refused = host.lifeboat(["backup"]).expect_code(5);
    refused.says(&[
        "no member gives a sound snapshot",
        "m1: ",
        "m2: ",
        "m3: ",
        "nothing was kept",
    ]);
    assert_eq!(objects(&host), before);
}

/// Puts so many MiB that cannot be compressed.
fn fill(etcd: &Etcd, mebibytes: usize) {
    for number in 0..mebibytes {
        let mut value = vec![0; 1 << 20];
        getrandom::fill(&mut value).expect("the kernel gives random numbers");
        etcd.client().put(&format!("/{number}"), value, 0).expect("it runs");
    }
}

/// A gate before each member, through which the host reaches it.
fn gates_before(etcd: &Etcd, host: &Host, gate: impl Fn(&str) -> Gate) -> Vec<Gate> {
    let gates = etcd.members.iter().map(|member| {
        let gate = gate(&member.client_url);
        host.reconfigure(&member.client_url, &gate.url);
        gate
    });
    gates.collect()
}

fn three() -> Options {
    Options {
        members: 3,
        ..Options::default()
    }
}

#[test]
fn a_member_whose_data_differs_from_the_others_is_named() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, three()) else {
        return;
    };
    const VALUE: &[u8] = b"a value that is like no other";
    etcd.client().put("/differs", VALUE, 0).expect("it runs");
    etcd.hash_kv_of_each(0);
    etcd.stop();
    let database = etcd.members[2].data_dir.join("member/snap/db");
    let mut bytes = fs::read(&database).expect("it is there");
    // A page that is no longer in use may hold it too.
    let found: Vec<usize> = (0..bytes.len() - VALUE.len())
        .filter(|at| bytes[*at..].starts_with(VALUE))
        .collect();
    assert!(!found.is_empty(), "it was written");
    found.into_iter().for_each(|at| bytes[at] ^= 1);
    fs::write(&database, bytes).expect("it can be written");
    etcd.boot();

    let host = Host::new(&etcd);
    host.reconfigure("[encryption]", "[backup]\nhash_kv = \"always\"\n[encryption]");
    let differs = ["HashKV differs between members", "the data of m3 is corrupt"];
    // One that is right is no less good for it.
    let good = host
        .lifeboat(["backup", "--member", "m1"])
        .expect_code(0)
        .says(&differs);
    let shown = host.lifeboat(["show", good.stdout.trim()]).expect_code(0).stdout;
    assert!(!shown.contains("doubt"), "{shown}");
    let bad = host
        .lifeboat(["backup", "--member", "m3"])
        .expect_code(5)
        .says(&differs);
    let id = bad.stdout.trim();
    let shown = host.lifeboat(["show", id]).expect_code(0).stdout;
    assert!(
        shown.contains("fault") && shown.contains("doubt") && shown.contains("the data of m3 is corrupt"),
        "{shown}"
    );
    let status = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(status.contains(&format!("backup {id} has a bad copy")), "{status}");
}

#[test]
fn a_member_under_an_alarm_is_named() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    etcd.client().put("/a", "b", 0).expect("it runs");
    let host = Host::new(&etcd);
    let mut client = etcd.client().raw();
    let member = wait_for(client.status())
        .expect("it runs")
        .header()
        .expect("it has one")
        .member_id();
    let mut alarm = etcd_client::AlarmOptions::new();
    alarm.with_member(member);
    wait_for(client.alarm(
        etcd_client::AlarmAction::Activate,
        etcd_client::AlarmType::Corrupt,
        Some(alarm),
    ))
    .expect("an alarm can be raised");
    let says = ["member m1 is under alarm CORRUPT"];
    host.lifeboat(["check", "--online"]).expect_code(0).says(&says);
    let id = host.lifeboat(["backup"]).expect_code(0).says(&says).stdout;
    let shown = host.lifeboat(["show", id.trim()]).expect_code(0).stdout;
    assert!(shown.contains("m1 is under alarm CORRUPT"), "{shown}");
    let status = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(status.contains("member m1: alarm CORRUPT"), "{status}");
}

#[test]
fn a_learner_is_asked_by_its_name_and_its_refusals_are_understood() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    etcd.client().put("/a", "b", 0).expect("it runs");
    let (index, _) = etcd.add_learner();
    let host = Host::new(&etcd);
    let name = etcd.members[index].name.clone();
    host.lifeboat(["check", "--online"]).expect_code(0);
    let by_itself = host.lifeboat(["backup"]).expect_code(0).stdout;
    assert_eq!(host.manifest(by_itself.trim())["member"]["name"], "m1");
    let asked = host.lifeboat(["backup", "--member", &name]).expect_code(0);
    let asked = asked.says(&["is a learner", "may lag behind"]);
    let manifest = host.manifest(asked.stdout.trim());
    assert_eq!(
        (manifest["member"]["name"].as_str(), manifest["keys"].as_u64()),
        (Some(&*name), Some(1))
    );
    // Where the voter is away, it is not taken for one.
    etcd.kill(0);
    let refused = host.lifeboat(["backup"]).expect_code(1);
    refused.says(&["it is a learner", &format!("--member {name}")]);
}

#[test]
fn keys_of_the_v2_api_are_told_as_no_part_of_a_backup() {
    let flags = vec!["--enable-v2".to_owned()];
    let options = Options {
        flags,
        ..Options::default()
    };
    let Some(etcd) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    let host = Host::new(&etcd);
    const SAYS: &str = "keys of the v2 API";
    let before = host.lifeboat(["backup"]).expect_code(0);
    assert!(!before.stderr.contains(SAYS), "{}", before.stderr);
    let address = etcd.members[0].client_url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let put = "PUT /v2/keys/old HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1";
    stream.write_all(put.as_bytes()).expect("it takes requests");
    std::io::copy(&mut stream, &mut std::io::sink()).expect("it answers");
    host.lifeboat(["backup"]).expect_code(0).says(&["m1", SAYS]);
    host.lifeboat(["check", "--online"]).expect_code(0).says(&["m1", SAYS]);
}
