//! Root's own runs beside the agent's: nothing that one leaves stands in the other's way.

use super::{KEEP_TWO, OFTEN, SELDOM};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{CONFIG, IDENTITY, STATE, STORE, UNIT, drop_in, enable, ids, install, lifeboat};

pub fn what_root_does_by_hand_the_agent_goes_on_with(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{SELDOM}"));
    // The very first run makes the store and the state.
    let first = backup(host);
    enable(host);
    let second = backup(host);
    for args in [
        &["pin", &first][..],
        &["unpin", &first],
        &["prune"],
        &["verify", "--identity", IDENTITY],
        &["accept-lineage"],
    ] {
        lifeboat(host, args.iter().copied()).expect_code(0);
        assert_all_is_the_agents(host);
    }

    drop_in(host, "20-often.toml", OFTEN);
    until("the agent to have rotated root's backups", || {
        let now = ids(host);
        holds(
            now.len() == 2 && !now.contains(&first) && !now.contains(&second),
            host.journal(UNIT),
        )
    });
    let third = backup(host);
    lifeboat(host, ["verify", &third, "--identity", IDENTITY]).expect_code(0);
    lifeboat(host, ["prune"]).expect_code(0);
    assert_all_is_the_agents(host);
    lifeboat(host, ["status"]).expect_code(0);
}

/// A user in group `lifeboat` sees what root sees; one who is not is told how to come into it.
pub fn whoever_is_in_the_group_sees_how_things_are(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{SELDOM}"));
    enable(host);
    let id = backup(host);
    host.run(["useradd", "--create-home", "--groups", "lifeboat", "anna"]);
    host.run(["useradd", "--create-home", "bert"]);
    let seen_by = |user: &str, args: &[&str]| {
        let run = ["runuser", "--login", user, "--command"];
        let line = format!("lifeboat {}", args.join(" "));
        host.run_any(run.into_iter().chain([line.as_str()]))
    };
    until("the agent to have looked", || {
        let status = lifeboat(host, ["--json", "status"]);
        holds(status.code == 0, status)
    });
    let (roots, annas) = (
        lifeboat(host, ["--json", "status"]).json(),
        seen_by("anna", &["--json", "status"]).expect_code(0).json(),
    );
    for part in ["ok", "problems", "windows", "latest", "members"] {
        assert_eq!(annas[part], roots[part], "{part}: {annas}");
    }
    assert_eq!(annas["agent"]["pid"], roots["agent"]["pid"]);
    assert_eq!(annas["schedules"], roots["schedules"]);
    let listed = seen_by("anna", &["list"]).expect_code(0);
    assert!(listed.stdout.contains(&id) && listed.stderr.is_empty(), "{listed}");
    let text = seen_by("anna", &["status"]).expect_code(0);
    assert!(
        text.stdout.starts_with("ok: ") && text.stdout.contains("runs since"),
        "{text}"
    );
    seen_by("anna", &["metrics"]).expect_code(0);
    // Nothing is left behind for it.
    assert_eq!(host.run(["find", "/home/anna", "-name", "*lifeboat*"]).stdout, "");
    assert_all_is_the_agents(host);

    // The configuration may be closed to others, and to the group.
    for args in [&["status"][..], &["list"]] {
        let told = seen_by("bert", args);
        assert_ne!(told.code, 0, "{told}");
        let said = format!("{}{}", told.stdout, told.stderr);
        assert!(said.contains("`usermod -aG lifeboat bert`"), "{told}");
    }
    host.run(["chown", "root:lifeboat", CONFIG]);
    host.run(["chmod", "0640", CONFIG]);
    seen_by("anna", &["status"]).expect_code(0);
    let told = seen_by("bert", &["status"]);
    assert!(told.stderr.contains("`usermod -aG lifeboat bert`"), "{told}");
}

/// Root takes a backup.
#[track_caller]
fn backup(host: &Host) -> String {
    let done = lifeboat(host, ["backup", "--wait", "30s"]).expect_code(0);
    assert_all_is_the_agents(host);
    done.stdout.trim().to_owned()
}

#[track_caller]
fn assert_all_is_the_agents(host: &Host) {
    let strange = host.run(["find", STORE, STATE, "!", "-user", "lifeboat"]);
    assert_eq!(strange.stdout, "");
}
