//! What the parts of the format promise together.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod hostile;
mod scan;

type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

const SNAPSHOTS: [(&[u8], usize); 3] = [
    (
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/fixtures/etcd-3.4.23-rev6.snap"
        )),
        5,
    ),
    (
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/fixtures/etcd-3.4.23-rev97-base.snap"
        )),
        152,
    ),
    (
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap"
        )),
        348,
    ),
];

const RESTORED: [&[u8]; 4] = [
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/official-restore-3.4/db"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/official-restore-3.5/db"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/official-restore-3.6/db"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/fixtures/official-restore-3.7/db"
    )),
];

/// The databases in the snapshots of real etcd.
fn snapshots() -> impl Iterator<Item = (&'static [u8], usize)> {
    SNAPSHOTS
        .into_iter()
        .map(|(bytes, entries)| (&bytes[..bytes.len() - 32], entries))
}

/// Repeatable noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What a generated bucket looks like.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Empty,
    /// A few short entries, as etcd's small buckets have.
    Few,
    /// Revisions with values that are small beside a page.
    Revisions,
    /// Values around and beyond a page.
    Large,
    /// Keys of up to two thousand bytes: branches with few children.
    LongKeys,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Empty),
        Just(Shape::Few),
        Just(Shape::Revisions),
        Just(Shape::Revisions),
        Just(Shape::Large),
        Just(Shape::LongKeys),
    ]
}

/// `count` is a measure of size from 0 to 999.
fn entries(shape: Shape, count: usize, page_size: u32, noise: &mut Noise, from: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let page = page_size as usize;
    let mut revision = from;
    let mut next_revision = |noise: &mut Noise| {
        revision += 1 + noise.next() % 3;
        let mut key = revision.to_be_bytes().to_vec();
        key.push(b'_');
        key.extend_from_slice(&0_u64.to_be_bytes());
        key
    };
    let count = match shape {
        Shape::Empty => 0,
        Shape::Few => count % 6,
        Shape::Revisions => count * 2,
        Shape::Large => count % 60,
        Shape::LongKeys => count % 200,
    };
    (0..count)
        .map(|_| {
            let revision = next_revision(noise);
            match shape {
                Shape::Empty | Shape::Few => (revision, noise.bytes(10)),
                Shape::Revisions => (revision, {
                    let len = noise.below(60);
                    noise.bytes(len)
                }),
                Shape::Large => (revision, {
                    let len = noise.below(page * 3);
                    vec![noise.next() as u8; len]
                }),
                Shape::LongKeys => {
                    let tail = noise.below(2000);
                    ([revision, noise.bytes(tail)].concat(), Vec::new())
                }
            }
        })
        .collect()
}

const NAMES: [&str; 5] = ["key", "lease", "members", "meta", "zone"];

prop_compose! {
    fn contents()(
        page_size in (10_u32..=16).prop_map(|bit| 1 << bit),
        shapes in prop::collection::vec((shape(), 0..1000_usize), NAMES.len()),
        used in prop::collection::vec(any::<bool>(), NAMES.len()),
        seed in 1..u64::MAX,
    ) -> (u32, Contents) {
        let mut noise = Noise(seed);
        let buckets = NAMES.iter().zip(shapes).zip(used).filter(|(_, used)| *used).map(|((name, (shape, count)), _)| {
            (name.as_bytes().to_vec(), entries(shape, count, page_size, &mut noise, 0))
        });
        (page_size, buckets.collect())
    }
}

fn write<S: PageSink>(mut writer: Writer<'_, S>, contents: &Contents) -> (S, Written) {
    for (name, entries) in contents {
        let mut bucket = writer.bucket(name).unwrap();
        for (key, value) in entries {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    writer.finish().unwrap().seal().unwrap()
}

fn written(page_size: u32, contents: &Contents) -> Vec<u8> {
    write(Writer::fresh(Vec::new(), page_size).unwrap(), contents).0
}

fn measured(page_size: u32, contents: &Contents) -> u64 {
    let mut measure = Measure::new(page_size);
    for (name, entries) in contents {
        measure.bucket(name.len());
        entries
            .iter()
            .for_each(|(key, value)| measure.put(key.len(), value.len()));
    }
    measure.file_len()
}

fn read(file: &File<'_>) -> Contents {
    let entries = |bucket: Bucket<'_>| bucket.iter().map(|entry| entry.unwrap()).map(owned).collect();
    file.buckets()
        .unwrap()
        .map(Result::unwrap)
        .map(|(name, bucket)| (name.to_vec(), entries(bucket)))
        .collect()
}

fn owned((key, value): Entry<'_>) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

/// Everything that must hold for what we write.
fn assert_holds(bytes: &[u8], expected: &Contents) {
    let file = File::open(bytes).unwrap();
    let mut seen = Contents::new();
    let report = check(&file, Rules::Ours, |bucket, key, value| {
        let entry = seen
            .entry(bucket.to_vec())
            .or_default()
            .insert(key.to_vec(), value.to_vec());
        assert!(entry.is_none());
    });
    assert!(report.is_sound(), "{:?}", report.faults());
    assert_eq!(file.pages() * u64::from(file.page_size()), bytes.len() as u64);
    assert!(read(&file) == *expected);
    for (name, entries) in expected {
        let bucket = file.bucket(name).unwrap().unwrap();
        assert!(seen.remove(name).unwrap_or_default() == *entries);
        assert_eq!(bucket.is_empty().unwrap(), entries.is_empty());
        assert_eq!(
            bucket.last().unwrap().map(owned),
            entries.last_key_value().map(|(k, v)| (k.clone(), v.clone()))
        );
        for (key, value) in entries.iter().step_by(7) {
            assert_eq!(bucket.get(key).unwrap(), Some(value.as_slice()));
            assert_eq!(bucket.get(&[key.as_slice(), b"\0"].concat()).unwrap(), None);
        }
    }
    assert!(seen.is_empty());
    assert!(file.bucket(b"absent").unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back_and_passes_the_check((page_size, contents) in contents()) {
        let bytes = written(page_size, &contents);
        assert_holds(&bytes, &contents);
        assert_eq!(measured(page_size, &contents), bytes.len() as u64);
        scan::assert_scan_equals_reader(&bytes, &mut Noise(page_size.into()));
    }

    #[test]
    fn a_new_state_keeps_extends_and_replaces_buckets(
        (page_size, base_contents) in contents(),
        (_, replacements) in contents(),
        fates in prop::collection::vec(0..4_u8, NAMES.len()),
        (added_shape, added) in (shape(), 0..1000_usize),
        seed in 1..u64::MAX,
        rounds in 1..3_usize,
    ) {
        let mut bytes = written(page_size, &base_contents);
        let mut expected = base_contents;
        for _ in 0..rounds {
            let old = bytes.clone();
            let base = File::open(&old).unwrap();
            let report = check(&base, Rules::Ours, |_, _, _| {});
            let mut writer = Writer::over(&mut bytes, &base, &report).unwrap();
            let mut replaced = Contents::new();
            for (name, fate) in NAMES.iter().map(|name| name.as_bytes()).zip(&fates) {
                match (*fate, expected.get_mut(name)) {
                    (0, Some(_)) => writer.keep(name).unwrap(),
                    (1, Some(expected)) => {
                        let from = expected.last_key_value().map_or(0, |(key, _)| {
                            u64::from_be_bytes(*key.first_chunk().unwrap())
                        });
                        let more = entries(added_shape, added, page_size, &mut Noise(seed), from);
                        let mut bucket = writer.extend(name).unwrap();
                        for (key, value) in &more {
                            bucket.put(key, value).unwrap();
                        }
                        bucket.finish().unwrap();
                        expected.extend(more);
                    }
                    (2, _) => {
                        expected.remove(name);
                    }
                    _ => {
                        let new = replacements.get(name).cloned().unwrap_or_default();
                        replaced.insert(name.to_vec(), new.clone());
                        expected.insert(name.to_vec(), new);
                    }
                }
            }
            let (_, written) = write(writer, &replaced);
            let file = File::open(&bytes).unwrap();
            prop_assert_eq!(*file.meta(), written.meta);
            prop_assert!(file.meta().txid > base.meta().txid);
            prop_assert_eq!(written.len, bytes.len() as u64);
            assert_holds(&bytes, &expected);
            scan::assert_scan_equals_reader(&bytes, &mut Noise(seed));
        }
    }
}

#[test]
fn snapshots_of_real_etcd_read_from_end_to_end() {
    for (bytes, entries) in snapshots() {
        let file = File::open(bytes).unwrap();
        assert_eq!(file.pages() * u64::from(file.page_size()), bytes.len() as u64);
        let key = file.bucket(b"key").unwrap().unwrap();
        let all: Vec<_> = key.iter().map(Result::unwrap).collect();
        assert_eq!(all.len(), entries);
        assert!(all.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(key.last().unwrap(), all.last().copied());
        for (k, v) in all {
            assert_eq!(key.get(k).unwrap(), Some(v));
        }
        assert_eq!(key.get(b"absent").unwrap(), None);
        assert!(file.bucket(b"absent").unwrap().is_none());
    }
}

#[test]
fn databases_of_real_etcd_and_its_tools_pass_the_check() {
    for bytes in snapshots().map(|(bytes, _)| bytes).chain(RESTORED) {
        let file = File::open(bytes).unwrap();
        let mut visited = Contents::new();
        let report = check(&file, Rules::Bbolt, |bucket, key, value| {
            visited
                .entry(bucket.to_vec())
                .or_default()
                .insert(key.to_vec(), value.to_vec());
        });
        assert!(report.is_sound(), "{:?}", report.faults());
        let mut all = read(&file);
        all.retain(|_, entries| !entries.is_empty());
        assert!(visited == all);
    }
}

#[test]
fn a_new_state_of_a_real_snapshot_holds_all_that_it_should() {
    for (bytes, _) in snapshots() {
        let base = File::open(bytes).unwrap();
        let report = check(&base, Rules::Bbolt, |_, _, _| {});
        let mut expected = read(&base);
        let mut copy = bytes.to_vec();
        let mut writer = Writer::over(&mut copy, &base, &report).unwrap();
        for name in expected
            .keys()
            .filter(|name| !matches!(name.as_slice(), b"key" | b"meta" | b"members"))
        {
            writer.keep(name).unwrap();
        }
        let mut key = writer.extend(b"key").unwrap();
        for revision in 1000_u64..1500 {
            let entry = (revision.to_be_bytes().to_vec(), revision.to_string().into_bytes());
            key.put(&entry.0, &entry.1).unwrap();
            expected.get_mut(b"key".as_slice()).unwrap().insert(entry.0, entry.1);
        }
        key.finish().unwrap();
        let mut meta = writer.bucket(b"meta").unwrap();
        meta.put(b"consistent_index", &3_u64.to_be_bytes()).unwrap();
        meta.finish().unwrap();
        expected.insert(
            b"meta".to_vec(),
            [(b"consistent_index".to_vec(), 3_u64.to_be_bytes().to_vec())].into(),
        );
        expected.remove(b"members".as_slice());
        let (_, written) = writer.finish().unwrap().seal().unwrap();
        assert!(written.free_pages >= 1);
        assert_holds(&copy, &expected);
        let new = File::open(&copy).unwrap();
        let (whole, added) = (
            check(&new, Rules::Bbolt, |_, _, _| {}),
            check_over(&new, Rules::Bbolt, &report),
        );
        assert!(added.is_sound(), "{:?}", added.faults());
        assert_eq!(added.reachable(), whole.reachable());
        // Each new page is looked at, the freelist included.
        for page in (base.pages()..new.pages()).filter(|page| whole.reachable().contains(*page)) {
            let mut damaged = copy.clone();
            let offset = usize::try_from(page * u64::from(new.page_size())).unwrap();
            damaged[offset] ^= 1;
            let found = check_over(&File::open(&damaged).unwrap(), Rules::Bbolt, &report);
            assert!(!found.is_sound(), "page {page}");
        }
    }
}

#[test]
fn every_number_of_entries_gives_branches_with_two_children_or_more() {
    let key = |i: u32, len: usize| [i.to_be_bytes().as_slice(), &vec![b'k'; len]].concat();
    for len in [8, 200, 450, 900, 3000] {
        for count in 0..200 {
            let entries: BTreeMap<_, _> = (0..count).map(|i| (key(i, len), vec![b'v'; 300])).collect();
            let contents = [(b"key".to_vec(), entries)].into();
            assert_holds(&written(1024, &contents), &contents);
        }
    }
}

#[test]
fn a_new_state_of_a_very_free_database_has_the_long_form_of_the_freelist() {
    let entries = |range: std::ops::Range<u32>| range.map(|i| (i.to_be_bytes().to_vec(), vec![1; 1500])).collect();
    let mut bytes = written(1024, &[(b"key".to_vec(), entries(0..50_000))].into());
    let old = bytes.clone();
    let base = File::open(&old).unwrap();
    let report = check(&base, Rules::Ours, |_, _, _| {});
    let contents: Contents = [(b"key".to_vec(), entries(7..9))].into();
    let (_, written) = write(Writer::over(&mut bytes, &base, &report).unwrap(), &contents);
    assert!(written.free_pages > 0xFFFF);
    assert_holds(&bytes, &contents);
}

#[test]
fn equal_contents_give_equal_files() {
    let contents: Contents = [(b"key".to_vec(), entries(Shape::Revisions, 400, 4096, &mut Noise(7), 0))].into();
    assert!(written(4096, &contents) == written(4096, &contents));
}

#[test]
fn the_writer_refuses_what_bbolt_cannot_hold() {
    assert!(matches!(
        Writer::fresh(Vec::new(), 512),
        Err(Error::PageSize { page_size: 512 })
    ));
    assert!(matches!(Writer::fresh(Vec::new(), 5000), Err(Error::PageSize { .. })));
    let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
    let mut bucket = writer.bucket(b"key").unwrap();
    bucket.put(b"b", b"").unwrap();
    assert!(matches!(bucket.put(b"b", b""), Err(Error::KeyOrder { .. })));
    assert!(matches!(bucket.put(b"a", b""), Err(Error::KeyOrder { .. })));
    assert!(matches!(
        bucket.put(&[b'c'; 32_769], b""),
        Err(Error::EntrySize { key: 32_769, .. })
    ));
    bucket.put(&[b'c'; 32_768], b"").unwrap();
    bucket.finish().unwrap();
    assert!(matches!(
        writer.bucket(b"e").unwrap().put(b"", b""),
        Err(Error::EntrySize { key: 0, .. })
    ));
    assert!(matches!(
        writer.bucket(b"f"),
        Err(Error::Bucket {
            why: BucketMisuse::Unfinished,
            ..
        })
    ));
    assert!(matches!(
        writer.finish(),
        Err(Error::Bucket {
            why: BucketMisuse::Unfinished,
            ..
        })
    ));
}

#[test]
fn a_name_is_used_once_and_only_what_is_there_is_kept() {
    let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
    writer.bucket(b"key").unwrap().finish().unwrap();
    assert!(matches!(
        writer.bucket(b"key"),
        Err(Error::Bucket {
            why: BucketMisuse::Twice,
            ..
        })
    ));
    assert!(matches!(
        writer.keep(b"meta"),
        Err(Error::Bucket {
            why: BucketMisuse::Absent,
            ..
        })
    ));
    assert!(matches!(
        writer.extend(b"meta"),
        Err(Error::Bucket {
            why: BucketMisuse::Absent,
            ..
        })
    ));
}

#[test]
fn an_unsealed_database_is_still_the_old_one() {
    let contents: Contents = [(b"key".to_vec(), entries(Shape::Revisions, 400, 4096, &mut Noise(7), 0))].into();
    let mut bytes = written(4096, &contents);
    let old = bytes.clone();
    let base = File::open(&old).unwrap();
    let report = check(&base, Rules::Ours, |_, _, _| {});
    let mut writer = Writer::over(&mut bytes, &base, &report).unwrap();
    writer.bucket(b"new").unwrap().finish().unwrap();
    let unsealed = writer.finish().unwrap();
    drop(unsealed);
    assert_eq!(bytes[..old.len()], old);
    assert!(read(&File::open(&bytes).unwrap()) == contents);
}

#[test]
fn a_last_leaf_of_several_pages_stays_where_it_is_when_something_comes_behind_it() {
    const LARGE: usize = 1 << 20;
    for large in [1_u64, 2, 7, 40] {
        let value = vec![b'v'; LARGE];
        let base_contents: Contents = [(
            b"key".to_vec(),
            (0..large)
                .map(|key| (key.to_be_bytes().to_vec(), value.clone()))
                .collect(),
        )]
        .into();
        let base_bytes = written(4096, &base_contents);
        let base = File::open(&base_bytes).unwrap();
        let report = check(&base, Rules::Ours, |_, _, _| {});
        for added in [0_u64, 1, 3] {
            let (mut bytes, mut expected) = (base_bytes.clone(), base_contents.clone());
            let mut writer = Writer::over(&mut bytes, &base, &report).unwrap();
            let mut bucket = writer.extend(b"key").unwrap();
            assert!(
                bucket.put(&(large - 1).to_be_bytes(), b"").is_err(),
                "it is there already"
            );
            for key in large..large + added {
                bucket.put(&key.to_be_bytes(), b"").unwrap();
                expected
                    .get_mut(b"key".as_slice())
                    .unwrap()
                    .insert(key.to_be_bytes().to_vec(), Vec::new());
            }
            bucket.finish().unwrap();
            writer.finish().unwrap().seal().unwrap();
            let grown = bytes.len() - base_bytes.len();
            assert!(grown <= 6 * 4096, "{large} and {added}: it grew by {grown}");
            assert_holds(&bytes, &expected);
            let told = base.bucket(b"key").unwrap().unwrap().bytes_to_extend().unwrap();
            // Besides, a root and a freelist.
            assert!(grown as u64 <= told + 2 * 4096, "{grown}, {told} were told");
            // And once more, on what has come of it.
            let again = bytes.clone();
            let file = File::open(&again).unwrap();
            let report = check(&file, Rules::Ours, |_, _, _| {});
            let mut writer = Writer::over(&mut bytes, &file, &report).unwrap();
            let mut bucket = writer.extend(b"key").unwrap();
            bucket.put(&(large + 9).to_be_bytes(), &value).unwrap();
            bucket.finish().unwrap();
            writer.finish().unwrap().seal().unwrap();
            let log = expected.get_mut(b"key".as_slice()).unwrap();
            log.insert((large + 9).to_be_bytes().to_vec(), value.clone());
            assert_holds(&bytes, &expected);
        }
    }
}
