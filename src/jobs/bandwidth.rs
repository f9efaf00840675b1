//! Whether what is written to a destination gets there at its `bandwidth`.
//!
//! A copy gives way to a backup that is due, and is begun anew then: one that takes longer than the pauses of the schedule
//! never arrives.

use jiff::{SignedDuration, Timestamp};

use super::prune::pauses;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::model::ByteSize;
use crate::text::Length;

/// The last backups by whose size the next one is judged.
const LAST: usize = 5;

/// What to say of destinations to which a backup takes longer than their schedules leave time for.
pub fn too_narrow(config: &Config, catalog: &Catalog, now: Timestamp) -> Vec<String> {
    let last = catalog.backups().iter().rev().take(LAST);
    let Some(bytes) = last.map(|backup| backup.manifest().stored.bytes).max() else {
        return Vec::new();
    };
    let told = config.destinations.iter().filter_map(|(name, destination)| {
        let bandwidth = destination.bandwidth?;
        let takes = SignedDuration::from_secs(i64::try_from(bytes / bandwidth.0.max(1)).unwrap_or(i64::MAX));
        let pause = pauses(config, name.as_str(), now)?.longest;
        (takes > pause).then(|| {
            format!(
                "destination {name}: a backup of {} takes {} at its `bandwidth` of {bandwidth}/s, and the next is due after \
                 {}: a copy gives way to it and does not arrive; raise `bandwidth`, or take backups to {name} less often",
                ByteSize(bytes),
                Length(takes.unsigned_abs()),
                Length(pause.unsigned_abs()),
            )
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::super::copy::tests::hourly_to_two;
    use super::*;
    use crate::catalog::tests::manifest;
    use crate::store::tests::store;

    #[test]
    fn a_backup_that_takes_longer_than_the_pauses_is_told() {
        let config = hourly_to_two("bandwidth = \"1 MiB/s\"");
        let now: Timestamp = "2026-11-20T10:15:30Z".parse().unwrap();
        let (_folder, store) = store();
        let told = || too_narrow(&config, &store.catalog("local").unwrap(), now);
        assert_eq!(told(), [""; 0], "there is no backup");
        let put = |id: &str, bytes: u64| {
            let mut backup = manifest(0xab, id, 10);
            backup.stored.bytes = bytes;
            store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
            let object = store.path_of(&backup.object_name());
            std::fs::File::create(object).unwrap().set_len(bytes).unwrap();
        };
        put("20261120T081530Z-00000001", 3600 << 20);
        assert_eq!(told(), [""; 0]);
        put("20261120T091530Z-00000002", 7200 << 20);
        let [only] = <[String; 1]>::try_from(told()).unwrap();
        assert!(
            only.starts_with("destination far: a backup of 7.03 GiB takes 2 h at"),
            "{only}"
        );
    }
}
