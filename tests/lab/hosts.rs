//! Hosts: made, booted, used, cut from their power, booted again, and taken away when they are dropped.
//!
//! A host is a base root with a layer of its own over it, booted by systemd-nspawn in a network namespace that is
//! plugged into one bridge. This program has an address on that bridge too.
//!
//! Invariant: a host's processes are found as children of the systemd-nspawn that we started, never by a name.

use std::fmt;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::enclosure::control_groups;
use super::preparation::{Suite, root_of};
use super::report;

/// How long something that must happen may take. Long, because hosts share the machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(25);
const BRIDGE: &str = "lab0";
/// The environment of every command on a host.
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=dumb",
    "LANG=C.UTF-8",
];
/// Of which units a failure shows the journal, and how many lines of it.
const JOURNALS: [(&str, &str); 2] = [("lifeboat*", "60"), ("etcd", "15")];

/// Looks until there is what is looked for, and gives it; panics with what was seen last.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "{what}: not within {PATIENCE:?}; seen last: {seen}"
            ),
        }
        thread::sleep(POLL);
    }
}

/// For [`until`]: whether something holds, and what was seen of it.
pub fn holds(condition: bool, seen: impl fmt::Debug) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// What all hosts of a run are plugged into.
pub struct Switch {
    stage: PathBuf,
    plugged: AtomicU8,
}

impl Switch {
    /// Makes the bridge, in the namespaces that this process has for itself.
    pub fn set_up(stage: PathBuf) -> Switch {
        // Of the machine's own /run nothing is seen or changed.
        command("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        fs::create_dir("/run/netns").expect("it was just mounted");
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", BRIDGE, "type", "bridge"]);
        ip(&["addr", "add", "10.77.0.254/24", "dev", BRIDGE]);
        ip(&["link", "set", BRIDGE, "up"]);
        Switch {
            stage,
            plugged: AtomicU8::new(0),
        }
    }
}

/// What a case gets: the power to make hosts of one suite.
pub struct Lab<'a> {
    pub suite: Suite,
    pub switch: &'a Switch,
    /// Whether a case tries everything that it can, or only as much as each run of all tests has the time for.
    pub is_thorough: bool,
}

impl Lab<'_> {
    /// Hosts h1, h2 … that know each other by name, not booted yet.
    pub fn hosts(&self, count: usize) -> Vec<Host> {
        let hosts: Vec<Host> = (1..=count)
            .map(|number| Host::make(self, format!("h{number}")))
            .collect();
        let known: String = hosts
            .iter()
            .map(|host| format!("{} {}\n", host.address, host.name))
            .collect();
        for host in &hosts {
            host.write("/etc/hosts", &format!("127.0.0.1 localhost\n{known}"));
            host.write("/etc/hostname", &format!("{}\n", host.name));
        }
        hosts
    }

    /// A directory outside all hosts, to be bound into several.
    pub fn shared_directory(&self) -> PathBuf {
        let number = self.switch.plugged.fetch_add(1, Ordering::Relaxed) + 1;
        let dir = self.switch.stage.join(format!("shared{number}"));
        fs::create_dir(&dir).expect("the run's directory can be written");
        dir
    }
}

/// One host. Dropped, it is cut from its power and all of it is removed.
pub struct Host {
    pub name: String,
    pub address: Ipv4Addr,
    dir: PathBuf,
    /// The name of everything outside that belongs to it: machine, namespace, control groups.
    id: String,
    groups: Vec<PathBuf>,
    binds: Vec<String>,
    nspawn: Option<Child>,
}

impl Host {
    fn make(lab: &Lab<'_>, name: String) -> Host {
        let number = lab.switch.plugged.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number < 254, "the network of a run has no more addresses");
        let id = format!("lab{number}");
        let host = Host {
            name,
            address: Ipv4Addr::new(10, 77, 0, number),
            dir: lab.switch.stage.join(&id),
            groups: control_groups(&lab.switch.stage, &id),
            id,
            binds: Vec::new(),
            nspawn: None,
        };
        host.lay_root(&root_of(lab.suite));
        host.plug_in();
        host
    }

    /// Binds a directory outside into the host, from its next boot on.
    pub fn bind(&mut self, outside: &Path, inside: &str) {
        self.binds.push(format!("--bind={}:{inside}", outside.display()));
    }

    /// Switches it on; whoever switched it on waits with [`Host::wait_for_boot`].
    pub fn power_on(&mut self) {
        let log = File::options().append(true).create(true).open(self.console());
        let log = log.expect("the run's directory can be written");
        for group in &self.groups {
            fs::create_dir_all(group).expect("root can make control groups");
        }
        // It moves itself, so that everything of the host begins in the host's own groups.
        let script = "for group in $GROUPS_OF_HOST; do echo $$ >\"$group/cgroup.procs\" || exit; done; exec \"$@\"";
        let groups: Vec<_> = self.groups.iter().map(|group| group.display().to_string()).collect();
        let nspawn = Command::new("setsid")
            .args(["sh", "-c", script, "nspawn", "systemd-nspawn", "--quiet", "--boot"])
            .args(["--register=no", "--keep-unit", "--machine", &self.id])
            // Nothing of this machine's own, and nothing left on it.
            .args(["--timezone=off", "--resolv-conf=off", "--link-journal=no"])
            .arg(format!("--network-namespace-path=/run/netns/{}", self.id))
            .arg(format!("--directory={}", self.dir.join("root").display()))
            .args(&self.binds)
            .env("GROUPS_OF_HOST", groups.join(" "))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be copied"))
            .stderr(log)
            .spawn();
        self.nspawn = Some(nspawn.expect("there is a shell"));
    }

    /// Waits until its systemd has started everything.
    #[track_caller]
    pub fn wait_for_boot(&mut self) {
        self.wait_for_state(&["running", "degraded"]);
    }

    /// Switches it on and waits until its systemd answers: what it starts may wait for other hosts.
    #[track_caller]
    pub fn begin_to_boot(&mut self) {
        self.power_on();
        self.wait_for_state(&["starting", "running", "degraded"]);
    }

    #[track_caller]
    fn wait_for_state(&mut self, states: &[&str]) {
        until(&format!("{} to boot", self.name), || {
            let nspawn = self.nspawn.as_mut().expect("it was switched on");
            if let Some(status) = nspawn.try_wait().expect("our own child can be waited for") {
                let console = fs::read_to_string(self.console()).unwrap_or_default();
                panic!("{} ended while it booted: {status}\n{console}", self.name);
            }
            self.leader().ok_or("no first process")?;
            let state = self.run_any(["systemctl", "is-system-running"]).stdout;
            holds(states.contains(&state.trim()), state)
        });
    }

    /// Switches it on and waits until its systemd has started everything.
    #[track_caller]
    pub fn boot(&mut self) {
        self.power_on();
        self.wait_for_boot();
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.nspawn.is_some()
    }

    /// Cuts it from its power: every process is gone at once, its disk stays as it is.
    pub fn cut_power(&mut self) {
        let Some(mut nspawn) = self.nspawn.take() else { return };
        let deadline = Instant::now() + PATIENCE;
        while nspawn.try_wait().expect("our own child can be waited for").is_none() {
            match first_process(nspawn.id()) {
                Some(leader) if Instant::now() < deadline => signal(leader, "KILL"),
                _ => nspawn.kill().expect("our own child can be killed"),
            }
            thread::sleep(POLL);
        }
    }

    /// Has it shut down in good order, and waits until it is off.
    #[track_caller]
    pub fn shut_down(&mut self) {
        // It may be gone before it answers.
        self.run_any(["systemctl", "poweroff"]);
        let mut nspawn = self.nspawn.take().expect("it was switched on");
        until(&format!("{} to be off", self.name), || {
            let ended = nspawn.try_wait().expect("our own child can be waited for");
            holds(ended.is_some(), "it runs")
        });
    }

    /// A file of the host's disk, seen from outside, on or off. Not for what is in its memory: /run, /tmp.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.join("root").join(inside.trim_start_matches('/'))
    }

    /// Puts a file there, whole: under another name first, then renamed, as configuration management does.
    pub fn write(&self, inside: &str, text: &str) {
        let target = self.path(inside);
        fs::create_dir_all(target.parent().expect("a file is in a directory")).expect("root can write");
        let partial = target.with_extension("partial");
        fs::write(&partial, text).expect("root can write");
        #[expect(clippy::disallowed_methods, reason = "the lab stands for a program of somebody else")]
        fs::rename(partial, target).expect("root can write");
    }

    /// Copies a file in, with its mode.
    pub fn copy_in(&self, outside: &Path, inside: &str) {
        let target = self.path(inside);
        fs::create_dir_all(target.parent().expect("a file is in a directory")).expect("root can write");
        fs::copy(outside, &target).unwrap_or_else(|error| panic!("{} to {inside}: {error}", outside.display()));
    }

    /// Runs a command on it as root; panics with all that was said if it does not end with 0.
    #[track_caller]
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Done {
        self.run_any(args).expect_code(0)
    }

    /// Runs a line of shell on it as root, which must end with 0.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Done {
        self.run(["sh", "-c", line])
    }

    /// Runs a command on it as root to its end, whatever that is.
    #[track_caller]
    pub fn run_any<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Done {
        let args: Vec<&str> = args.into_iter().collect();
        let leader = self.leader().unwrap_or_else(|| panic!("{} is off", self.name));
        let output = Command::new("timeout")
            .args(["--kill-after=5", &PATIENCE.as_secs().to_string()])
            .args(["nsenter", "--all", "--target", &leader.to_string(), "--", "env", "-i"])
            .args(ENVIRONMENT)
            .args(&args)
            .stdin(Stdio::null())
            .output()
            .expect("there is a `timeout`");
        Done {
            command: format!("{}# {}", self.name, args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Sends a signal to one of its processes, given by the number that it has on the host.
    pub fn signal(&self, pid: u32, name: &str) {
        self.run(["sh", "-c", &format!("kill -{name} {pid}")]);
    }

    /// A property of a unit, as its systemd has it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.run(["systemctl", "show", "--value", "--property", name, unit]);
        shown.stdout.trim().to_owned()
    }

    /// The main process of a unit; 0 if it has none.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> u32 {
        let shown = self.property(unit, "MainPID");
        shown
            .parse()
            .unwrap_or_else(|_| panic!("`{shown}` is no process of {unit}"))
    }

    /// What a unit has written to the journal.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.run(["journalctl", "--no-pager", "--output=cat", "--unit", unit])
            .stdout
    }

    fn leader(&self) -> Option<u32> {
        first_process(self.nspawn.as_ref()?.id())
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Its disk: the base with a layer over it, or a copy where the file system cannot carry a layer.
    fn lay_root(&self, base: &Path) {
        for dir in ["layer", "work", "root"] {
            fs::create_dir_all(self.dir.join(dir)).expect("the run's directory can be written");
        }
        let (layer, work, root) = (self.dir.join("layer"), self.dir.join("work"), self.dir.join("root"));
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            layer.display(),
            work.display()
        );
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&root)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            let (from, to) = (base.join("."), root.display().to_string());
            command("cp", &["-a", "--reflink=auto", &from.display().to_string(), &to]);
        }
    }

    /// Its network: there before it boots, and still there when its power is cut.
    fn plug_in(&self) {
        let (id, plug, address) = (&self.id, format!("p-{}", self.id), format!("{}/24", self.address));
        ip(&["netns", "add", id]);
        ip(&["-n", id, "link", "set", "lo", "up"]);
        ip(&[
            "link", "add", &plug, "type", "veth", "peer", "name", "host0", "netns", id,
        ]);
        ip(&["-n", id, "addr", "add", &address, "dev", "host0"]);
        ip(&["-n", id, "link", "set", "host0", "up"]);
        ip(&["link", "set", &plug, "master", BRIDGE, "up"]);
    }

    /// What it has to say about a case that failed on it.
    fn explain(&self) {
        for (unit, lines) in JOURNALS {
            // Read from outside: it may be off.
            let output = Command::new("journalctl")
                .args(["--no-pager", "--output=short-precise", "--unit", unit, "--lines", lines])
                .arg("--directory")
                .arg(self.path("/var/log/journal"))
                .output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let title = format!("journal of {unit} on {} ({})", self.name, self.address);
            report::note(&title, &text.unwrap_or_default());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.cut_power();
        if thread::panicking() {
            self.explain();
        }
        // What fails here goes away with the namespaces and the run's directory.
        let root = self.dir.join("root");
        Command::new("umount")
            .arg("--lazy")
            .arg(root)
            .stderr(Stdio::null())
            .status()
            .ok();
        Command::new("ip").args(["netns", "del", &self.id]).status().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// What a command on a host left.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where it ran, and what it was.
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The same, if it ended with this code; panics with all that was said otherwise.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Done {
        assert_eq!(self.code, code, "not this exit code: {self}");
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {self}"))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nexit code {}\nstdout:\n{}\nstderr:\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// The child of a systemd-nspawn that is the first process of a host.
fn first_process(nspawn: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let parent = field("PPid:").and_then(|parent| parent.trim().parse().ok());
            // Its number out here, then the one in there.
            let mut numbers = field("NSpid:").unwrap_or_default().split_whitespace().rev();
            parent == Some(nspawn) && numbers.next() == Some("1") && numbers.next().is_some()
        })
}

/// Sends a signal to a process that the caller knows to be ours; one that is gone meanwhile needs none.
fn signal(pid: u32, name: &str) {
    Command::new("sh")
        .args(["-c", "kill -\"$0\" \"$1\" 2>/dev/null", name, &pid.to_string()])
        .status()
        .expect("there is a shell");
}

fn ip(args: &[&str]) {
    command("ip", args);
}

fn command(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", args.join(" "));
}
