//! The scanner sees what the reader sees.

use super::super::page::{ELEMENT_BUCKET, FLAG_BRANCH, FLAG_LEAF, Header};
use super::super::tree::{Layout, Leaf};
use super::*;

const META_FIRST_KEYS: [&[u8]; 2] = [b"consistent_index", b"confState"];

/// Keeps all entries of leaves whose keys are of this kind.
#[derive(Debug, Default)]
pub(super) struct Kept {
    is_of_kind: Option<fn(&[u8]) -> bool>,
    leaves: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Leaves for Kept {
    type Key = Vec<u8>;
    type Leaf = usize;

    fn key(&self, key: &[u8]) -> Option<Vec<u8>> {
        let is_of_kind = self.is_of_kind.unwrap_or(|key| key.len() >= 8);
        is_of_kind(key).then(|| key.to_vec())
    }

    fn leaf<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) -> Option<usize> {
        self.leaves.push(entries.map(owned).collect());
        Some(self.leaves.len() - 1)
    }
}

fn scan(bytes: &[u8], chunk_len: impl FnMut() -> usize) -> Result<Scan<Kept>, Error> {
    scan_bucket(b"key", Some(|key| matches!(key.len(), 8 | 17 | 18)), bytes, chunk_len)
}

fn scan_bucket(
    bucket: &[u8],
    is_of_kind: Option<fn(&[u8]) -> bool>,
    bytes: &[u8],
    mut chunk_len: impl FnMut() -> usize,
) -> Result<Scan<Kept>, Error> {
    let kept = Kept {
        is_of_kind,
        leaves: Vec::new(),
    };
    let mut scanner = Scanner::new(bucket, &META_FIRST_KEYS, kept);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_len().clamp(1, rest.len()));
        scanner.push(chunk)?;
        rest = after;
    }
    scanner.finish()
}

/// For pieces of all sizes; for every bucket as the followed one, and for those it keeps.
pub(super) fn assert_scan_equals_reader(bytes: &[u8], noise: &mut Noise) {
    let file = File::open(bytes).unwrap();
    let whole = scan_bucket(b"none", Some(|_| false), bytes, || usize::MAX).unwrap();
    assert_eq!(whole.meta(), file.meta());
    let is_sound = check(&file, Rules::Bbolt, |_, _, _| {}).is_sound();
    // What is not followed is kept as it is, up to a bound.
    let lacks_room = whole.is_short_of_room() && bytes.len() > 24 << 20;
    assert_eq!(whole.is_whole() || lacks_room, is_sound, "{:?}", whole.faults());
    for (name, bucket) in file.buckets().unwrap().map(Result::unwrap) {
        let told = String::from_utf8_lossy(name).into_owned();
        let expected: Vec<_> = bucket.iter().map(Result::unwrap).collect();
        for bound in [20, 2000, 50_000, 10_000_000] {
            if bytes.len() > 100_000 && bound == 20 {
                continue;
            }
            let chunk_len = 1 + noise.below(bound);
            let followed = scan_bucket(name, Some(|_| true), bytes, || chunk_len).unwrap();
            assert_eq!(followed.is_whole(), is_sound, "{told}: {:?}", followed.faults());
            assert_eq!(
                followed.last_key().map(|key| &key[..]),
                expected.last().map(|last| last.0),
                "{told}"
            );
            let kept = followed.owner();
            let seen: Vec<_> = followed.leaves().flat_map(|(_, leaf)| &kept.leaves[leaf]).collect();
            assert_eq!(seen.len(), expected.len(), "{told}");
            let equal = seen
                .iter()
                .zip(&expected)
                .all(|(seen, expected)| (&seen.0[..], &seen.1[..]) == *expected);
            assert!(equal, "{told}: the entries in order");
        }
        match whole.entries(name) {
            Ok(entries) => assert_eq!(entries, Some(expected)),
            Err(Error::NotKept { .. }) => {
                let len: usize = expected.iter().map(|(key, value)| 16 + key.len() + value.len()).sum();
                assert!(16 + len > file.page_size() as usize / 4);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(whole.entries(b"absent").unwrap(), None);
}

#[test]
fn real_snapshots_are_seen_as_the_reader_sees_them() {
    for (bytes, _) in snapshots() {
        assert_scan_equals_reader(bytes, &mut Noise(11));
        let scan = scan(bytes, || 32_768).unwrap();
        let meta = scan.entries(b"meta").unwrap().unwrap();
        assert!(
            meta.iter()
                .any(|(key, value)| *key == b"consistent_index" && value.len() == 8)
        );
    }
    let last = |nth| {
        let scan = scan(snapshots().nth(nth).unwrap().0, || 7).unwrap();
        let key = scan.last_key().unwrap();
        u64::from_be_bytes(*key.first_chunk().unwrap())
    };
    assert_eq!((last(1), last(2)), (97, 346));
}

/// A database with free pages, and their numbers.
fn with_free_pages() -> (Vec<u8>, Vec<u64>) {
    let contents =
        |seed| -> Contents { [(b"key".to_vec(), entries(Shape::Large, 50, 1024, &mut Noise(seed), 0))].into() };
    let mut bytes = written(1024, &contents(3));
    let old = bytes.clone();
    let base = File::open(&old).unwrap();
    let report = check(&base, Rules::Ours, |_, _, _| {});
    write(Writer::over(&mut bytes, &base, &report).unwrap(), &contents(4));
    let file = File::open(&bytes).unwrap();
    let free = check(&file, Rules::Ours, |_, _, _| {}).reachable().missing().collect();
    (bytes, free)
}

#[test]
fn what_free_pages_hold_does_not_count() {
    let (mut bytes, free) = with_free_pages();
    assert!(free.len() > 20);
    let expected = scan(&bytes, || 4096).unwrap().last_key().cloned();
    for overflow in [0, 3, 1000, u32::MAX] {
        let mut leaf = Leaf::default();
        leaf.push(&[0x7F; 17], b"later").unwrap();
        for page in &free {
            let mut stale = Layout::new(Vec::new(), 1024, 0).unwrap();
            leaf.write(0, &mut stale).unwrap();
            stale.flush().unwrap();
            let header = Header {
                id: *page,
                flags: FLAG_LEAF,
                count: 1,
                overflow,
            };
            stale.sink[..16].copy_from_slice(&header.encode());
            let at = *page as usize * 1024;
            bytes[at..at + 1024].copy_from_slice(&stale.sink);
        }
        for chunk_len in [1, 100, 1024, 1 << 20] {
            assert_eq!(scan(&bytes, || chunk_len).unwrap().last_key(), expected.as_ref());
        }
        assert_scan_equals_reader(&bytes, &mut Noise(5));
    }
}

#[test]
fn the_length_must_be_what_the_meta_says() {
    let (mut bytes, _) = with_free_pages();
    for len in [0, 79, 80, 1023, 1024, bytes.len() - 1024, bytes.len() - 1] {
        let error = scan(&bytes[..len], || 1000).unwrap_err();
        assert!(
            matches!(error, Error::NotBbolt { .. } | Error::Truncated { .. }),
            "{error}"
        );
    }
    for more in [1, 32, 1024] {
        let len = bytes.len();
        bytes.resize(len + more, 0);
        assert!(matches!(scan(&bytes, || 1000), Err(Error::Overlong { .. })));
        bytes.truncate(len);
    }
}

#[test]
fn a_meta_bucket_on_a_page_of_its_own_is_kept() {
    let meta: BTreeMap<_, _> = [(b"confState".to_vec(), vec![b'x'; 300]), (b"term".to_vec(), vec![1; 8])].into();
    let key: BTreeMap<_, _> = (0..1000_u64)
        .map(|i| (i.to_be_bytes().to_vec(), vec![2; 100]))
        .collect();
    let contents: Contents = [(b"key".to_vec(), key), (b"meta".to_vec(), meta.clone())].into();
    let bytes = written(1024, &contents);
    for chunk_len in [1, 500, 1024, 1 << 20] {
        let scan = scan(&bytes, || chunk_len).unwrap();
        let found = scan.entries(b"meta").unwrap().unwrap();
        assert_eq!(found.into_iter().map(owned).collect::<BTreeMap<_, _>>(), meta);
        assert_eq!(scan.last_key(), Some(&999_u64.to_be_bytes().to_vec()));
        assert!(scan.is_whole(), "{:?}", scan.faults());
        assert!(matches!(scan.entries(b"key"), Err(Error::NotKept { .. })));
    }
}

/// What the check of the whole file finds, the scan finds, and the other way round.
#[test]
fn damage_is_seen_where_the_check_of_the_file_sees_it() {
    let (sound, _) = with_free_pages();
    let mut noise = Noise(77);
    let mut found = 0;
    for _ in 0..4000 {
        let mut bytes = sound.clone();
        // Headers and elements more often than values, and never the metas.
        let page = 2 + noise.below(bytes.len() / 1024 - 2);
        let within = [64, 64, 1024][noise.below(3)];
        let at = page * 1024 + noise.below(within);
        bytes[at] ^= 1 << noise.below(8);
        let file = File::open(&bytes).unwrap();
        let report = check(&file, Rules::Bbolt, |_, _, _| {});
        let chunk_len = 1 + noise.below(9000);
        match scan_bucket(b"key", Some(|_| true), &bytes, || chunk_len) {
            Ok(scan) => assert_eq!(
                scan.is_whole(),
                report.is_sound(),
                "byte {at}: {:?} and {:?}",
                scan.faults(),
                report.faults()
            ),
            Err(error) => assert!(!report.is_sound(), "byte {at}: {error}"),
        }
        found += usize::from(!report.is_sound());
    }
    assert!(found > 200, "{found}");
}

#[test]
fn too_many_open_nodes_cost_the_proof_and_no_more_memory() {
    let (mut bytes, free) = with_free_pages();
    let expected = scan(&bytes, || 4096).unwrap().last_key().cloned();
    // Old nodes that claim to go on over all that follows.
    for page in &free {
        let header = Header {
            id: *page,
            flags: FLAG_LEAF,
            count: 1,
            overflow: (bytes.len() / 1024) as u32 - *page as u32 - 1,
        };
        let at = *page as usize * 1024;
        bytes[at..at + 16].copy_from_slice(&header.encode());
    }
    assert!(free.len() > 8);
    let scan = scan(&bytes, || 1024).unwrap();
    assert_eq!(scan.last_key(), expected.as_ref());
    assert!(scan.is_whole(), "those were in no tree: {:?}", scan.faults());
}

/// A root of two leaves with inline buckets; the branch above them is on the page `order` gives it.
fn with_branch_as_root(branch_first: bool) -> Vec<u8> {
    let inline = |key: &[u8]| {
        let mut leaf = Leaf::default();
        leaf.push(key, b"value").unwrap();
        [vec![0; 16], leaf.encode_inline()].concat()
    };
    let mut leaves = [Leaf::default(), Leaf::default()];
    leaves[0].push(b"alarm", &inline(b"12345678")).unwrap();
    leaves[0].push(b"key", &inline(&77_u64.to_be_bytes())).unwrap();
    leaves[1].push(b"meta", &inline(b"consistent_index")).unwrap();
    let mut layout = Layout::new(Vec::new(), 1024, 2).unwrap();
    let children = if branch_first { [3, 4] } else { [2, 3] };
    let mut branch = Vec::new();
    for (pos, len, child) in [(32_u32, 5_u32, children[0]), (21, 4, children[1])] {
        branch.extend_from_slice(&pos.to_le_bytes());
        branch.extend_from_slice(&len.to_le_bytes());
        branch.extend_from_slice(&u64::to_le_bytes(child));
    }
    branch.extend_from_slice(b"alarmmeta");
    let write_branch = |layout: &mut Layout<Vec<u8>>| {
        layout
            .node(FLAG_BRANCH, 2, branch.len(), |into| into.extend_from_slice(&branch))
            .unwrap()
    };
    let mut root = 0;
    if branch_first {
        root = write_branch(&mut layout);
    }
    for leaf in leaves {
        leaf.write(ELEMENT_BUCKET, &mut layout).unwrap();
    }
    if !branch_first {
        root = write_branch(&mut layout);
    }
    layout.flush().unwrap();
    let meta = Meta {
        page_size: 1024,
        root,
        freelist: None,
        pages: 5,
        txid: 2,
    };
    let mut bytes = layout.sink;
    bytes.write_at(0, &meta.encode(0)).unwrap();
    bytes.write_at(1024, &Meta { txid: 1, ..meta }.encode(1)).unwrap();
    bytes
}

#[test]
fn the_root_tree_may_have_a_branch() {
    for bytes in [with_branch_as_root(true), with_branch_as_root(false)] {
        let file = File::open(&bytes).unwrap();
        let report = check(&file, Rules::Ours, |_, _, _| {});
        assert!(report.is_sound(), "{:?}", report.faults());
        assert_scan_equals_reader(&bytes, &mut Noise(3));
        let scan = scan(&bytes, || 10).unwrap();
        assert_eq!(scan.last_key(), Some(&77_u64.to_be_bytes().to_vec()));
        assert!(scan.entries(b"meta").unwrap().is_some());
    }
}
