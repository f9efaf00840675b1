//! A restore on this host, as a command asks for it: what is here, what is restored and to whom, whether it may be, and what
//! is said of errors.
//!
//! What a restore does is `restore`'s; here it is given what it needs.

mod errors;
pub mod finding;
mod here;
mod running;
mod session;

pub use errors::{failure, refused_here};
pub use here::{Here, SettingsNow, connect, foreseen, reach, refuse_mounts, settings_now};
pub use running::refuse_running;
pub use session::{leave_session, take_over};
