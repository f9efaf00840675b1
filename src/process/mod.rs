//! The process of a command: a child that does the work, so that nothing that hangs holds whoever waits;
//! whether somebody asks it to stop; and the user that it works as.

pub mod apart;
mod interrupt;
mod user;

pub use interrupt::Interrupt;
pub use user::{Error, settle};
