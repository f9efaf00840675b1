//! Real etcd servers on the loopback address: clusters of one to three members in a directory of their own.
//!
//! Invariant: nothing is said to a port before the server that we started is seen to hold it, and only processes that we
//! started are ever signalled. What a server wrote is shown when its test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::MemberAddOptions;
use tempfile::TempDir;

use super::client::{Client, Credentials, HashKv};
use super::tls::Tls;
use super::tools::{self, Version};
use super::{client::wait_for, ports};

/// How long a server may take to serve. Long, because tests share the machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);
/// The password of `root` with [`Security::Password`].
pub const PASSWORD: &str = "correct horse";

/// Who may talk to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Anybody.
    Open,
    /// Clients with a certificate of the test's authority.
    Tls,
    /// The user `root` with [`PASSWORD`].
    Password,
}

/// What cluster a test wants.
#[derive(Debug, Clone)]
pub struct Options {
    pub members: usize,
    pub security: Security,
    pub token: String,
    /// Further flags of every server.
    pub flags: Vec<String>,
    /// A program of the same line that is started instead of the one that we test against.
    pub binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            members: 1,
            security: Security::Open,
            token: "test".to_owned(),
            flags: Vec::new(),
            binary: None,
        }
    }
}

/// One server of a cluster, running or not.
pub struct Member {
    pub name: String,
    pub client_url: String,
    pub peer_url: String,
    pub data_dir: PathBuf,
    log: PathBuf,
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

/// A cluster. Dropping it kills its servers and removes its directory.
pub struct Etcd {
    pub version: Version,
    pub members: Vec<Member>,
    pub token: String,
    pub credentials: Credentials,
    binary: PathBuf,
    security: Security,
    flags: Vec<String>,
    dir: TempDir,
}

impl Etcd {
    /// A cluster that serves, or `None` after saying that the test is skipped.
    pub fn start(version: Version, options: Options) -> Option<Etcd> {
        let mut etcd = Etcd::plan(version, options)?;
        etcd.boot();
        if etcd.security == Security::Password {
            etcd.client()
                .enable_auth(PASSWORD)
                .expect("authentication can be switched on");
            etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
        }
        Some(etcd)
    }

    /// A cluster with names, URLs and directories but no process yet: for a data directory that is laid out first.
    pub fn plan(version: Version, options: Options) -> Option<Etcd> {
        let binary = match options.binary {
            Some(binary) => binary,
            None => tools::etcd(version)?,
        };
        let dir = tempfile::Builder::new()
            .prefix("lifeboat-etcd-")
            .tempdir()
            .expect("a directory can be made");
        let mut credentials = Credentials::default();
        if options.security == Security::Tls {
            credentials.tls = Some(Tls::generate(&dir.path().join("tls")));
        }
        let scheme = if options.security == Security::Tls {
            "https"
        } else {
            "http"
        };
        let members = (1..=options.members)
            .map(|number| Member::plan(number, scheme, dir.path()))
            .collect();
        Some(Etcd {
            version,
            members,
            token: options.token,
            credentials,
            binary,
            security: options.security,
            flags: options.flags,
            dir,
        })
    }

    /// Starts every member that is not running, each over whatever its data directory holds, and waits for all to serve.
    pub fn boot(&mut self) {
        let initial_cluster = self.initial_cluster();
        for index in 0..self.members.len() {
            if self.members[index].process.is_none() {
                self.spawn(index, &initial_cluster, "new");
            }
        }
        self.wait_until_served();
    }

    /// Adds a member to the running cluster, starts it and waits for it to serve; gives its index.
    ///
    /// It joins as a learner and is promoted once it has caught up: a voter that is not there yet would take the quorum
    /// from a cluster of one, and etcd 3.6 then waits for it until a timeout.
    pub fn add_member(&mut self) -> usize {
        let (index, id) = self.add_learner();
        self.promote(index, id);
        index
    }

    /// Makes a learner that has caught up a voter, and waits until it knows.
    pub fn promote(&self, index: usize, id: u64) {
        let mut client = self.client_of(0).raw();
        let deadline = Instant::now() + BOOT_TIMEOUT;
        while let Err(error) = wait_for(client.member_promote(id)) {
            assert!(Instant::now() < deadline, "the new member is not promoted: {error}");
            thread::sleep(POLL);
        }
        let mut own = self.client_of(index).raw();
        while wait_for(own.status()).is_ok_and(|status| status.is_learner()) {
            assert!(
                Instant::now() < deadline,
                "the new member does not hear that it is promoted"
            );
            thread::sleep(POLL);
        }
    }

    /// Adds a learner to the running cluster, starts it and waits until it has caught up; gives its index and id.
    pub fn add_learner(&mut self) -> (usize, u64) {
        let scheme = if self.security == Security::Tls {
            "https"
        } else {
            "http"
        };
        let member = Member::plan(self.members.len() + 1, scheme, self.dir.path());
        let mut client = self.client().raw();
        let deadline = Instant::now() + BOOT_TIMEOUT;
        // Until its members have known each other for five seconds, a cluster calls itself unhealthy and takes nobody.
        let added = loop {
            let options = MemberAddOptions::new().with_is_learner();
            match wait_for(client.member_add([member.peer_url.clone()], Some(options))) {
                Ok(added) => break added,
                Err(error) => assert!(Instant::now() < deadline, "the cluster does not take a member: {error}"),
            }
            thread::sleep(POLL);
        };
        let id = added.member().expect("etcd says what it added").id();
        self.members.push(member);
        let index = self.members.len() - 1;
        let initial_cluster = self.initial_cluster();
        self.spawn(index, &initial_cluster, "existing");
        let deadline = Instant::now() + BOOT_TIMEOUT;
        self.members[index].wait_until_listening(deadline);
        let there = self.client_of(0).revision().expect("a running cluster can be read");
        self.wait_until_applied(index, there);
        (index, id)
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.members[index].kill();
    }

    /// Kills every member and removes its data, as a disk or an operator would.
    pub fn destroy(&mut self) {
        for member in &mut self.members {
            member.kill();
            fs::remove_dir_all(&member.data_dir).expect("the data directory can be removed");
        }
    }

    /// Ends every member with SIGTERM and waits for it.
    pub fn stop(&mut self) {
        for member in &mut self.members {
            member.terminate();
        }
    }

    /// Gives every server that is started from now on these flags instead of those of [`Options`].
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The process of a member that runs.
    pub fn pid(&self, index: usize) -> u32 {
        let process = self.members[index].process.as_ref();
        process.expect("the member was started").id()
    }

    /// The directory of everything that the cluster's servers write.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// `--initial-cluster` of all members.
    pub fn initial_cluster(&self) -> String {
        let parts: Vec<String> = self
            .members
            .iter()
            .map(|m| format!("{}={}", m.name, m.peer_url))
            .collect();
        parts.join(",")
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        let endpoints: Vec<String> = self.members.iter().map(|member| member.client_url.clone()).collect();
        Client::connect(&endpoints, &self.credentials).expect("a running cluster can be connected to")
    }

    /// A client of one member.
    pub fn client_of(&self, index: usize) -> Client {
        Client::connect(&[self.members[index].client_url.clone()], &self.credentials)
            .expect("a running member can be connected to")
    }

    /// HashKV of a revision (0 is the present one) by each member, in order. Every member has applied it before it is asked.
    pub fn hash_kv_of_each(&self, revision: i64) -> Vec<HashKv> {
        let asked = match revision {
            0 => self.client_of(0).revision().expect("a running cluster can be read"),
            given => given,
        };
        (0..self.members.len())
            .map(|index| {
                self.wait_until_applied(index, asked);
                self.client_of(index)
                    .hash_kv(asked)
                    .expect("a running member hashes what is not compacted")
            })
            .collect()
    }

    /// The last lines of a member's log.
    pub fn log_tail(&self, index: usize) -> String {
        tail(&self.members[index].log)
    }

    fn spawn(&mut self, index: usize, initial_cluster: &str, state: &str) {
        let mut command = Command::new(&self.binary);
        let member = &mut self.members[index];
        command
            .args(["--name", &member.name, "--initial-cluster", initial_cluster])
            .args(["--initial-cluster-token", &self.token, "--initial-cluster-state", state])
            .args([
                "--listen-client-urls",
                &member.client_url,
                "--advertise-client-urls",
                &member.client_url,
            ])
            .args([
                "--listen-peer-urls",
                &member.peer_url,
                "--initial-advertise-peer-urls",
                &member.peer_url,
            ])
            .arg("--data-dir")
            .arg(&member.data_dir)
            .args(&self.flags);
        if self.version == Version::V3_4 {
            command.arg("--logger=zap");
        }
        if let Some(tls) = &self.credentials.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
            command
                .arg("--cert-file")
                .arg(&tls.server_cert)
                .arg("--key-file")
                .arg(&tls.server_key);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&member.log)
            .expect("a log can be written");
        let second = log.try_clone().expect("a descriptor can be copied");
        command.stdin(Stdio::null()).stdout(log).stderr(second);
        member.process = Some(command.spawn().expect("the fetched server runs here"));
    }

    /// By what the member itself serves: a linearizable read through one that has just been promoted may take seconds.
    fn wait_until_applied(&self, index: usize, revision: i64) {
        let deadline = Instant::now() + BOOT_TIMEOUT;
        let client = self.client_of(index);
        while !client.applied_revision().is_ok_and(|applied| applied >= revision) {
            let (name, log) = (&self.members[index].name, self.log_tail(index));
            assert!(
                Instant::now() < deadline,
                "{name} does not come to revision {revision}\n{log}"
            );
            thread::sleep(POLL);
        }
    }

    fn wait_until_served(&mut self) {
        let deadline = Instant::now() + BOOT_TIMEOUT;
        for member in &mut self.members {
            member.wait_until_listening(deadline);
        }
        for index in 0..self.members.len() {
            let member = &self.members[index];
            loop {
                let read = Client::connect(std::slice::from_ref(&member.client_url), &self.credentials)
                    .and_then(|client| client.probe());
                match read {
                    Ok(()) => break,
                    Err(error) if Instant::now() > deadline => {
                        panic!("{} does not serve: {error}\n{}", member.name, tail(&member.log))
                    }
                    Err(_) => thread::sleep(POLL),
                }
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
            if thread::panicking() {
                eprintln!(
                    "--- the last of the log of {} ({:?})\n{}",
                    member.name,
                    self.version,
                    tail(&member.log)
                );
            }
        }
    }
}

impl Member {
    fn plan(number: usize, scheme: &str, dir: &Path) -> Member {
        let (client_port, peer_port) = (ports::free(), ports::free());
        Member {
            name: format!("m{number}"),
            client_url: format!("{scheme}://127.0.0.1:{client_port}"),
            peer_url: format!("http://127.0.0.1:{peer_port}"),
            data_dir: dir.join(format!("m{number}.etcd")),
            log: dir.join(format!("m{number}.log")),
            client_port,
            peer_port,
            process: None,
        }
    }

    fn wait_until_listening(&mut self, deadline: Instant) {
        let process = self.process.as_mut().expect("the member was started");
        while !(ports::is_listening(process.id(), self.peer_port)
            && ports::is_listening(process.id(), self.client_port))
        {
            if let Some(status) = process.try_wait().expect("our own child can be waited for") {
                panic!("{} ended with {status}\n{}", self.name, tail(&self.log));
            }
            assert!(
                Instant::now() < deadline,
                "{} does not listen\n{}",
                self.name,
                tail(&self.log)
            );
            thread::sleep(POLL);
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("our own child can be waited for");
        }
    }

    fn terminate(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The shell's own `kill`: the program of that name is not on every system.
            let sent = Command::new("sh")
                .args(["-c", "kill -TERM \"$0\"", &process.id().to_string()])
                .status();
            assert!(
                sent.is_ok_and(|status| status.success()),
                "our own child can be signalled"
            );
            process.wait().expect("our own child can be waited for");
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Changes what is in the database of a member that is down, in every page that holds it.
pub fn changed_in_database(data_dir: &Path, from: &[u8], to: &[u8]) {
    let file = data_dir.join("member/snap/db");
    let mut database = fs::read(&file).expect("it is there");
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..=database.len() - from.len())
        .filter(|at| database[*at..].starts_with(from))
        .collect();
    assert!(!places.is_empty(), "it is in no page");
    for at in places {
        database[at..at + to.len()].copy_from_slice(to);
    }
    // In place: it keeps its owner.
    fs::write(&file, database).expect("nobody holds it");
}
