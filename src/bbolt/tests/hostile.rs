//! Databases that are wrong: nothing panics, runs on, or passes for right.

use super::super::page::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META, Header, META_END, fnv1a};
use super::*;

/// A small database with every kind of page: branches on two levels, overflow, inline buckets, free pages.
pub(super) fn specimen() -> (Vec<u8>, Contents) {
    let mut noise = Noise(99);
    let mut contents = Contents::new();
    for (name, shape, count) in [
        ("alarm", Shape::Empty, 0),
        ("key", Shape::Revisions, 120),
        ("large", Shape::Large, 12),
        ("long", Shape::LongKeys, 12),
        ("meta", Shape::Few, 4),
    ] {
        contents.insert(name.as_bytes().to_vec(), entries(shape, count, 1024, &mut noise, 0));
    }
    let mut bytes = written(1024, &contents);
    let old = bytes.clone();
    let base = File::open(&old).unwrap();
    let report = check(&base, Rules::Ours, |_, _, _| {});
    let mut writer = Writer::over(&mut bytes, &base, &report).unwrap();
    for name in ["alarm", "large", "long", "meta"] {
        writer.keep(name.as_bytes()).unwrap();
    }
    contents.retain(|name, _| name != b"key");
    let key: Contents = [(b"key".to_vec(), entries(Shape::Revisions, 150, 1024, &mut noise, 0))].into();
    write(writer, &key);
    contents.extend(key);
    (bytes, contents)
}

/// Makes the checksums of both metas right again, so that wrong fields in them get past the door.
fn reseal(bytes: &mut [u8], page_size: usize) {
    for page in [0, page_size] {
        if let Some(meta) = bytes.get_mut(page..page + META_END) {
            let checksum = fnv1a(&meta[16..72]);
            meta[72..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// Reads everything in every way, and builds upon it if it passes the check. Returns whether it did.
fn exercise(bytes: &[u8]) -> bool {
    let mut scanner = Scanner::new(b"key", &[b"consistent_index"], scan::Kept::default());
    let pushed = bytes.chunks(1500).try_for_each(|chunk| scanner.push(chunk));
    let scanned = pushed.and_then(|()| scanner.finish());
    let Ok(file) = File::open(bytes) else {
        return false;
    };
    let mut visited = 0;
    let report = check(&file, Rules::Bbolt, |_, key, value| visited += key.len() + value.len());
    assert!(visited <= bytes.len(), "no byte is shown twice");
    for (name, bucket) in file.buckets().into_iter().flatten().flatten() {
        let read: usize = bucket
            .iter()
            .flatten()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(read <= bytes.len(), "no byte is read twice");
        let found = (
            bucket.last(),
            bucket.get(b"\0\0\0\0\0\0\0\x50_\0"),
            bucket.is_empty(),
            file.bucket(name),
        );
        assert!(!report.is_sound() || found.0.is_ok() && found.1.is_ok() && found.2.is_ok() && found.3.is_ok());
    }
    if let (true, Ok(scan)) = (report.is_sound(), scanned) {
        let key = file.bucket(b"key").unwrap();
        let last = key.and_then(|key| key.last().unwrap()).map(|(key, _)| key.to_vec());
        assert_eq!(scan.last_key(), last.as_ref());
    }
    if report.is_sound() && bytes.len() < 1 << 20 {
        build_upon(bytes, &file, &report);
    }
    report.is_sound()
}

fn build_upon(bytes: &[u8], file: &File<'_>, report: &Report) {
    let names: Vec<_> = file.buckets().unwrap().map(|bucket| bucket.unwrap().0).collect();
    let mut copy = bytes[..(file.pages() * u64::from(file.page_size())) as usize].to_vec();
    let Ok(mut writer) = Writer::over(&mut copy, file, report) else {
        panic!("a sound database can be built upon");
    };
    for (index, name) in names.iter().enumerate() {
        if index % 2 == 0 {
            writer.keep(name).unwrap();
        } else {
            writer.extend(name).unwrap().finish().unwrap();
        }
    }
    match writer.finish() {
        Ok(unsealed) => {
            unsealed.seal().unwrap();
            let file = File::open(&copy).unwrap();
            let report = check(&file, Rules::Bbolt, |_, _, _| {});
            assert!(report.is_sound(), "{:?}", report.faults());
        }
        Err(error) => assert!(matches!(error, Error::Exhausted), "{error}"),
    }
}

/// Runs `rounds` mutations of the specimen, a few bytes at a time.
fn mutate(rounds: u64, seed: u64) -> u64 {
    let (bytes, _) = specimen();
    let mut noise = Noise(seed);
    let mut sound = 0;
    for _ in 0..rounds {
        let mut mutant = bytes.clone();
        for _ in 0..1 + noise.below(4) {
            // Most faults of interest are in headers and elements, at the beginning of a page.
            let page = noise.below(mutant.len() / 1024) * 1024;
            let at = page
                + if noise.below(4) == 0 {
                    noise.below(1024)
                } else {
                    noise.below(96)
                };
            match noise.below(5) {
                0 => mutant[at] = noise.next() as u8,
                1 => mutant[at] ^= 1 << noise.below(8),
                2 => mutant[at] = mutant[at].wrapping_add(1),
                3 => {
                    let from = noise.below(mutant.len() / 1024) * 1024;
                    let page_copy = mutant[from..from + 1024].to_vec();
                    mutant[page..page + 1024].copy_from_slice(&page_copy);
                    if noise.below(2) == 0 {
                        mutant[page..page + 8].copy_from_slice(&(page as u64 / 1024).to_le_bytes());
                    }
                }
                _ => mutant[at] = [0, 0xFF, 0x7F, 0x80][noise.below(4)],
            }
        }
        if noise.below(20) == 0 {
            mutant.truncate(noise.below(mutant.len()));
        }
        reseal(&mut mutant, 1024);
        sound += u64::from(exercise(&mutant));
    }
    sound
}

#[test]
fn mutants_never_panic_or_run_on() {
    let sound = mutate(2000, 1);
    assert!((1..2000).contains(&sound), "{sound}");
}

#[test]
#[ignore = "minutes: for a run by hand"]
fn millions_of_mutants_never_panic_or_run_on() {
    let sound: u64 = (0..2)
        .map(|seed| std::thread::spawn(move || mutate(1_500_000, 77 + seed)))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    println!("{sound} of 3000000 mutants pass the check");
}

#[test]
fn cuts_are_errors() {
    let (bytes, _) = specimen();
    for len in (0..bytes.len()).step_by(97).chain([0, 1, 16, 79, 80, 1024, 1104, 2048]) {
        let error = File::open(&bytes[..len]).unwrap_err();
        assert!(
            matches!(error, Error::NotBbolt { .. } | Error::Truncated { .. }),
            "{error}"
        );
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0xAA; 5000]);
    assert!(exercise(&longer), "more bytes are no harm");
}

#[test]
fn the_other_byte_order_is_named_as_such() {
    let (mut bytes, _) = specimen();
    for page in [0, 1024] {
        bytes[page + 16..page + 20].reverse();
    }
    assert!(matches!(File::open(&bytes), Err(Error::ForeignByteOrder)));
    assert!(matches!(
        Scanner::new(b"key", &[], scan::Kept::default()).push(&bytes),
        Err(Error::ForeignByteOrder)
    ));
}

#[test]
fn one_broken_meta_is_made_up_for_by_the_other() {
    let contents: Contents = [(b"key".to_vec(), entries(Shape::Revisions, 300, 1024, &mut Noise(5), 0))].into();
    for page_size in [1024, 4096, 65_536] {
        for page in [0, 1] {
            let mut bytes = written(page_size, &contents);
            bytes[page * page_size as usize + 40] ^= 1;
            let file = File::open(&bytes).unwrap();
            assert_eq!(file.page_size(), page_size);
            assert_eq!(file.meta().txid, 1 + page as u64);
            assert!(read(&file) == contents);
        }
        let mut bytes = written(page_size, &contents);
        bytes[40] ^= 1;
        bytes[page_size as usize + 40] ^= 1;
        assert!(matches!(File::open(&bytes), Err(Error::NotBbolt { .. })));
    }
}

#[test]
fn the_newer_meta_counts_wherever_it_is() {
    let mut bytes = written(1024, &Contents::new());
    let newer = Meta {
        txid: 9,
        ..*File::open(&bytes).unwrap().meta()
    };
    bytes.write_at(1024, &newer.encode(1)).unwrap();
    assert_eq!(File::open(&bytes).unwrap().meta().txid, 9);
}

/// The pages of the specimen that satisfy `which`, by their headers.
fn pages_of(bytes: &[u8], which: impl Fn(&Header) -> bool) -> Vec<u64> {
    let file = File::open(bytes).unwrap();
    let used = check(&file, Rules::Ours, |_, _, _| {});
    used.reachable()
        .iter()
        .filter(|page| file.header(*page).is_ok_and(|header| which(&header)))
        .collect()
}

fn faults(bytes: &[u8]) -> Vec<FaultKind> {
    let file = File::open(bytes).unwrap();
    check(&file, Rules::Bbolt, |_, _, _| {})
        .faults()
        .iter()
        .map(|fault| fault.kind.clone())
        .collect()
}

#[track_caller]
fn assert_fault(bytes: &[u8], expected: &FaultKind) {
    exercise(bytes);
    assert!(faults(bytes).contains(expected), "{:?}", faults(bytes));
}

/// A change to the specimen.
fn altered(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (mut bytes, _) = specimen();
    change(&mut bytes);
    bytes
}

fn at(page: u64, offset: usize) -> usize {
    page as usize * 1024 + offset
}

#[test]
fn circles_are_faults_and_end() {
    let (bytes, _) = specimen();
    let branches = pages_of(&bytes, |header| header.flags == FLAG_BRANCH);
    assert!(branches.len() >= 3);
    for branch in &branches {
        for child in &branches {
            for element in [0, 1] {
                let circle = altered(|bytes| {
                    let place = at(*branch, 16 + 16 * element + 8);
                    bytes[place..place + 8].copy_from_slice(&child.to_le_bytes());
                });
                assert!(circle == bytes || !exercise(&circle));
            }
        }
        let itself = altered(|bytes| {
            bytes[at(*branch, 24)..at(*branch, 32)].copy_from_slice(&branch.to_le_bytes());
        });
        assert_fault(&itself, &FaultKind::Shared);
        let file = File::open(&itself).unwrap();
        assert!(
            file.buckets()
                .unwrap()
                .flatten()
                .any(|(_, bucket)| bucket.iter().any(|entry| entry.is_err()))
        );
    }
}

#[test]
fn wrong_headers_are_faults() {
    let (bytes, _) = specimen();
    let leaf = pages_of(&bytes, |header| header.flags == FLAG_LEAF && header.overflow == 0)[1];
    assert_fault(
        &altered(|bytes| bytes[at(leaf, 0)] ^= 0x80),
        &FaultKind::WrongId { found: leaf ^ 0x80 },
    );
    assert_fault(
        &altered(|bytes| bytes[at(leaf, 8)] = 0x08),
        &FaultKind::WrongType { flags: 0x08 },
    );
    assert_fault(
        &altered(|bytes| bytes[at(leaf, 8)] = 0x03),
        &FaultKind::WrongType { flags: 0x03 },
    );
    assert_fault(
        &altered(|bytes| bytes[at(leaf, 12)..at(leaf, 16)].fill(0xFF)),
        &FaultKind::RunTooLong { overflow: u32::MAX },
    );
    assert_fault(
        &altered(|bytes| bytes[at(leaf, 10)..at(leaf, 12)].fill(0xFF)),
        &FaultKind::TooManyElements { count: 0xFFFF },
    );
    for page in [0, 1] {
        assert_fault(
            &altered(|bytes| bytes[at(page, 8)] = 2),
            &FaultKind::WrongType { flags: 2 },
        );
        assert_fault(
            &altered(|bytes| bytes[at(page, 0)] = 7),
            &FaultKind::WrongId { found: 7 },
        );
    }
    assert!(pages_of(&bytes, |header| header.flags == FLAG_META) == [0, 1]);
}

#[test]
fn wrong_elements_are_faults() {
    let (bytes, _) = specimen();
    let key = pages_of(&bytes, |header| {
        header.flags == FLAG_LEAF && header.count > 4 && header.overflow == 0
    })[0];
    let put = |element: usize, field: usize, value: u32| {
        altered(|bytes| {
            let place = at(key, 16 + 16 * element + 4 * field);
            bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    let out_of_place = |index| FaultKind::ElementOutOfPlace { index };
    assert_fault(&put(2, 1, u32::MAX), &out_of_place(2));
    assert_fault(&put(2, 1, 0), &out_of_place(2));
    assert_fault(&put(2, 2, u32::MAX), &out_of_place(2));
    assert_fault(&put(2, 3, u32::MAX), &out_of_place(2));
    assert_fault(&put(2, 3, 100), &out_of_place(3));
    assert_fault(&put(2, 2, 0), &FaultKind::KeyLength { index: 2, len: 0 });
    assert_fault(&put(2, 0, 1), &FaultKind::ElementFlags { index: 2, flags: 1 });
    assert_fault(&put(2, 0, 4), &FaultKind::ElementFlags { index: 2, flags: 4 });
}

#[test]
fn wrong_order_is_a_fault() {
    let contents: Contents = [(
        b"key".to_vec(),
        (0..200_u64).map(|i| (i.to_be_bytes().to_vec(), vec![9; 20])).collect(),
    )]
    .into();
    let bytes = written(1024, &contents);
    let leaves = pages_of(&bytes, |header| header.flags == FLAG_LEAF && header.count > 4);
    let (leaf, count) = (
        leaves[1],
        File::open(&bytes).unwrap().header(leaves[1]).unwrap().count as usize,
    );
    let key_at = |index: usize| at(leaf, 16 + 16 * count + index * 28);
    let altered = |index: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[key_at(index)] = byte;
        bytes
    };
    assert_fault(&altered(2, 1), &FaultKind::KeyOrder { index: 3 });
    assert_fault(
        &altered(count - 1, 1),
        &FaultKind::KeyRange {
            index: count as u64 - 1,
        },
    );
    let mut first = bytes.clone();
    let before = first[key_at(0)..key_at(0) + 8].to_vec();
    first[key_at(0)..key_at(0) + 8].copy_from_slice(&0_u64.to_be_bytes());
    assert!(before > vec![0; 8]);
    assert_fault(&first, &FaultKind::KeyRange { index: 0 });
}

#[test]
fn a_stored_freelist_must_be_exact() {
    let (bytes, _) = specimen();
    let list = pages_of(&bytes, |header| header.flags == FLAG_FREELIST)[0];
    let leaf = pages_of(&bytes, |header| header.flags == FLAG_LEAF)[0];
    let count = File::open(&bytes).unwrap().header(list).unwrap().count;
    assert!(count >= 2);
    let second = altered(|bytes| bytes.copy_within(at(list, 16)..at(list, 24), at(list, 24)));
    assert_fault(&second, &FaultKind::BadFreePage);
    assert_fault(&second, &FaultKind::Leaked);
    assert_fault(&altered(|bytes| bytes[at(list, 10)] -= 1), &FaultKind::Leaked);
    let given_away = altered(|bytes| bytes[at(list, 16)..at(list, 24)].copy_from_slice(&leaf.to_le_bytes()));
    assert_fault(&given_away, &FaultKind::FreeInUse);
    let beyond = altered(|bytes| bytes[at(list, 16)..at(list, 24)].fill(0xEE));
    assert_fault(&beyond, &FaultKind::BadFreePage);
    let endless = altered(|bytes| bytes[at(list, 10)..at(list, 24)].fill(0xFF));
    assert!(!exercise(&endless));
}

#[test]
fn thin_branches_are_read_but_not_ours() {
    let (mut bytes, contents) = specimen();
    let file = File::open(&bytes).unwrap();
    let branch = pages_of(&bytes, |header| header.flags == FLAG_BRANCH)[0];
    let has_no_list = Meta {
        freelist: None,
        txid: file.meta().txid + 2,
        ..*file.meta()
    };
    bytes.write_at(0, &has_no_list.encode(0)).unwrap();
    bytes[at(branch, 10)..at(branch, 12)].copy_from_slice(&1_u16.to_le_bytes());
    let file = File::open(&bytes).unwrap();
    assert!(check(&file, Rules::Bbolt, |_, _, _| {}).is_sound());
    let report = check(&file, Rules::Ours, |_, _, _| {});
    assert_eq!(report.faults(), [FaultKind::ThinBranch.on(branch)]);
    assert!(read(&file).len() == contents.len());
    assert!(exercise(&bytes));
}

#[test]
fn a_report_names_a_hundred_faults_and_counts_all() {
    let contents: Contents = [(
        b"key".to_vec(),
        (0..5000_u64).map(|i| (i.to_be_bytes().to_vec(), vec![9; 20])).collect(),
    )]
    .into();
    let mut bytes = written(1024, &contents);
    let leaves = pages_of(&bytes, |header| header.flags == FLAG_LEAF && header.count > 4);
    leaves.iter().for_each(|leaf| bytes[at(*leaf, 0)] ^= 1);
    let report = check(&File::open(&bytes).unwrap(), Rules::Bbolt, |_, _, _| {});
    assert_eq!(report.faults().len(), 100);
    assert!(report.fault_count() >= leaves.len() as u64 && leaves.len() > 100);
    assert!(!report.is_sound());
    assert!(matches!(
        Writer::over(Vec::new(), &File::open(&bytes).unwrap(), &report),
        Err(Error::Unsound { .. })
    ));
}
