//! How much room a file system has.

use std::path::Path;

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What can still be written.
    pub available: u64,
    /// How large it is.
    pub total: u64,
}

/// The space where `path` is or will be, if the system says.
pub fn room_at(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Room {
        available: bytes(found.blocks_available()),
        total: bytes(found.blocks()),
    })
}
