//! The process of a command: a child that does the work, so that nothing that hangs holds whoever waits;
//! whether somebody asks it to stop; the user that it works as; and how its memory is kept.

pub mod child_process;
mod interrupt;
mod memory;
mod user;

pub use interrupt::Interrupt;
pub use memory::share_arenas;
pub use user::{Error, settle};
