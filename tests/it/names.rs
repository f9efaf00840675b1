//! What stands in the place of a file: nothing waits for a pipe, and no link is followed where others may write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::host::{CLUSTER, Host, Output};
use super::support::running::{Running, until};
use super::support::shared;

/// The end of a command that had to be killed.
const HUNG: i32 = 137;

/// A host with a backup, and everything on its disk that commands read.
fn host() -> Option<Host> {
    let host = Host::new(shared::unchanging()?);
    host.backup();
    Some(host)
}

/// Runs it; one that does not end by itself is killed.
fn bounded(host: &Host, args: &[&str]) -> Output {
    let run = host.command(args);
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "20"])
        .arg(run.get_program())
        .args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output::new(
        output.status.code().unwrap_or(HUNG),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Something else in the place of a file; dropped, the file is there again.
struct Instead {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Instead {
    fn of(path: PathBuf, put: impl FnOnce(&Path)) -> Instead {
        let before = fs::read(&path).ok();
        fs::remove_file(&path).ok();
        put(&path);
        Instead { path, before }
    }
}

impl Drop for Instead {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
        if let Some(before) = &self.before {
            fs::write(&self.path, before).unwrap();
        }
    }
}

/// The one file below that ends so.
fn only(folder: &Path, end: &str) -> PathBuf {
    let mut found = super::support::host::files_below(folder).into_iter();
    let found = found.find(|path| path.to_string_lossy().ends_with(end));
    folder.join(found.unwrap_or_else(|| panic!("no {end} in {}", folder.display())))
}

#[test]
fn no_command_waits_for_a_pipe_in_the_state_or_in_a_store() {
    let Some(host) = host() else { return };
    let state = host.path("state").join(CLUSTER);
    let store = host.store().join(CLUSTER);
    let full = only(&store, "full.db.zst.age");
    let manifest = only(full.parent().unwrap(), ".json");
    let remembered = only(&host.path("state/_configurations"), ".json");
    let places = [
        (state.join("status.json"), &["status"][..]),
        (state.join("agent.lock"), &["status"]),
        (state.join("jobs.lock"), &["backup"]),
        (state.join("stores/local.json"), &["list"]),
        (state.join("stores/local.json"), &["backup"]),
        (state.join("schedules/hourly.json"), &["status"]),
        (remembered, &["check"]),
        (store.join("store.json"), &["list"]),
        (store.join("store.json"), &["backup"]),
        (manifest.clone(), &["list"]),
        (manifest, &["verify", "latest"]),
        (full, &["verify", "latest"]),
    ];
    for (place, command) in places {
        let shown = place.display().to_string();
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let _pipe = Instead::of(place, make_pipe);
        let ended = bounded(&host, command);
        assert_ne!(ended.code, HUNG, "{command:?} waits for {shown}");
    }
    // All is as it was.
    host.lifeboat(["verify", "latest"]).expect_code(0);
}

#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let Some(host) = host() else { return };
    let victim = host.path("victim");
    fs::write(&victim, "of somebody else").unwrap();
    let lock = host.path("state").join(CLUSTER).join("jobs.lock");
    let _link = Instead::of(lock, |path| symlink(&victim, path).unwrap());
    let refused = bounded(&host, &["backup"]).expect_code(1);
    refused.says(&["jobs.lock", "symbolic link"]);
    assert_eq!(fs::read_to_string(victim).unwrap(), "of somebody else");
}

#[test]
fn a_pipe_beside_the_configuration_is_named_and_the_agent_goes_on() {
    let Some(host) = host() else { return };
    let often = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text + often).unwrap();
    fs::create_dir(host.path("config.d")).unwrap();
    let agent = host.start(["agent"]);
    let stored = || {
        host.stored_files()
            .iter()
            .filter(|path| path.ends_with("full.db.zst.age"))
            .count()
    };
    until("the agent takes backups", || stored() > 1);
    make_pipe(&host.path("config.d/x.toml"));
    for (command, code) in [("check", 78), ("status", 1), ("list", 1)] {
        let ended = bounded(&host, &[command]);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, code, "{command}: {said}");
        let names_it = said.contains("x.toml") && said.contains("a pipe, not a plain file");
        assert!(names_it, "{command}: {said}");
    }
    let before = stored();
    until("it goes on", || stored() > before + 1);
    agent.signal("TERM");
    agent
        .wait()
        .expect_code(0)
        .says(&["configuration is invalid", "x.toml"]);
}

#[test]
fn what_the_shell_hands_over_may_be_a_pipe() {
    let Some(host) = host() else { return };
    let run = host.command(["--version"]);
    let quoted = |path: &Path| format!("'{}'", path.display());
    let line = format!(
        "{} --config <(cat {}) export latest {} --identity <(cat {})",
        quoted(Path::new(run.get_program())),
        quoted(&host.config()),
        quoted(&host.path("exported")),
        quoted(&host.identity())
    );
    let mut command = Command::new("bash");
    command.args(["-c", &line]).env("STATE_DIRECTORY", host.path("state"));
    Running::start(command).wait().expect_code(0);
    assert!(host.path("exported").is_file());
}
