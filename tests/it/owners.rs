//! What root starts by hand where the agent's user exists. Each run sees a user list of its own, in a mount namespace.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, Output};
use super::support::running::{Running, until};
use super::support::tools::{self, Version};

/// The agent's user and its group on these hosts; nobody's here.
const OWNER: u32 = 64_321;

/// A host whose programs find a user `lifeboat`.
struct Owned {
    host: Host,
    _etcd: Etcd,
}

impl Owned {
    /// None, after saying so, where this is not root's machine.
    fn new() -> Option<Owned> {
        if !nix::unistd::geteuid().is_root() {
            tools::skip("root", "only root becomes another user");
            return None;
        }
        let etcd = Etcd::start(Version::V3_5, Options::default())?;
        let host = Host::new(&etcd);
        // The folder of a test is its maker's alone; a real host lets its users pass.
        fs::set_permissions(host.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let groups = fs::read_to_string("/etc/group").unwrap();
        let user = format!("lifeboat:x:{OWNER}:{OWNER}::/nonexistent:/usr/sbin/nologin\n");
        fs::write(host.path("passwd"), users + &user).unwrap();
        fs::write(host.path("group"), format!("{groups}lifeboat:x:{OWNER}:\n")).unwrap();
        chown(host.path("state"), Some(OWNER), Some(OWNER)).unwrap();
        Some(Owned { host, _etcd: etcd })
    }

    /// A command that root starts there.
    fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let run = self.host.command(args);
        let enter = "mount --bind \"$0\" /etc/passwd && mount --bind \"$1\" /etc/group && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", enter])
            .args([self.host.path("passwd"), self.host.path("group")])
            .arg(run.get_program())
            .args(run.get_args());
        for (name, value) in run.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn lifeboat<const N: usize>(&self, args: [&str; N]) -> Output {
        Running::start(self.command(args)).wait()
    }

    /// What below a folder, itself included, is not the user's.
    fn not_the_users(&self, name: &str) -> Vec<PathBuf> {
        let mut open = vec![self.host.path(name)];
        let mut found = Vec::new();
        while let Some(path) = open.pop() {
            let looked = fs::symlink_metadata(&path).unwrap();
            if looked.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            if (looked.uid(), looked.gid()) != (OWNER, OWNER) {
                found.push(path);
            }
        }
        found
    }
}

#[test]
fn what_root_writes_by_hand_belongs_to_the_agents_user() {
    let Some(owned) = Owned::new() else { return };
    let store = owned.host.store();
    // Made by root with mkdir, as one does.
    let refused = owned.lifeboat(["backup"]).expect_code(1);
    let advice = format!("chown -R lifeboat: {}", store.display());
    refused.says(&[store.to_str().unwrap(), "permission denied to user lifeboat", &advice]);
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);

    chown(&store, Some(OWNER), Some(OWNER)).unwrap();
    // Put there by root's hand, and by another's: whoever owns it goes on doing so.
    let (secret, of_another) = (owned.host.path("state/identity"), owned.host.path("state/other"));
    for path in [&secret, &of_another] {
        fs::write(path, "").unwrap();
    }
    chown(&of_another, Some(OWNER + 1), None).unwrap();
    std::os::unix::fs::symlink(owned.host.config(), owned.host.path("state/link")).unwrap();
    let id = owned.lifeboat(["backup"]).expect_code(0).stdout.trim().to_owned();
    owned.lifeboat(["pin", &id]).expect_code(0);
    owned.lifeboat(["accept-lineage"]).expect_code(0);
    owned.lifeboat(["check", "--online"]).expect_code(0);
    owned.lifeboat(["prune"]).expect_code(0);
    assert_eq!(owned.not_the_users("store"), Vec::<PathBuf>::new());
    let mut others = owned.not_the_users("state");
    others.sort();
    assert_eq!(others, [secret, owned.host.path("state/link"), of_another]);
    assert_eq!(
        fs::metadata(owned.host.config()).unwrap().uid(),
        0,
        "a link is not followed"
    );

    // Whoever is that user can do the rest.
    let run_as = |user: u32, args: &[&str]| {
        let mut command = Command::new("setpriv");
        let run = owned.host.command(args);
        let user = user.to_string();
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .arg(run.get_program())
            .args(run.get_args())
            .env("STATE_DIRECTORY", owned.host.path("state"));
        Running::start(command).wait()
    };
    let second = run_as(OWNER, &["backup"]).expect_code(0);
    // Another does not see what is there, and is not told that there is nothing.
    run_as(OWNER + 1, &["list", "--from", store.to_str().unwrap()])
        .expect_code(1)
        .says(&[store.to_str().unwrap(), "permission denied"]);
    // Root reads it all.
    let listed = owned.lifeboat(["list"]).expect_code(0).stdout;
    assert!(
        listed.contains(&id) && listed.contains(second.stdout.trim()),
        "{listed}"
    );
}

#[test]
fn a_key_that_only_root_can_read_is_read_before_the_recipients_are_accepted() {
    let Some(owned) = Owned::new() else { return };
    chown(owned.host.store(), Some(OWNER), Some(OWNER)).unwrap();
    owned.lifeboat(["backup"]).expect_code(0);
    let key = owned.host.identity();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().uid(), 0);
    let key = key.to_str().unwrap();
    let checked = owned
        .lifeboat(["check", "--online", "--identity", key, "--accept-recipients"])
        .expect_code(0);
    for says in ["all of it was read and is right", "accepted on this host"] {
        assert!(checked.stdout.contains(says), "{}", checked.stdout);
    }
    let mut others = owned.not_the_users("state");
    others.retain(|path| !path.ends_with("link"));
    assert_eq!(others, Vec::<PathBuf>::new());
}

#[test]
fn the_state_directory_of_another_unit_is_neither_used_nor_given_away() {
    let Some(owned) = Owned::new() else { return };
    chown(owned.host.store(), Some(OWNER), Some(OWNER)).unwrap();
    let (upgrade, token) = (owned.host.path("lib/upgrade"), owned.host.path("lib/upgrade/token"));
    fs::create_dir_all(&upgrade).unwrap();
    fs::write(&token, "").unwrap();
    // What is /var/lib to the run.
    let run = owned.command(["backup"]);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" /var/lib && exec \"$@\"")
        .arg(owned.host.path("lib"))
        .arg(run.get_program())
        .args(run.get_args())
        .env("STATE_DIRECTORY", "/var/lib/upgrade")
        .env("HOME", owned.host.path(""));
    Running::start(command).wait().expect_code(0);
    assert_eq!(fs::metadata(&token).unwrap().uid(), 0);
    assert_eq!(fs::read_dir(&upgrade).unwrap().count(), 1, "nothing was put there");
    assert_eq!(owned.not_the_users("lib/lifeboat"), Vec::<PathBuf>::new());
    assert!(owned.host.path("lib/lifeboat").join(CLUSTER).is_dir());
}

#[test]
fn a_state_that_root_made_before_there_was_the_user_is_root_s_to_give() {
    let Some(owned) = Owned::new() else { return };
    chown(owned.host.store(), Some(OWNER), Some(OWNER)).unwrap();
    fs::create_dir(owned.host.path("state").join(CLUSTER)).unwrap();
    let refused = owned.lifeboat(["backup"]).expect_code(1);
    let advice = format!(
        "chown -R lifeboat: {}",
        owned.host.path("state").join(CLUSTER).display()
    );
    refused.says(&["ermission denied", &advice]);
}

#[test]
fn an_agent_that_root_starts_by_hand_keeps_nothing_of_root_in_any_thread() {
    let Some(owned) = Owned::new() else { return };
    chown(owned.host.store(), Some(OWNER), Some(OWNER)).unwrap();
    let agent = Running::start(owned.command(["agent"]));
    let status = owned.host.path("state").join(CLUSTER).join("status.json");
    until("the agent is up", || status.exists());
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap() {
        // A thread for one call of a store may have ended meanwhile.
        let Ok(text) = fs::read_to_string(thread.unwrap().path().join("status")) else {
            continue;
        };
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let all = format!("{OWNER} {OWNER} {OWNER} {OWNER}");
        assert_eq!((line("Uid:"), line("Gid:")), (all.clone(), all));
        assert_eq!(line("Groups:"), OWNER.to_string());
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{set}");
        }
        threads += 1;
    }
    assert!(threads > 1, "there is more than the first thread");
    agent.signal("TERM");
    agent.wait().expect_code(0);
    assert_eq!(owned.not_the_users("state"), Vec::<PathBuf>::new());
}

#[test]
fn a_state_that_is_not_there_is_made_for_the_user() {
    let Some(owned) = Owned::new() else { return };
    fs::remove_dir(owned.host.path("state")).unwrap();
    chown(owned.host.store(), Some(OWNER), Some(OWNER)).unwrap();
    owned.lifeboat(["backup"]).expect_code(0);
    assert_eq!(owned.not_the_users("state"), Vec::<PathBuf>::new());
    let made = fs::metadata(owned.host.path("state")).unwrap();
    assert_eq!(made.mode() & 0o777, 0o755);
}

#[test]
fn a_destination_that_is_missing_is_not_made() {
    let Some(owned) = Owned::new() else { return };
    let store = owned.host.store();
    fs::remove_dir(&store).unwrap();
    let owner = format!("chown lifeboat: {}", store.display());
    let refused = owned.lifeboat(["backup"]).expect_code(1);
    refused.says(&["does not exist", &owner]);
    assert!(!Path::new(&store).exists());
}
