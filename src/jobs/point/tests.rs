//! Which point is chosen, over stores with real objects.

use jiff::SignedDuration;

use super::*;
use crate::catalog::tests::manifest;
use crate::destinations::Destination;
use crate::layout::Manifest;
use crate::source::test_objects::{Made, Maker, put, revision, time};
use crate::store::Store;
use crate::store::tests::store;

/// Keeps what is told.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<String>>);

impl Listener for Heard {
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn detail(&self, _: &str) {}
}

/// The full backup of the chain that a maker's deltas are of.
fn full(at: i64) -> Manifest {
    let mut full = manifest(0xab, "20261120T101530Z-00000001", at);
    full.first_byte_at = time(at);
    full
}

/// A later one of the same history.
fn later(at: i64) -> Manifest {
    let mut later = manifest(0xab, "20261120T111530Z-00000002", at);
    later.lineage = full(1).lineage;
    later.first_byte_at = time(at);
    later
}

fn put_full(store: &Store, manifest: &Manifest) {
    let object = vec![0; usize::try_from(manifest.stored.bytes).unwrap()];
    store.put_new(&manifest.object_name(), &object).unwrap();
    store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
}

struct There {
    maker: Maker,
    places: Destinations,
    _folder: tempfile::TempDir,
}

fn there(fulls: &[Manifest], objects: impl FnOnce(&Maker) -> Vec<Made>) -> There {
    let ((folder, store), maker) = (store(), Maker::new());
    fulls.iter().for_each(|full| put_full(&store, full));
    put(&store, &objects(&maker));
    let opened = [Destination {
        name: "local".to_owned(),
        store: Ok(store),
    }];
    There {
        maker,
        places: Destinations::read("prod".parse().unwrap(), &opened, None),
        _folder: folder,
    }
}

impl There {
    fn choose(&self, id: Option<&str>, point: &Point) -> Result<(String, Chosen), Failure> {
        self.choose_telling(id, point, &Heard::default())
    }

    fn choose_telling(&self, id: Option<&str>, point: &Point, listener: &Heard) -> Result<(String, Chosen), Failure> {
        let catalog = &self.places.catalog;
        let named = match id {
            Some(id) => catalog.find(id).unwrap(),
            None => catalog.latest().unwrap(),
        };
        let search = Search {
            places: &self.places,
            identities: Some(self.maker.identities()),
            listener,
        };
        let (backup, chosen) = search.choose(named, id.is_some(), point)?;
        Ok((backup.id().suffix().to_owned(), chosen))
    }

    #[track_caller]
    fn at(&self, point: &Point) -> (String, i64) {
        let (id, chosen) = self.choose(None, point).unwrap();
        // Whatever is chosen can be read.
        if let Some(mut changes) = chosen.changes() {
            while changes.next_delta().unwrap().is_some() {}
        }
        (id, chosen.revision.get())
    }

    #[track_caller]
    fn refused(&self, point: &Point) -> String {
        let failure = self.choose(None, point).err().unwrap();
        assert_eq!(failure.exit, Exit::NotFound, "{failure}");
        failure.to_string()
    }
}

fn when(seconds: i64) -> Point {
    Point::Time(ToTime::At(time(0) + SignedDuration::from_millis(seconds * 1000 + 500)))
}

fn two_chains() -> There {
    there(&[full(10), later(40)], |maker| {
        let first = maker.delta(11, 20, 1);
        let second = maker.delta(21, 30, 1);
        let pack = maker.pack(&[first, second]);
        vec![pack, maker.delta(31, 45, 1), maker.mark(45, 9)]
    })
}

#[test]
fn a_revision_is_reached_from_the_newest_full_backup_before_it() {
    let two = two_chains();
    for (wanted, from) in [
        (10, "00000001"),
        (25, "00000001"),
        (39, "00000001"),
        (40, "00000002"),
        (45, "00000001"),
    ] {
        assert_eq!(two.at(&Point::Revision(revision(wanted))), (from.to_owned(), wanted));
    }
    assert_eq!(
        two.at(&Point::OfSource),
        ("00000001".to_owned(), 45),
        "the highest revision"
    );
    let behind = two.refused(&Point::Revision(revision(46)));
    assert!(behind.contains("20261120T101530Z-00000001:45, before it"), "{behind}");
    let before = two.refused(&Point::Revision(revision(9)));
    assert!(before.contains("20261120T101530Z-00000001:10, behind it"), "{before}");
    // A chain that is named is the only one; by itself it is its full backup.
    let (_, named) = two.choose(Some("00000001"), &Point::OfSource).unwrap();
    assert_eq!((named.revision, named.is_behind()), (revision(10), false));
    assert_eq!(
        named.lost().unwrap(),
        "35 revisions behind it, up to revision 45: `latest` in place of the ID restores up to there"
    );
    let (id, named) = two.choose(Some("00000001"), &Point::Revision(revision(40))).unwrap();
    assert_eq!(
        (id.as_str(), named.lost().unwrap().as_str()),
        ("00000001", "5 revisions behind it, up to revision 45")
    );
    let other = two
        .choose(Some("00000002"), &Point::Revision(revision(42)))
        .err()
        .unwrap();
    assert_eq!(other.exit, Exit::NotFound);
    assert!(other.to_string().contains("20261120T101530Z-00000001:42"), "{other}");
}

#[test]
fn a_time_is_the_last_revision_at_or_before_it() {
    let two = two_chains();
    for wanted in 10..39 {
        assert_eq!(two.at(&when(wanted)), ("00000001".to_owned(), wanted), "{wanted}");
    }
    // The later chain has no changes: of it only its full backup is known, from which its own revision is reached.
    assert_eq!(two.at(&when(40)), ("00000002".to_owned(), 40));
    for wanted in 41..45 {
        assert_eq!(two.at(&when(wanted)), ("00000001".to_owned(), wanted), "{wanted}");
    }
    for idle in [46, 50, 53] {
        assert_eq!(two.at(&when(idle)), ("00000001".to_owned(), 45), "nothing was written");
    }
    let behind = two.refused(&when(54));
    assert!(behind.contains("20261120T101530Z-00000001:45 at"), "{behind}");
    let before = two.refused(&when(9));
    assert!(before.contains("20261120T101530Z-00000001:10 at"), "{before}");
}

#[test]
fn a_chain_that_ends_before_a_time_tells_what_was_there_where_another_goes_on_beyond_it() {
    // What came behind 20 was captured again long after, in the chain before: its times are of then.
    let two = there(&[full(10), later(30)], |maker| {
        vec![maker.delta(11, 20, 1), maker.delta_by(21, 60, 1, 100)]
    });
    assert_eq!(two.at(&when(25)), ("00000001".to_owned(), 20));
    for wanted in [30, 35, 119] {
        assert_eq!(two.at(&when(wanted)), ("00000002".to_owned(), 30), "{wanted}");
    }
    assert!(two.refused(&when(160)).contains("00000001:60 at"));
    // Whoever typed no ID is not told to type none.
    let (_, chosen) = two.choose(None, &when(35)).unwrap();
    assert_eq!(chosen.lost().unwrap(), "30 revisions behind it, up to revision 60");
}

#[test]
fn behind_a_hole_nothing_is_known_until_the_next_full_backup() {
    let hole = there(&[full(10), later(40)], |maker| {
        vec![maker.delta(11, 20, 1), maker.delta(25, 30, 1)]
    });
    let refused = hole.refused(&Point::Revision(revision(27)));
    assert!(refused.contains("revisions 21 to 24 are missing"), "{refused}");
    assert!(
        refused.contains(":20 before it and 20261120T111530Z-00000002:40 behind it"),
        "{refused}"
    );
    let refused = hole.refused(&when(27));
    assert!(refused.contains(":20 at") && refused.contains(":40 at"), "{refused}");
    let known = windows(&hole.places);
    assert_eq!(known[0].window.to, revision(20));
    assert_eq!(known[0].to_time, time(20));
    assert_eq!(known[0].ends().as_deref(), Some("revisions 21 to 24 are missing"));
    let stretches = stretches(&known);
    let ends: Vec<_> = stretches
        .iter()
        .map(|one| (one.from.get(), one.to.get(), one.chains))
        .collect();
    assert_eq!(ends, [(10, 20, 1), (40, 40, 1)]);
}

#[test]
fn before_a_deletion_is_the_revision_before_the_last_one() {
    let two = two_chains();
    // Every seventh revision deletes its key: 42 that of 2, 35 that of 0.
    let (id, chosen) = two.choose(None, &Point::BeforeDelete(b"/key/2".to_vec())).unwrap();
    assert_eq!((id.as_str(), chosen.revision), ("00000001", revision(41)));
    let found = chosen.found.unwrap();
    assert!(found.starts_with("revision 42 deleted `/key/2` ("), "{found}");
    assert_eq!(two.at(&Point::BeforeDelete(b"/key/0".to_vec())).1, 34);
    let (_, any) = two.choose(None, &Point::BeforeDeletePrefix(b"/key/".to_vec())).unwrap();
    assert_eq!(any.revision, revision(41));
    assert!(
        any.found
            .unwrap()
            .contains("earlier ones: revision 35 (1 key), 28 (1 key)")
    );
    let refused = two.refused(&Point::BeforeDelete(b"/key/".to_vec()));
    assert!(
        refused.contains("no deletion of `/key/` is in what can be restored (revisions 10 to 45, 40)"),
        "{refused}"
    );
}

#[test]
fn the_time_of_a_point_is_told_where_a_mark_is_of_it_and_no_other() {
    let one = there(&[full(10)], |maker| vec![maker.delta_marked(11, 45, 1, 4)]);
    let told = |key: &str| {
        let (_, chosen) = one.choose(None, &Point::BeforeDelete(key.as_bytes().to_vec())).unwrap();
        chosen.lines().remove(0).1
    };
    // 35 deletes it; the marks around it are of 32 and of 36.
    let between = told("/key/0");
    assert_eq!(
        between,
        format!("revision 34, not after {:.3} ± 2 ms", time(36)),
        "no mark is of it"
    );
    // 21 deletes it; a mark is of 20.
    let marked = told("/key/1");
    assert_eq!(marked, format!("revision 20, as it was at {:.3} ± 2 ms", time(20)));
}

#[test]
fn a_time_is_rfc_3339_or_a_span_ago() {
    let now: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
    for (text, time) in [
        ("2026-11-20T10:15:30Z", "2026-11-20T10:15:30Z"),
        ("2026-11-20T11:15:30.5+01:00", "2026-11-20T10:15:30.5Z"),
        ("15m ago", "2026-11-20T10:00:30Z"),
        ("1h 5m ago", "2026-11-20T09:10:30Z"),
        ("36h ago", "2026-11-18T22:15:30Z"),
    ] {
        assert_eq!(ToTime::parse(text).unwrap().time(now), time.parse().unwrap(), "{text}");
    }
    for text in ["", "15m", "yesterday", "2026-11-20", "15 ago", "ago"] {
        assert!(ToTime::parse(text).is_err(), "{text}");
    }
    assert!(ToTime::parse("15m").unwrap_err().contains("15m ago"));
}

/// What is found there, and whether it is told that clocks differ.
fn told_of(there: &There, seconds: i64) -> (Option<i64>, bool) {
    let heard = Heard::default();
    let found = there.choose_telling(None, &when(seconds), &heard);
    let told = heard.0.lock().unwrap().join("; ");
    (
        found.ok().map(|(_, chosen)| chosen.revision.get()),
        told.contains("the clocks of the hosts"),
    )
}

#[test]
fn by_a_clock_that_is_behind_nothing_is_taken_that_came_later() {
    // The second of three hosts is 1000 s behind.
    let three = there(&[full(10)], |maker| {
        let deltas = [
            (11, 15, 1, 0),
            (16, 20, 1, 0),
            (21, 25, 2, -1000),
            (26, 30, 2, -1000),
            (31, 35, 3, 0),
            (36, 40, 3, 0),
        ];
        deltas
            .map(|(from, to, epoch, ahead)| maker.delta_by(from, to, epoch, ahead))
            .to_vec()
    });
    for (wanted, found) in [(13, 13), (18, 18), (20, 20), (23, 20), (28, 20), (33, 33), (38, 38)] {
        assert_eq!(told_of(&three, wanted), (Some(found), true), "{wanted}");
    }
    // The times of its own are before the backup.
    assert_eq!(told_of(&three, 23 - 1000).0, None);
}

#[test]
fn by_a_clock_that_is_ahead_less_is_taken_and_that_is_told() {
    let three = there(&[full(10)], |maker| {
        let deltas = [(11, 15, 1, 0), (16, 20, 2, 1000), (21, 25, 3, 0), (26, 30, 3, 0)];
        deltas
            .map(|(from, to, epoch, ahead)| maker.delta_by(from, to, epoch, ahead))
            .to_vec()
    });
    for (wanted, found) in [(13, 13), (18, 15), (28, 15), (1017, 17)] {
        assert_eq!(told_of(&three, wanted), (Some(found), true), "{wanted}");
    }
}

#[test]
fn of_hosts_whose_clocks_are_equal_nothing_is_told() {
    let two = there(&[full(10)], |maker| {
        let deltas = [(11, 15, 1), (13, 18, 2), (16, 22, 1), (19, 30, 2)];
        deltas.map(|(from, to, epoch)| maker.delta(from, to, epoch)).to_vec()
    });
    for wanted in 10..30 {
        assert_eq!(told_of(&two, wanted), (Some(wanted), false));
    }
}
