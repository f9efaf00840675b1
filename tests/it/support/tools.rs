//! The programs that tests need beside our own, brought on first use by the scripts in `tests/tools`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The etcd releases that we test against, one of each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3_4,
    V3_5,
    V3_6,
    V3_7,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 4] = [Version::V3_4, Version::V3_5, Version::V3_6, Version::V3_7];

    /// As the server prints it.
    pub fn number(self) -> &'static str {
        match self {
            Version::V3_4 => "3.4.45",
            Version::V3_5 => "3.5.34",
            Version::V3_6 => "3.6.15",
            Version::V3_7 => "3.7.2",
        }
    }
}

/// The server of a version, or `None` after saying that the test is skipped.
pub fn etcd(version: Version) -> Option<PathBuf> {
    match script("fetch-etcd.sh", &[version.number()]) {
        Ok(path) => Some(PathBuf::from(path)),
        Err(why) => {
            skip(&format!("etcd {}", version.number()), &why);
            None
        }
    }
}

/// A server of a version with known faults, or `None` after saying that the test is skipped.
pub fn faulty_etcd(number: &str) -> Option<PathBuf> {
    match script("fetch-faulty.sh", &[number]) {
        Ok(path) => Some(PathBuf::from(path)),
        Err(why) => {
            skip(&format!("etcd {number}"), &why);
            None
        }
    }
}

/// A tool of the distribution (`etcdctl`, `etcdutl`, `age`, `zstd`), or `None` after saying that the test is skipped.
pub fn debian(tool: &str) -> Option<PathBuf> {
    if let Err(why) = script("fetch-debian.sh", &[tool]) {
        skip(tool, &why);
        return None;
    }
    let fetched = target_dir().join("tools/bin").join(tool);
    Some(if fetched.exists() { fetched } else { PathBuf::from(tool) })
}

/// A Python that can run `moto-server.py`, an S3 server, or `None` after saying that the test is skipped.
pub fn moto() -> Option<PathBuf> {
    match script("fetch-moto.sh", &[]) {
        Ok(path) => Some(PathBuf::from(path)),
        Err(why) => {
            skip("moto", &why);
            None
        }
    }
}

/// Says in one line, past the capture of the test harness, that a test is skipped for want of a tool.
pub fn skip(missing: &str, why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let why = why.lines().last().unwrap_or_default();
    // Not `eprintln!`: the harness shows that of failing tests only.
    writeln!(std::io::stderr(), "skipped: {test}: no {missing}: {why}").expect("standard error is open");
}

/// Runs a script of `tests/tools` and gives its output, or what it said on standard error.
fn script(name: &str, args: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name);
    let output = Command::new(&path)
        .args(args)
        .env("CARGO_TARGET_DIR", target_dir())
        .output()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo puts the directory for tests into the target directory")
}
