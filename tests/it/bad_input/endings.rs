//! Runs that are stopped, killed, or that nobody listens to any more.

use super::*;

#[test]
fn backups_that_are_asked_to_stop() {
    let Some(etcd) = shared::unchanging() else { return };
    for signal in ["INT", "TERM"] {
        let (host, gate) = held(etcd);
        let running = host.start(["backup"]);
        gate.wait_until_held();
        running.signal(signal);
        let output = running.wait().expect_code(1).says(&["interrupted", "nothing was kept"]);
        assert_eq!(output.stdout, "");
        untouched(&host);
    }
    // A terminal that closes is nobody who asks.
    let (host, gate) = held(etcd);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running.signal("HUP");
    gate.open();
    let id = running.wait().expect_code(0).stdout;
    host.lifeboat(["show", id.trim()]).expect_code(0);
}

#[test]
fn backups_that_are_killed() {
    let Some(etcd) = shared::unchanging() else { return };
    let (host, gate) = held(etcd);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running.signal("KILL");
    running.wait().expect_code(-1);
    let left = objects(&host);
    assert_eq!(left.len(), 1, "{left:?}");
    let list = host.lifeboat(["list"]).expect_code(0);
    assert!(list.stdout.contains("no backups"), "{}", list.stdout);
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(
        (&list["backups"], &list["damaged"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    host.lifeboat(["show", "latest"]).expect_code(4);

    gate.open();
    let next = host
        .lifeboat(["-v", "backup"])
        .expect_code(0)
        .says(&["removed", ".partial"]);
    let id = next.stdout.trim();
    let stored = objects(&host);
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(stored.iter().all(|name| name.contains(id)), "{stored:?}");
    let folders = tree(&host.store())
        .into_iter()
        .filter(|name| name.ends_with('/'))
        .count();
    assert_eq!(folders, 3, "the folder of the dead run went with it");
}

#[test]
fn nobody_reads_what_is_printed() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let run = |script: &str| {
        let lifeboat = host.command(["backup", "-v"]);
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-c", script, "bash"])
            .arg(lifeboat.get_program())
            .args(lifeboat.get_args());
        for (name, value) in lifeboat.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        let status = shell.status().expect("there is a shell");
        assert_eq!(status.code(), Some(0), "{script}");
    };
    run("exec \"$@\" >&- 2>&- <&-");
    run("set -o pipefail; \"$@\" 2>/dev/null | true");
    run("\"$@\" 2> >(true) > >(true)");
    // A result that somebody wanted and did not get is a failure, of the telling: the backup is there.
    let full = host
        .command(["backup"])
        .stdout(full_device())
        .output()
        .expect("it runs");
    let full = Output::new(
        full.status.code().unwrap_or(-1),
        String::new(),
        String::from_utf8_lossy(&full.stderr).into_owned(),
    );
    full.expect_code(1).says(&["o space left"]);
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(4));
}

fn full_device() -> fs::File {
    fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("every Linux has it")
}

#[test]
fn rebuilds_that_do_not_end() {
    let Some(stored) = Stored::new() else { return };
    let (host, target) = (&stored.host, &stored.target);
    let snapshot = stored.path("snapshot.db");
    let identity = stored.path("identity.txt");
    host.lifeboat(["export", &stored.id, &snapshot, "--identity", &identity])
        .expect_code(0);
    let bytes = fs::read(&snapshot).expect("it was exported");
    let (data_dir, parent) = (&target.members[0].data_dir, target.directory());
    let half_way = |args: &[String]| {
        let mut command = host.command(args);
        command.stdin(Stdio::piped());
        let mut running = crate::support::running::Running::start(command);
        let mut stdin = running.stdin();
        stdin.write_all(&bytes[..bytes.len() / 2]).expect("it reads");
        until("half of it is written", || {
            let written = |name: &String| name.contains(".partial-") && name.contains("/db ");
            tree(parent).iter().any(|name| written(name) && !name.ends_with(" 0"))
        });
        (running, stdin)
    };
    let args = host.rebuild_args("-", target, 0);

    let (running, mut stdin) = half_way(&args);
    running.signal("INT");
    // It looks up from its work at the next block.
    while stdin.write_all(&[0; 64 << 10]).is_ok() {}
    running.wait().expect_code(1).says(&["interrupted", "nothing was kept"]);
    assert_eq!(tree(parent), [""; 0], "what was begun is taken back");

    let (running, stdin) = half_way(&args);
    drop(stdin);
    running
        .wait()
        .expect_code(5)
        .says(&["standard input", "cut short", "next: "]);
    assert_eq!(tree(parent), [""; 0]);

    let (running, _stdin) = half_way(&args);
    assert!(!data_dir.exists(), "nothing has the final name");
    // Another run of the same is not disturbed by it, nor the other way round.
    running.signal("KILL");
    running.wait().expect_code(-1);
    assert!(!data_dir.exists());
    let left = tree(parent);
    assert!(left.iter().all(|name| name.starts_with("m1.etcd.partial-")), "{left:?}");
    host.lifeboat(host.rebuild_args("latest", target, 0)).expect_code(0);
    let top = || {
        fs::read_dir(parent)
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name())
    };
    assert_eq!(
        top().collect::<Vec<_>>(),
        ["m1.etcd"],
        "the leavings went with the next run"
    );

    // Into an empty directory, such as a mount point.
    fs::remove_dir_all(data_dir).expect("it is there");
    fs::create_dir(data_dir).expect("the test's directory can be written");
    let (running, _stdin) = half_way(&args);
    running.signal("KILL");
    running.wait().expect_code(-1);
    assert!(!data_dir.join("member").exists());
    host.lifeboat(host.rebuild_args("latest", target, 0)).expect_code(0);
    let inside: Vec<_> = fs::read_dir(data_dir)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(inside, ["member"]);
}
