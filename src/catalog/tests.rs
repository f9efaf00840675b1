//! Catalogs from listings, and the fixture that other tests of the module build theirs with.

use super::*;
use crate::layout::Check;
pub(crate) use crate::layout::manifest::tests::manifest;
use crate::model::LineageId;

/// A destination under construction, as a store would list it.
#[derive(Default)]
pub(crate) struct Fixture {
    objects: Vec<ListedObject>,
    documents: Vec<Document>,
}

impl Fixture {
    pub(crate) fn list(mut self, path: &str, bytes: u64) -> Self {
        self.objects.push(ListedObject {
            name: Listed::file(path),
            bytes,
            modified: Timestamp::UNIX_EPOCH,
        });
        self
    }

    pub(crate) fn document(self, name: &ObjectName, bytes: Vec<u8>) -> Self {
        let mut fixture = self.list(&name.to_string(), bytes.len() as u64);
        fixture.documents.push(Document {
            name: name.clone(),
            content: Ok(bytes),
        });
        fixture
    }

    /// Everything so far was written then.
    fn written(mut self, time: &str) -> Self {
        for object in &mut self.objects {
            object.modified = time.parse().unwrap();
        }
        self
    }

    pub(crate) fn backup(self, manifest: &Manifest) -> Self {
        self.list(&manifest.object_name().to_string(), manifest.stored.bytes)
            .document(&manifest.name(), manifest.to_bytes())
    }

    /// What has this name is this instead of its bytes.
    pub(crate) fn instead(mut self, name: &ObjectName, fault: Fault) -> Self {
        for document in self.documents.iter_mut().filter(|document| document.name == *name) {
            document.content = Err(fault.clone());
        }
        self
    }

    pub(crate) fn rotten(self, manifest: &Manifest) -> Self {
        self.list(&manifest.object_name().to_string(), manifest.stored.bytes)
            .document(&manifest.name(), b"rotten".to_vec())
    }

    pub(crate) fn check(self, manifest: &Manifest, time: &str, ok: bool, proof: Proof) -> Self {
        let checked_at = time.parse().unwrap();
        let name = ObjectName::Check(manifest.chain_path(), checked_at, HostName::nearest("a"));
        let check = Check {
            format: FORMAT,
            chain: manifest.chain.clone(),
            revision: manifest.to_revision,
            checked_at,
            host: "a".to_owned(),
            ok,
            proof,
            faults: if ok { Vec::new() } else { vec!["page 7".to_owned()] },
        };
        self.document(&name, check.to_bytes())
    }

    pub(crate) fn accepted(self, number: u32, accepted: &LineageId, known: &[&LineageId], time: &str) -> Self {
        let acceptance = Acceptance {
            format: FORMAT,
            accepted: accepted.clone(),
            known: known.iter().map(|&id| id.clone()).collect(),
            accepted_at: time.parse().unwrap(),
            host: "a".to_owned(),
            note: None,
        };
        self.document(&ObjectName::Acceptance(number), acceptance.to_bytes())
    }

    pub(crate) fn catalog(self, destination: &str) -> Catalog {
        self.catalog_under(destination, &Authority::anybody(&"prod".parse().unwrap()))
    }

    /// As a store reads it.
    pub(crate) fn catalog_under(self, destination: &str, authority: &Authority) -> Catalog {
        let pins = PinsCount::under(authority);
        let mut understood = Vec::new();
        for wanted in Catalog::wanted(&self.objects, pins) {
            for name in wanted.in_order() {
                let document = self.documents.iter().find(|document| document.name == *name);
                let Some(document) = document else { break };
                let document = document.clone().understand(authority);
                let goes_on = document.is_strange();
                understood.push(document);
                if !goes_on {
                    break;
                }
            }
        }
        Catalog::of_destination(destination, &self.objects, pins, understood)
    }
}

fn first() -> Manifest {
    manifest(0xab, "20261120T101530Z-00000001", 10)
}

fn second() -> Manifest {
    manifest(0xab, "20261120T111530Z-00000002", 20)
}

fn standings(catalog: &Catalog) -> Vec<Proof> {
    catalog.backups().iter().map(Backup::proof).collect()
}

#[test]
fn backups_are_in_the_order_in_which_they_were_begun() {
    let catalog = Fixture::default().backup(&second()).backup(&first()).catalog("local");
    let ids: Vec<_> = catalog.backups().iter().map(|b| b.id().as_str()).collect();
    assert_eq!(ids, ["20261120T101530Z-00000001", "20261120T111530Z-00000002"]);
    assert_eq!(standings(&catalog), [Proof::Stored, Proof::Stored]);
    assert!(catalog.damaged().is_empty() && catalog.incomplete().is_empty());
}

#[test]
fn damaged_incomplete_and_foreign_objects_are_reported() {
    let without_manifest = manifest(0xab, "20261120T121530Z-00000003", 30);
    let catalog = Fixture::default()
        .backup(&first())
        .rotten(&second())
        .list(&without_manifest.object_name().to_string(), 5)
        .list("lost+found/x", 1)
        .list("store.json", 1)
        .catalog("local");
    assert_eq!(catalog.backups().len(), 1);
    assert_eq!(catalog.damaged().len(), 1);
    assert_eq!(catalog.damaged()[0].object, second().name());
    assert_eq!(catalog.incomplete().len(), 1);
    assert_eq!(catalog.incomplete()[0].chain, without_manifest.chain_path());
    assert!(catalog.foreign().eq(["lost+found/x"]));
}

#[test]
fn a_manifest_that_the_store_cannot_read_is_damaged() {
    let mut fixture = Fixture::default().backup(&first());
    fixture.documents[0].content = Err(Fault::Unreadable {
        detail: "input/output error".to_owned(),
    });
    let catalog = fixture.catalog("local");
    assert!(catalog.backups().is_empty());
    let detail = "input/output error".to_owned();
    assert_eq!(catalog.damaged()[0].fault, Fault::Unreadable { detail });
}

#[test]
fn a_backup_whose_object_is_missing_or_short_is_bad() {
    let (whole, cut) = (first(), second());
    let catalog = Fixture::default()
        .document(&whole.name(), whole.to_bytes())
        .list(&cut.object_name().to_string(), cut.stored.bytes - 1)
        .document(&cut.name(), cut.to_bytes())
        .catalog("local");
    assert_eq!(standings(&catalog), [Proof::None, Proof::None]);
}

#[test]
fn the_newest_check_decides() {
    let (a, b) = (first(), second());
    let catalog = Fixture::default()
        .backup(&a)
        .check(&a, "2026-11-22T00:00:00Z", false, Proof::None)
        .check(&a, "2026-11-21T00:00:00Z", true, Proof::HashKv)
        .backup(&b)
        .check(&b, "2026-11-21T00:00:00Z", false, Proof::None)
        .check(&b, "2026-11-22T00:00:00Z", true, Proof::Content)
        .catalog("local");
    assert_eq!(standings(&catalog), [Proof::None, Proof::Content]);
    assert_eq!(
        catalog.backups()[0].copies[0].standing,
        Standing::Bad(vec!["page 7".to_owned()])
    );
}

#[test]
fn a_backup_is_of_its_slot_unless_it_was_there_well_before_it() {
    let slot = SlotPath::new("hourly".parse().unwrap(), "2026-11-20T11:00:00Z".parse().unwrap());
    let mut taken = second();
    (taken.schedule, taken.slot) = (Some("hourly".to_owned()), Some(slot.instant()));
    let bad = |fixture: Fixture| fixture.check(&taken, "2026-11-22T00:00:00Z", false, Proof::None);
    let seen = |fixture: Fixture, destination: &str, host: &str| {
        let store = "2026-11-20T11:16:00Z".parse().unwrap();
        let host = host.parse().unwrap();
        let clocks = Clocks { host, store };
        fixture.catalog("nas").of_slot(&slot, destination, clocks).count()
    };
    let of_slot = |fixture, destination| seen(fixture, destination, "2026-11-20T11:16:00Z");
    let written = |time: &str| Fixture::default().backup(&first()).backup(&taken).written(time);
    assert_eq!(of_slot(written("2026-11-20T11:15:30Z"), "nas"), 1);
    assert_eq!(of_slot(written("2026-11-20T11:15:30Z"), "local"), 0);
    assert_eq!(of_slot(bad(written("2026-11-20T11:15:30Z")), "nas"), 0);
    assert_eq!(
        of_slot(written("2026-11-19T11:15:30Z"), "nas"),
        0,
        "the clock of its host was a day ahead"
    );
    let ahead = "2026-11-21T11:16:00Z";
    assert_eq!(
        seen(written("2026-11-19T11:15:30Z"), "nas", ahead),
        1,
        "as is that of this one"
    );
}

#[test]
fn a_pin_counts_whatever_is_in_it() {
    let a = first();
    let catalog = Fixture::default()
        .backup(&a)
        .list(&ObjectName::Pin(a.chain_path()).to_string(), 0)
        .backup(&second())
        .catalog("local");
    assert!(catalog.backups()[0].is_pinned());
    assert!(!catalog.backups()[1].is_pinned());
}

#[test]
fn two_full_manifests_in_one_chain_are_both_damaged() {
    let a = first();
    let mut b = a.clone();
    b.to_revision = Revision::new(11).unwrap();
    b.from_revision = b.to_revision;
    b.hash_kv = None;
    let catalog = Fixture::default()
        .backup(&a)
        .document(&b.name(), b.to_bytes())
        .catalog("local");
    assert!(catalog.backups().is_empty());
    let other = |m: &Manifest| Fault::NotAlone {
        other: m.name().to_string(),
    };
    let faults: Vec<_> = catalog.damaged().iter().map(|d| (&d.object, &d.fault)).collect();
    assert_eq!(faults, [(&a.name(), &other(&b)), (&b.name(), &other(&a))]);
}

#[test]
fn the_same_backup_in_two_destinations_is_one_with_two_copies() {
    let (a, b) = (first(), second());
    let merged = Catalog::merge([
        Fixture::default().backup(&b).catalog("local"),
        Fixture::default()
            .backup(&a)
            .backup(&b)
            .check(&b, "2026-11-22T00:00:00Z", false, Proof::None)
            .catalog("far"),
    ]);
    let seen: Vec<_> = merged
        .backups()
        .iter()
        .map(|backup| (backup.id(), backup.destinations().collect::<Vec<_>>()))
        .collect();
    assert_eq!(seen, [(&a.chain, vec!["far"]), (&b.chain, vec!["local", "far"])]);
    assert_eq!(
        standings(&merged),
        [Proof::Stored, Proof::Stored],
        "one good copy is enough"
    );
}

#[test]
fn of_two_unequal_manifests_the_later_destinations_is_damaged() {
    let a = first();
    let mut forged = a.clone();
    forged.keys = Some(0);
    let merged = Catalog::merge([
        Fixture::default().backup(&a).catalog("local"),
        Fixture::default().backup(&forged).catalog("far"),
    ]);
    assert_eq!(merged.backups().len(), 1);
    assert!(merged.backups()[0].manifest().is_of(&a.to_bytes()));
    assert_eq!(merged.backups()[0].destinations().collect::<Vec<_>>(), ["local"]);
    let other = "local".to_owned();
    let told: Vec<_> = merged
        .damaged()
        .iter()
        .map(|told| (&*told.destination, &told.object, &told.fault))
        .collect();
    assert_eq!(told, [("far", &a.name(), &Fault::Differs { other })]);
}

#[test]
fn a_check_of_another_chain_is_damaged() {
    let (a, b) = (first(), second());
    let name = ObjectName::Check(a.chain_path(), Timestamp::UNIX_EPOCH, HostName::nearest("a"));
    let check = Check {
        format: FORMAT,
        chain: b.chain,
        revision: a.to_revision,
        checked_at: Timestamp::UNIX_EPOCH,
        host: "a".to_owned(),
        ok: false,
        proof: Proof::None,
        faults: Vec::new(),
    };
    let catalog = Fixture::default()
        .backup(&a)
        .document(&name, check.to_bytes())
        .catalog("local");
    assert_eq!(standings(&catalog), [Proof::Stored]);
    assert_eq!(catalog.damaged()[0].object, name);
}

#[test]
fn a_new_chain_comes_after_those_of_the_same_second() {
    let first = manifest(1, "20261120T101530Z-9f3c4a1b", 7);
    let catalog = Fixture::default().backup(&first).catalog("local");
    let last = &first.chain;
    for random in [0, 1, u32::MAX / 2, u32::MAX] {
        let next = catalog.next_chain(last.started_at(), random);
        assert!(next > *last, "{next} after {last}");
        assert_eq!(next.started_at(), last.started_at());
    }
    let later = last.started_at() + jiff::SignedDuration::from_secs(1);
    assert_eq!(catalog.next_chain(later, 7), ChainId::new(later, 7));
    assert_eq!(Catalog::default().next_chain(later, 7), ChainId::new(later, 7));
}

#[test]
fn a_copy_that_is_taken_in_has_its_place_and_is_not_doubled() {
    let a = first();
    let bad = Fixture::default()
        .backup(&a)
        .check(&a, "2026-11-22T00:00:00Z", false, Proof::None);
    let mut catalog = Catalog::merge([Fixture::default().backup(&a).catalog("far"), bad.catalog("nas")]);
    for name in ["local", "nas", "zoo", "alone"] {
        catalog.add_copies(name, &[&a.chain].into(), Pinned::Yes, Asked::ReadBack);
    }
    let copies = &catalog.backups()[0].copies;
    let names: Vec<_> = copies.iter().map(|copy| copy.destination.as_str()).collect();
    assert_eq!(names, ["alone", "far", "local", "nas", "zoo"]);
    assert_eq!(copies[3].standing.proof(), Proof::None, "what is there stays as it is");
    assert_eq!((copies[2].pinned, copies[3].pinned), (Pinned::Yes, Pinned::No));
}

#[test]
fn deltas_without_a_full_backup_before_them_are_named() {
    let (full, lost) = (
        manifest(0xab, "20261120T101530Z-00000001", 10),
        manifest(0xab, "20261121T101530Z-00000002", 20),
    );
    let delta = |of: &Manifest, from: i64, to: i64| {
        let span = crate::layout::Span::new(Revision::new(from).unwrap(), Revision::new(to).unwrap()).unwrap();
        ObjectName::Delta(of.chain_path(), span, crate::layout::Epoch(1)).to_string()
    };
    let catalog = Fixture::default()
        .backup(&full)
        .list(&delta(&full, 11, 15), 5)
        .list(&delta(&lost, 21, 25), 6)
        .list(&delta(&lost, 26, 40), 7)
        .catalog("local");
    let [headless] = catalog.headless() else {
        panic!("{:?}", catalog.headless())
    };
    assert_eq!(headless.chain, lost.chain_path());
    assert_eq!((headless.objects, headless.bytes), (2, 13));
    assert_eq!((headless.span.from().get(), headless.span.to().get()), (21, 40));
}
