//! Plans and removals in a store on a disk.

use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::catalog::tests::{Fixture, manifest};
use crate::layout::HostName;
use crate::model::Revision;
use crate::store::tests::store;

/// A destination that keeps the newest alone.
fn keeping_one(store: &Store) -> Target<'_> {
    static ONE: LazyLock<Policy> = LazyLock::new(|| Policy {
        keep_last: 1,
        ..Policy::default()
    });
    Target {
        destination: "local",
        store,
        policy: &ONE,
    }
}

#[test]
fn nothing_goes_for_its_age_while_the_clocks_disagree_but_by_the_operators_word() {
    let (_root, store) = store();
    let clock = store.now().unwrap();
    // Every hour, and the last one from a clock that went ahead by a month for a moment, or from one that was right.
    let policy = Policy {
        keep_within: Some(Duration::from_secs(86_400)),
        ..Policy::default()
    };
    let hours = jiff::SignedDuration::from_hours;
    let (month, none) = (hours(30 * 24), hours(0));
    for (jump, host_is_ahead_by, held, removed) in [
        // The host's clock alone.
        (month, month, 4, 0),
        // Its store has the same clock, and it is right again; or host and store have slept.
        (month, none, 4, 0),
        (hours(1), none, 0, 0),
    ] {
        let starts = (1..=4).rev().map(|ago| clock - jump + host_is_ahead_by - hours(ago));
        let starts = starts.chain([clock + host_is_ahead_by]);
        let manifests: Vec<_> = starts
            .zip(1_u32..)
            .map(|(start, number)| manifest(0xab, ChainId::new(start, 1).as_str(), i64::from(number)))
            .collect();
        for manifest in &manifests {
            let object = vec![0; manifest.stored.bytes as usize];
            store.put_new(&manifest.object_name(), &object).unwrap();
            store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
        }
        let target = Target {
            destination: "local",
            store: &store,
            policy: &policy,
        };
        let catalog = store.catalog("local").unwrap();
        let plan = |by_age| {
            plan(
                target,
                &catalog,
                clock + host_is_ahead_by,
                &TimeZone::UTC,
                by_age,
                None,
                Ok(None),
            )
        };
        let careful = plan(ByAge::IfClocksAgree);
        assert_eq!(
            careful.held.as_ref().map_or(0, |held| held.backups),
            held,
            "{jump:?}: {careful:?}"
        );
        assert_eq!(careful.remove.len(), removed);
        assert_eq!(plan(ByAge::Confirmed).remove.len(), held + removed);
        for manifest in &manifests {
            store.remove(&manifest.name()).unwrap();
            store.remove(&manifest.object_name()).unwrap();
        }
    }
}

#[test]
fn a_name_that_a_stranger_has_written_displaces_no_changes_that_the_window_needs() {
    let (_root, store) = store();
    let ids = [
        "20261101T101530Z-00000001",
        "20261102T101530Z-00000001",
        "20261120T101530Z-00000001",
    ];
    let manifests: Vec<_> = ids
        .into_iter()
        .zip([10, 50, 101])
        .map(|(id, tip)| manifest(0xab, id, tip))
        .collect();
    for manifest in &manifests {
        let object = vec![0; manifest.stored.bytes as usize];
        store.put_new(&manifest.object_name(), &object).unwrap();
        let mut of_one = manifest.clone();
        of_one.lineage = manifests[0].lineage.clone();
        store.put_new(&manifest.name(), &of_one.to_bytes()).unwrap();
    }
    let named = |of: usize, from, to| {
        let span = crate::layout::Span::new(Revision::new(from).unwrap(), Revision::new(to).unwrap()).unwrap();
        let name = ObjectName::Delta(manifests[of].chain_path(), span, crate::layout::Epoch(1));
        store.put_new(&name, b"x").unwrap();
    };
    // The changes of the first one lead to the last; those of the second are a name and nothing else.
    named(0, 11, 101);
    named(1, 51, 101);
    let policy = Policy {
        pitr_window: Some(Duration::from_secs(7 * 86_400)),
        ..Policy::default()
    };
    let target = Target {
        destination: "local",
        store: &store,
        policy: &policy,
    };
    let catalog = store.catalog("local").unwrap();
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    let plan = plan(target, &catalog, now, &TimeZone::UTC, ByAge::Confirmed, None, Ok(None));
    let kept: Vec<_> = plan.keep.iter().map(|kept| kept.id.as_str()).collect();
    assert_eq!(kept, ids, "{plan:?}");
}

#[test]
fn a_chain_with_many_changes_shows_that_it_gets_on_while_it_goes() {
    use std::cell::Cell;

    let (_root, store) = store();
    let manifests = ["20261120T101531Z-00000001", "20261120T101532Z-00000001"].map(|id| manifest(0xab, id, 10));
    for manifest in &manifests {
        let object = vec![0; manifest.stored.bytes as usize];
        store.put_new(&manifest.object_name(), &object).unwrap();
        store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
    }
    let epoch = crate::layout::Epoch(1);
    for at in 11..61 {
        let at = Revision::new(at).unwrap();
        let span = crate::layout::Span::new(at, at).unwrap();
        let name = ObjectName::Delta(manifests[0].chain_path(), span, epoch);
        store.put_new(&name, b"x").unwrap();
    }
    let plan = Plan {
        chains: vec![manifests[0].chain_path()],
        ..Plan::default()
    };
    let beats = Cell::new(0);
    let done = carry_out(&plan, &store, || beats.set(beats.get() + 1));
    assert_eq!(done.gone.len(), 1);
    assert!(beats.get() >= 52, "{} beats for 52 objects", beats.get());
}

#[test]
fn what_cannot_be_removed_is_told_and_keeps_none_of_the_others() {
    use std::process::Command;

    let (_root, store) = store();
    let manifests: Vec<_> = (1..=4)
        .map(|number| manifest(0xab, &format!("20261120T10153{number}Z-00000001"), 10 + number))
        .collect();
    for manifest in &manifests {
        store
            .put_new(&manifest.object_name(), &vec![0; manifest.stored.bytes as usize])
            .unwrap();
        store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
    }
    let target = keeping_one(&store);
    let plan = || {
        let catalog = store.catalog("local").unwrap();
        plan(
            target,
            &catalog,
            "2026-11-21T00:00:00Z".parse().unwrap(),
            &TimeZone::UTC,
            ByAge::IfClocksAgree,
            None,
            Ok(None),
        )
    };
    let change = |name: &ObjectName, flag: &str| {
        let done = Command::new("chattr").arg(flag).arg(store.path_of(name)).output();
        done.is_ok_and(|done| done.status.success())
    };
    // A manifest that stays keeps its backup whole, an object that stays is of no backup any more.
    let (whole, left) = (manifests[0].name(), manifests[1].object_name());
    if !change(&whole, "+i") || !change(&left, "+i") {
        eprintln!("skipped: chattr +i needs root and a file system that can");
        return;
    }
    let done = carry_out(&plan(), &store, || {});
    for name in [&whole, &left] {
        assert!(change(name, "-i"));
    }
    let gone: Vec<_> = done.gone.iter().map(ToString::to_string).collect();
    assert_eq!(gone, ["20261120T101532Z-00000001", "20261120T101533Z-00000001"]);
    let stuck: Vec<_> = done
        .stuck
        .iter()
        .map(|error| (error.id.to_string(), error.is_backup))
        .collect();
    assert_eq!(
        stuck,
        [
            ("20261120T101531Z-00000001".to_owned(), true),
            ("20261120T101532Z-00000001".to_owned(), false)
        ]
    );
    let ids =
        |catalog: Catalog| -> Vec<String> { catalog.backups().iter().map(|backup| backup.id().to_string()).collect() };
    let listed = ids(store.catalog("local").unwrap());
    assert_eq!(listed, ["20261120T101531Z-00000001", "20261120T101534Z-00000001"]);
    assert!(store.open_object(&manifests[0].object_name()).is_ok(), "it is whole");
    let done = carry_out(&plan(), &store, || {});
    assert!(done.stuck.is_empty() && done.gone.len() == 1, "{done:?}");
    let swept = store.sweep(&store::Begun {
        dead: [manifests[1].chain_path().chain].into(),
        ..store::Begun::default()
    });
    assert_eq!(swept.unwrap().len(), 1, "what is left");
}

#[test]
fn what_leads_a_pinned_one_is_kept_with_it_and_so_it_is_where_that_is_pinned_only_now() {
    use crate::layout::Rewrapped;

    let (_root, store) = store();
    let old = manifest(0xab, "20261120T101531Z-00000001", 10);
    let mut made = manifest(0xab, "20261120T101531Z-00000002", 10);
    made.rewrapped = Some(Rewrapped {
        original: old.chain.clone(),
        generation: 1,
    });
    let mut last = manifest(0xab, "20261120T111531Z-00000003", 20);
    (made.lineage, last.lineage) = (old.lineage.clone(), old.lineage.clone());
    for manifest in [&old, &made, &last] {
        let object = vec![0; manifest.stored.bytes as usize];
        store.put_new(&manifest.object_name(), &object).unwrap();
        store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
    }
    let target = keeping_one(&store);
    let plan = || {
        let catalog = store.catalog("local").unwrap();
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        plan(target, &catalog, now, &TimeZone::UTC, ByAge::Confirmed, None, Ok(None))
    };
    let before = plan();
    let removed: Vec<&ChainId> = before.remove.iter().map(|judged| &judged.id).collect();
    assert_eq!(removed, [&old.chain, &made.chain]);
    let same = format!(
        "the same snapshot as {}, made for other recipients, and goes",
        made.chain
    );
    assert_eq!(before.remove[0].reasons, [same]);
    store
        .pin(
            &old.chain_path(),
            &Pin::new(Timestamp::UNIX_EPOCH, &HostName::nearest("a"), None),
        )
        .unwrap();
    assert!(plan().remove.is_empty(), "{:?}", plan());
    let done = carry_out(&before, &store, || {});
    assert!(done.gone.is_empty() && done.stuck.is_empty(), "{done:?}");
    assert_eq!(store.catalog("local").unwrap().backups().len(), 3);
}

#[test]
fn what_is_not_known_to_be_free_of_pins_is_told_and_not_passed_over_like_what_is_pinned() {
    let (_root, store) = store();
    let manifests = [1, 2, 3].map(|number| {
        let backup = manifest(0xab, &format!("20261120T10153{number}Z-00000001"), 10 + number);
        let object = vec![0; backup.stored.bytes as usize];
        store.put_new(&backup.object_name(), &object).unwrap();
        store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        backup
    });
    let catalog = store.catalog("local").unwrap();
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    let planned = plan(
        keeping_one(&store),
        &catalog,
        now,
        &TimeZone::UTC,
        ByAge::IfClocksAgree,
        None,
        Ok(None),
    );
    assert_eq!((planned.remove.len(), planned.stuck.len()), (2, 0), "{planned:?}");
    // Where its folder was there is something in which nothing can be looked up.
    let lost = store.path_of(&manifests[0].name());
    let lost = lost.parent().unwrap();
    std::fs::remove_dir_all(lost).unwrap();
    std::fs::write(lost, b"").unwrap();
    assert!(store.is_pinned(&manifests[0].chain_path()).is_err());
    let done = carry_out(&planned, &store, || {});
    assert_eq!(done.gone, [manifests[1].chain.clone()]);
    assert_eq!(done.stuck.len(), 1, "{done:?}");
    assert_eq!(
        (&done.stuck[0].id, done.stuck[0].is_backup),
        (&manifests[0].chain, true)
    );
}

#[test]
fn of_a_history_that_is_given_up_all_goes_but_what_is_pinned_and_nothing_of_others() {
    let (_root, store) = store();
    let kept = manifest(0xab, "20261120T101530Z-00000001", 10);
    let wiped = manifest(0xab, "20261121T101530Z-00000002", 1);
    let mut pinned = manifest(0xab, "20261121T111530Z-00000003", 2);
    pinned.lineage = wiped.lineage.clone();
    let fixture = Fixture::default()
        .backup(&kept)
        .backup(&wiped)
        .backup(&pinned)
        .list(&ObjectName::Pin(pinned.chain_path()).to_string(), 10);
    let plan = plan_lineage(
        "local",
        &store,
        &fixture.catalog("local"),
        &wiped.lineage,
        Timestamp::UNIX_EPOCH,
    );
    let ids = |judged: &[Judged]| judged.iter().map(|judged| judged.id.clone()).collect::<Vec<_>>();
    assert_eq!(
        (ids(&plan.remove), ids(&plan.keep)),
        (vec![wiped.chain], vec![pinned.chain])
    );
    assert_eq!(plan.chains.len(), 1);
}

#[test]
fn a_backup_whose_manifest_is_damaged_goes_when_it_is_named_and_not_if_it_may_be_read_later() {
    let (_root, store) = store();
    let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
    let object = vec![0; meant.stored.bytes as usize];
    store.put_new(&meant.object_name(), &object).unwrap();
    let newer = String::from_utf8(meant.to_bytes())
        .unwrap()
        .replacen("\"format\":1", "\"format\":99", 1);
    for (bytes, removed) in [(newer.into_bytes(), 0), (b"rotten".to_vec(), 1)] {
        store.put_new(&meant.name(), &bytes).unwrap();
        let catalog = store.catalog("local").unwrap();
        let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
        assert_eq!((plan.remove.len(), plan.keep.len()), (removed, 1 - removed), "{plan:?}");
        assert_eq!(
            plan_damaged("far", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH)
                .remove
                .len(),
            0
        );
        match removed {
            0 => store.remove(&meant.name()).unwrap(),
            _ => {
                let done = carry_out(&plan, &store, || {});
                assert_eq!((done.gone.len(), done.stuck.len()), (1, 0));
            }
        }
    }
    assert_eq!(store.list().unwrap().len(), 1, "the marker is left");
}

#[test]
fn of_two_manifests_of_one_backup_neither_goes_because_nothing_tells_which_is_right() {
    let (_root, store) = store();
    let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
    let mut other = meant.clone();
    other.keys = Some(0);
    let differing = Catalog::merge([
        Fixture::default().backup(&other).catalog("far"),
        Fixture::default().backup(&meant).catalog("local"),
    ]);
    let mut second = meant.clone();
    second.to_revision = Revision::new(11).unwrap();
    second.from_revision = second.to_revision;
    second.hash_kv = None;
    let doubled = Fixture::default()
        .backup(&meant)
        .document(&second.name(), second.to_bytes())
        .catalog("local");
    for (catalog, named) in [(differing, "destination far"), (doubled, "full-")] {
        let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
        assert!(plan.remove.is_empty() && plan.chains.is_empty(), "{plan:?}");
        let [kept] = plan.keep.as_slice() else {
            panic!("{plan:?}")
        };
        assert!(kept.reasons[0].contains(named), "{plan:?}");
    }
}

#[test]
fn of_a_backup_that_is_given_up_only_copies_that_are_known_to_be_bad_go() {
    let (_root, store) = store();
    let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
    let time = "2026-11-21T00:00:00Z".parse().unwrap();
    let check = ObjectName::Check(meant.chain_path(), time, HostName::nearest("a"));
    let whole = || Fixture::default().backup(&meant);
    let goes = |fixture: Fixture| {
        let plan = plan_damaged(
            "local",
            &store,
            &fixture.catalog("local"),
            &meant.chain_path(),
            Timestamp::UNIX_EPOCH,
        );
        let judged = plan.keep.iter().chain(&plan.remove);
        let reasons: Vec<String> = judged.flat_map(|judged| judged.reasons.clone()).collect();
        assert_eq!(plan.remove.len(), plan.chains.len());
        (plan.remove.len(), reasons.join("; "))
    };
    assert_eq!(goes(whole()).0, 0);
    let bad = crate::layout::Proof::None;
    assert_eq!(goes(whole().check(&meant, "2026-11-21T00:00:00Z", false, bad)).0, 1);
    for unknown in [
        whole().document(&check, b"rotten".to_vec()),
        whole().list(&check.to_string(), 300),
    ] {
        let (removed, reason) = goes(unknown);
        assert_eq!(removed, 0, "{reason}");
        assert!(
            reason.contains("`lifeboat verify 20261120T101530Z-00000001`"),
            "{reason}"
        );
    }
    let cut = Fixture::default()
        .document(&meant.name(), meant.to_bytes())
        .list(&meant.object_name().to_string(), meant.stored.bytes - 1)
        .document(&check, b"rotten".to_vec());
    assert_eq!(goes(cut).0, 1, "its length alone shows it");
}

#[test]
fn a_bad_copy_stays_while_changes_behind_a_good_one_are_beside_it_alone() {
    let (_root, store) = store();
    let meant = manifest(0xab, "20261120T101530Z-00000001", 10);
    let delta = |from: i64, to: i64| format!("ab/{}/{from:020}-{to:020}.00000001.delta", meant.chain);
    let bad = || {
        Fixture::default()
            .backup(&meant)
            .check(&meant, "2026-11-21T00:00:00Z", false, crate::layout::Proof::None)
            .list(&delta(11, 20), 7)
            .catalog("local")
    };
    let goes = |catalogs: Vec<Catalog>| {
        let catalog = Catalog::merge(catalogs);
        let plan = plan_damaged("local", &store, &catalog, &meant.chain_path(), Timestamp::UNIX_EPOCH);
        let reasons = plan.keep.iter().flat_map(|judged| judged.reasons.clone());
        (plan.remove.len(), reasons.collect::<String>())
    };
    let good = |to: Option<i64>| {
        let fixture = Fixture::default().backup(&meant);
        let fixture = match to {
            Some(to) => fixture.list(&delta(11, to), 7),
            None => fixture,
        };
        fixture.catalog("bucket")
    };
    for alone in [None, Some(15)] {
        let (removed, reason) = goes(vec![bad(), good(alone)]);
        assert_eq!(removed, 0);
        assert!(
            reason.contains("up to revision 20 are in no other destination")
                && reason.contains(&format!("`lifeboat copy {} --from local --to bucket`", meant.chain)),
            "{reason}"
        );
    }
    assert_eq!(goes(vec![bad(), good(Some(20))]).0, 1, "they are there, too");
    assert_eq!(goes(vec![bad()]).0, 1, "they follow nothing");
}
