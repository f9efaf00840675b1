//! What must be there before the lab can run: the right to make namespaces, the distribution's tools, the base roots.
//!
//! This is the only part that uses the network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::support::tools::{self, Version};

/// The command that each tool is known by, and its package.
const TOOLS: &str = "mmdebstrap:mmdebstrap systemd-nspawn:systemd-container ip:iproute2 dpkg-deb:dpkg objdump:binutils";
/// What only the rpm needs.
const RPM_TOOLS: &str = "rpmbuild:rpm rpm:rpm";

/// Upstream servers that cases put in the place of the distribution's.
pub const ETCDS: [Version; 2] = [Version::V3_6, Version::V3_7];

/// A Debian that hosts can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// systemd 257, etcd 3.5.
    Trixie,
    /// systemd 252, etcd 3.4.
    Bookworm,
}

impl Suite {
    /// All of them, the newest first.
    pub const ALL: [Suite; 2] = [Suite::Trixie, Suite::Bookworm];

    /// As Debian calls it.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Trixie => "trixie",
            Suite::Bookworm => "bookworm",
        }
    }
}

/// Where the base roots, the runs and their locks are kept.
pub fn lab_dir() -> PathBuf {
    target_dir().join("lab")
}

/// What hosts of a suite are laid over.
pub fn root_of(suite: Suite) -> PathBuf {
    lab_dir().join(format!("root-{}", suite.name()))
}

/// Brings everything that the network is needed for, or says why the lab cannot run here. Gives the suites that must be
/// left out, after saying why.
pub fn prepare(suites: &BTreeSet<Suite>) -> Result<Vec<Suite>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("it boots hosts, which needs root".to_owned());
    }
    let namespaces = ["--fork", "--pid", "--mount", "--net", "--mount-proc", "--"];
    let mount = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    said(Command::new("unshare").args(namespaces).args(mount))
        .map_err(|why| format!("this machine does not let it make namespaces and mounts: {why}"))?;
    said(script("setup.sh").arg("true").env("NEED", TOOLS))?;
    if let Err(why) = said(script("setup.sh").arg("true").env("NEED", RPM_TOOLS)) {
        eprintln!("skipped: the rpm in the lab: {why}");
    }
    for version in ETCDS {
        // Where one cannot be had, this says so, and its case does too.
        drop(tools::etcd(version));
    }
    drop(tools::moto());
    thread::scope(|scope| {
        let made: Vec<_> = suites
            .iter()
            .map(|suite| scope.spawn(move || said(script("lab-root.sh").arg(suite.name()))))
            .collect();
        made.into_iter()
            .try_for_each(|made| made.join().expect("making a root does not panic").map(drop))
    })?;
    let mut left_out = Vec::new();
    for suite in suites {
        if let Err(why) = runs_on(*suite) {
            eprintln!("skipped: the lab on {}: {why}", suite.name());
            left_out.push(*suite);
        }
    }
    match left_out.len() == suites.len() {
        true => Err("nothing is left of it".to_owned()),
        false => Ok(left_out),
    }
}

/// Whether the binary under test, made with this machine's libc, runs with that of a suite.
fn runs_on(suite: Suite) -> Result<(), String> {
    let try_it =
        "mount -t tmpfs tmpfs \"$0/mnt\" && cp \"$1\" \"$0/mnt/lifeboat\" && chroot \"$0\" /mnt/lifeboat --version";
    // In a namespace of mounts: the root itself is not written to.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c", try_it]);
    said(command.arg(root_of(suite)).arg(env!("CARGO_BIN_EXE_lifeboat"))).map(drop)
}

fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name);
    let mut command = Command::new(path);
    command.env("CARGO_TARGET_DIR", target_dir());
    command
}

/// The output of a command that must succeed, or the last line that it said otherwise.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(errors.lines().last().unwrap_or("it does not say why").to_owned()),
    }
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo puts the directory for tests into the target directory")
}
