//! How far a host is behind each slot: fixed, so that its backups come at equal distances, and different from host to host,
//! so that not all begin at once.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// An offset of whole seconds, at least 0 and less than `window`, that follows from the host (its machine id or name) and
/// the name of the schedule alone. A window of less than a second gives 0.
pub fn jitter(window: Duration, host: &str, schedule: &str) -> Duration {
    let mut digest = Sha256::new();
    for part in ["lifeboat jitter 1", host, schedule] {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let share = digest
        .iter()
        .take(8)
        .fold(0, |share: u64, byte| share << 8 | u64::from(*byte));
    // The share of the window: share / 2^64.
    let seconds = (u128::from(share) * u128::from(window.as_secs())) >> 64;
    Duration::from_secs(u64::try_from(seconds).expect("less than the window"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values that hosts are on now: they must not move with a new version of this program.
    #[test]
    fn the_offset_of_a_host_is_fixed() {
        let hour = Duration::from_secs(3600);
        let seconds = |host, schedule| jitter(hour, host, schedule).as_secs();
        let offsets = [
            seconds("h1", "hourly"),
            seconds("h2", "hourly"),
            seconds("h1", "daily"),
            seconds("h1h", "ourly"),
        ];
        assert_eq!(offsets, [3149, 3125, 1551, 2717]);
    }

    #[test]
    fn the_offsets_of_many_hosts_are_spread_over_the_window() {
        let window = Duration::from_secs(600);
        let mut tenths = [0; 10];
        for host in 0..1000 {
            let offset = jitter(window, &format!("host-{host}"), "hourly");
            tenths[usize::try_from(offset.as_secs() / 60).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (60..140).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn the_offset_is_within_the_window(millis in 0..u64::MAX, host in ".{0,20}", schedule in "[a-z]{1,9}") {
            let window = Duration::from_millis(millis);
            let offset = jitter(window, &host, &schedule);
            prop_assert!(offset < window || offset.is_zero());
        }
    }
}
