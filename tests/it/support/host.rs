//! The binary under test, on a host of its own: configuration, identity, state and one destination in one directory.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat::signing::{Role, SigningKey};
use tempfile::TempDir;

use super::etcd::{Etcd, PASSWORD};
use super::moto::SECRET;
use super::running::Running;

/// The name of the cluster in [`Host::new`]'s configuration.
pub const CLUSTER: &str = "test";

/// What a finished run left.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What a run left. Whatever it was about, no secret may be in it.
    #[track_caller]
    pub fn new(code: i32, stdout: String, stderr: String) -> Output {
        for text in [&stdout, &stderr] {
            assert!(!tells_a_secret(text), "a secret was printed:\n{text}");
        }
        Output { code, stdout, stderr }
    }

    /// The same, if all of this was said on standard error.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Output {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in stderr:\n{}", self.stderr);
        }
        self
    }

    /// The same, if it ended with this code; panics with all that was said otherwise.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Output {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "stdout is no JSON: {error}\nstdout:\n{}\nstderr:\n{}",
                self.stdout, self.stderr
            )
        })
    }
}

/// A directory that stands for a host.
pub struct Host {
    dir: TempDir,
    recipient: String,
}

impl Host {
    /// A host with an identity and a configuration that names every member of the cluster and one destination, `local`.
    pub fn new(etcd: &Etcd) -> Host {
        let host = Host::without_cluster();
        host.configure(etcd, "");
        host
    }

    /// A host with an identity and no configuration.
    pub fn without_cluster() -> Host {
        let dir = tempfile::Builder::new()
            .prefix("lifeboat-host-")
            .tempdir()
            .expect("a directory can be made");
        let mut host = Host {
            dir,
            recipient: String::new(),
        };
        for dir in ["state", "store"] {
            fs::create_dir(host.path(dir)).expect("the host's directory can be written");
        }
        let made = host.lifeboat([
            OsStr::new("keygen"),
            OsStr::new("--identity"),
            host.identity().as_os_str(),
        ]);
        host.recipient = made.expect_code(0).stdout.trim().to_owned();
        host
    }

    /// Writes the configuration anew; `more` is appended to it as it is.
    pub fn configure(&self, etcd: &Etcd, more: &str) {
        let mut text = format!("[cluster]\nname = \"{CLUSTER}\"\n");
        if let Some(tls) = &etcd.credentials.tls {
            let file = |path: &Path| format!("{{ file = {path:?} }}");
            let (ca, cert, key) = (file(&tls.ca), file(&tls.client_cert), file(&tls.client_key));
            writeln!(text, "tls = {{ ca = {ca}, cert = {cert}, key = {key} }}").expect("a string can be written to");
        }
        if let Some((user, _)) = &etcd.credentials.user {
            let password = self.path("password");
            fs::write(&password, PASSWORD).expect("the host's directory can be written");
            writeln!(
                text,
                "auth = {{ user = {user:?}, password = {{ file = {password:?} }} }}"
            )
            .expect("a string can be written to");
        }
        for member in &etcd.members {
            let (name, client, peer) = (&member.name, &member.client_url, &member.peer_url);
            writeln!(
                text,
                "[members.{name}]\nclient_urls = [\"{client}\"]\npeer_urls = [\"{peer}\"]"
            )
            .expect("a string can be written to");
        }
        let (recipient, store) = (&self.recipient, self.store());
        writeln!(
            text,
            "[encryption]\nrecipients = [\"{recipient}\"]\n[destinations.local]\nurl = \"file://{}\"\n{more}",
            store.display()
        )
        .expect("a string can be written to");
        fs::write(self.config(), text).expect("the host's directory can be written");
    }

    /// Puts something else in the place of a text that stands in the configuration.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration was written");
        assert!(text.contains(from), "no `{from}` in\n{text}");
        fs::write(self.config(), text.replace(from, to)).expect("the host's directory can be written");
    }

    /// Adds a destination whose directory is there, and gives that.
    pub fn add_destination(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(&dir).expect("the host's directory can be written");
        let text = fs::read_to_string(self.config()).expect("the configuration was written");
        let added = format!("{text}[destinations.{name}]\nurl = \"file://{}\"\n", dir.display());
        fs::write(self.config(), added).expect("the host's directory can be written");
        dir
    }

    /// Takes a backup that must succeed, and gives its id.
    #[track_caller]
    pub fn backup(&self) -> String {
        let done = self.lifeboat(["backup"]).expect_code(0);
        done.stdout.trim().to_owned()
    }

    /// The manifest of a backup, as `show` gives it.
    #[track_caller]
    pub fn manifest(&self, id: &str) -> serde_json::Value {
        let shown = self.lifeboat(["--json", "show", id]).expect_code(0);
        shown.json()["manifest"].clone()
    }

    /// Writes a document of a store anew, as this host would have signed it. `text` is what it says, signed or not.
    pub fn write_signed(&self, file: &Path, text: &str) {
        let kept = self.path("state").join(CLUSTER).join("signing.key");
        let kept = fs::read_to_string(kept).expect("a host that has written anything has a key");
        let Ok(key) = SigningKey::parse(Role::Signer, &kept, "it") else {
            panic!("it is no key");
        };
        let path = file.display().to_string();
        let (_, name) = path.rsplit_once(&format!("/{CLUSTER}/")).expect("it lies in a store");
        let name = name.parse().expect("it is a document of ours");
        let unsigned = match text.split_once(",\n\"signer\"") {
            Some((unsigned, _)) => format!("{unsigned}}}").replacen("{\"format\":2,", "{\"format\":1,", 1),
            None => text.to_owned(),
        };
        let cluster = CLUSTER.parse().expect("it is a name");
        // It has seen what was there before, and would miss it.
        fs::remove_file(self.path("state").join(CLUSTER).join("tips.json")).ok();
        fs::write(file, key.sign(&cluster, &name, unsigned.as_bytes())).expect("the store can be written");
    }

    /// Has the host keep that it wrote deltas before, of a chain of nobody: one that keeps nothing takes a writer of its name for its
    /// former self, and the hosts of a test have one name.
    pub fn has_written_before(&self) {
        let folder = self.path("state").join(CLUSTER).join("deltas/shared");
        fs::create_dir_all(&folder).expect("the host's directory can be written");
        let kept = r#"{"format":1,"chain":"none","epoch":1}"#;
        fs::write(folder.join("epoch.json"), kept).expect("the host's directory can be written");
    }

    /// Something in the host's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// The age identity that opens the host's backups.
    pub fn identity(&self) -> PathBuf {
        self.path("identity.txt")
    }

    /// The recipient that belongs to it.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// The directory of the destination `local`.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Every file below the destination, relative to it, in order.
    pub fn stored_files(&self) -> Vec<PathBuf> {
        files_below(&self.store())
    }

    /// Runs the binary to its end, with this host's configuration and state and nothing else of the environment's.
    #[track_caller]
    pub fn lifeboat<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Output {
        output_of(&mut self.command(args))
    }

    /// Runs the binary without a configuration or a memory: it knows of stores by its environment alone.
    #[track_caller]
    pub fn without_configuration<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        environment: &[(&str, &OsStr)],
        args: I,
    ) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command
            .args(args)
            .env("STATE_DIRECTORY", self.path("no-state"))
            .env("HOME", self.path(""))
            .envs(environment.iter().copied());
        output_of(&mut command)
    }

    /// Starts the binary and does not wait for it.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Running {
        Running::start(self.command(args))
    }

    /// The same as a command, for tests that feed it, kill it or run it beside something else.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command
            .arg("--config")
            .arg(self.config())
            .args(args)
            .env_remove("RUST_LOG")
            .env("STATE_DIRECTORY", self.path("state"))
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The arguments of `rebuild` for one member of a cluster that does not run yet. `source` is a SOURCE.
    pub fn rebuild_args(&self, source: &str, etcd: &Etcd, index: usize) -> Vec<String> {
        let member = &etcd.members[index];
        let text = |path: &Path| {
            path.to_str()
                .expect("temporary directories have plain names")
                .to_owned()
        };
        [
            ("rebuild", source.to_owned()),
            ("--identity", text(&self.identity())),
            ("--data-dir", text(&member.data_dir)),
            ("--name", member.name.clone()),
            ("--initial-cluster", etcd.initial_cluster()),
            ("--initial-cluster-token", etcd.token.clone()),
            ("--initial-advertise-peer-urls", member.peer_url.clone()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

#[track_caller]
fn output_of(command: &mut Command) -> Output {
    let output = command.output().expect("the binary under test runs");
    Output::new(
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Whether a text holds the password of the tests' servers, or a secret key and not just the name of one.
pub fn tells_a_secret(text: &str) -> bool {
    let secrets = ["AGE-SECRET-KEY-1", "LIFEBOAT-SIGNING-KEY-1", "LIFEBOAT-ROOT-KEY-1"];
    let mut keys = secrets.into_iter().flat_map(|start| text.split(start).skip(1));
    text.contains(PASSWORD)
        || text.contains(SECRET)
        || keys.any(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Every file below a directory, relative to it, in order.
pub fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("it was found below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Everything below a directory, one line each: path, kind and size, for comparisons of before and after.
pub fn tree(root: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata());
            let Ok(metadata) = metadata else { continue };
            let name = path
                .strip_prefix(root)
                .expect("it was found below")
                .display()
                .to_string();
            if metadata.is_dir() {
                found.push(format!("{name}/"));
                open.push(path);
            } else {
                found.push(format!("{name} {}", metadata.len()));
            }
        }
    }
    found.sort();
    found
}

/// Copies a directory with everything in it to a place that does not exist yet.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's directory can be written");
    for entry in fs::read_dir(from).expect("it is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the test's directory can be written");
        }
    }
}
