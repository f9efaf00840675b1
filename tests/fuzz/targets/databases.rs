//! What reads a database, and what is in it.

use super::*;

/// Small ones, so that many fit into the time: of real servers, and of each shape that the writer makes.
pub fn databases() -> Vec<Vec<u8>> {
    let mut all = fixtures(&[
        "etcd-3.4.23-rev6.snap",
        "etcd-3.4.23-rev97-base.snap",
        "official-restore-3.5-bump/db",
    ]);
    for page_size in [1024, 4096] {
        let mut writer = Writer::fresh(Vec::new(), page_size).unwrap();
        for bucket in ["alarm", "key", "lease", "members", "meta"] {
            let mut written = writer.bucket(bucket.as_bytes()).unwrap();
            let count = if bucket == "key" { 200_u8 } else { 3 };
            for number in 1..=count {
                let at = RevisionKey::first_put(Revision::new(i64::from(number)).unwrap()).encode();
                let mut record = Vec::new();
                let value = vec![number; if number % 50 == 0 { 5_000 } else { 20 }];
                let key = [b'k', number % 7];
                let one = KeyValue {
                    key: &key,
                    value: &value,
                    mod_revision: number.into(),
                    create_revision: 1,
                    version: 1,
                    lease: 0,
                };
                one.encode_into(&mut record);
                written.put(&at, &record).unwrap();
            }
            written.finish().unwrap();
        }
        all.push(writer.finish().unwrap().seal().unwrap().0);
    }
    all
}

/// Half of the changed databases get metas with right checksums: what was changed in them is believed then.
#[expect(clippy::ptr_arg, reason = "others change the length, too")]
pub fn mend_metas(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let page_size = input
        .get(24..28)
        .map_or(4096, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize);
    for at in [Some(16), page_size.checked_add(16)].into_iter().flatten() {
        if let Some(meta) = at.checked_add(64).and_then(|end| input.get_mut(at..end)) {
            let (content, checksum) = meta.split_at_mut(56);
            let fnv = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            checksum.copy_from_slice(&fnv.to_le_bytes());
        }
    }
}

pub fn bbolt_open(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    for bucket in file.buckets().into_iter().flatten() {
        let Ok((name, bucket)) = bucket else { break };
        file.bucket(name).ok();
        for entry in bucket.iter() {
            let Ok((key, _)) = entry else { break };
            bucket.get(key).ok();
        }
    }
    CompactionMarks::read(&file);
    Meta::read(&file).ok();
}

pub fn bbolt_check(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    for rules in [Rules::Bbolt, Rules::Ours] {
        let mut entries = 0_u64;
        let report = bbolt::check(&file, rules, |_, _, _| entries += 1);
        assert_eq!(report.is_sound(), report.fault_count() == 0);
    }
}

/// What a check finds whole is whole in passing too, with the same last entry and the same HashKV; what it does not, is not.
pub fn bbolt_scan(input: &[u8]) {
    let mut scanner = Scanner::new(b"key", META_KEYS, PassingLog::default());
    let pieces = 1 + usize::from(input.first().copied().unwrap_or_default());
    let passed = input.chunks(pieces * 97).all(|piece| scanner.push(piece).is_ok());
    if !passed {
        return;
    }
    let Ok(scan) = scanner.finish() else {
        return;
    };
    scan.entries(b"meta").ok();
    let Ok(file) = File::open(input) else {
        return;
    };
    let Ok(walked) = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}) else {
        return;
    };
    if !walked.report.is_sound() {
        assert!(!scan.is_whole(), "{:?}", walked.report.faults());
        return;
    }
    if walked.fault_count() > 0 {
        return;
    }
    assert!(scan.is_whole() || scan.is_short_of_room(), "{:?}", scan.faults());
    let last = walked.summary.last.map(|last| last.main().get());
    assert_eq!(scan.last_key().map(|last| last.main()), last);
    if scan.is_whole() {
        let (revision, compacted) = (walked.summary.revision(), walked.compact_revision);
        let passed = scan.owner().hash_kv(scan.leaves(), revision.get(), compacted).unwrap();
        assert_eq!(passed.at(revision), walked.hash_kv());
    }
}

pub fn inspection(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    let Ok(mut size) = RewrittenSize::new(&file, History::asked_by(CompactionMarks::read(&file))) else {
        return;
    };
    let walked = Inspection::of(&file, LiveKeys::Counted, Some(3), |bucket, key, value| {
        size.entry(bucket, key, value);
    });
    let Ok(walked) = walked else { return };
    size.finish();
    let revision = walked.summary.revision();
    walked.hash_kv();
    walked.hash_kv_at(&file, revision).ok();
    walked.summary.dangling(&walked.replayed.leases);
    assert!(walked.faults().count() as u64 <= walked.fault_count());
}

/// What a restore would write, and a database that is written anew: what was whole stays whole, and where etcd could have
/// written it, it holds the same and is as long as was said before.
pub fn rewriting(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    let report = bbolt::check(&file, Rules::Bbolt, |_, _, _| {});
    let membership = Membership::new(&"m1=http://a:2380".parse().unwrap(), "token").unwrap();
    let wished = NewContent {
        members: membership.members(),
        last: None,
        bump: std::num::NonZeroU64::new(7),
        leases: &[Lease::granted(LeaseId(5), 30)],
        line: None,
        executed: None,
    };
    restored(&file, &wished).ok();
    if report.is_sound() {
        for history in [History::Whole, History::asked_by(CompactionMarks::read(&file))] {
            let Ok(unsealed) = rewrite(&file, history, Vec::new()) else {
                continue;
            };
            let (written, _) = unsealed.seal().unwrap();
            let again = File::open(&written).unwrap();
            let report = bbolt::check(&again, Rules::Ours, |_, _, _| {});
            assert!(report.is_sound(), "{:?}", report.faults());
            let mut size = RewrittenSize::new(&file, history).unwrap();
            let was = Inspection::of(&file, LiveKeys::Counted, None, |bucket, key, value| {
                size.entry(bucket, key, value);
            });
            let was = was.unwrap();
            if was.fault_count() == 0 {
                assert_eq!(size.finish().0, written.len() as u64);
                let is = Inspection::of(&again, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
                let different = differences((&file, &was), (&again, &is), history).unwrap();
                assert!(different.is_empty(), "{different:?}");
            }
        }
    }
}

pub fn entries() -> Vec<Vec<u8>> {
    let mut record = Vec::new();
    let one = KeyValue {
        key: b"/a",
        create_revision: 2,
        mod_revision: 4,
        version: 2,
        value: b"3",
        lease: 9,
    };
    one.encode_into(&mut record);
    let member = br#"{"id":5,"peerURLs":["http://a:1"],"name":"m1","clientURLs":["http://a:2"]}"#;
    let revision = RevisionKey::first_put(Revision::new(40).unwrap()).encode();
    vec![
        record,
        member.to_vec(),
        revision,
        b"\x08\x05\x10\x02".to_vec(),
        b"3.6.0".to_vec(),
        Lease::granted(LeaseId(9), 30).encode(),
    ]
}

pub fn of_buckets(input: &[u8]) {
    if let Ok(record) = KeyValue::decode(input) {
        let mut again = Vec::new();
        record.encode_into(&mut again);
        assert_eq!(KeyValue::decode(&again), Ok(record));
    }
    if let Ok(at) = RevisionKey::decode(input) {
        assert_eq!(at.encode(), input);
    }
    Alarm::decode(input).ok();
    Lease::decode(input).ok();
    Version::decode(input).ok();
    Member::decode(b"5", input).ok();
    Member::decode(input, b"{}").ok();
}
