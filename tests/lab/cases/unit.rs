//! The shipped unit on the systemd that runs it: how closed it is, as whom it runs, and that a hanging agent is noticed.

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{UNIT, enable, ids, install, install_on, lifeboat};

/// The highest exposure that the unit may have, of 10.
const MOST_EXPOSED: f64 = 1.5;
/// The same of what stops etcd and changes its data as root.
const MOST_EXPOSED_RESTORE: f64 = 3.0;

pub fn systemd_finds_it_closed_and_nothing_wrong_with_it(lab: &Lab<'_>) {
    let mut hosts = lab.hosts(1);
    let host = &mut hosts[0];
    host.boot();
    install_on(host);
    assert_closed(host, UNIT, MOST_EXPOSED);
    let verified = host.run(["systemd-analyze", "verify", UNIT]);
    assert!(!verified.stderr.contains("lifeboat"), "{verified}");
}

pub fn a_restore_may_do_little_else(lab: &Lab<'_>) {
    let mut hosts = lab.hosts(1);
    let host = &mut hosts[0];
    host.boot();
    install_on(host);
    for unit in ["lifeboat-restore@latest.service", "lifeboat-restore-resume.service"] {
        assert_closed(host, unit, MOST_EXPOSED_RESTORE);
    }
}

pub fn the_agent_runs_as_its_own_user_without_capabilities(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    enable(host);
    until("a backup", || holds(!ids(host).is_empty(), host.journal(UNIT)));
    let process = host.run(["cat", &format!("/proc/{}/status", host.main_pid(UNIT))]);
    let field = |name: &str| {
        let value = process.stdout.lines().find_map(|line| line.strip_prefix(name));
        let words = value
            .unwrap_or_else(|| panic!("no {name} {process}"))
            .split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    for (name, flag) in [("Uid:", "-u"), ("Gid:", "-g")] {
        let own = host.run(["id", flag, "lifeboat"]).stdout.trim().to_owned();
        assert_ne!(own, "0");
        assert_eq!(field(name), vec![own; 4]);
    }
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:")),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
}

pub fn an_agent_that_hangs_is_restarted_by_the_watchdog(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    host.write(
        "/etc/systemd/system/lifeboat.service.d/lab.conf",
        "[Service]\nWatchdogSec=3s\nRestartSec=1s\n",
    );
    host.run(["systemctl", "daemon-reload"]);
    enable(host);
    let agent = host.main_pid(UNIT);
    until("a first backup", || holds(!ids(host).is_empty(), host.journal(UNIT)));
    assert_eq!(host.property(UNIT, "NRestarts"), "0");

    host.signal(agent, "STOP");
    until("another agent", || {
        let now = (host.main_pid(UNIT), host.property(UNIT, "ActiveState"));
        holds(now.0 != agent && now.0 != 0 && now.1 == "active", now)
    });
    let said = host.run([
        "journalctl",
        "--no-pager",
        "--output=cat",
        "--unit",
        UNIT,
        "--grep",
        "[Ww]atchdog",
    ]);
    assert!(said.stdout.contains("atchdog timeout"), "{said}");
    let before = ids(host);
    until("backups to go on", || holds(ids(host).is_disjoint(&before), ids(host)));
    lifeboat(host, ["status"]).expect_code(0);
}

#[track_caller]
fn assert_closed(host: &Host, unit: &str, most: f64) {
    let judged = host.run(["systemd-analyze", "security", "--no-pager", unit]);
    let level = judged.stdout.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(&format!("{unit}: "))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    assert!(level.is_some_and(|level| level <= most), "{judged}");
}
