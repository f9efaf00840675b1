//! The shipped units as systemd judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::tools;

/// The highest exposure that the agent's unit may have, of 10.
const MOST_EXPOSED: f64 = 1.5;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/lifeboat.service")
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
fn the_unit_is_closed_as_far_as_it_can_be() {
    let Some(output) = analyze(&["security", "--offline=true", "--no-pager"], &unit()) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let level = text
        .lines()
        .rev()
        .find_map(|line| line.split_once("lifeboat.service: "));
    let level = level.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= MOST_EXPOSED), "{text}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("lifeboat.service");
    // The program is not installed here.
    let text = fs::read_to_string(unit()).unwrap();
    let text = text.replace("/usr/bin/lifeboat", env!("CARGO_BIN_EXE_lifeboat"));
    fs::write(&copy, text).unwrap();
    let Some(output) = analyze(&["verify", "--man=no"], &copy) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("lifeboat.service"), "{said}");
}
