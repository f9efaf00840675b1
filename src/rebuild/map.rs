//! The one memory map of the program: a database file of ours, read-only.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file that only this process knows of.
pub(super) struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps `file`, which must not be changed by anybody else while the map lives.
    #[expect(unsafe_code, reason = "a database does not fit into the memory of a small host")]
    pub fn new(file: &File) -> io::Result<Mapped> {
        // SAFETY: the file lies in a directory that this program made, with mode 0700, and belongs to whoever runs it;
        // nobody else truncates it. Our own writes go behind the mapped range or to the metas, which are copied before.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Mapped(map))
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
