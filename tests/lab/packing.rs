//! The packages that hosts get, made of the binary under test by the script that makes the released ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::enclosure::entered;
use super::figures::binary;

/// The version of [`Release::Next`]: above all others.
pub const NEXT_VERSION: &str = "999.0.0";

/// The kinds of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Deb,
    Rpm,
}

/// Which one: what hosts get, or one to upgrade to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    Present,
    Next,
}

impl Kind {
    /// How the names of its files end.
    fn ending(self) -> &'static str {
        match self {
            Kind::Deb => "deb",
            Kind::Rpm => "rpm",
        }
    }

    /// Whether this machine can make it.
    pub fn can_be_made(self) -> bool {
        let maker = match self {
            Kind::Deb => "dpkg-deb",
            Kind::Rpm => "rpmbuild",
        };
        let version = Command::new(maker).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    }
}

/// The file of a package, which is made when it is first asked for; it goes with the run.
#[track_caller]
pub fn package(kind: Kind, release: Release) -> PathBuf {
    static MADE: Mutex<BTreeMap<(Kind, Release), PathBuf>> = Mutex::new(BTreeMap::new());
    // Who waits for another that fails tries again and says the same.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((kind, release))
        .or_insert_with(|| make(kind, release))
        .clone()
}

fn make(kind: Kind, release: Release) -> PathBuf {
    let stage = entered().expect("cases run in the enclosure");
    let out = stage.join(format!("packages-{kind:?}-{release:?}"));
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut script = Command::new(project.join("packaging/build.sh"));
    script
        .arg(binary())
        .env("OUT", &out)
        .env("KINDS", kind.ending())
        .env("UNRELEASED", "1")
        .stdin(Stdio::null());
    match release {
        Release::Present => script.env_remove("VERSION"),
        Release::Next => script.env("VERSION", NEXT_VERSION),
    };
    let output = script.output().expect("the script is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "packaging/build.sh: {errors}");
    let files = fs::read_dir(&out).expect("it was just written").flatten();
    let mut files = files.map(|file| file.path());
    let package = files.find(|path| path.extension().is_some_and(|ending| ending == kind.ending()));
    package.expect("the script ends well only when it has made the package")
}
