//! Scenarios that a person can read (`tests/golden/retention/*.txt`), and properties.
//!
//! A scenario file is a reason in `#` lines, the input, and below `plan:` what must come out of it.
//! `UPDATE_GOLDEN=1 cargo test retention` writes the outcome anew; read the difference before committing it.

mod clocks;
mod properties;
mod scenario;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::catalog::tests::{Fixture, manifest};
use crate::layout::{HostName, Listed, ListedObject, ObjectName};
use crate::model::ClusterId;
use scenario::Scenario;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/retention")
}

#[test]
fn every_scenario_has_the_plan_that_its_file_tells() {
    let refresh = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 25, "the scenarios are in {}", golden().display());
    let mut differing = String::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let input = text.split_once("\nplan:\n").map_or(text.as_str(), |(input, _)| input);
        let outcome = format!("{}\n\nplan:\n{}", input.trim_end(), Scenario::parse(input).outcome());
        if outcome != text {
            if refresh {
                std::fs::write(&path, &outcome).unwrap();
            }
            differing.push_str(&format!("--- {}\n{outcome}", path.display()));
        }
    }
    assert!(
        refresh || differing.is_empty(),
        "other plans than expected:\n{differing}"
    );
}

fn chain(id: &str) -> Chain {
    Chain {
        path: ChainPath {
            cluster: ClusterId(0xab),
            chain: id.parse().unwrap(),
        },
        lineage: "ab-0000000a".parse().unwrap(),
        tip: Revision::new(10).unwrap(),
        reach: Revision::new(10).unwrap(),
        captured_at: None,
        proven: None,
        generation: 0,
        bytes: 1,
        standing: Standing::Good(Proof::Stored),
        is_unsure: false,
        pin: PinState::Free,
    }
}

#[test]
fn what_displaces_others_is_the_newest_and_a_few_before_the_window_and_older_ones_displace_nobody() {
    let mut inventory = Inventory::default();
    for day in 1..=20_i64 {
        inventory.chains.push(Chain {
            tip: Revision::new(10 * day).unwrap(),
            reach: Revision::new(10 * day + if day == 15 { 0 } else { 10 }).unwrap(),
            ..chain(&format!("202611{day:02}T101530Z-00000001"))
        });
    }
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let policy = Policy {
        pitr_window: Some(Duration::from_secs(3 * 86_400)),
        ..Policy::default()
    };
    let of_days = |days: &[i64]| -> Vec<String> {
        days.iter()
            .map(|day| format!("202611{day:02}T101530Z-00000001"))
            .collect()
    };
    let ids = |paths: Vec<ChainPath>| -> Vec<String> { paths.iter().map(|path| path.chain.to_string()).collect() };
    // Of the fifteenth nothing leads anywhere.
    let displacing = inventory.take_displacing(&policy, now);
    assert_eq!(ids(displacing), of_days(&[20, 17, 16, 14]));
    let unproven = inventory.chains.iter().filter(|chain| chain.proven == Some(chain.tip));
    assert_eq!(unproven.count(), 13);
    assert_eq!(ids(inventory.take_displacing(&Policy::default(), now)), of_days(&[20]));
}

fn listed(path: &str) -> ListedObject {
    ListedObject {
        name: Listed::file(path),
        bytes: 1,
        modified: Timestamp::UNIX_EPOCH,
    }
}

fn folder() -> Vec<ListedObject> {
    let mut paths: Vec<String> = [
        "checks/20261121T000000Z-a.json",
        "checks/20261122T000000Z-b.json",
        "full-00000000000000000010.json",
        "full.db.zst.age",
        "notes.txt",
    ]
    .map(|file| format!("ab/20261120T101530Z-00000001/{file}"))
    .into();
    // Others, one of which differs in the cluster id only.
    paths.extend(
        [
            "store.json",
            "lineages/00000001.json",
            "canary/20261120T101530Z-00000001",
        ]
        .map(str::to_owned),
    );
    paths.push("ab/20261120T101530Z-00000002/full.db.zst.age".to_owned());
    paths.push("cd/20261120T101530Z-00000001/full-00000000000000000010.json".to_owned());
    paths.iter().map(|path| listed(path)).collect()
}

#[test]
fn a_chain_stops_being_a_backup_first_and_its_object_goes_last() {
    let order = removal_order(&chain("20261120T101530Z-00000001").path, &folder()).unwrap();
    let order: Vec<String> = order.iter().map(ObjectName::to_string).collect();
    assert_eq!(
        order,
        [
            "ab/20261120T101530Z-00000001/full-00000000000000000010.json",
            "ab/20261120T101530Z-00000001/checks/20261121T000000Z-a.json",
            "ab/20261120T101530Z-00000001/checks/20261122T000000Z-b.json",
            "ab/20261120T101530Z-00000001/full.db.zst.age",
        ]
    );
}

#[test]
fn a_removal_that_was_killed_is_taken_up_where_it_ended() {
    let chain = chain("20261120T101530Z-00000001");
    let order = removal_order(&chain.path, &folder()).unwrap();
    for done in 0..=order.len() {
        let mut left = folder();
        left.retain(|object| !matches!(&object.name, Listed::Ours(name) if order[..done].contains(name)));
        assert_eq!(removal_order(&chain.path, &left).unwrap(), order[done..]);
    }
}

#[test]
fn a_pin_that_came_after_the_plan_stops_the_removal() {
    let mut objects = folder();
    objects.push(listed("ab/20261120T101530Z-00000002/pin.json"));
    assert!(removal_order(&chain("20261120T101530Z-00000001").path, &objects).is_some());
    objects.push(listed("ab/20261120T101530Z-00000001/pin.json"));
    assert_eq!(removal_order(&chain("20261120T101530Z-00000001").path, &objects), None);
}

#[test]
fn an_inventory_is_that_of_one_destination_of_a_merged_catalog() {
    let here = Scenario::parse(
        "now: 2026-11-21T00:00:00Z\nbackup 20261120T101530Z A r10 1B bad\nbackup 20261120T111530Z A r20 1B pinned\n",
    );
    let there = Scenario::parse("now: 2026-11-21T00:00:00Z\nbackup 20261120T101530Z A r10 1B\n");
    let merged = Catalog::merge([here.catalog("here"), there.catalog("there")]);
    let seen = |destination| {
        let inventory = Inventory::of(&merged, destination, &BTreeMap::new());
        let chains = inventory.chains.iter();
        chains
            .map(|c| (c.tip.get(), c.is_good(), c.is_pinned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("here"), [(10, false, false), (20, true, true)]);
    assert_eq!(seen("there"), [(10, true, false)]);
    assert_eq!(seen("nowhere"), []);
}

#[test]
fn a_lineage_that_only_another_destination_has_holds_the_older_one_here_too() {
    let here = "backup 20261120T101530Z A r10 1B\nbackup 20261120T111530Z A r20 1B\n";
    let there = "backup 20261121T101530Z B r1 1B\n";
    let catalog = |input: &str, name| Scenario::parse(&format!("now: 2026-11-22T00:00:00Z\n{input}")).catalog(name);
    let merged = Catalog::merge([catalog(here, "here"), catalog(there, "there")]);
    let policy = Policy {
        keep_last: 1,
        ..Policy::default()
    };
    let now = "2026-11-22T00:00:00Z".parse().unwrap();
    let removed = |catalog: &Catalog| {
        let inventory = Inventory::of(catalog, "here", &BTreeMap::new());
        plan(&inventory, &policy, now, &TimeZone::UTC).remove.len()
    };
    assert_eq!(removed(&merged), 0);
    assert_eq!(removed(&catalog(here, "here")), 1);
}

#[test]
fn a_backup_whose_last_check_could_not_be_read_takes_no_place_from_a_good_one() {
    let [good, doubtful] = [10, 20].map(|revision| {
        let mut manifest = manifest(0xab, &format!("20261120T{revision}1530Z-00000001"), revision);
        manifest.lineage = "ab-00000001".parse().unwrap();
        manifest
    });
    let policy = Policy {
        keep_last: 1,
        ..Policy::default()
    };
    let now = "2026-11-22T00:00:00Z".parse().unwrap();
    let removed = |fixture: Fixture| {
        let inventory = Inventory::of(&fixture.catalog("local"), "local", &BTreeMap::new());
        plan(&inventory, &policy, now, &TimeZone::UTC).remove.len()
    };
    let both = || Fixture::default().backup(&good).backup(&doubtful);
    assert_eq!(removed(both()), 1);
    let check = |host| {
        let time = "2026-11-21T00:00:00Z".parse().unwrap();
        ObjectName::Check(doubtful.chain_path(), time, HostName::nearest(host))
    };
    assert_eq!(removed(both().document(&check("a"), b"rotten".to_vec())), 0);
    assert_eq!(
        removed(both().list(&check("a").to_string(), 300)),
        0,
        "gone since it was listed"
    );
}

/// Whatever else is about, `latest` is what stays: where two hold the same revision, and where the id of what was made anew
/// in the same second ends in less.
#[test]
fn the_newest_is_the_one_that_latest_names() {
    let of = |id: &str, generation: u32, standing: Standing| Chain {
        generation,
        standing,
        ..chain(id)
    };
    let [good, bad] = [Standing::Good(Proof::Stored), Standing::Bad(Vec::new())];
    let newest = |chains: [Chain; 2]| {
        let inventory = Inventory {
            chains: chains.into(),
            unjudged: None,
        };
        let policy = Policy {
            keep_last: 1,
            ..Policy::default()
        };
        let plan = plan(&inventory, &policy, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        let kept = plan.keep.iter().filter(|verdict| {
            let mut reasons = verdict.reasons.iter();
            reasons.any(|reason| matches!(reason, KeepReason::NewestGood(_) | KeepReason::BadButFurthest(_)))
        });
        kept.map(|verdict| verdict.chain.id().suffix().to_owned())
            .collect::<Vec<_>>()
    };
    let made_anew = of("20261120T101530Z-00000001", 1, good.clone());
    let original = of("20261120T101530Z-00000009", 0, good.clone());
    assert_eq!(newest([made_anew, original]), ["00000001"]);
    // One that turned bad is what other hosts have seen there last: it stays until there is a newer one.
    let before = of("20261120T101530Z-00000001", 0, good);
    let spoiled = of("20261120T111530Z-00000002", 0, bad);
    assert_eq!(newest([before, spoiled]), ["00000001", "00000002"]);
}

#[test]
fn words_from_a_store_stay_on_one_line() {
    let mut pinned = chain("20261120T101530Z-00000001");
    let note = Some(format!("\u{1b}[2J\nremove everything{}", "x".repeat(1000)));
    pinned.pin = PinState::Pinned(Some(Pin::new(Timestamp::UNIX_EPOCH, &HostName::nearest("a"), note)));
    let inventory = Inventory {
        chains: vec![pinned],
        unjudged: None,
    };
    let plan = plan(&inventory, &Policy::default(), Timestamp::UNIX_EPOCH, &TimeZone::UTC);
    let text = plan.keep[0].reasons[0].to_string();
    assert!(text.starts_with("pinned by a:  [2J remove everything"), "{text}");
    assert!(text.len() < 300, "{}", text.len());
}

/// Which of some chains, each with its start, the revision of its full backup and the last that it leads to, a policy keeps.
fn kept_of(chains: &[(&str, i64, i64)], policy: &Policy) -> Vec<i64> {
    let chains = chains.iter().map(|(id, tip, reach)| Chain {
        tip: Revision::new(*tip).unwrap(),
        reach: Revision::new(*reach).unwrap(),
        ..chain(id)
    });
    let inventory = Inventory {
        chains: chains.collect(),
        unjudged: None,
    };
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    let plan = plan(&inventory, policy, now, &TimeZone::UTC);
    let mut kept: Vec<i64> = plan.keep.iter().map(|verdict| verdict.chain.tip.get()).collect();
    kept.sort_unstable();
    kept
}

#[test]
fn an_older_chain_stays_while_its_changes_lead_further_than_all_newer_ones() {
    let policy = Policy {
        keep_last: 1,
        ..Policy::default()
    };
    // What was made of it has none of its own yet.
    let (base, made) = (
        ("20261120T100000Z-00000001", 10, 90),
        ("20261120T110000Z-00000002", 80, 80),
    );
    assert_eq!(kept_of(&[base, made], &policy), [10, 80]);
    let gone_on = ("20261120T110000Z-00000002", 80, 95);
    assert_eq!(kept_of(&[base, gone_on], &policy), [80]);
    let overtaken = ("20261120T120000Z-00000003", 90, 90);
    assert_eq!(kept_of(&[base, made, overtaken], &policy), [90]);
}

#[test]
fn the_chain_that_was_written_when_the_newest_began_stays_until_something_follows_that_one() {
    let of = |id: &str, tip, captured_at: Option<&str>| Chain {
        tip: Revision::new(tip).unwrap(),
        reach: Revision::new(tip).unwrap(),
        captured_at: captured_at.map(|at| at.parse().unwrap()),
        ..chain(id)
    };
    let kept = |chains: &[Chain]| -> Vec<i64> {
        let (chains, unjudged) = (chains.to_vec(), None);
        let inventory = Inventory { chains, unjudged };
        let policy = Policy {
            keep_last: 1,
            ..Policy::default()
        };
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let plan = plan(&inventory, &policy, now, &TimeZone::UTC);
        let mut kept: Vec<i64> = plan.keep.iter().map(|verdict| verdict.chain.tip.get()).collect();
        kept.sort_unstable();
        kept
    };
    let first = of("20261120T100000Z-00000001", 10, Some("2026-11-20T10:59:00Z"));
    let second = of("20261120T110000Z-00000002", 20, Some("2026-11-20T11:59:59Z"));
    let newest = |captured_at| of("20261120T120000Z-00000003", 30, captured_at);
    // What is captured while the newest one is taken is behind the second, whatever the listing from before says.
    assert_eq!(kept(&[first.clone(), second.clone(), newest(None)]), [20, 30]);
    assert_eq!(
        kept(&[first.clone(), second, newest(Some("2026-11-20T12:00:09Z"))]),
        [30]
    );
    // Capture has ended long before.
    let later = of("20261120T150000Z-00000004", 40, None);
    assert_eq!(kept(&[first, later]), [40]);
}

#[test]
fn max_bytes_takes_no_good_one_first_because_its_check_could_not_be_read_and_none_that_the_window_needs() {
    let of = |id: &str, tip, standing: Standing, is_unsure| Chain {
        tip: Revision::new(tip).unwrap(),
        reach: Revision::new(tip).unwrap(),
        standing,
        is_unsure,
        ..chain(id)
    };
    let good = || Standing::Good(Proof::Stored);
    let bad = || Standing::Bad(vec!["page 7".to_owned()]);
    let removed = |second: Chain, policy: &Policy| -> Vec<i64> {
        let chains = vec![
            of("20261120T100000Z-00000001", 10, good(), false),
            second,
            of("20261120T120000Z-00000003", 30, good(), false),
        ];
        let inventory = Inventory { chains, unjudged: None };
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let plan = plan(&inventory, policy, now, &TimeZone::UTC);
        plan.remove.iter().map(|verdict| verdict.chain.tip.get()).collect()
    };
    let second = |standing, is_unsure| of("20261120T110000Z-00000002", 20, standing, is_unsure);
    let two = Policy {
        keep_last: 9,
        max_bytes: Some(ByteSize(2)),
        ..Policy::default()
    };
    assert_eq!(removed(second(bad(), false), &two), [20]);
    assert_eq!(removed(second(bad(), true), &two), [10]);
    let window = Policy {
        pitr_window: Some(Duration::from_secs(7200)),
        ..two
    };
    assert_eq!(removed(second(bad(), false), &window), Vec::<i64>::new());
}

#[test]
fn points_of_the_window_that_are_in_an_older_chain_alone_stay() {
    let policy = Policy {
        pitr_window: Some(Duration::from_secs(3600)),
        ..Policy::default()
    };
    let base = ("20261120T050000Z-00000001", 10, 90);
    let older = ("20261120T040000Z-00000000", 5, 10);
    // It was not gone on with: all that lies between it and the first one inside is in the chain that it was made of.
    let made = ("20261120T090000Z-00000002", 50, 50);
    let inside = ("20261120T110000Z-00000003", 90, 120);
    assert_eq!(kept_of(&[older, base, made, inside], &policy), [10, 50, 90]);
    let gone_on = ("20261120T090000Z-00000002", 50, 92);
    assert_eq!(kept_of(&[older, base, gone_on, inside], &policy), [50, 90]);
}
