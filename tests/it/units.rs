//! The shipped units as systemd judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::tools;

/// The units, and the highest exposure that each may have, of 10.
const UNITS: [(&str, f64); 4] = [
    ("lifeboat.service", 1.5),
    ("lifeboat-backup@.service", 1.5),
    ("lifeboat-restore@.service", 3.0),
    ("lifeboat-restore-resume.service", 3.0),
];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

/// What `systemd-analyze` says; nothing, after saying so, if this host has none.
fn analyze(args: &[&str], unit: &Path) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).arg(unit).output() {
        Ok(output) => Some(output),
        Err(error) => {
            tools::skip("systemd-analyze", &error.to_string());
            None
        }
    }
}

#[test]
fn each_unit_is_closed_as_far_as_it_can_be() {
    for (name, most_exposed) in UNITS {
        let Some(output) = analyze(&["security", "--offline=true", "--no-pager"], &unit(name)) else {
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let level = text.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once("exposure level for ")?;
            rest.split_once(".service: ")?
                .1
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        });
        assert!(level.is_some_and(|level| level <= most_exposed), "{name}: {text}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    for (name, _) in UNITS {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join(name);
        // The program is not installed here.
        let text = fs::read_to_string(unit(name)).unwrap();
        let text = text.replace("/usr/bin/lifeboat", env!("CARGO_BIN_EXE_lifeboat"));
        fs::write(&copy, text).unwrap();
        let Some(output) = analyze(&["verify", "--man=no"], &copy) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let stem = name.trim_end_matches("@.service");
        assert!(output.status.success() && !said.contains(stem), "{said}");
    }
}
