//! What real etcd wrote, read and made again: the fixtures of `tests/vectors`, over `bbolt`, `keyspace` and `datadir`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;

use lifeboat::bbolt::{self, Rules, Writer};
use lifeboat::datadir::{Membership, wal};
use lifeboat::keyspace::{
    Agreement, BrokenLives, Change, Changed, CompactionMarks, EntryKind, KeyValue, Lease, LiveKeys, NewContent, Replay,
    Replayed, Restored, RevisionKey, Summary, Survey, restored,
};
use lifeboat::model::Revision;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/fixtures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A snapshot's database, without the digest.
fn database(name: &str) -> Vec<u8> {
    let mut bytes = fixture(name);
    bytes.truncate(bytes.len() / 512 * 512);
    bytes
}

/// Checks a database and surveys it in the same walk.
fn survey(bytes: &[u8], rules: Rules, compacted: &[i64]) -> (Summary, Replayed) {
    let file = bbolt::File::open(bytes).unwrap();
    let marks = CompactionMarks::read(&file);
    let log = file.bucket(b"key").unwrap().unwrap();
    let ahead = || Changed::of(marks, i64::MAX, log.iter().map(Result::unwrap));
    let changed = Replay::looks_ahead(compacted).then(ahead);
    let mut replay = Replay::new(marks, LiveKeys::Counted, None, compacted, changed);
    let mut survey = Survey::new(&file, &mut replay).unwrap();
    let report = bbolt::check(&file, rules, |bucket, key, value| survey.entry(bucket, key, value));
    assert!(report.is_sound(), "{:?}", report.faults());
    let summary = survey.finish();
    assert_eq!(summary.fault_count, 0, "{:?}", summary.faults);
    let replayed = replay.finish();
    assert_eq!(replayed.broken, BrokenLives::default());
    (summary, replayed)
}

fn buckets(bytes: &[u8]) -> BTreeMap<String, Entries> {
    let owned = |entry: Result<bbolt::Entry<'_>, _>| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap();
    let file = bbolt::File::open(bytes).unwrap();
    let buckets = file.buckets().unwrap().map(Result::unwrap);
    buckets
        .map(|(name, bucket)| {
            (
                String::from_utf8(name.to_vec()).unwrap(),
                bucket.iter().map(owned).collect(),
            )
        })
        .collect()
}

/// The membership that the official tools restored to.
fn three_members() -> Membership {
    let cluster = "m1=http://127.0.0.1:23801,m2=http://127.0.0.1:23802,m3=http://127.0.0.1:23803";
    Membership::new(&cluster.parse().unwrap(), "tok-B").unwrap()
}

fn wished<'a>(membership: &'a Membership, last: Option<RevisionKey>) -> NewContent<'a> {
    NewContent {
        members: membership.members(),
        last,
        bump: None,
        leases: &[],
        line: None,
        executed: None,
    }
}

/// Writes the restored database over a copy of the old one, as a rebuild does.
fn rebuilt(old: &[u8], restored: &Restored) -> Vec<u8> {
    let file = bbolt::File::open(old).unwrap();
    let report = bbolt::check(&file, Rules::Bbolt, |_, _, _| {});
    let mut writer = Writer::over(old.to_vec(), &file, &report).unwrap();
    for (name, change) in &restored.buckets {
        let there = file.bucket(name.as_bytes()).unwrap().is_some();
        let (mut bucket, entries) = match change {
            Change::Kept if there => {
                writer.keep(name.as_bytes()).unwrap();
                continue;
            }
            Change::Kept => (writer.bucket(name.as_bytes()).unwrap(), [].as_slice()),
            Change::Replaced(entries) => (writer.bucket(name.as_bytes()).unwrap(), entries.as_slice()),
            Change::Extended(entries) => (writer.extend(name.as_bytes()).unwrap(), entries.as_slice()),
        };
        for (key, value) in entries {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    writer.finish().unwrap().seal().unwrap().0
}

#[test]
fn status_numbers_are_those_that_etcdutl_prints() {
    for (name, hash, revision, total_keys, total_bytes) in [
        ("etcd-3.4.23-rev346-compact150.snap", 3_467_803_231, 346, 357, 606_208),
        ("etcd-3.4.23-rev6.snap", 1_315_066_730, 6, 10, 20_480),
        ("etcd-3.4.23-rev97-base.snap", 41_550_210, 97, 160, 155_648),
        ("official-restore-3.4/db", 741_711_751, 346, 357, 606_208),
        ("official-restore-3.5/db", 2_568_114_648, 346, 360, 606_208),
        ("official-restore-3.6/db", 2_568_114_648, 346, 360, 606_208),
        ("official-restore-3.7/db", 2_568_114_648, 346, 360, 606_208),
        ("official-restore-3.5-bump/db", 801_083_779, 1_000_006, 13, 20_480),
    ] {
        let (summary, _) = survey(&database(name), Rules::Bbolt, &[]);
        assert_eq!(summary.hash, hash, "{name}");
        assert_eq!(summary.last.map(|last| last.main().get()), Some(revision), "{name}");
        assert_eq!(summary.total_entries, total_keys, "{name}");
        assert_eq!(summary.total_bytes, total_bytes, "{name}");
    }
}

#[test]
fn a_survey_names_what_a_restore_must_know() {
    let bytes = database("etcd-3.4.23-rev346-compact150.snap");
    let (summary, replayed) = survey(&bytes, Rules::Bbolt, &[150]);
    assert_eq!(summary.revision().get(), 346);
    assert_eq!(summary.meta.compaction.compact_revision(), 150);
    assert_eq!(summary.meta.storage_version, None);
    assert_eq!(summary.members.len(), 1);
    assert!(summary.alarms.is_empty() && !summary.auth.enabled);
    // The live keys, found the slow way.
    let mut live = BTreeMap::new();
    for (key, value) in &buckets(&bytes)["key"] {
        let record = KeyValue::decode(value).unwrap();
        match RevisionKey::decode(key).unwrap().kind() {
            EntryKind::Put => live.insert(record.key.to_vec(), record.lease),
            EntryKind::Tombstone => live.remove(record.key),
        };
    }
    assert_eq!(replayed.live_keys, Some(live.len() as u64));
    let leases: BTreeSet<_> = live.values().filter(|lease| **lease != 0).collect();
    assert_eq!(
        replayed.leases.iter().map(|(id, _)| &id.0).collect::<BTreeSet<_>>(),
        leases
    );
    assert_eq!(summary.dangling(&replayed.leases), []);
}

#[test]
fn a_restored_database_equals_the_official_ones_but_for_what_the_old_cluster_leaves() {
    let old = database("etcd-3.4.23-rev346-compact150.snap");
    let (summary, replayed) = survey(&old, Rules::Bbolt, &[-1, 150]);
    let membership = three_members();
    let file = bbolt::File::open(&old).unwrap();
    let restored = restored(&file, &wished(&membership, summary.last)).unwrap();
    assert_eq!(restored.revision.get(), 346);

    let new = rebuilt(&old, &restored);
    let (new_summary, new_replayed) = survey(&new, Rules::Ours, &[-1, 150]);
    assert_eq!(new_replayed, replayed, "the key space is untouched");
    let mut members = membership.members().to_vec();
    members.sort_by_key(|member| member.id.to_string());
    assert_eq!(new_summary.members, members);

    // What the official tools keep of the old cluster, and we do not.
    let left_out = |mut buckets: BTreeMap<String, Entries>| {
        buckets.get_mut("meta").unwrap().retain(|(key, _)| key != b"confState");
        buckets.remove("cluster");
        buckets.remove("alarm");
        buckets
    };
    let ours = left_out(buckets(&new));
    for line in ["3.5", "3.6", "3.7"] {
        assert!(
            left_out(buckets(&fixture(&format!("official-restore-{line}/db")))) == ours,
            "official database of {line}"
        );
    }
    // The tool of 3.4 forgets bucket `members` and knows no term.
    let without_its_faults = |mut buckets: BTreeMap<String, Entries>| {
        buckets.remove("members");
        buckets.get_mut("meta").unwrap().retain(|(key, _)| key != b"term");
        buckets
    };
    let official = without_its_faults(left_out(buckets(&fixture("official-restore-3.4/db"))));
    assert!(official == without_its_faults(ours));
}

#[test]
fn a_bump_equals_the_official_one() {
    let old = database("etcd-3.4.23-rev6.snap");
    let (summary, _) = survey(&old, Rules::Bbolt, &[]);
    let membership = Membership::new(&"default=http://localhost:2380".parse().unwrap(), "etcd-cluster").unwrap();
    let bump = NonZeroU64::new(1_000_000);
    let file = bbolt::File::open(&old).unwrap();
    let restored = restored(
        &file,
        &NewContent {
            bump,
            ..wished(&membership, summary.last)
        },
    )
    .unwrap();
    assert_eq!(restored.revision.get(), 1_000_006);

    let new = rebuilt(&old, &restored);
    let (summary, replayed) = survey(&new, Rules::Ours, &[1_000_006]);
    assert_eq!(summary.meta.compaction.compact_revision(), 1_000_006);
    assert_eq!(
        replayed.live_keys,
        survey(&old, Rules::Bbolt, &[]).1.live_keys.map(|keys| keys + 1)
    );
    assert_eq!(
        replayed.clients_keys(),
        survey(&old, Rules::Bbolt, &[]).1.clients_keys()
    );
    let (ours, official) = (buckets(&new), buckets(&fixture("official-restore-3.5-bump/db")));
    for bucket in [
        "key",
        "lease",
        "members",
        "members_removed",
        "meta",
        "auth",
        "authRoles",
        "authUsers",
    ] {
        assert_eq!(ours[bucket], official[bucket], "{bucket}");
    }
    let mut segment = wal::first_segment(&membership, membership.member("default").unwrap());
    segment.resize(4096, 0);
    assert!(fixture("official-restore-3.5-bump/wal-first-4096") == segment);
}

#[test]
fn base_and_events_give_the_hash_that_the_server_recorded() {
    let base = database("etcd-3.4.23-rev97-base.snap");
    let events: serde_json::Value = serde_json::from_slice(&fixture("etcd-3.4.23-rev98-529-events.json")).unwrap();
    let old = bbolt::File::open(&base).unwrap();
    let report = bbolt::check(&old, Rules::Bbolt, |_, _, _| {});
    let mut writer = Writer::over(base.clone(), &old, &report).unwrap();
    for name in lifeboat::keyspace::BUCKETS.iter().filter(|name| **name != "key") {
        writer.keep(name.as_bytes()).unwrap();
    }
    let mut log = writer.extend(b"key").unwrap();
    let (mut main, mut sub) = (97, 0);
    let events = events.as_object().unwrap();
    for event in events["events"].as_array().unwrap() {
        let number = |name: &str| event[name].as_i64().unwrap();
        let bytes = |name: &str| base64(event[name].as_str().unwrap());
        assert!(
            number("mod") == main || number("mod") == main + 1,
            "revisions have no gaps"
        );
        sub = if number("mod") == main { sub + 1 } else { 0 };
        main = number("mod");
        let (key, value) = (bytes("key"), bytes("value"));
        let (kind, record) = if number("type") == 1 {
            (EntryKind::Tombstone, KeyValue::tombstone(&key))
        } else {
            let record = KeyValue {
                key: &key,
                create_revision: number("create"),
                mod_revision: main,
                version: number("version"),
                value: &value,
                lease: number("lease"),
            };
            (EntryKind::Put, record)
        };
        let at = RevisionKey::new(Revision::new(main).unwrap(), sub, kind).unwrap();
        let mut message = Vec::new();
        record.encode_into(&mut message);
        log.put(&at.encode(), &message).unwrap();
    }
    log.finish().unwrap();
    let new = writer.finish().unwrap().seal().unwrap().0;

    let (summary, replayed) = survey(&new, Rules::Ours, &[-1]);
    assert_eq!(summary.revision().get(), events["revision"].as_i64().unwrap());
    let recorded = u32::try_from(events["hashkv"].as_u64().unwrap()).unwrap();
    assert_eq!(replayed.hashes[0].hash, recorded);
    assert_eq!(replayed.hashes[0].compared_with(recorded), Agreement::Equal);

    // A watch does not show leases: those of later keys have no entry until a restore adds it.
    let dangling = summary.dangling(&replayed.leases);
    assert!(!dangling.is_empty());
    let leases: Vec<_> = dangling.iter().map(|(id, _)| Lease::granted(*id, 60)).collect();
    let file = bbolt::File::open(&new).unwrap();
    let membership = three_members();
    let wish = NewContent {
        leases: &leases,
        ..wished(&membership, summary.last)
    };
    let restored_db = rebuilt(&new, &restored(&file, &wish).unwrap());
    let (summary, restored_log) = survey(&restored_db, Rules::Ours, &[-1]);
    assert_eq!(restored_log, replayed);
    assert_eq!(summary.dangling(&restored_log.leases), []);
    assert!(leases.iter().all(|lease| summary.leases.contains(lease)));
    let again = bbolt::File::open(&restored_db).unwrap();
    restored(&again, &wish).expect_err("the leases have entries now");
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|known| *known == digit).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
