use super::*;
use crate::layout::delta::tests::header;
use crate::layout::delta::{Gap, GapReason, Header};
use crate::source::test_objects::{Made, Maker, put, revision};
use crate::store::tests::store;

struct Case {
    maker: Maker,
    _root: tempfile::TempDir,
    store: Store,
    deltas: [Made; 3],
}

/// Three deltas behind a full backup of revision 10.
fn case() -> Case {
    let ((root, store), maker) = (store(), Maker::new());
    let deltas = [maker.delta(11, 20, 1), maker.delta(21, 30, 1), maker.delta(31, 40, 1)];
    put(&store, &deltas);
    Case {
        maker,
        _root: root,
        store,
        deltas,
    }
}

impl Case {
    fn links(&self) -> Vec<Link> {
        Link::listed(self.store.list_chain(&self.maker.belongs().chain).unwrap())
    }

    fn look(&self, opens: bool, links: &[Link], may_begin: &dyn Fn() -> bool) -> Option<Behind> {
        let identities = self.maker.identities();
        let chain = Chain {
            store: &self.store,
            belongs: self.maker.belongs(),
            base: revision(10),
            manifest: Digest([3; 32]),
            links,
            identities: opens.then_some(&*identities),
            begin_with: 0,
        };
        let going = Going {
            each: &mut |_| ControlFlow::Continue(()),
            may_begin,
        };
        behind(&chain, &mut Opened::default(), going)
    }

    fn found(&self, opens: bool) -> Behind {
        self.look(opens, &self.links(), &|| true).unwrap()
    }

    /// What is wrong, whether it is opened or not: the object, a word of what is said of it, and what is good before it.
    #[track_caller]
    fn is_wrong(&self, expected: &[(Option<&ObjectName>, &str, Option<i64>)], good_to: i64) {
        for opens in [false, true] {
            let found = self.found(opens);
            let faults = &found.faults;
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, (object, word, good)) in faults.iter().zip(expected) {
                assert_eq!(fault.object.as_ref(), *object, "{fault:?}");
                assert!(fault.what.contains(word), "{fault:?}");
                assert_eq!(fault.good_to, good.map(revision), "{fault:?}");
            }
            assert_eq!(found.good_to, revision(good_to), "{faults:?}");
            assert!(found.unread.is_empty(), "{:?}", found.unread);
        }
    }

    fn spoil(&self, name: &ObjectName, how: impl FnOnce(&mut Vec<u8>)) {
        let path = self.store.path_of(name);
        let mut bytes = std::fs::read(&path).unwrap();
        how(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_whole_chain_is_proven_and_each_delta_opened_once() {
    let case = case();
    put(&case.store, [&case.maker.pack(&case.deltas), &case.maker.mark(40, 9)]);
    case.is_wrong(&[], 40);
    let found = case.found(true);
    assert_eq!((found.objects, found.left, found.is_opened), (5, 0, true));
    assert_eq!((found.listed_to, found.good_to), (revision(40), revision(40)));
    let stored: u64 = case.links().iter().map(|link| link.bytes).sum();
    assert_eq!(found.bytes, stored);
    // The keys of another open nothing, and what is stored is as it was all the same.
    let other = Maker::new().identities();
    let links = case.links();
    let chain = Chain {
        store: &case.store,
        belongs: case.maker.belongs(),
        base: revision(10),
        manifest: Digest([3; 32]),
        links: &links,
        identities: Some(&other),
        begin_with: 3,
    };
    let going = Going {
        each: &mut |_| ControlFlow::Continue(()),
        may_begin: &|| true,
    };
    let found = behind(&chain, &mut Opened::default(), going).unwrap();
    assert!(found.unopened.is_some() && !found.is_opened && found.faults.is_empty());
    assert_eq!(found.objects, 5);
}

#[test]
fn what_is_damaged_or_missing_is_named_with_what_is_good_before_it() {
    type Spoil = fn(&mut Vec<u8>);
    let spoilt: [(&str, Spoil); 5] = [
        ("stored bytes", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("first bytes", |bytes| bytes.fill(0)),
        ("stored bytes", |bytes| bytes.truncate(bytes.len() - 1)),
        ("first bytes", |bytes| bytes.truncate(40)),
        ("stored bytes", |bytes| bytes.push(0)),
    ];
    for (word, how) in spoilt {
        let case = case();
        let name = &case.deltas[1].0;
        case.spoil(name, how);
        case.is_wrong(&[(Some(name), word, Some(20))], 20);
    }
    let case = case();
    case.store.remove(&case.deltas[1].0).unwrap();
    case.is_wrong(&[(None, "revisions 21 to 30", Some(20))], 20);
}

#[test]
fn what_a_mark_has_seen_is_missing_where_the_last_delta_is() {
    let case = case();
    put(&case.store, [&case.maker.mark(40, 9)]);
    case.store.remove(&case.deltas[2].0).unwrap();
    case.is_wrong(&[(None, "revisions 31 to 40", Some(30))], 30);
}

#[test]
fn behind_an_end_that_was_gone_on_with_what_is_missing_is_missing() {
    let case = case();
    let chain = case.maker.belongs().chain;
    // There the chain was gone on with.
    let (at, why) = (revision(21), (GapReason::ClusterChanged, "restored".to_owned()));
    let now = "2026-11-20T10:15:30Z".parse().unwrap();
    let ends = Gap::new(chain.chain.clone(), at, why, now, header(1, 1).writer);
    let name = ObjectName::Gap(chain, at, Epoch(1));
    case.store.put_new(&name, &ends.to_bytes()).unwrap();
    put(&case.store, [&case.maker.mark(40, 9)]);
    case.store.remove(&case.deltas[2].0).unwrap();
    case.is_wrong(&[(None, "revisions 31 to 40", Some(30))], 30);
}

#[test]
fn every_byte_of_a_pack_counts_and_what_others_hold_is_not_lost() {
    let whole = case();
    let pack = whole.maker.pack(&whole.deltas);
    // In the second delta, in the index, and behind its end.
    let head = Head::read(&pack.0, &pack.1).unwrap();
    let second = usize::try_from(head.body).unwrap() + whole.deltas[0].1.len() + whole.deltas[1].1.len() - 1;
    for at in [second, pack.1.len() - 1, pack.1.len()] {
        put(&whole.store, [&pack]);
        whole.spoil(&pack.0, |bytes| match bytes.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        });
        whole.is_wrong(&[(Some(&pack.0), "damaged", None)], 40);
        whole.store.remove(&pack.0).unwrap();
    }
    // It holds less than its name says.
    let holed = whole.maker.pack(&[whole.deltas[0].clone(), whole.deltas[2].clone()]);
    put(&whole.store, [&holed]);
    whole.is_wrong(&[(Some(&holed.0), "revision 21 is not in it", None)], 40);
    for (name, _) in &whole.deltas {
        whole.store.remove(name).unwrap();
    }
    whole.is_wrong(&[(Some(&holed.0), "revision 21 is not in it", Some(10))], 10);
}

#[test]
fn with_a_key_a_change_that_follows_nothing_is_found() {
    let case = case();
    let name = &case.deltas[1].0;
    case.store.remove(name).unwrap();
    // By itself it is whole, and it is not what was there before.
    let (other, bytes) = case.maker.with_lives_from(21, 30, 1);
    assert_eq!(other, *name);
    case.store.put_new(name, &bytes).unwrap();
    assert!(case.found(false).faults.is_empty());
    let found = case.found(true);
    let [fault] = &found.faults[..] else {
        panic!("{found:?}")
    };
    assert!(fault.what.contains("does not follow what is before it"), "{fault:?}");
    assert_eq!((fault.object.as_ref(), fault.good_to), (Some(name), Some(revision(20))));
}

#[test]
fn a_delta_names_the_one_before_it() {
    let case = case();
    let of = |index: usize| Head::read(&case.deltas[index].0, &case.deltas[index].1).unwrap();
    let again = |index: usize, number, previous| {
        let Head { header, body, .. } = of(index);
        let header = Header {
            number,
            previous,
            ..header
        };
        let name = &case.deltas[index].0;
        let mut bytes = Header::head(header.kind, &header.to_document());
        bytes.extend_from_slice(&case.deltas[index].1[usize::try_from(body).unwrap()..]);
        case.store.remove(name).unwrap();
        case.store.put_new(name, &bytes).unwrap();
        Head::read(name, &bytes).unwrap().digest()
    };
    let first = again(0, 1, Some(Digest([3; 32])));
    let second = again(1, 2, Some(first));
    again(2, 3, Some(second));
    case.is_wrong(&[], 40);
    again(2, 3, Some(first));
    case.is_wrong(&[(Some(&case.deltas[2].0), "what is before it", Some(30))], 30);
}

#[test]
fn what_was_packed_meanwhile_is_found_again_and_what_is_gone_is_no_fault() {
    let case = case();
    let before = case.links();
    put(&case.store, [&case.maker.pack(&case.deltas)]);
    for (name, _) in &case.deltas {
        case.store.remove(name).unwrap();
    }
    let found = case.look(true, &before, &|| true).unwrap();
    assert!(found.faults.is_empty() && found.unread.is_empty(), "{found:?}");
    assert_eq!((found.objects, found.good_to), (1, revision(40)));
    case.store.remove(&case.maker.pack(&case.deltas).0).unwrap();
    assert!(case.look(true, &before, &|| true).is_none(), "the chain is gone");
}

#[test]
fn without_time_no_object_is_begun_and_nothing_is_called_wrong() {
    let case = case();
    let asked = std::cell::Cell::new(0);
    let once = || asked.replace(asked.get() + 1) == 0;
    let found = case.look(true, &case.links(), &once).unwrap();
    assert_eq!((found.objects, found.left), (1, 2));
    assert!(found.faults.is_empty(), "{found:?}");
}
