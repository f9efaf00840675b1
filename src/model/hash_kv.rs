//! HashKV, as a value.

use serde::{Deserialize, Serialize};

use super::Revision;

/// HashKV as a member reports it: two are comparable only when revision and compact revision are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKv {
    /// The revision that was hashed.
    pub revision: Revision,
    /// The store's compacted revision at that time; -1 for a store that was never compacted.
    pub compact_revision: i64,
    /// CRC-32C over the entries of the key space.
    pub hash: u32,
}
