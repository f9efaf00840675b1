//! The packages: what they put on a host, what an upgrade leaves alone, and what stays when they are removed or purged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::deaths::wait_for_the_middle_of_a_backup;
use super::{OFTEN, SELDOM};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{
    CONFIG, IDENTITY, NAME, STATE, STORE, UNIT, apt, apt_install, enable, files_below, ids, install, lifeboat, status,
};
use crate::packing::{Kind, NEXT_VERSION, Release, package};

const RESUME_UNIT: &str = "lifeboat-restore-resume.service";
const LEDGERS: &str = "/var/lib/lifeboat-restore";
/// What the packages install.
const FILES: &str = include_str!("../../../packaging/files");
/// Where data from before a restore is kept.
const DATA_DIR_KEPT: &str = "/var/lib/etcd/default/.lifeboat";
/// So large that a backup has a middle.
const MEBIBYTES: usize = 32;
/// A second destination, in the folder of the state.
const INSIDE: &str = "/var/lib/lifeboat/backups";

pub fn the_deb_installs_without_systemd_and_enables_and_starts_nothing(lab: &Lab<'_>) {
    let mut hosts = lab.hosts(1);
    let host = &mut hosts[0];
    host.copy_in(&package(Kind::Deb, Release::Present), "/var/cache/lifeboat.deb");
    let root = host.path("/");
    succeeds(
        Command::new("chroot")
            .arg(&root)
            .args(["dpkg", "--install", "/var/cache/lifeboat.deb"]),
    );
    assert_installed(&root);
    host.boot();
    assert_eq!(host.run(["dpkg", "--verify", NAME]).stdout, "");
    assert_nothing_runs(host);
    let wrong = lifeboat(host, ["check"]).expect_code(78);
    assert!(wrong.stderr.contains("[members.NAME]"), "{wrong}");
    // The same again, with systemd there.
    apt(host, ["purge", NAME]).expect_code(0);
    apt_install(host, Release::Present);
    assert_installed(&root);
    assert_nothing_runs(host);
}

pub fn an_upgrade_lets_the_running_backup_end_and_then_the_new_program_runs(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    cluster.fill(MEBIBYTES);
    install(&cluster, OFTEN);
    let configured = fs::read(host.path(CONFIG)).expect("it is there");
    enable(host);
    let agent = host.main_pid(UNIT);
    // One that has ended before it was stopped is followed by another one.
    let mut known = BTreeSet::new();
    let chain = loop {
        let begun = wait_for_the_middle_of_a_backup(host, &known);
        host.signal(agent, "STOP");
        let chain = chain_of(&begun);
        if !ids(host).contains(&chain) {
            break chain;
        }
        host.signal(agent, "CONT");
        known.insert(begun);
        assert!(known.len() < 10, "each was stopped too late");
    };

    apt_install(host, Release::Next);
    let version = host.run(["dpkg-query", "--show", "--showformat=${Version}", NAME]);
    assert_eq!(version.stdout, format!("{NEXT_VERSION}-1"));
    assert_eq!(host.main_pid(UNIT), agent, "the agent and its job are let be");
    assert_eq!(fs::read(host.path(CONFIG)).expect("it is there"), configured);
    host.signal(agent, "CONT");
    until("the backup to end", || holds(ids(host).contains(&chain), ids(host)));
    until("the new program to run", || {
        let now = (host.main_pid(UNIT), host.property(UNIT, "ActiveState"));
        holds(now.0 != agent && now.1 == "active", now)
    });
    let both = host.shell(&format!(
        "stat --dereference --format=%i /proc/{}/exe /usr/bin/lifeboat",
        host.main_pid(UNIT)
    ));
    let inodes: BTreeSet<&str> = both.stdout.lines().collect();
    assert_eq!(inodes.len(), 1, "{both}");
    let before = ids(host);
    until("backups to go on", || {
        holds(ids(host).difference(&before).next().is_some(), status(host))
    });
    lifeboat(host, ["status"]).expect_code(0);
}

pub fn what_is_removed_comes_back_as_it_was_and_a_purge_leaves_the_backups(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(
        &cluster,
        &format!("{SELDOM}[destinations.inside]\nurl = \"file://{INSIDE}\"\n"),
    );
    host.shell(&format!("install -d -o lifeboat -g lifeboat {INSIDE}"));
    enable(host);
    cluster.client().put("/key", "value", 0).expect("it takes writes");
    lifeboat(host, ["backup"]).expect_code(0);
    restore_here(host);
    lifeboat(host, ["accept-lineage"]).expect_code(0);
    let kept = || contents(host, &[STORE, INSIDE, LEDGERS, DATA_DIR_KEPT, "/etc/lifeboat/restore"]);
    let (remembered, backups, configured) = (contents(host, &[STATE]), kept(), contents(host, &["/etc/lifeboat"]));

    apt(host, ["remove", NAME]).expect_code(0);
    assert!(!host.path("/usr/bin/lifeboat").exists());
    assert_eq!(host.property(UNIT, "LoadState"), "not-found");
    assert_nothing_runs(host);
    assert_eq!(
        (kept(), contents(host, &["/etc/lifeboat"])),
        (backups.clone(), configured)
    );
    let memories = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let own = files.keys().filter(|path| !path.ends_with("status.json"));
        own.cloned().collect::<BTreeSet<_>>()
    };
    // The agent may have remembered more until it was stopped.
    let (left, before) = (memories(&contents(host, &[STATE])), memories(&remembered));
    assert!(left.is_superset(&before), "{left:?} of {before:?}");
    cluster.wait_until_served();

    apt_install(host, Release::Present);
    assert_nothing_runs(host);
    let before = ids(host);
    enable(host);
    lifeboat(host, ["backup"]).expect_code(0);
    assert!(ids(host).is_superset(&before) && ids(host).len() == before.len() + 1);
    lifeboat(host, ["status"]).expect_code(0);

    let backups = kept();
    // A link that the agent's user has made leads nobody else's hand out of the folder.
    let stranger = format!("{STATE}/stranger");
    host.shell(&format!(
        "mkdir /etc/other && echo {{}} >/etc/other/daemon.json && \
         runuser -u lifeboat -- sh -c 'mkdir {stranger} && ln -s /etc/other {stranger}/stores'"
    ));
    apt(host, ["purge", NAME]).expect_code(0);
    assert!(host.path("/etc/other/daemon.json").exists());
    host.run(["rm", "-r", &stranger]);
    assert_eq!(kept(), backups);
    assert!(!host.path(CONFIG).exists());
    let left = contents(host, &[STATE]);
    let strange: Vec<_> = left
        .keys()
        .filter(|path| !path.starts_with(host.path(INSIDE)))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    host.run(["id", "lifeboat"]);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
}

pub fn an_open_restore_keeps_the_program_that_can_end_it(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, SELDOM);
    enable(host);
    lifeboat(host, ["backup"]).expect_code(0);
    cluster.client().put("/later", "old", 0).expect("it takes writes");
    // Of three members two never come, so that it stays open.
    let members = format!(
        "{}=http://{}:2380\nabsent1=http://10.77.0.252:2380\nabsent2=http://10.77.0.253:2380\n",
        host.name, host.address
    );
    host.write("/root/members", &members);
    let restore = [
        "restore",
        "latest",
        "--identity",
        IDENTITY,
        "--yes",
        "--members",
        "/root/members",
    ];
    let begin = || {
        let said = lifeboat(host, restore.into_iter().chain(["--json"]));
        let said = said.expect_code(0).json();
        assert_eq!(said["outcome"], "waiting", "{said}");
    };
    let stays = |word: &str| {
        for removal in ["remove", "purge"] {
            let refused = apt(host, [removal, NAME]);
            assert_ne!(refused.code, 0, "{refused}");
            let all = format!("{}{}", refused.stdout, refused.stderr);
            assert!(all.contains(word), "{refused}");
            lifeboat(host, ["--version"]).expect_code(0);
        }
    };
    begin();
    stays("lifeboat rollback");
    assert_open(host);
    apt_install(host, Release::Next);
    assert_open(host);
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    cluster.wait_until_served();
    let found = cluster.client().get("/later").expect("it serves");
    assert_eq!(found, Some(b"old".to_vec()));
    // It comes after etcd, which waited for its members.
    until("the agent of the next release to run", || {
        let state = host.property(UNIT, "ActiveState");
        holds(state == "active", state)
    });

    // Taken back to where there was nothing before, it is closed, and keeps etcd from starting all the same.
    host.shell(&format!("systemctl stop etcd && rm -r {DATA_DIR}"));
    begin();
    lifeboat(host, ["rollback", "--yes"]).expect_code(0);
    assert!(!host.path(LEDGERS).join("ledger.json").exists());
    stays("lifeboat release");
    lifeboat(host, ["release", "--yes"]).expect_code(0);
    apt(host, ["remove", NAME]).expect_code(0);
    host.run(["systemctl", "restart", "etcd"]);
    cluster.wait_until_served();
}

/// The distribution's rpm works on a root that is no more than a directory; the dependencies are not there under its names.
pub fn the_rpm_is_installed_into_a_root_upgraded_and_erased(lab: &Lab<'_>) {
    if !Kind::Rpm.can_be_made() {
        return;
    }
    let mut hosts = lab.hosts(1);
    let host = &mut hosts[0];
    let root = host.path("/");
    let rpm = |args: &[&str]| {
        let mut command = Command::new("rpm");
        command.args(["--force-debian", "--dbpath", "/var/lib/rpm", "--root"]);
        command.arg(&root).args(args);
        command
    };
    let (present, next) = (package(Kind::Rpm, Release::Present), package(Kind::Rpm, Release::Next));
    succeeds(rpm(&["--install", "--nodeps"]).arg(present));
    assert_installed(&root);
    succeeds(&mut rpm(&["--verify", "--nodeps", NAME]));
    host.write(CONFIG, "# edited\n");
    succeeds(rpm(&["--upgrade", "--nodeps"]).arg(next));
    let version = succeeds(&mut rpm(&["--query", "--queryformat", "%{VERSION}", NAME]));
    assert_eq!(String::from_utf8_lossy(&version.stdout), NEXT_VERSION);
    let edited = fs::read_to_string(host.path(CONFIG)).expect("it is there");
    assert_eq!(edited, "# edited\n");
    host.boot();
    assert_nothing_runs(host);
    host.cut_power();

    for held in ["ledger.json", "held"].map(|name| format!("{LEDGERS}/{name}")) {
        host.write(&held, "{}");
        let refused = rpm(&["--erase", NAME]).output().expect("it is installed");
        assert!(!refused.status.success(), "{refused:?}");
        assert!(root.join("usr/bin/lifeboat").exists(), "{refused:?}");
        fs::remove_file(host.path(&held)).expect("it was just written");
    }
    succeeds(&mut rpm(&["--erase", NAME]));
    assert!(!root.join("usr/bin/lifeboat").exists());
    // An edited file is kept under the name that rpm gives it.
    let kept = [CONFIG.to_owned(), format!("{CONFIG}.rpmsave")];
    assert!(kept.iter().any(|path| host.path(path).exists()));
    assert!(host.path(STORE).exists() && host.path(STATE).exists());
}

/// What the list of files says is there, and root's; what the agent writes to is the agent's.
#[track_caller]
fn assert_installed(root: &Path) {
    let lines = FILES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, _, path, ..] = words.as_slice() else {
            panic!("not a line of packaging/files: {line}")
        };
        // Elsewhere than on Debian, zsh looks there.
        let also = path.replace("vendor-completions", "site-functions");
        let file = [path, also.as_str()]
            .map(|path| root.join(path))
            .into_iter()
            .find(|path| path.exists());
        let file = file.unwrap_or_else(|| panic!("{path} is not installed"));
        let found = file.metadata().expect("it is there");
        assert_eq!(format!("{:04o}", found.permissions().mode() & 0o7777), *mode, "{path}");
        assert_eq!((found.uid(), found.gid()), (0, 0), "{path}");
    }
    let users = fs::read_to_string(root.join("etc/passwd")).expect("it is there");
    let user = users.lines().find_map(|line| line.strip_prefix("lifeboat:"));
    let user: Vec<&str> = user.expect("the user is made").split(':').collect();
    assert_eq!(user.last(), Some(&"/usr/sbin/nologin"));
    for (directory, mode) in [(STORE, 0o750), (STATE, 0o755)] {
        let found = fs::metadata(root.join(&directory[1..])).expect("it is made");
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{directory}");
        assert_eq!(
            user[1..3],
            [found.uid().to_string(), found.gid().to_string()],
            "{directory}"
        );
    }
    let links = files_below(&root.join("etc/systemd/system")).into_iter();
    let enabled: Vec<PathBuf> = links
        .filter(|link| link.to_string_lossy().contains("lifeboat"))
        .collect();
    assert!(enabled.is_empty(), "{enabled:?}");
}

#[track_caller]
fn assert_nothing_runs(host: &Host) {
    let units = host.run(["systemctl", "list-units", "--plain", "--no-legend", "lifeboat*"]);
    assert_eq!(units.stdout, "");
    let enabled = host.shell("find /etc/systemd/system -name 'lifeboat*'");
    assert_eq!(enabled.stdout, "");
    host.run_any(["pgrep", "lifeboat"]).expect_code(1);
}

/// A restore is open, and will be gone on with after a boot.
#[track_caller]
fn assert_open(host: &Host) {
    assert!(host.path(LEDGERS).join("ledger.json").exists());
    host.run(["systemctl", "is-enabled", RESUME_UNIT]);
    host.run(["systemctl", "is-enabled", UNIT]);
    lifeboat(host, ["--version"]).expect_code(0);
}

/// Takes the newest backup, so that there are a closed ledger, kept data and settings for the new cluster.
#[track_caller]
fn restore_here(host: &Host) {
    lifeboat(host, ["restore", "latest", "--identity", IDENTITY, "--yes"]).expect_code(0);
    assert!(host.path(LEDGERS).join("closed").exists() && host.path(DATA_DIR_KEPT).exists());
    lifeboat(host, ["backup"]).expect_code(0);
}

/// Every file below some directories, with what is in it.
fn contents(host: &Host, directories: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = directories
        .iter()
        .flat_map(|directory| files_below(&host.path(directory)));
    files
        .map(|path| (path.clone(), fs::read(path).expect("root can read it")))
        .collect()
}

/// The id of the backup that a file of a store belongs to.
fn chain_of(file: &Path) -> String {
    let directory = file.parent().and_then(Path::file_name);
    directory.expect("it is in a store").to_string_lossy().into_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("it is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
