//! Whether a database fits the quota of the etcd that is to serve it.
//!
//! Pure. Over its quota etcd serves reads, and refuses each write and raises the alarm NOSPACE: no reason to go without the
//! data, and one to say so before anything is touched.
//!
//! Source: etcd `server/storage/quota.go` of 3.4 to 3.7: a write is refused where the length of the database and the cost
//! of the write come to the quota or more.

use std::fmt;

use crate::model::ByteSize;

/// What a restore and etcd's first start add to a database.
const GROWS: u64 = 256 << 10;
/// What a small write costs.
const WRITE: u64 = 1 << 10;
const MEBIBYTE: u64 = 1 << 20;

/// A database that is too large for its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// Its length.
    pub database: u64,
    /// The quota.
    pub quota: u64,
}

impl OverQuota {
    /// Compares a database that is served with the quota, where there is one.
    pub fn of(database: u64, quota: Option<u64>) -> Option<OverQuota> {
        let quota = quota?;
        (database.saturating_add(WRITE) >= quota).then_some(OverQuota { database, quota })
    }

    /// Compares what becomes of a snapshot with the quota, where there is one.
    pub fn of_restored(snapshot: u64, quota: Option<u64>) -> Option<OverQuota> {
        OverQuota::of(snapshot.saturating_add(GROWS), quota)
    }

    /// The first length of a snapshot that is over the quota once it is restored.
    pub fn first_over(quota: u64) -> u64 {
        quota.saturating_sub(GROWS + WRITE)
    }

    /// A quota with as much room as the database has now.
    pub fn enough(&self) -> u64 {
        self.database
            .saturating_mul(2)
            .div_ceil(MEBIBYTE)
            .saturating_mul(MEBIBYTE)
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (database, quota, enough) = (ByteSize(self.database), ByteSize(self.quota), self.enough());
        write!(
            f,
            "the database has {database} and etcd's quota is {quota}: etcd serves reads and refuses writes (NOSPACE). Set its \
             `quota-backend-bytes` to {enough} or more and restart it, or make the database smaller with `etcdctl defrag`; \
             then `etcdctl alarm disarm`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_over_the_quota_is_told_with_a_quota_that_is_enough() {
        assert_eq!(OverQuota::of_restored(20 << 20, Some(64 << 20)), None);
        assert_eq!(OverQuota::of_restored(20 << 20, None), None, "there is no quota");
        for quota in [8 << 20, 20 << 20, (20 << 20) + 4096] {
            let over = OverQuota::of_restored(20 << 20, Some(quota)).unwrap();
            assert_eq!(OverQuota::of(over.database, Some(over.enough())), None);
            let first = OverQuota::first_over(quota);
            assert!(OverQuota::of_restored(first, Some(quota)).is_some());
            assert_eq!(OverQuota::of_restored(first - 1, Some(quota)), None);
            let said = over.to_string();
            assert!(said.contains("quota-backend-bytes` to 42991616 or more"), "{said}");
        }
    }
}
