//! The same lives of versions of etcd that are known to leave events of a watch out, or to corrupt their data. Each member has a
//! recorder of its own, and what any of them has told was written: what is restored must have it, or the restore is refused, or
//! the chain has ended before it with a word that says why.

use std::fs;
use std::time::Duration;

use super::{Course, Life, Place, Version, Window, Written, asked, differs, export, live, number};
use crate::support::tools;

/// What is tried, and of which line it is.
const FAULTY: [(&str, Version); 6] = [
    ("3.4.23", Version::V3_4),
    ("3.5.0", Version::V3_5),
    ("3.5.1", Version::V3_5),
    ("3.5.16", Version::V3_5),
    ("3.6.0", Version::V3_6),
    ("3.6.1", Version::V3_6),
];

#[test]
#[ignore = "takes as long as it is told to: make continuity ETCD=3.5.1"]
fn what_a_version_with_known_faults_leaves_out_is_told() {
    let seed = number("LIFEBOAT_SEED").unwrap_or(1);
    let minutes = number("LIFEBOAT_MINUTES").unwrap_or(2);
    let asked = asked();
    for (index, (version, line)) in FAULTY.into_iter().enumerate() {
        if !asked.iter().any(|asked| asked == version || asked == "faulty") {
            continue;
        }
        let binary = tools::faulty_etcd(version).expect("it needs every server");
        // A member that was away is sent a snapshot instead of what it missed.
        let flags: &[&str] = match line {
            Version::V3_6 => &["--snapshot-count=500", "--snapshot-catchup-entries=50"],
            Version::V3_4 | Version::V3_5 | Version::V3_7 => &["--snapshot-count=500"],
        };
        let course = Course {
            faulty: Some(binary),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            long: Duration::from_secs(minutes * 60),
            points: usize::try_from(number("LIFEBOAT_POINTS").unwrap_or(50)).unwrap(),
            ..Course::short(line, 3, seed + index as u64, 0)
        };
        let counts = live(course).expect("it needs every server");
        eprintln!("{version}: {counts:?}");
    }
}

impl Life {
    /// Each point is right, or it is refused. One that is wrong must not be the end of its chain: what comes behind it tells.
    pub(super) fn look_through(&mut self, place: &Place, windows: &[Window], most: usize, written: &[Written]) {
        let mut all = Written::new();
        for (revision, changes) in written.iter().flatten() {
            let known = all.entry(*revision).or_default();
            let new: Vec<_> = changes
                .iter()
                .filter(|change| !known.contains(change))
                .cloned()
                .collect();
            known.extend(new);
        }
        self.counts.left_out_by_a_member = written
            .iter()
            .map(|written| {
                // What it had not come to, or was behind with, it did not leave out.
                let left = written
                    .iter()
                    .filter(|(revision, changes)| changes.len() < all[*revision].len());
                left.count()
            })
            .sum();
        let mut silent = Vec::new();
        for (window, at) in self.points(windows, most) {
            let file = match export(place, "local", window, at) {
                Ok(file) => file,
                Err(said) => {
                    eprintln!(
                        "{}:{at} is refused: {}",
                        window.chain,
                        said.lines().next().unwrap_or_default()
                    );
                    self.counts.refused += 1;
                    continue;
                }
            };
            match differs(&file, window.from, at, written, true) {
                Ok(changes) => {
                    self.counts.points += 1;
                    self.counts.changes_compared += changes;
                }
                Err(differs) => {
                    let end = export(place, "local", window, window.to);
                    let told = end.as_ref().err().cloned().unwrap_or_default();
                    eprintln!(
                        "{}:{at} is wrong: {differs}; the end of its chain: {told}",
                        window.chain
                    );
                    if let Ok(end) = end {
                        silent.push(differs);
                        fs::remove_file(end).ok();
                    }
                }
            }
            fs::remove_file(&file).ok();
        }
        assert!(
            silent.is_empty(),
            "{} points are wrong, and nothing tells",
            silent.len()
        );
    }
}
