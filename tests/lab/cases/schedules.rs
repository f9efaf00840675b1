//! The agent as a service: it takes what is due, keeps what the rules say and follows its configuration.

use std::collections::BTreeSet;

use super::{KEEP_TWO, OFTEN, SELDOM};
use crate::cluster::Cluster;
use crate::hosts::{Lab, holds, until};
use crate::install::{IDENTITY, STORE, UNIT, backups, drop_in, enable, ids, install, lifeboat, manifests, status};

pub fn the_unit_takes_backups_on_schedule_and_rotates_them(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    enable(host);
    assert_eq!(host.property(UNIT, "ActiveState"), "active");
    assert!(host.property(UNIT, "StatusText").contains("often"));

    let mut seen = BTreeSet::new();
    until("four backups", || {
        seen.extend(ids(host));
        holds(seen.len() >= 4, &seen)
    });
    until("the first ones to be removed", || {
        holds(ids(host).len() <= 2, ids(host))
    });
    let newest = backups(host).pop().expect("one always stays");
    assert_eq!(newest["proof"], "hash_kv");
    lifeboat(host, ["status"]).expect_code(0);
    let strange = host.shell(&format!("find {STORE} ! -user lifeboat"));
    assert_eq!(strange.stdout, "");

    host.run(["systemctl", "stop", UNIT]);
    assert_eq!(host.property(UNIT, "Result"), "success");
    lifeboat(host, ["status"]).expect_code(1);
}

pub fn the_unit_serves_metrics_to_its_host_and_a_reload_moves_them(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, SELDOM);
    drop_in(host, "40-metrics.toml", "[metrics]\nlisten = \"127.0.0.1:9379\"\n");
    enable(host);
    let scrape = |port: u16| {
        let ask =
            format!("exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET /metrics HTTP/1.1\\r\\n\\r\\n' >&3 && cat <&3");
        host.run_any(["bash", "-c", &ask])
    };
    until("metrics", || {
        let told = scrape(9379);
        holds(told.stdout.contains("lifeboat_agent_up 1"), told)
    });
    drop_in(host, "40-metrics.toml", "[metrics]\nlisten = \"127.0.0.1:9380\"\n");
    host.run(["systemctl", "reload", UNIT]);
    until("metrics at the other port", || {
        let told = scrape(9380);
        holds(told.stdout.contains("lifeboat_agent_up 1"), told)
    });
    assert_ne!(scrape(9379).code, 0);
    let status = lifeboat(host, ["status"]).stdout;
    assert!(!status.contains("systemctl enable"), "{status}");
}

pub fn a_scheduled_verification_proves_in_the_unit_what_one_by_hand_would(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, SELDOM);
    let load = format!("[Service]\nLoadCredential=identity:{IDENTITY}");
    host.shell(&format!(
        "mkdir /etc/systemd/system/{UNIT}.d && printf '%s\\n' '{load}' >/etc/systemd/system/{UNIT}.d/10-identity.conf && \
         systemctl daemon-reload"
    ));
    drop_in(
        host,
        "30-verify.toml",
        "[encryption]\nidentity = { credential = \"identity\" }\n\
         [schedules.check]\nkind = \"verify\"\nevery = \"5s\"\njitter = \"0s\"\n",
    );
    lifeboat(host, ["backup"]).expect_code(0);
    enable(host);
    until("the backup to be proven", || {
        let found = backups(host);
        holds(
            found
                .iter()
                .any(|backup| backup["proof"] == "hash_kv" && backup["checked_at"].is_string()),
            host.journal(UNIT),
        )
    });
}

pub fn a_file_dropped_in_adds_a_schedule_without_a_restart(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, SELDOM);
    enable(host);
    let agent = host.main_pid(UNIT);
    drop_in(host, "20-often.toml", OFTEN);
    until("a backup of the schedule that was dropped in", || {
        let found = manifests(&host.path(STORE));
        holds(found.iter().any(|manifest| manifest["schedule"] == "often"), &found)
    });
    host.run(["systemctl", "reload", UNIT]);
    let before = ids(host);
    until("backups to go on after a reload", || {
        holds(ids(host).len() > before.len(), ids(host))
    });
    assert_eq!(host.main_pid(UNIT), agent);
    lifeboat(host, ["status"]).expect_code(0);
}

pub fn a_broken_file_changes_nothing_and_shows_in_the_status(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    enable(host);
    until("a first backup", || holds(!ids(host).is_empty(), status(host)));
    let agent = host.main_pid(UNIT);

    drop_in(host, "30-broken.toml", "[schedules.other]\nwhen = \"sometimes\"\n");
    until("the file to be refused", || {
        let error = status(host)["configuration_error"].to_string();
        holds(error.contains("30-broken.toml"), error)
    });
    let before = ids(host);
    until("backups to go on", || holds(ids(host).is_disjoint(&before), ids(host)));
    let wrong = lifeboat(host, ["status"]).expect_code(1);
    assert!(wrong.stdout.contains("30-broken.toml"), "{wrong}");
    let reload = host.run_any(["systemctl", "reload", UNIT]);
    assert_ne!(reload.code, 0, "{reload}");
    assert_eq!(host.property(UNIT, "ActiveState"), "active");
    assert_eq!(host.main_pid(UNIT), agent, "it goes on with the one before");

    std::fs::remove_file(host.path("/etc/lifeboat/config.d/30-broken.toml")).unwrap();
    until("all to be well again", || {
        let now = lifeboat(host, ["status"]);
        holds(now.code == 0, now)
    });
    assert_eq!(host.main_pid(UNIT), agent);
    let said = host.journal(UNIT);
    assert_eq!(said.matches("the previous one stays in force").count(), 1, "{said}");
}
