//! The process of a command: a child that does the work, so that nothing that hangs holds whoever waits; and the user that
//! it works as.

pub mod apart;
mod user;

pub use user::{Error, settle};
