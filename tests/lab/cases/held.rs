//! Restores that are open: etcd is kept from starting, whoever starts it, until they are taken up.

use std::fs;
use std::path::PathBuf;

use super::restore_deaths::{Place, step_of, under_strace};
use super::restores::{KEY, LATER, LEDGERS, backed_up, has_guard};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{install, lifeboat};

/// The ledger says `swap`, which is not done yet.
const BEFORE_THE_SWAP: Place = Place::Recorded(5);
/// The ledger says `settings`: the data is the new, and what goes with it is not written yet.
const AFTER_THE_SWAP: Place = Place::Recorded(6);
/// The ledger says `start`.
pub(super) const AFTER_THE_SETTINGS: Place = Place::Recorded(7);

pub fn an_etcd_that_somebody_starts_meanwhile_stays_down_and_says_why(lab: &Lab<'_>) {
    let mut cluster = Cluster::start(lab, 1);
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let host = &mut cluster.hosts[0];

    // A restore that stands still once the data is exchanged.
    let stop = format!(
        "strace --follow-forks --quiet=all --output=/root/trace --trace=fsync --inject=fsync:signal=STOP:when=6 \
         -P {LEDGERS} -- lifeboat restore {id} --identity {KEY} --yes >/root/said 2>&1"
    );
    host.run(["systemd-run", "--quiet", "--unit=trial", "sh", "-c", &stop]);
    let pid = until("the restore to stand still", || {
        let trace = fs::read_to_string(host.path("/root/trace")).unwrap_or_default();
        let stopped = trace.lines().find(|line| line.contains("stopped by SIGSTOP"));
        let pid = stopped.and_then(|line| line.split(' ').next()).map(str::to_owned);
        pid.ok_or_else(|| {
            let said = fs::read_to_string(host.path("/root/said"));
            let unit = host.run_any(["systemctl", "status", "--no-pager", "trial"]).stdout;
            format!("{trace}; it said: {said:?}; {unit}")
        })
    });
    assert_eq!(step_of(host).as_deref(), Some("settings"));
    for command in ["start", "restart"] {
        host.run_any(["systemctl", command, "etcd"]);
        assert_held(host);
    }
    host.run(["kill", "-CONT", &pid]);
    until("it to come to its end", || {
        let open = host.path(LEDGERS).join("ledger.json").exists();
        holds(!open && !has_guard(host), fs::read_to_string(host.path("/root/said")))
    });
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
    let host = &mut cluster.hosts[0];
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);

    // A boot, where nobody can take it up, nor could before it.
    let hold = nobody_takes_it_up(host);
    let command = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    under_strace(host, &command, AFTER_THE_SWAP);
    host.cut_power();
    host.boot();
    assert_eq!(step_of(host).as_deref(), Some("settings"));
    assert_held(host);
    // Whoever starts etcd has it taken up first.
    fs::remove_file(hold).expect("root can remove it");
    host.run_any(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    let host = &cluster.hosts[0];
    until("the ledger to be closed", || holds(!has_guard(host), step_of(host)));
    let journal = host.journal("lifeboat-restore-resume");
    assert_eq!(cluster.client().get_all().expect("it serves").len(), 50, "{journal}");
}

pub fn a_unit_of_another_name_never_starts_on_half_a_restore(lab: &Lab<'_>) {
    let mut cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    host.run(["systemctl", "disable", "--now", "--quiet", "etcd"]);
    let (name, address) = (&host.name, host.address);
    let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    host.shell("mkdir -p /srv/prod && chown etcd:etcd /srv/prod && chmod 700 /srv/prod");
    host.write(
        "/etc/systemd/system/etcd-prod.service",
        &format!(
            "[Service]\nType=notify\nUser=etcd\nExecStart=/usr/bin/etcd --name {name} --data-dir /srv/prod/data \
             --listen-client-urls {client} --advertise-client-urls {client} --listen-peer-urls {peer} \
             --initial-advertise-peer-urls {peer} --initial-cluster {name}={peer} --initial-cluster-token prod\n\
             [Install]\nWantedBy=multi-user.target\n"
        ),
    );
    host.run(["systemctl", "enable", "--now", "--quiet", "etcd-prod"]);
    cluster.wait_until_served();
    install(&cluster, "[host]\nunit = \"etcd-prod.service\"\n");
    let (id, _) = super::restores::written_and_backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");

    let command = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    for place in [BEFORE_THE_SWAP, AFTER_THE_SETTINGS] {
        let host = &mut cluster.hosts[0];
        let hold = nobody_takes_it_up(host);
        under_strace(host, &command, place);
        assert!(step_of(host).is_some(), "it died at {place:?}");
        host.cut_power();
        fs::remove_file(hold).expect("root can remove it");
        host.boot();
        cluster.wait_until_served();
        let host = &cluster.hosts[0];
        let guard = host.path("/etc/systemd/system/etcd-prod.service.d/50-lifeboat-guard.conf");
        until("it to be taken up", || {
            holds(step_of(host).is_none() && !guard.exists(), host.journal(RESUME))
        });
        let client = cluster.client();
        assert_eq!(client.get(LATER).expect("it serves"), None);
        assert_eq!(client.get_all().expect("it serves").len(), 50);
        assert_eq!(host.main_pid("etcd"), 0, "the other unit stays as it was");
        lifeboat(host, ["rollback", "--yes"]).expect_code(0);
        cluster.wait_until_served();
        let old = cluster.client().get(LATER).expect("it serves");
        assert_eq!(old, Some(b"old".to_vec()));
    }
}

pub fn a_rollback_that_dies_has_nobody_go_on_with_the_restore(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    // One that died in the middle, and that nobody takes up.
    host.run(["systemctl", "mask", "--quiet", RESUME]);
    let restore = ["lifeboat", "restore", &id, "--identity", KEY, "--yes"];
    under_strace(host, &restore, BEFORE_THE_SWAP);
    host.run(["systemctl", "unmask", "--quiet", RESUME]);
    assert_eq!(step_of(host).as_deref(), Some("swap"));

    // It dies before the ledger says that the way is back.
    under_strace(host, &["lifeboat", "rollback", "--yes"], Place::Renaming(1));
    assert_eq!(step_of(host).as_deref(), Some("swap"));
    host.run(["journalctl", "--sync"]);
    // There may be no such unit at all.
    let scopes = [
        "journalctl",
        "--no-pager",
        "--output=cat",
        "--unit",
        "lifeboat-rollback-*.scope",
    ];
    let scopes = host.run_any(scopes);
    assert!(!scopes.stdout.contains("Started"), "nothing follows its end: {scopes}");
    assert_held(host);

    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
    assert!(!has_guard(host));
}

pub(super) const RESUME: &str = "lifeboat-restore-resume.service";

/// What is left open stays so, at boot too, until the file is gone that this gives.
pub(super) fn nobody_takes_it_up(host: &Host) -> PathBuf {
    host.write(
        &format!("/etc/systemd/system/{RESUME}.d/lab.conf"),
        "[Service]\nExecStartPre=/usr/bin/test ! -e /root/hold\n",
    );
    host.run(["systemctl", "daemon-reload"]);
    host.write("/root/hold", "");
    host.path("/root/hold")
}

/// etcd does not run, and whoever asks systemd for it reads why.
#[track_caller]
fn assert_held(host: &Host) {
    assert_eq!(host.main_pid("etcd"), 0);
    let shown = host.run_any(["systemctl", "status", "--no-pager", "etcd"]).stdout;
    for part in ["50-lifeboat-guard.conf", "man:lifeboat-runbook(7)"] {
        assert!(shown.contains(part), "`{part}` is not in {shown}");
    }
}
