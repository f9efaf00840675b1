//! What a store is made of: the names of its objects and the documents beside them, in the formats of `docs/formats.md`.
//!
//! Names and bytes in, values out, and the way back. What they mean together is `catalog`'s to say.

pub mod claim;
mod clocks;
pub mod delta;
mod host_name;
pub mod instant;
pub(crate) mod manifest;
mod names;
mod one_key_per_line;
mod records;

pub use claim::Claim;
pub use clocks::Clocks;
pub use host_name::HostName;
pub use manifest::{
    Cluster, CompactRevision, FORMAT, Fault, IN_DOUBT, Kind, MAX_BYTES, Manifest, Member, Origin, Outline, Rewrapped,
    SIGNED_FORMAT, Stream, Synthetic, Writer,
};
pub use names::{ChainPath, Epoch, Folder, Listed, ListedObject, ObjectName, SlotPath, Span};
pub use records::{Acceptance, Check, Pin, Proof};
