//! The text form of a scenario.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::*;
use crate::catalog::tests::Fixture;
use crate::layout::{Manifest, ObjectName};

/// One line of the input, as far as it makes a backup.
struct Line {
    manifest: Manifest,
    worth: Worth,
    pin: Option<Option<Pin>>,
}

enum Worth {
    Good,
    Bad,
    Rotten,
    Unfinished,
}

/// What stands above `plan:`.
pub(super) struct Scenario {
    now: Timestamp,
    zone: TimeZone,
    policy: Policy,
    lines: Vec<Line>,
    words: Vec<Option<(LineageId, Vec<LineageId>)>>,
    foreign: Vec<String>,
}

impl Scenario {
    pub(super) fn parse(text: &str) -> Scenario {
        let mut scenario = Scenario {
            now: Timestamp::UNIX_EPOCH,
            zone: TimeZone::UTC,
            policy: Policy::default(),
            lines: Vec::new(),
            words: Vec::new(),
            foreign: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, rest) = line.split_once(' ').unwrap();
            let rest = rest.trim();
            match key {
                "now:" => scenario.now = rest.parse().unwrap(),
                "zone:" => scenario.zone = TimeZone::posix(rest).unwrap(),
                "policy:" => scenario.policy = policy(rest),
                "accepted:" if rest == "unreadable" => scenario.words.push(None),
                "accepted:" => {
                    let (accepted, known) = rest.split_once(" of ").unwrap();
                    let known = known.split(' ').map(lineage).collect();
                    scenario.words.push(Some((lineage(accepted), known)));
                }
                "backup" => scenario.one(rest),
                "every" => scenario.every(rest),
                "foreign" => scenario.foreign.push(rest.to_owned()),
                other => panic!("unknown key `{other}`"),
            }
        }
        scenario
    }

    /// `20261120T101530Z A r100 5GiB [bad | rotten | unfinished] [pinned [by HOST: NOTE]]`
    fn one(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().take(4).collect();
        let [start, of, revision, size] = words.as_slice() else {
            panic!("`{rest}` is not `START LINEAGE rREVISION SIZE …`")
        };
        let revision = revision.strip_prefix('r').unwrap().parse().unwrap();
        let flags = rest.split_once(size).unwrap().1.trim();
        let (flags, pin) = match flags.split_once("pinned") {
            None => (flags, None),
            Some((flags, "")) => (flags, Some(None)),
            Some((flags, by)) => {
                let (host, note) = by.trim().strip_prefix("by ").unwrap().split_once(": ").unwrap();
                let pin = Pin::new(self.now, &host.parse().unwrap(), Some(note.to_owned()));
                (flags, Some(Some(pin)))
            }
        };
        let worth = match flags.trim() {
            "" => Worth::Good,
            "bad" => Worth::Bad,
            "rotten" => Worth::Rotten,
            "unfinished" => Worth::Unfinished,
            other => panic!("unknown flag `{other}`"),
        };
        self.add(start, of, revision, size, worth, pin);
    }

    /// `6h 20261101T000000Z..20261120T000000Z A r100+10 1GiB`
    fn every(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [step, span, of, revisions, size] = words.as_slice() else {
            panic!("`{rest}` is not `STEP FROM..TO LINEAGE rFIRST+STEP SIZE`")
        };
        let at = |text: &str| format!("{text}-00000000").parse::<ChainId>().unwrap().started_at();
        let (from, to) = span.split_once("..").unwrap();
        let (revision, by) = revisions.strip_prefix('r').unwrap().split_once('+').unwrap();
        let (mut revision, by): (i64, i64) = (revision.parse().unwrap(), by.parse().unwrap());
        let step = SignedDuration::try_from(duration(step)).unwrap();
        let mut start = at(from);
        while start <= at(to) {
            let id = ChainId::new(start, 0).to_string();
            self.add(&id[..16], of, revision, size, Worth::Good, None);
            revision += by;
            start += step;
        }
    }

    fn add(&mut self, start: &str, of: &str, revision: i64, size: &str, worth: Worth, pin: Option<Option<Pin>>) {
        let chain = format!("{start}-{:08}", self.lines.len() + 1);
        let lineage = lineage(of);
        let (cluster, _) = of.split_once('-').unwrap_or(("ab", ""));
        let bytes = size.parse::<ByteSize>().unwrap().0;
        let at = chain.parse::<ChainId>().unwrap().started_at();
        let digest = "01".repeat(32);
        let json = serde_json::json!({
            "format": 1, "kind": "full", "lineage": lineage, "cluster": {"name": "prod", "id": cluster},
            "chain": chain, "from_revision": revision, "to_revision": revision,
            "compact_revision": {"scheduled": null, "finished": null}, "member": {"id": "a", "name": "m1"},
            "etcd_version": "3.6.15", "storage_version": null, "raft_term": 3, "consistent_index": 7,
            "started_at": at.to_string(), "first_byte_at": at.to_string(), "finished_at": at.to_string(),
            "object": format!("{cluster}/{chain}/full.db.zst.age"),
            "plain": {"bytes": bytes, "sha256": digest}, "stored": {"bytes": bytes, "sha256": digest},
            "hash_kv": null, "hash_kv_reason": "not asked", "keys": 1, "recipients": [], "origin": "schedule",
            "schedule": null, "slot": null, "note": null,
            "writer": {"host": "h1", "version": "0.1.0", "run": "0"}, "previous": null
        });
        let manifest = Manifest::from_bytes(json.to_string().as_bytes()).unwrap();
        self.lines.push(Line { manifest, worth, pin });
    }

    /// What a destination with these backups is to the rest of the program.
    pub(super) fn catalog(&self, destination: &str) -> Catalog {
        let mut fixture = Fixture::default();
        for Line { manifest, worth, pin } in &self.lines {
            fixture = match worth {
                Worth::Good => fixture.backup(manifest),
                Worth::Bad => fixture
                    .backup(manifest)
                    .check(manifest, "2026-11-22T00:00:00Z", false, Proof::None),
                Worth::Rotten => fixture.rotten(manifest),
                Worth::Unfinished => fixture.list(&manifest.object_name().to_string(), manifest.stored.bytes),
            };
            if pin.is_some() {
                fixture = fixture.list(&ObjectName::Pin(manifest.chain_path()).to_string(), 0);
            }
        }
        for (number, word) in (1..).zip(&self.words) {
            fixture = match word {
                Some((accepted, known)) => {
                    let known: Vec<&LineageId> = known.iter().collect();
                    fixture.accepted(number, accepted, &known, "2026-11-21T00:00:00Z")
                }
                None => fixture.document(&ObjectName::Acceptance(number), b"rotten".to_vec()),
            };
        }
        for path in &self.foreign {
            fixture = fixture.list(path, 1);
        }
        fixture.catalog(destination)
    }

    pub(super) fn outcome(&self) -> String {
        let pins: BTreeMap<ChainPath, Pin> = self
            .lines
            .iter()
            .filter_map(|line| Some((line.manifest.chain_path(), line.pin.clone()??)))
            .collect();
        let inventory = Inventory::of(&self.catalog("local"), "local", &pins);
        let plan = plan(&inventory, &self.policy, self.now, &self.zone);
        let mut text = String::new();
        for verdict in &plan.keep {
            write_verdict(&mut text, "keep  ", verdict);
        }
        for verdict in &plan.remove {
            write_verdict(&mut text, "remove", verdict);
        }
        if plan.excess > ByteSize(0) {
            writeln!(text, "still over max_bytes by {}", plan.excess).unwrap();
        }
        text
    }
}

fn write_verdict<R: std::fmt::Display>(text: &mut String, what: &str, verdict: &Verdict<'_, R>) {
    let mut lead = format!("{what} {}", verdict.chain.id());
    assert!(!verdict.reasons.is_empty(), "{lead}");
    for reason in &verdict.reasons {
        writeln!(text, "{lead}  {reason}").unwrap();
        lead = " ".repeat(lead.len());
    }
}

/// `A`, or `cd-A` for one of another cluster id.
fn lineage(text: &str) -> LineageId {
    let (cluster, letter) = text.split_once('-').unwrap_or(("ab", text));
    format!("{cluster}-0000000{}", letter.to_lowercase()).parse().unwrap()
}

fn policy(text: &str) -> Policy {
    let mut policy = Policy::default();
    for (key, value) in text.split(", ").map(|rule| rule.split_once(" = ").unwrap()) {
        let count = || value.parse().unwrap();
        match key {
            "keep_last" => policy.keep_last = count(),
            "keep_within" => policy.keep_within = Some(duration(value)),
            "pitr_window" => policy.pitr_window = Some(duration(value)),
            "keep_hourly" => policy.keep_hourly = count(),
            "keep_daily" => policy.keep_daily = count(),
            "keep_weekly" => policy.keep_weekly = count(),
            "keep_monthly" => policy.keep_monthly = count(),
            "keep_yearly" => policy.keep_yearly = count(),
            "max_bytes" => policy.max_bytes = Some(value.parse().unwrap()),
            "min_backups" => policy.min_backups = count(),
            other => panic!("unknown rule `{other}`"),
        }
    }
    policy
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        other => panic!("unknown unit `{other}`"),
    };
    Duration::from_secs(seconds * number.parse::<u64>().unwrap())
}
