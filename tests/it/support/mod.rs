//! What the integration tests stand on: real etcd servers, a client, a load, the binary under test.
//!
//! Everything here blocks; what waits inside runs on one shared runtime, so that a test reads from top to bottom.

pub mod client;
pub mod counting;
pub mod etcd;
pub mod frozen;
pub mod gate;
pub mod hanging;
pub mod host;
pub mod killing;
pub mod life;
pub mod load;
pub mod moto;
pub mod namespace;
mod ports;
pub mod preload;
pub mod prometheus;
pub mod random;
pub mod recovery_sheet;
pub mod runbook;
pub mod running;
mod self_check;
mod server;
pub mod shared;
pub mod shifted;
pub mod slow;
pub mod sshd;
pub mod stalling;
pub mod tls;
pub mod tmpfs;
pub mod tools;
pub mod units;
pub mod wire;
