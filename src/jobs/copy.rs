//! A destination that was away, or is slower than the others, gets what it lacks from one that has it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::tz::TimeZone;

use super::{Listener, host};
use crate::backup::{DestinationError, Outcome, is_left_behind};
use crate::catalog::{Backup, BackupCopy, Pinned, Standing};
use crate::config::{Config, Kind};
use crate::copy::{self, Copied};
use crate::destinations::{Destinations, ManifestError};
use crate::error_chain::with_causes;
use crate::layout::SlotPath;
use crate::prune::{self, Target};

/// The backups that schedules of this configuration owe to a destination, and that others have, in the order in which
/// they were begun: one for each slot of which it has none, as far as its retention would keep it.
pub fn lacking<'a>(config: &Config, destinations: &'a Destinations, name: &str) -> Vec<&'a Backup> {
    let Some(store) = destinations.stores.get(name) else {
        return Vec::new();
    };
    let catalog = &destinations.catalog;
    let slot_of = |backup: &'a Backup| backup.manifest().slot.as_deref();
    let here = |backup: &&Backup| backup.destinations().any(|destination| destination == name);
    let mut has: BTreeSet<&SlotPath> = catalog.backups().iter().filter(here).filter_map(slot_of).collect();
    let owed = |slot: &SlotPath| {
        let mut schedules = config.schedules.iter();
        schedules.any(|(schedule, configured)| {
            configured.kind == Kind::Full
                && schedule.as_str() == slot.schedule().as_str()
                && configured
                    .destinations
                    .iter()
                    .any(|destination| destination.as_str() == name)
        })
    };
    // What was made anew for other recipients is of the same slot, and the one that is owed.
    let led = catalog.led();
    let leaders = catalog.backups().iter();
    let leaders = leaders.filter(|backup| !led.contains(&backup.manifest().chain_path()));
    let absent = leaders.filter(|backup| {
        let good = backup.copies.iter().any(is_good);
        good && slot_of(backup).is_some_and(|slot| owed(slot) && has.insert(slot))
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
    let target = Target {
        destination: name,
        store,
        policy,
    };
    let kept = prune::kept_by_policy(target, &with_all, host::now(), &TimeZone::system());
    absent.into_iter().filter(|backup| kept.contains(backup.id())).collect()
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

/// Brings a backup to the destination `to`, from the first that has a good copy of it, or only from `from`. Says where it
/// came from; nothing if it was there.
pub fn bring(
    destinations: &Destinations,
    backup: &Backup,
    to: &str,
    from: Option<&str>,
    stop: &Arc<AtomicBool>,
    each: &(dyn Fn(u64) + Sync),
) -> Result<Option<String>, NotBrought> {
    let mut there = backup.copies.iter().filter(|copy| copy.destination == to);
    if there.any(|copy| matches!(copy.standing, Standing::Bad(_))) {
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
    let sources = backup
        .copies
        .iter()
        .filter(|copy| copy.destination != to && from.is_none_or(|from| from == copy.destination) && is_good(copy));
    for source in sources {
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
        match copy::copy(&job, each) {
            Ok(Copied::Now) => return Ok(Some(source.destination.clone())),
            Ok(Copied::HadIt) => return Ok(None),
            Err(copy::Error::Stopped) => return Err(NotBrought::Stopped),
            Err(error) => why = with_causes(&error),
        }
    }
    Err(NotBrought::Failed(why))
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
        if let Ok(from) = bring(destinations, taken, name, None, stop, each) {
            written.result = Ok(());
            let from = from.as_deref().unwrap_or_default();
            destinations.take_copy_in(&id, from, name);
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

    fn read(stores: [(&str, &Store); 2]) -> Destinations {
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
        let lacking = lacking(&config, &read, "far");
        let lacking: Vec<_> = lacking.iter().map(|backup| backup.id().as_str()).collect();
        assert_eq!(lacking, ["20261120T010001Z-00000000"]);
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
        let lacking: Vec<_> = lacking(&config, &read, "far")
            .iter()
            .map(|backup| backup.id().clone())
            .collect();
        assert_eq!(lacking, [wiped.chain]);
    }
}
