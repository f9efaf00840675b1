//! Restores on hosts with systemd: data that was lost comes back, and what was there is never lost.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::SELDOM;
use super::restore_deaths::{Place, under_strace};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{STORE, UNIT, drop_in, enable, install, lifeboat};
use crate::support::client::{Client, Entry};
use crate::support::etcd::{PASSWORD, changed_in_database};
use crate::support::host::copy_tree;

pub(super) const KEY: &str = "/root/backup-key.txt";
pub(super) const LEDGERS: &str = "/var/lib/lifeboat-restore";
/// Written after the backup: only the old data has it.
pub(super) const LATER: &str = "/written/after/the/backup";

pub fn a_member_that_lost_its_data_serves_the_backup_again(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    has_an_odd_life(&cluster);
    let (id, before) = backed_up(&cluster);
    let dry = restore(host, &["latest", "--dry-run"]).expect_code(0);
    assert!(dry.stdout.contains(&id) && dry.stdout.contains("etcd.service"), "{dry}");
    assert!(!host.path(LEDGERS).join("ledger.json").exists());
    lifeboat(host, ["restore", "latest", "--identity", KEY]).expect_code(7);

    host.run(["systemctl", "kill", "--signal=KILL", "etcd"]);
    until("etcd to be dead", || holds(host.main_pid("etcd") == 0, ""));
    host.run(["systemctl", "stop", "etcd"]);
    fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    let said = restore(host, &["latest", "--yes", "--json"]).expect_code(0).json();
    assert_eq!(said["outcome"], "restored", "{said}");
    let odd = "key `/odd`: version 7 of a life since revision";
    assert!(said["warnings"].to_string().contains(odd), "{said}");
    assert_serves(&cluster, &before);
    assert_eq!(owner(host, DATA_DIR), "etcd");
    assert_eq!(owner(host, &format!("{DATA_DIR}/member/snap/db")), "etcd");
    let client = cluster.client();
    client.put(LATER, "written", 0).expect("it takes writes");
    assert!(!has_guard(host));
    lifeboat(host, ["rollback", "--yes"]).expect_code(7);

    // The same after a boot, which has nothing of ours to go on with.
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
    assert_eq!(client.get(LATER).expect("it serves"), Some(b"written".to_vec()));
}

/// Data that etcd serves, and that is not as it should be: no damage, and told all the same.
fn has_an_odd_life(cluster: &Cluster) {
    let host = &cluster.hosts[0];
    let client = cluster.client();
    client.put("/odd", "the-first", 0).expect("it takes writes");
    client.put("/odd", "the-second", 0).expect("it takes writes");
    host.run(["systemctl", "stop", "etcd"]);
    // The version of a record stands before its value.
    changed_in_database(
        &host.path(DATA_DIR),
        b"\x20\x02\x2a\x0athe-second",
        b"\x20\x07\x2a\x0athe-second",
    );
    host.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
}

pub fn what_was_restored_is_taken_back_restored_again_and_released(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, before) = backed_up(&cluster);
    let client = cluster.client();
    client.put(LATER, "old", 0).expect("it takes writes");
    let said = restore(host, &[&id, "--yes", "--json"]).expect_code(0).json();
    assert!(
        said["down_seconds"].as_f64().is_some_and(|seconds| seconds < 30.0),
        "{said}"
    );
    // What was written later had been handed out; revisions jump in any case.
    assert!(said["revision"].as_i64() > Some(1_000_000_000), "{said}");
    assert_eq!(client.get(LATER).expect("it serves"), None);
    assert!(client.revision().expect("it serves") > 1_000_000_000);
    assert!(before.revision < 1_000_000_000);
    assert_status_tells_what_is_left(host, &format!("{DATA_DIR}/.lifeboat/kept-"));
    let backup_is_latest = || {
        let taken = lifeboat(host, ["--json", "backup"]).expect_code(0).json()["id"].clone();
        let latest = lifeboat(host, ["--json", "show", "latest"]).expect_code(0).json();
        assert!(
            latest.to_string().contains(taken.as_str().expect("an id")),
            "{taken} is not {latest}"
        );
    };
    backup_is_latest();

    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    assert_eq!(client.get(LATER).expect("it serves"), Some(b"old".to_vec()));
    // The history that goes on again is the one that is meant.
    backup_is_latest();
    assert!(!has_guard(host));
    // Its own settings, but that it begins no cluster.
    let laid = host.run(["cat", "/etc/lifeboat/restore/etcd.service.env"]).stdout;
    let laid: Vec<&str> = laid.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(laid, ["ETCD_INITIAL_CLUSTER_STATE=\"existing\""]);

    restore(host, &[&id, "--yes", "--cluster-token", "again"]).expect_code(0);
    assert_eq!(client.get(LATER).expect("it serves"), None);
    lifeboat(host, ["release", "--yes"]).expect_code(0);
    assert!(!host.path(DATA_DIR).join(".lifeboat").exists());
    let left = lifeboat(host, ["--json", "status"]).expect_code(0).json();
    assert_eq!(left["restores"]["kept"], Value::Array(vec![]));
    lifeboat(host, ["rollback", "--yes"]).expect_code(7);
}

pub fn a_host_goes_back_to_any_moment_that_the_agents_deltas_lead_to(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{SELDOM}[deltas]\nenabled = true\nevery = \"1s\"\n"));
    enable(host);
    let client = cluster.client();
    let tip = || {
        let listed = lifeboat(host, ["--json", "list"]).json();
        let windows = listed["windows"].as_array().cloned().unwrap_or_default();
        windows.iter().filter_map(|window| window["to_revision"].as_i64()).max()
    };
    let captured = |revision: i64| {
        until("what was written is captured", || holds(tip() >= Some(revision), tip()));
    };
    // Nobody took a backup: capture has one taken by itself.
    until("there is something to go on from", || holds(tip().is_some(), tip()));
    client.put("/a", "first", 0).expect("it takes writes");
    let wanted = client.put("/b", "second", 0).expect("it takes writes");
    client.put("/a", "overwritten", 0).expect("it takes writes");
    client.delete("/b").expect("it takes writes");
    let last = client.put("/c", "last", 0).expect("it takes writes");
    captured(last);
    // A second chain of the same history; the first one is left, and has not ended.
    lifeboat(host, ["backup"]).expect_code(0);
    captured(client.put("/d", "in the second chain", 0).expect("it takes writes"));
    let goes_on_with_the_newest = |backups: usize| {
        let has_come = || {
            let report = host.run(["sh", "-c", "cat /var/lib/lifeboat/*/status.json"]).stdout;
            let report: Value = serde_json::from_str(&report).unwrap_or_default();
            let lane = &report["deltas"][0];
            let listed = lifeboat(host, ["--json", "list"]).json();
            let is_so = listed["backups"].as_array().is_some_and(|all| all.len() == backups)
                && lane["capturing"] == "writing"
                && lane["trouble"].is_null()
                && lane["chain"] == listed["latest"];
            holds(is_so, format!("{lane:#} {listed:#} {}", host.journal(UNIT)))
        };
        until("capture to go on with the newest chain, and no other", has_come);
    };
    goes_on_with_the_newest(2);
    // Each restore, and each way back, is waited for; then one full backup is taken, and the reason is said. As it was meant, the end
    // of the chain counts as nothing else.
    let says_why = |times: usize| {
        let report = host.run(["sh", "-c", "cat /var/lib/lifeboat/*/status.json"]).stdout;
        let report: Value = serde_json::from_str(&report).unwrap_or_default();
        let gaps = report["deltas"][0]["gaps"].as_object().expect("it captures");
        let counted: Vec<_> = gaps
            .iter()
            .map(|(reason, count)| (reason.as_str(), count.as_u64()))
            .collect();
        let meant = [("restored", Some(times as u64))];
        assert_eq!(counted, meant.into_iter().filter(|_| times > 0).collect::<Vec<_>>());
        let journal = host.journal(UNIT);
        let count = |words: &str| journal.matches(words).count();
        assert_eq!(count("capture waits for its end"), times, "{journal}");
        assert_eq!(
            count(" on this host has given etcd other data lane="),
            2 * times,
            "{journal}"
        );
        assert_eq!(count("a full backup was taken: restore "), times, "{journal}");
        assert_eq!(count("capture goes over to backup "), 1, "{journal}");
        assert_eq!(count("does not go on") + count("is not heard"), 0, "{journal}");
        assert_eq!(count("changed, which only a full backup holds"), 0, "{journal}");
    };
    says_why(0);
    let value = |key: &str| cluster.client().get(key).expect("it serves");
    let text = |value: &str| Some(value.as_bytes().to_vec());

    let refused = restore(host, &["latest", "--yes", "--to-revision", "999999"]).expect_code(4);
    assert!(refused.stderr.contains("the nearest point is"), "{refused}");
    assert_eq!(value("/c"), text("last"), "nothing was touched");

    let revision = wanted.to_string();
    let said = restore(host, &["latest", "--yes", "--to-revision", &revision]).expect_code(0);
    let told = format!("{}{}", said.stdout, said.stderr);
    assert!(
        told.contains(&format!("revision {wanted}")) && told.contains("not in it"),
        "{told}"
    );
    assert_eq!(
        (value("/a"), value("/b"), value("/c")),
        (text("first"), text("second"), None)
    );
    assert!(cluster.client().revision().expect("it serves") > 1_000_000_000);
    goes_on_with_the_newest(3);
    says_why(1);

    // What would be done is said, and nothing is.
    let kept = || {
        host.run([
            "sh",
            "-c",
            "ls /var/lib/etcd/*/.lifeboat /var/lib/etcd/.lifeboat 2>/dev/null; true",
        ])
        .stdout
    };
    let before = kept();
    assert!(before.contains("kept-"), "{before}");
    let said = lifeboat(host, ["rollback", "--dry-run"]).expect_code(0).stdout;
    assert!(
        said.contains("comes back") && said.contains("nothing was done"),
        "{said}"
    );
    let said = lifeboat(host, ["release", "--dry-run"]).expect_code(0).stdout;
    assert!(
        said.contains("would release") && said.contains("nothing was removed"),
        "{said}"
    );
    assert_eq!(kept(), before);
    assert_eq!((value("/a"), value("/b")), (text("first"), text("second")));

    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    assert_eq!((value("/a"), value("/b")), (text("overwritten"), None));
    goes_on_with_the_newest(4);
    says_why(2);
    let args = ["latest", "--yes", "--before-delete", "/b", "--cluster-token", "again"];
    restore(host, &args).expect_code(0);
    assert_eq!(
        (value("/a"), value("/b"), value("/c")),
        (text("overwritten"), text("second"), None)
    );
}

pub fn the_unit_restores_with_the_key_of_the_host(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (_, before) = backed_up(&cluster);
    host.run(["systemctl", "stop", "etcd"]);
    fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    let unit = "lifeboat-restore@latest";
    host.run_any(["systemctl", "start", unit]).expect_code(1);
    assert!(
        host.journal(unit).contains("/etc/lifeboat/identity"),
        "{}",
        host.journal(unit)
    );
    host.shell(&format!("install -m 600 {KEY} /etc/lifeboat/identity"));
    host.run(["systemctl", "start", unit]);
    assert_serves(&cluster, &before);
    assert_eq!(owner(host, &format!("{DATA_DIR}/member/snap/db")), "etcd");
}

pub fn a_restore_does_not_wait_for_a_backup_that_hangs_and_the_agent_goes_on(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, "[schedules.slow]\nkind = \"full\"\nevery = \"1h\"\n");
    enable(host);
    let (id, _) = written_and_backed_up(&cluster);
    cluster.fill(32);
    let agent = host.main_pid(UNIT);
    let begin = host.shell("lifeboat backup >/root/backup.log 2>&1 & echo $!");
    let backup: u32 = begin.stdout.trim().parse().expect("it is a number");
    host.run_any(["kill", "-STOP", &backup.to_string()]);
    restore(host, &[&id, "--yes"]).expect_code(0);
    host.run_any(["kill", "-CONT", &backup.to_string()]);
    assert_eq!(host.main_pid(UNIT), agent, "the agent runs on");
    cluster.wait_until_served();
}

pub fn settings_in_a_file_data_on_a_mount_and_a_log_of_its_own(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    host.run(["systemctl", "stop", "etcd"]);
    host.shell(
        "mkdir -p /srv/data /srv/logs && mount -t tmpfs -o size=512m tmpfs /srv/data && \
         mount -t tmpfs -o size=512m tmpfs /srv/logs && chown etcd:etcd /srv/data /srv/logs && chmod 700 /srv/data",
    );
    let (name, address) = (&host.name, host.address);
    let yaml = format!(
        "name: {name}\ndata-dir: /srv/data\nwal-dir: /srv/logs/wal\nlisten-client-urls: http://{address}:2379\n\
         advertise-client-urls: http://{address}:2379\nlisten-peer-urls: http://{address}:2380\n\
         initial-advertise-peer-urls: http://{address}:2380\ninitial-cluster: {name}=http://{address}:2380\n\
         initial-cluster-token: lab\n"
    );
    host.write("/etc/etcd.yaml", &yaml);
    host.write(
        "/etc/systemd/system/etcd.service.d/lab.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/etcd --config-file=/etc/etcd.yaml\n",
    );
    host.run(["systemctl", "daemon-reload"]);
    host.run(["systemctl", "start", "etcd"]);
    cluster.wait_until_served();
    let (id, _) = backed_up(&cluster);
    let client = cluster.client();
    client.put(LATER, "old", 0).expect("it takes writes");
    let said = restore(host, &[&id, "--yes", "--json"]).expect_code(0).json();
    assert_eq!(
        (&said["data_dir"], &said["wal_dir"]),
        (&"/srv/data".into(), &"/srv/logs/wal".into())
    );
    // Not over a connection to an etcd that is gone.
    assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
    let processes = host.shell("tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID etcd)/cmdline");
    assert!(processes.stdout.contains("--config-file=/etc/etcd.yaml"), "{processes}");
    assert!(!host.path("/etc/lifeboat/restore").exists());
    assert!(said["warnings"].to_string().contains("new, empty cluster"), "{said}");
    assert_eq!(
        fs::read_to_string(host.path("/etc/etcd.yaml")).expect("it is there"),
        yaml
    );
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    // Not over a connection to an etcd that is gone.
    let client = cluster.client();
    assert_eq!(client.get(LATER).expect("it serves"), Some(b"old".to_vec()));
}

pub fn a_log_that_would_leave_with_the_old_data_is_refused_or_seen_as_a_part_of_it(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let (id, _) = backed_up(&cluster);
    cluster.client().put(LATER, "old", 0).expect("it takes writes");
    let wal = format!("{DATA_DIR}/member/wal");
    // Moves the log while etcd is down, and tells it where it is.
    let move_log = |how: &str, to: &str| {
        host.shell(&format!("systemctl stop etcd && {how}"));
        host.write(
            "/etc/default/etcd",
            &format!("{}ETCD_WAL_DIR={to}\n", cluster.settings(host)),
        );
        host.run(["systemctl", "start", "etcd"]);
        cluster.wait_until_served();
    };
    let refuses = |word: &str| {
        let pid = host.main_pid("etcd");
        for last in ["--dry-run", "--yes"] {
            let refused = restore(host, &[&id, last]).expect_code(7);
            assert!(refused.stderr.contains(word), "{refused}");
        }
        assert_eq!(host.main_pid("etcd"), pid, "etcd was never stopped");
        assert!(!host.path(LEDGERS).join("ledger.json").exists() && !host.path(DATA_DIR).join(".lifeboat").exists());
    };
    let goes_there_and_back = |wal_dir: Value| {
        let said = restore(host, &[&id, "--yes", "--json"]).expect_code(0).json();
        assert_eq!(said["wal_dir"], wal_dir, "{said}");
        assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
        host.run(["systemctl", "restart", "etcd"]);
        cluster.wait_until_served();
        assert_eq!(cluster.client().get(LATER).expect("it serves"), None);
        lifeboat(host, ["rollback", "--yes"]).expect_code(0);
        cluster.wait_until_served();
        assert_eq!(cluster.client().get(LATER).expect("it serves"), Some(b"old".to_vec()));
        lifeboat(host, ["release", "--yes"]).expect_code(0);
    };

    // A disk for the log, at etcd's own place for it; then what the refusal says is done.
    move_log(&format!("cp -a {wal} /srv/disk && mount --bind /srv/disk {wal}"), "");
    refuses(&format!("`{wal}` is a mount point"));
    move_log(&format!("umount {wal}"), "/srv/disk");
    goes_there_and_back("/srv/disk".into());

    // The place that it has anyway, under another name.
    let back = format!("rm -r {wal} && mv /srv/disk {wal} && ln -s {DATA_DIR} /srv/data");
    move_log(&back, "/srv/data/member/wal");
    goes_there_and_back(Value::Null);

    let deeper = format!("{DATA_DIR}/member/log");
    move_log(&format!("mv {wal} {deeper}"), &deeper);
    refuses("one in the other");

    // What only etcd's user has linked to could be anywhere by the time that root goes there.
    let link = "/srv/theirs/log";
    let theirs = format!(
        "install -d -o etcd -g etcd /srv/theirs && mv {deeper} {link}-files && runuser -u etcd -- ln -s log-files {link}"
    );
    move_log(&theirs, link);
    refuses(&format!("`chown -h root: {link}`"));
    host.run(["chown", "-h", "root:", link]);
    goes_there_and_back(link.into());
}

pub fn a_cluster_that_asks_for_a_password_is_seen_to_serve(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    backed_up(&cluster);
    cluster.client().enable_auth(PASSWORD).expect("it takes it");
    host.write("/etc/lifeboat/password", PASSWORD);
    drop_in(
        host,
        "auth.toml",
        "[cluster.auth]\nuser = \"root\"\npassword = { file = \"/etc/lifeboat/password\" }\n",
    );
    lifeboat(host, ["backup"]).expect_code(0);
    host.run(["systemctl", "stop", "etcd"]);
    fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    let said = restore(host, &["latest", "--yes", "--json"]).expect_code(0).json();
    assert_eq!(
        (&said["outcome"], &said["warnings"]),
        (&"restored".into(), &Value::Array(vec![]))
    );
    assert!(
        cluster.client().get("/key/1").is_err(),
        "who has no password stays outside"
    );

    // Whoever goes on with one that died may not have the password that it was given.
    drop_in(
        host,
        "auth.toml",
        "[cluster.auth]\nuser = \"root\"\npassword = { env = \"PASSWORD\" }\n",
    );
    let password = format!("PASSWORD={PASSWORD}");
    let command = "lifeboat restore latest --cluster-token again --yes --identity";
    let command: Vec<&str> = ["env", &password]
        .into_iter()
        .chain(command.split(' '))
        .chain([KEY])
        .collect();
    under_strace(host, &command, Place::Recorded(6));
    until("it to be gone on with", || {
        let said = host.journal("lifeboat-restore-resume");
        let parts = [
            "PASSWORD is not set",
            "etcd.service serves backup",
            "could not be tried",
        ];
        holds(parts.iter().all(|part| said.contains(part)), said)
    });
    assert!(!host.path(LEDGERS).join("ledger.json").exists() && !has_guard(host));
    assert!(cluster.client().get("/key/1").is_err(), "it serves what was restored");
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
}

pub fn three_hosts_that_lost_everything_become_one_cluster(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    let (id, before) = backed_up(&cluster);
    let store = cluster.hosts[0].path(STORE);
    for host in &cluster.hosts[1..] {
        copy_tree(&store, &host.path("/root/copy"));
        host.copy_in(&cluster.hosts[0].path(KEY), KEY);
    }
    for last in ["--yes", "--dry-run"] {
        let refused = restore(&cluster.hosts[0], &[&id, last]).expect_code(7);
        let says = |part: &str| refused.stderr.contains(part);
        assert!(says("h1 (this host), h2, h3 are well") && !says("stop"), "{refused}");
    }
    // Nothing gets around that: the new cluster could not come about.
    restore(&cluster.hosts[0], &[&id, "--yes", "--despite-running-members"]).expect_code(7);
    // Nor does the new cluster come about beside members of the old that it is without.
    let alone = &cluster.hosts[0];
    alone.write("/root/alone", &format!("{}={}\n", alone.name, cluster.peer_url(alone)));
    let refused = restore(alone, &[&id, "--yes", "--members", "/root/alone"]).expect_code(7);
    assert!(
        refused.stderr.contains("are well") && refused.stderr.contains("--despite-running-members"),
        "{refused}"
    );
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
    }
    let mut clusters = Vec::new();
    for (index, host) in cluster.hosts.iter().enumerate() {
        let from: &[&str] = if index == 0 { &[] } else { &["--from", "/root/copy"] };
        let args = [&[id.as_str(), "--yes", "--json"], from].concat();
        let said = restore(host, &args).expect_code(0).json();
        assert_eq!(
            said["outcome"],
            if index < 2 { "waiting" } else { "restored" },
            "{said}"
        );
        clusters.push(said["cluster_id"].clone());
    }
    assert!(
        clusters[0].is_null() && clusters[1].is_null(),
        "the members have not met: {clusters:?}"
    );
    until("the other two to serve", || {
        let client = cluster.client_of(&cluster.hosts[0]);
        client.revision().map(drop).map_err(|error| error.to_string())
    });
    let leaving = lifeboat(&cluster.hosts[1], ["rollback", "--yes"]).expect_code(7);
    assert!(leaving.stderr.contains("--although-serving"), "{leaving}");
    assert_serves(&cluster, &before);
    for host in &cluster.hosts {
        until("its ledger to be closed", || {
            let open = host.path(LEDGERS).join("ledger.json").exists();
            holds(!open && !has_guard(host), host.journal("lifeboat-restore-resume"))
        });
    }
}

/// `status` is well, and says where old data is and what etcd is started with; to root, whose ledgers tell.
#[track_caller]
fn assert_status_tells_what_is_left(host: &Host, kept: &str) {
    let text = lifeboat(host, ["status"]).expect_code(0);
    assert!(text.stdout.contains("`lifeboat release` gives it up"), "{text}");
    let left = lifeboat(host, ["--json", "status"]).expect_code(0).json()["restores"].clone();
    assert_eq!((&left["open"], &left["unread"]), (&Value::Null, &Value::Null));
    let path = left["kept"][0]["paths"][0].as_str();
    assert!(path.is_some_and(|path| path.starts_with(kept)), "{left}");
    assert!(left["kept"][0]["bytes"].as_u64() > Some(1 << 14), "{left}");
    assert!(
        left["settings"].to_string().contains("etcd.service.d/50-lifeboat.conf"),
        "{left}"
    );
    let other = host
        .run(["runuser", "-u", "lifeboat", "--", "lifeboat", "--json", "status"])
        .json();
    assert_eq!(other["restores"]["unread"]["for_root"], LEDGERS);
}

/// Installs the product, writes keys, takes a backup; its id, and what is in it.
pub(super) fn backed_up(cluster: &Cluster) -> (String, Before) {
    install(cluster, "");
    written_and_backed_up(cluster)
}

pub(super) fn written_and_backed_up(cluster: &Cluster) -> (String, Before) {
    let host = &cluster.hosts[0];
    let client = cluster.client();
    for number in 0..50 {
        client
            .put(&format!("/key/{number}"), "value", 0)
            .expect("it takes writes");
    }
    let id = lifeboat(host, ["backup"]).expect_code(0).stdout.trim().to_owned();
    let shown = lifeboat(host, ["--json", "show", &id]).expect_code(0).json();
    let revision = shown["manifest"]["to_revision"].as_i64().expect("it is a number");
    let keys = client.get_all_at(revision).expect("it is not compacted");
    (id, Before { revision, keys })
}

/// What was backed up: every key with its value, revisions and lease.
pub(super) struct Before {
    pub revision: i64,
    keys: BTreeMap<Vec<u8>, Entry>,
}

impl Before {
    /// Whether a member has these keys as they were, and no others but such as were written since: revisions of a
    /// restored cluster jump, so there is no HashKV to compare.
    pub fn is_served_by(&self, client: &Client) -> Result<(), String> {
        let mut found = client.get_all().map_err(|error| error.to_string())?;
        found.retain(|_, entry| entry.mod_revision <= self.revision);
        holds(found == self.keys, (found.len(), self.keys.len()))
    }
}

pub(super) fn restore(host: &Host, args: &[&str]) -> Done {
    lifeboat(
        host,
        ["restore", "--identity", KEY].into_iter().chain(args.iter().copied()),
    )
}

/// Every member serves what was backed up.
#[track_caller]
pub(super) fn assert_serves(cluster: &Cluster, before: &Before) {
    cluster.wait_until_served();
    for host in &cluster.hosts {
        let client: Client = cluster.client_of(host);
        until("the same keys", || before.is_served_by(&client));
    }
}

pub(super) fn has_guard(host: &Host) -> bool {
    host.path("/etc/systemd/system/etcd.service.d/50-lifeboat-guard.conf")
        .exists()
        || host.path(LEDGERS).join("held").exists()
}

pub(super) fn owner(host: &Host, path: &str) -> String {
    host.run(["stat", "--format=%U", path]).stdout.trim().to_owned()
}
