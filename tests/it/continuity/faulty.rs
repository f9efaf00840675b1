//! The same lives of versions of etcd that are known to leave events of a watch out, or to corrupt their data. Each member has a
//! recorder of its own, and what any of them has told was written: what is restored must have it, or the restore is refused, or
//! the chain has ended before it with a word that says why.

use std::fs;
use std::time::Duration;

use super::recorder::heard_late;
use super::{Course, Life, Place, Version, Window, Written, asked, differs, export, live, number, tip, windows};
use crate::support::etcd::{Etcd, Options};
use crate::support::running::until;
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

/// How often a deletion is made at the edge.
const ROUNDS: usize = 4;

/// What some versions are known for: while the agent is away a key is deleted, and etcd is compacted to exactly that deletion,
/// which is the first that the agent asks for. Where the deletion is not sent any more, the chain must not go on over it.
#[test]
#[ignore = "needs versions with known faults: make continuity ETCD=faulty"]
fn a_deletion_that_is_left_out_at_the_edge_of_a_compaction_is_a_gap() {
    let sound = tools::etcd(Version::V3_5).expect("it needs every server");
    let faulty = FAULTY.into_iter().map(|(number, line)| {
        let binary = tools::faulty_etcd(number).expect("it needs every server");
        (number, line, binary)
    });
    for (number, line, binary) in faulty.chain([(Version::V3_5.number(), Version::V3_5, sound)]) {
        let (mut left_out, mut gaps) = (0, 0);
        let options = Options {
            binary: Some(binary),
            ..Options::default()
        };
        let etcd = Etcd::start(line, options).expect("it was fetched");
        let client = etcd.client();
        client.put("/begun", "x", 0).unwrap();
        let place = Place::new(&etcd, false);
        for round in 0..ROUNDS {
            let key = format!("/edge/{round}");
            let agent = place.start_agent();
            let put = client.put(&key, "x", 0).unwrap();
            until("the put to be stored", || tip(&place.host, "local") >= put);
            agent.signal("TERM");
            agent.wait().expect_code(0);
            let deleted = client.delete(&key).unwrap();
            let last = client.put("/behind", round.to_string(), 0).unwrap();
            client.compact(deleted).unwrap();
            let is_left_out = !heard_late(&client, deleted).contains_key(&deleted);
            let agent = place.start_agent();
            until("what comes behind it to be stored", || {
                tip(&place.host, "local") >= last
            });
            agent.signal("TERM");
            agent.wait().expect_code(0);
            let windows = windows(&place.host, None);
            let holds = |window: &&Window| window.from < deleted && deleted <= window.to;
            let is_gap = windows.iter().map(|(window, _)| window).find(holds).is_none();
            left_out += u64::from(is_left_out);
            gaps += u64::from(is_gap);
            assert!(is_gap || !is_left_out, "{number}: the chain goes on over {deleted}");
            // Whatever became of it, the last point is what the server has.
            let target = Etcd::plan(line, Options::default()).expect("it was there before");
            let args = place.host.rebuild_args("latest", &target, 0);
            let done = place.host.lifeboat(args.iter().map(String::as_str).chain(["--json"]));
            let done = done.expect_code(0).json();
            assert_eq!(done["revision"], last, "{number}");
            let then = client.hash_kv(last).unwrap();
            if done["hash_kv"]["compact_revision"] == then.compact_revision {
                assert_eq!(done["hash_kv"]["hash"], then.hash, "{number}: {done}");
            }
        }
        eprintln!("{number}: of {ROUNDS} deletions {left_out} were left out, {gaps} gaps were declared");
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
        let mut points = self.points(windows, most);
        for (from, heard) in std::mem::take(&mut self.late) {
            let Some((to, _)) = heard.last_key_value() else {
                continue;
            };
            let lost = all
                .range(from..=*to)
                .filter(|(revision, changes)| heard.get(revision).map_or(0, Vec::len) < changes.len());
            for (revision, _) in lost {
                self.counts.left_out_of_late_watches += 1;
                let mut holding = windows
                    .iter()
                    .filter(|window| window.from < *revision && *revision <= window.to);
                let point = holding.next().map(|window| (window, *revision));
                self.counts.of_them_in_a_chain += usize::from(point.is_some());
                points.extend(point);
            }
        }
        let mut silent = Vec::new();
        for (window, at) in points {
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
