//! Bucket `lease`: which leases exist and how long they live.
//!
//! Which keys hang on a lease is not stored here: a server finds it in the records of bucket `key` when it boots.
//!
//! Source of the format: etcd `server/lease/leasepb/lease.proto` and `server/lease/lessor.go` of 3.5.

use std::fmt;

use super::wire::{self, Fields, WireError};

/// The id of a lease; any 64 bits but 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    /// As `etcdctl lease list` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One entry of bucket `lease`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The lease.
    pub id: LeaseId,
    /// The time to live it was granted, in seconds.
    pub ttl_seconds: i64,
    /// What was left of it at the last checkpoint, in seconds; 0 when the cluster takes no checkpoints.
    pub remaining_seconds: i64,
}

impl Lease {
    /// A lease that starts with its full time to live.
    pub fn granted(id: LeaseId, ttl_seconds: i64) -> Self {
        Lease {
            id,
            ttl_seconds,
            remaining_seconds: 0,
        }
    }

    /// Reads the value of an entry; unknown fields are passed over.
    pub fn decode(value: &[u8]) -> Result<Self, WireError> {
        let mut lease = Lease::granted(LeaseId(0), 0);
        for field in Fields::of(value) {
            let field = field?;
            match field.number {
                1 => lease.id = LeaseId(field.int64()?),
                2 => lease.ttl_seconds = field.int64()?,
                3 => lease.remaining_seconds = field.int64()?,
                _ => {}
            }
        }
        Ok(lease)
    }

    /// The entry's key: the id, big-endian.
    pub fn key(&self) -> Vec<u8> {
        self.id.0.to_be_bytes().to_vec()
    }

    /// The entry's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        for (number, field) in [(1, self.id.0), (2, self.ttl_seconds), (3, self.remaining_seconds)] {
            if field != 0 {
                wire::put_int64(&mut value, number, field);
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_of_300_seconds_ends_in_10_ac02() {
        let value = Lease::granted(LeaseId(1), 300).encode();
        assert_eq!(value, [0x08, 1, 0x10, 0xac, 0x02]);
    }

    proptest! {
        #[test]
        fn leases_read_back_as_written(id: i64, ttl_seconds: i64, remaining_seconds: i64) {
            let lease = Lease { id: LeaseId(id), ttl_seconds, remaining_seconds };
            prop_assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
        }
    }
}
