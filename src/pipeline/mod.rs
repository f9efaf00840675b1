//! The stages that bytes go through between etcd and a store: zstd and age, digests, several sinks at once.
//!
//! Stages are plain code on threads of their own with bounded queues between them, so that memory stays the same
//! whatever the size of the database. Where the bytes come from and where they go is the caller's business.
//!
//! Invariant: plaintext exists in memory only; what reaches a sink is encrypted.
//! Invariant: a stage that is dropped before it was finished aborts all that follow it.
//!
//! Formats: zstd (RFC 8878), age v1 (C2SP age).

mod buffers;
mod decode;
mod encode;
mod fan_out;
mod keys;
mod plugin;
mod plugin_protocol;

pub use buffers::{Buffer, Buffers};
pub(crate) use decode::fill;
pub(crate) use decode::is_skippable_frame;
pub use decode::{DecodeError, Decoded, Unlock, Window, decode, decode_each, decode_whole};
pub use encode::{EncodeError, Encoded, Encoder, Encoding, Head, Observer};
pub use fan_out::{BranchError, Ending, LAG_BUDGET, LONG_LAG_BUDGET};
pub use keys::{Identities, KeyError, Recipient, Unopened, for_this_process, try_sealing};
pub use plugin::{PLUGINS, PluginFault};
pub use plugin_protocol::{Ask, Question, allow_questions};

/// The size of the blocks that travel between stages.
pub const BLOCK_BYTES: usize = 1 << 20;
