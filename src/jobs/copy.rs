//! A destination that was away, or is slower than the others, gets what it lacks from one that has it; and what an operator has
//! copied (`by_hand`).

pub mod by_hand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Listener, host};
use crate::backup::{DestinationError, Outcome, is_left_behind};
use crate::catalog::{self, Backup, BackupCopy, Catalog, Newness, Pinned, Standing, last_change};
use crate::config::{Config, Kind};
use crate::copy::{self, Copied};
use crate::destinations::{Destinations, ManifestError};
use crate::error_chain::with_causes;
use crate::layout::{ObjectName, SlotPath};
use crate::model::LineageId;
use crate::prune::{self, Target};

/// For so many times as long as a writer says something at the latest, it is taken for one that writes.
const PATIENCE: u32 = 5;
/// And for no less.
const LEAST_PATIENCE: Duration = Duration::from_secs(120);

/// The backups that schedules of this configuration owe to a destination, and that others have, in the order in which
/// they were begun: one for each slot of which it has none, as far as its retention would keep it. Of slots before it was fed
/// (`fed_since`) nothing is owed to it; where that is not known, all is.
pub fn lacking<'a>(
    config: &Config,
    destinations: &'a Destinations,
    name: &str,
    fed_since: Option<Timestamp>,
) -> Vec<&'a Backup> {
    let Some(store) = destinations.stores.get(name) else {
        return Vec::new();
    };
    let catalog = &destinations.catalog;
    let slot_of = |backup: &'a Backup| backup.manifest().slot.as_deref();
    let here = |backup: &&Backup| backup.destinations().any(|destination| destination == name);
    let mut has: BTreeSet<&SlotPath> = catalog.backups().iter().filter(here).filter_map(slot_of).collect();
    let owed = |slot: &SlotPath| {
        let mut schedules = config.schedules.iter();
        let is_before = fed_since.is_some_and(|since| slot.instant() < since);
        !is_before
            && schedules.any(|(schedule, configured)| {
                configured.kind == Kind::Full
                    && schedule.as_str() == slot.schedule().as_str()
                    && configured
                        .destinations
                        .iter()
                        .any(|destination| destination.as_str() == name)
            })
    };
    // What was made anew for other recipients is of the same slot, and the one that is owed; and the one before it, too, if
    // changes follow it.
    let led = catalog.led();
    let gets_deltas = gets_deltas(config, name);
    let absent = catalog.backups().iter().filter(|backup| {
        let is_led = led.contains(&backup.manifest().chain_path());
        let mut good = backup.copies.iter().filter(|copy| copy.is_good()).peekable();
        good.peek().is_some()
            && slot_of(backup).is_some_and(|slot| {
                owed(slot)
                    && match is_led {
                        false => has.insert(slot),
                        true => gets_deltas && !here(backup) && good.any(is_followed),
                    }
            })
    });
    let absent: Vec<&Backup> = absent.collect();
    let policy = config.destinations.iter().find(|(known, _)| known.as_str() == name);
    let Some(policy) = policy.and_then(|(_, found)| found.retention.as_ref()) else {
        return absent;
    };
    // What retention has removed there, or would remove at once, is not owed any more.
    let mut with_all = catalog.clone();
    let ids = absent.iter().map(|backup| backup.id()).collect();
    with_all.add_copies(name, &ids, Pinned::No, store.asked());
    for backup in &absent {
        for source in backup.copies.iter().filter(|copy| copy.is_good()) {
            with_all.add_links(name, backup.id(), &source.destination);
        }
    }
    let target = Target {
        destination: name,
        store,
        policy,
    };
    let kept = prune::kept_by_policy(target, &with_all, host::now(), &TimeZone::system());
    let leaders = with_all.led_in(name);
    let is_kept = |backup: &&Backup| {
        let leader = leaders.get(&backup.manifest().chain_path());
        kept.contains(leader.map_or(backup.id(), |leader| &leader.chain))
    };
    absent.into_iter().filter(is_kept).collect()
}

/// The backups that a destination which gets deltas has, without all of what follows them elsewhere: it was away while that was
/// written. Only those that capture has left there: what is missing of the one that is written comes from who writes it.
pub fn lacking_links<'a>(config: &Config, destinations: &'a Destinations, name: &str) -> Vec<&'a Backup> {
    if !gets_deltas(config, name) || !destinations.stores.contains_key(name) {
        return Vec::new();
    }
    let catalog = &destinations.catalog;
    let gone_over_to = gone_over_to(catalog, name);
    let lacking = catalog.backups().iter().filter(|backup| {
        let (here, others): (Vec<_>, Vec<_>) = backup.copies.iter().partition(|copy| copy.destination == name);
        is_left(&gone_over_to, backup)
            && here.first().is_some_and(|here| {
                here.is_good()
                    && others
                        .into_iter()
                        .any(|other| other.is_good() && lacks(names(here), other))
            })
    });
    lacking.collect()
}

/// Whether the copy of a backup in the destination `to` lacks what follows it in `from`, and nobody is about to bring that: whoever
/// writes the chain there brings what comes at its end.
pub fn lacks_links(config: &Config, destinations: &Destinations, backup: &Backup, from: &str, to: &str) -> bool {
    let copy_in = |name: &str| backup.copies.iter().find(|copy| copy.destination == name);
    let (Some(source), Some(copy)) = (copy_in(from), copy_in(to)) else {
        return false;
    };
    if !lacks(names(copy), source) {
        return false;
    }
    if !is_written(config, destinations, backup, copy) {
        return true;
    }
    let last = last_change(names(copy));
    let lacking = catalog::lacking(names(source), names(copy)).into_iter();
    let mut spans = lacking.filter_map(ObjectName::span);
    spans.any(|span| last.is_some_and(|last| span.from() <= last))
}

/// How many bytes are read and written to bring a backup, or what it lacks, from one destination to another, about.
pub fn work(backup: &Backup, from: &str, to: &str) -> u64 {
    let copy_in = |name: &str| backup.copies.iter().find(|copy| copy.destination == name);
    let Some(source) = copy_in(from) else { return 0 };
    let copy = copy_in(to);
    let stored = copy.map_or(backup.manifest().stored.bytes, |_| 0);
    let lacking = catalog::lacking(names(source), copy.into_iter().flat_map(names));
    let lacking: BTreeSet<&ObjectName> = lacking.into_iter().collect();
    let links = source.links.iter().filter(|link| lacking.contains(&link.name));
    let links = links.fold(0_u64, |sum, link| sum.saturating_add(link.bytes));
    stored.saturating_add(links).saturating_mul(2)
}

/// Whether deltas of this configuration go to a destination.
fn gets_deltas(config: &Config, name: &str) -> bool {
    let mut destinations = config.deltas.destinations.iter();
    config.deltas.enabled && destinations.any(|destination| destination.as_str() == name)
}

fn names(copy: &BackupCopy) -> impl Iterator<Item = &ObjectName> {
    copy.links.iter().map(|link| &link.name)
}

/// Whether something of what follows a copy is not among the names; a word who writes is of no use by itself.
fn lacks<'a>(here: impl Iterator<Item = &'a ObjectName>, there: &BackupCopy) -> bool {
    let lacking = catalog::lacking(names(there), here);
    lacking.iter().any(|name| !matches!(name, ObjectName::Epoch(..)))
}

/// Whether changes follow a backup in a destination: nothing else leads to their points.
pub fn is_followed(copy: &BackupCopy) -> bool {
    last_change(names(copy)).is_some()
}

/// Of each history the newest backup behind which something was captured in a destination.
fn gone_over_to<'a>(catalog: &'a Catalog, name: &str) -> BTreeMap<&'a LineageId, Newness<'a>> {
    let mut newest = BTreeMap::new();
    for backup in catalog.backups() {
        let mut here = backup.copies.iter().filter(|copy| copy.destination == name);
        let is_content = |name: &ObjectName| !matches!(name, ObjectName::Epoch(..));
        if here.any(|copy| names(copy).any(is_content)) {
            let known = newest.entry(&backup.manifest().lineage).or_insert(backup.newness());
            *known = backup.newness().max(*known);
        }
    }
    newest
}

/// Whether something was captured behind a newer one.
fn is_left(gone_over_to: &BTreeMap<&LineageId, Newness<'_>>, backup: &Backup) -> bool {
    let newest = gone_over_to.get(&backup.manifest().lineage);
    newest.is_some_and(|newest| *newest > backup.newness())
}

/// Whether a chain is one that somebody writes in the destination of this copy, as far as its names and the store's clock tell.
fn is_written(config: &Config, destinations: &Destinations, backup: &Backup, copy: &BackupCopy) -> bool {
    let name = copy.destination.as_str();
    if !gets_deltas(config, name) || is_left(&gone_over_to(&destinations.catalog, name), backup) {
        return false;
    }
    let last = copy.links.iter().map(|link| link.written_at).max();
    let now = destinations.stores.get(name).and_then(|store| store.now().ok());
    let deltas = &config.deltas;
    let patience = (deltas.mark_every.max(deltas.every) * PATIENCE).max(LEAST_PATIENCE);
    match (now, last) {
        (Some(now), Some(last)) => now.duration_since(last).unsigned_abs() < patience,
        (None, _) | (_, None) => false,
    }
}

/// Whether a copy, or what follows it, can be brought to where this one is, or none.
pub fn gives(source: &BackupCopy, to: Option<&BackupCopy>) -> bool {
    is_good(source) || (to.is_some_and(is_good) && is_followed(source))
}

/// Whether a copy can be copied from.
pub fn is_good(copy: &BackupCopy) -> bool {
    copy.is_good()
}

/// Why a backup was not brought to a destination.
#[derive(Debug, thiserror::Error)]
pub enum NotBrought {
    /// Somebody asked to stop.
    #[error("stopped; the next copy goes on")]
    Stopped,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// What was brought to a destination.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Where the backup came from, and what follows it; none if it was there.
    pub backup: Option<String>,
    /// Where what follows it came from otherwise.
    pub links: Vec<String>,
}

impl Brought {
    /// Where anything of it came from.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.backup.iter().chain(&self.links).map(String::as_str)
    }
}

/// Brings a backup to the destination `to`, from the first that has a good copy of it, or only from `from`; and what follows it
/// from all of those that have more. Where that fails, not all may have been brought. Where the backup is there, what follows it
/// may come from beside a copy that is bad.
pub fn bring(
    destinations: &Destinations,
    backup: &Backup,
    to: &str,
    from: Option<&str>,
    stop: &Arc<AtomicBool>,
    each: &(dyn Fn(u64) + Sync),
) -> Result<Brought, NotBrought> {
    let copy = backup.copies.iter().find(|copy| copy.destination == to);
    if copy.is_some_and(|copy| matches!(copy.standing, Standing::Bad(_))) {
        let id = backup.id().clone();
        return Err(NotBrought::Failed(copy::Error::BadThere { id }.to_string()));
    }
    let unread = |error: ManifestError| NotBrought::Failed(with_causes(&error));
    let (manifest, document) = destinations.manifest(backup).map_err(unread)?;
    let Some(store) = destinations.stores.get(to) else {
        return Err(NotBrought::Failed(format!("destination {to} could not be read")));
    };
    let mut why = match from {
        Some(from) => format!("destination {from} has no good copy"),
        None => "no other destination has a good copy".to_owned(),
    };
    let sources = backup.copies.iter().filter(|source| {
        let is_meant = source.destination != to && from.is_none_or(|from| from == source.destination);
        is_meant && gives(source, copy)
    });
    let mut has: BTreeSet<&ObjectName> = copy.into_iter().flat_map(names).collect();
    let mut done: Option<Brought> = None;
    for source in sources.clone() {
        if done.is_some() && !lacks(has.iter().copied(), source) {
            continue;
        }
        let Some(source_store) = destinations.stores.get(&source.destination) else {
            continue;
        };
        let job = copy::Job {
            manifest: &manifest,
            document: &document,
            from: source_store,
            to: store,
            family: &[],
            host: &host::host_name(),
            stop: stop.clone(),
        };
        let from = || source.destination.clone();
        match copy::copy(&job, each) {
            Ok(copied) => {
                let done = done.get_or_insert_default();
                match copied {
                    Copied::Now => done.backup = Some(from()),
                    Copied::Rest => done.links.push(from()),
                    Copied::HadIt => {}
                }
                has.extend(names(source));
            }
            Err(copy::Error::Stopped) => return Err(NotBrought::Stopped),
            Err(error) => why = with_causes(&error),
        }
    }
    match done {
        Some(done) if !sources.clone().any(|source| lacks(has.iter().copied(), source)) => Ok(done),
        Some(_) | None => Err(NotBrought::Failed(why)),
    }
}

/// Whether a destination was left behind by a backup because it is slow, or may be written to no faster: the backup is copied
/// there instead.
pub fn is_slow(error: &DestinationError) -> bool {
    match error {
        DestinationError::Stream(error) => is_left_behind(error),
        DestinationError::Store(_)
        | DestinationError::Hangs { .. }
        | DestinationError::TooLittleSpace { .. }
        | DestinationError::ReadBack { .. } => false,
    }
}

/// Copies a backup that was just taken to the destinations that were too slow for it.
pub fn bring_to_slow(
    listener: &dyn Listener,
    destinations: &mut Destinations,
    outcome: &mut Outcome,
    stop: &Arc<AtomicBool>,
    each: &(dyn Fn(u64) + Sync),
) {
    let id = outcome.manifest.chain.clone();
    for written in &mut outcome.destinations {
        if !written.result.as_ref().is_err_and(is_slow) {
            continue;
        }
        let taken = destinations.catalog.backups().iter().find(|backup| *backup.id() == id);
        let Some(taken) = taken else { return };
        let name = &written.destination;
        listener.detail(&format!(
            "destination {name} is slow: {id} is copied to it from another"
        ));
        // Where that fails too, what was said first stands.
        if let Ok(brought) = bring(destinations, taken, name, None, stop, each) {
            written.result = Ok(());
            destinations.take_copy_in(&id, brought.sources(), name);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::backup::Written;
    use crate::catalog::tests::manifest;
    use crate::config;
    use crate::destinations::Destination;
    use crate::layout::{MAX_BYTES, Manifest, Rewrapped};
    use crate::model::{ByteSize, Digest, Revision};
    use crate::pipeline::BranchError;
    use crate::source::test_objects::{Maker, put as put_objects};
    use crate::store::tests::store;
    use crate::store::{Faster, Store};

    /// Nobody hears.
    struct Silent;

    impl Listener for Silent {
        fn warn(&self, _: &str) {}

        fn detail(&self, _: &str) {}
    }

    /// A configuration with an hourly schedule to `local` and `far`; the latter has `of_far` besides.
    pub(in crate::jobs) fn hourly_to_two(of_far: &str) -> Config {
        let text = format!(
            r#"
[cluster]
name = "prod"
[members.m1]
client_urls = ["http://127.0.0.1:1"]
[encryption]
recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m"]
[destinations.local]
url = "file:///var/backups"
[destinations.far]
url = "file:///mnt/far"
{of_far}
[schedules.hourly]
kind = "full"
every = "1h"
destinations = ["local", "far"]
"#
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        config::load(&path).unwrap().config
    }
    fn of_slot(hour: u32, revision: i64) -> Manifest {
        let mut manifest = manifest(0xab, &format!("20261120T{hour:02}0001Z-{hour:08x}"), revision);
        manifest.schedule = Some("hourly".to_owned());
        manifest.slot = Some(format!("2026-11-20T{hour:02}:00:00Z").parse().unwrap());
        manifest
    }

    /// Puts a backup into a store, with an object of `content`.
    fn put(store: &Store, manifest: &Manifest, content: &[u8]) {
        store.put_new(&manifest.object_name(), content).unwrap();
        store.put_new(&manifest.name(), &manifest.to_bytes()).unwrap();
    }

    fn read<const N: usize>(stores: [(&str, &Store); N]) -> Destinations {
        let opened = stores.map(|(name, store)| Destination {
            name: name.to_owned(),
            store: Ok(store.clone()),
        });
        Destinations::read("prod".parse().unwrap(), &opened, None)
    }

    #[test]
    fn one_that_was_too_slow_gets_the_backup_from_another_and_what_failed_otherwise_does_not() {
        let ((_a, local), (_b, far)) = (store(), store());
        let mut taken = of_slot(1, 10);
        let content = vec![7; 1000];
        taken.stored.bytes = 1000;
        taken.stored.sha256 = Digest(Sha256::digest(&content).into());
        put(&local, &taken, &content);
        let slow = || BranchError::TooSlow {
            waited: Duration::from_secs(30),
            written: 10,
        };
        let limited = || {
            let limited = far.clone().limited_to(Some(ByteSize(1)));
            let mut upload = limited.begin(&taken.object_name()).unwrap();
            upload.when_faster(Faster::Fails);
            let source = upload.write_all(&vec![7; 9 << 20]).unwrap_err();
            BranchError::Write { written: 10, source }
        };
        let failed = |result: BranchError| Outcome {
            member: "m1".to_owned(),
            manifest: taken.clone(),
            document: taken.to_bytes(),
            opening: None,
            destinations: vec![
                Written {
                    destination: "local".to_owned(),
                    result: Ok(()),
                },
                Written {
                    destination: "far".to_owned(),
                    result: Err(result.into()),
                },
            ],
            took: Duration::from_secs(40),
            unaccepted: None,
            warnings: Vec::new(),
        };
        let bring_all = |outcome: &mut Outcome| {
            let mut destinations = read([("local", &local), ("far", &far)]);
            bring_to_slow(&Silent, &mut destinations, outcome, &Arc::default(), &|_| {});
            let backup = &destinations.catalog.backups()[0];
            backup.destinations().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut refused = failed(BranchError::Write {
            written: 10,
            source: std::io::ErrorKind::StorageFull.into(),
        });
        assert_eq!(bring_all(&mut refused), ["local"]);
        assert!(refused.destinations[1].result.is_err());
        for why in [slow(), limited()] {
            let mut left_behind = failed(why);
            assert_eq!(bring_all(&mut left_behind), ["far", "local"]);
            assert!(left_behind.destinations[1].result.is_ok());
            assert_eq!(
                far.read_small(&taken.name(), MAX_BYTES as u64).unwrap(),
                taken.to_bytes()
            );
            far.remove(&taken.name()).unwrap();
            far.remove(&taken.object_name()).unwrap();
        }
        // Where the copy fails, what was said first stands.
        local.remove(&taken.object_name()).unwrap();
        let mut destinations = read([("local", &local), ("far", &far)]);
        let mut stays_behind = failed(slow());
        bring_to_slow(&Silent, &mut destinations, &mut stays_behind, &Arc::default(), &|_| {});
        assert!(stays_behind.destinations[1].result.as_ref().is_err_and(is_slow));
    }

    const DELTAS: &str = "[deltas]\nenabled = true\n";

    /// Two backups of one history, the first of the chain that a [`Maker`] makes deltas of.
    fn two_chains() -> [Manifest; 2] {
        let first = manifest(0xab, "20261120T101530Z-00000001", 10);
        let mut second = manifest(0xab, "20261120T111530Z-00000002", 40);
        second.lineage = first.lineage.clone();
        [first, second].map(|mut backup| {
            let content = vec![0; usize::try_from(backup.stored.bytes).unwrap()];
            backup.stored.sha256 = Digest(Sha256::digest(content).into());
            backup
        })
    }

    fn put_whole(store: &Store, manifest: &Manifest) {
        put(
            store,
            manifest,
            &vec![0; usize::try_from(manifest.stored.bytes).unwrap()],
        );
    }

    fn ids(backups: &[&Backup]) -> Vec<String> {
        backups.iter().map(|backup| backup.id().to_string()).collect()
    }

    /// A delta of that chain, of which only the name counts.
    fn named(manifest: &Manifest, from: i64, to: i64) -> ObjectName {
        let revision = |revision| Revision::new(revision).unwrap();
        let span = crate::layout::Span::new(revision(from), revision(to)).unwrap();
        ObjectName::Delta(manifest.chain_path(), span, crate::layout::Epoch(1))
    }

    #[test]
    fn what_a_destination_lacks_of_a_chain_that_capture_has_left_is_brought_from_all_that_have_it() {
        let config = hourly_to_two(DELTAS);
        let ((_a, local), (_b, far), (_c, near), maker) = (store(), store(), store(), Maker::new());
        let [first, second] = two_chains();
        for store in [&local, &far, &near] {
            put_whole(store, &first);
            put_whole(store, &second);
        }
        let deltas = [
            maker.delta(11, 20, 1),
            maker.delta(21, 30, 1),
            maker.delta(31, 35, 1),
            maker.delta(36, 40, 1),
        ];
        put_objects(&local, &deltas[..2]);
        put_objects(&near, &deltas[2..]);
        put_objects(&far, &deltas[3..]);
        local.put_new(&named(&second, 41, 50), b"later").unwrap();
        let look = || read([("far", &far), ("local", &local), ("near", &near)]);
        assert_eq!(
            lacking_links(&config, &look(), "far"),
            Vec::<&Backup>::new(),
            "its writer may bring it"
        );
        far.put_new(&named(&second, 41, 50), b"later").unwrap();
        let places = look();
        let lacking = lacking_links(&config, &places, "far");
        assert_eq!(ids(&lacking), [first.chain.to_string()]);
        assert!(
            lacking_links(&hourly_to_two(""), &places, "far").is_empty(),
            "no deltas go there"
        );
        let brought = bring(&places, lacking[0], "far", None, &Arc::default(), &|_| {}).unwrap();
        let sources = ["local".to_owned(), "near".to_owned()].to_vec();
        assert_eq!((brought.backup, brought.links), (None, sources));
        let places = look();
        let there = places
            .catalog
            .backups()
            .iter()
            .find(|backup| *backup.id() == first.chain);
        let window = catalog::Following::in_destination(there.unwrap(), "far").window();
        assert_eq!((window.to.get(), window.holes.len()), (40, 0));
        assert!(lacking_links(&config, &places, "far").is_empty());
    }

    #[test]
    fn what_one_that_has_more_cannot_give_is_not_called_brought() {
        let ((_a, local), (_b, far), (_c, near), maker) = (store(), store(), store(), Maker::new());
        let [first, _] = two_chains();
        let (name, mut damaged) = maker.delta(21, 30, 1);
        *damaged.last_mut().unwrap() ^= 1;
        for store in [&local, &near] {
            put_whole(store, &first);
            put_objects(store, &[maker.delta(11, 20, 1)]);
        }
        near.put_new(&name, &damaged).unwrap();
        let places = read([("far", &far), ("local", &local), ("near", &near)]);
        let backup = &places.catalog.backups()[0];
        let brought = bring(&places, backup, "far", None, &Arc::default(), &|_| {});
        assert!(
            matches!(&brought, Err(NotBrought::Failed(why)) if why.contains("body is damaged")),
            "{brought:?}"
        );
        // From the other one alone it is all that there is.
        let brought = bring(&places, backup, "far", Some("local"), &Arc::default(), &|_| {});
        assert_eq!(brought.unwrap(), Brought::default());
    }

    #[test]
    fn a_chain_lacks_what_the_other_has_unless_its_writer_is_about_to_bring_it() {
        let ((_a, local), (_b, far)) = (store(), store());
        let [first, _] = two_chains();
        for store in [&local, &far] {
            put_whole(store, &first);
        }
        let lacks = |config: &Config| {
            let places = read([("far", &far), ("local", &local)]);
            lacks_links(config, &places, &places.catalog.backups()[0], "local", "far")
        };
        let (written, archive) = (hourly_to_two(DELTAS), hourly_to_two(""));
        let add = |store: &Store, from, to| store.put_new(&named(&first, from, to), b"delta").unwrap();
        assert!(!lacks(&archive));
        add(&local, 11, 20);
        assert!(lacks(&archive) && lacks(&written), "nobody writes there");
        add(&far, 11, 20);
        assert!(!lacks(&archive) && !lacks(&written));
        add(&local, 21, 30);
        assert!(lacks(&archive) && !lacks(&written), "it was written just now");
        add(&far, 31, 40);
        assert!(lacks(&archive) && lacks(&written), "it is a hole");
    }

    #[test]
    fn of_a_backup_that_was_made_anew_a_destination_is_owed_the_new_one() {
        let config = hourly_to_two("retention = { keep_last = 1 }");
        let ((_a, local), (_b, far)) = (store(), store());
        let old = of_slot(1, 10);
        for (id, generation) in [("20261120T010001Z-00000000", 2), ("20261120T010001Z-ffffffff", 1)] {
            let mut new = old.clone();
            new.chain = id.parse().unwrap();
            new.object = new.object_name().to_string();
            new.rewrapped = Some(Rewrapped {
                original: old.chain.clone(),
                generation,
            });
            for manifest in [&old, &new] {
                if local.read_small(&manifest.name(), MAX_BYTES as u64).is_err() {
                    put(&local, manifest, &vec![0; usize::try_from(old.stored.bytes).unwrap()]);
                }
            }
        }
        let read = read([("local", &local), ("far", &far)]);
        assert_eq!(
            ids(&lacking(&config, &read, "far", None)),
            ["20261120T010001Z-00000000"]
        );
        // The one before it, too, where it alone leads to points that are captured there.
        local.put_new(&named(&old, 11, 20), b"delta").unwrap();
        let read = self::read([("local", &local), ("far", &far)]);
        assert_eq!(
            ids(&lacking(&config, &read, "far", None)),
            ["20261120T010001Z-00000000"]
        );
        let config = hourly_to_two(&format!("retention = {{ keep_last = 1 }}\n{DELTAS}"));
        let both = ["20261120T010001Z-00000000".to_owned(), old.chain.to_string()];
        assert_eq!(ids(&lacking(&config, &read, "far", None)), both);
    }

    #[test]
    fn a_destination_is_owed_nothing_of_slots_before_it_was_fed() {
        let config = hourly_to_two("");
        let ((_a, local), (_b, far)) = (store(), store());
        let all: Vec<Manifest> = (1..=3).map(|hour| of_slot(hour, i64::from(hour) * 10)).collect();
        for manifest in &all {
            put(
                &local,
                manifest,
                &vec![0; usize::try_from(manifest.stored.bytes).unwrap()],
            );
        }
        let read = read([("local", &local), ("far", &far)]);
        let since = |text: &str| ids(&lacking(&config, &read, "far", Some(text.parse().unwrap()))).len();
        assert_eq!(lacking(&config, &read, "far", None).len(), 3);
        assert_eq!(since("2026-11-20T02:00:00Z"), 2);
        assert_eq!(since("2026-11-20T02:00:01Z"), 1);
        assert_eq!(since("2026-11-20T03:30:00Z"), 0);
    }

    #[test]
    fn what_retention_has_removed_does_not_come_back_while_a_new_history_is_not_judged() {
        let config = hourly_to_two("retention = { keep_last = 1 }");
        let ((_a, local), (_b, far)) = (store(), store());
        let mut all: Vec<Manifest> = (1..=3).map(|hour| of_slot(hour, i64::from(hour) * 10)).collect();
        for index in 1..all.len() {
            all[index].lineage = all[0].lineage.clone();
        }
        let mut wiped = of_slot(4, 1);
        (wiped.from_revision, wiped.to_revision) = (Revision::new(1).unwrap(), Revision::new(1).unwrap());
        all.push(wiped.clone());
        let empty = |manifest: &Manifest| vec![0; usize::try_from(manifest.stored.bytes).unwrap()];
        for manifest in &all {
            put(&local, manifest, &empty(manifest));
        }
        put(&far, &all[2], &empty(&all[2]));
        let read = read([("local", &local), ("far", &far)]);
        assert!(read.catalog.accepted_lineage().is_err());
        let lacking: Vec<_> = lacking(&config, &read, "far", None)
            .iter()
            .map(|backup| backup.id().clone())
            .collect();
        assert_eq!(lacking, [wiped.chain]);
    }
}
