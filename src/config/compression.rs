//! `[compression]`: how backups are made smaller.

use super::reader::Reader;
use super::section::Section;

/// `[compression]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The level of zstd, 1 to 19.
    pub level: i32,
    /// Threads that compress, 1 to 64.
    pub threads: u32,
}

impl Default for Compression {
    fn default() -> Self {
        const MOST_THREADS: usize = 4;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Compression {
            level: 3,
            threads: cores.min(MOST_THREADS) as u32,
        }
    }
}

impl Reader<'_> {
    pub(super) fn compression(&mut self, root: &Section<'_>) -> Compression {
        let section = root.section("compression");
        let defaults = Compression::default();
        let threads = match section.text("threads") {
            Some(text) if text.value == "auto" => None,
            Some(text) => self.refuse(&section, "threads", &text),
            None => self.integer(&section, "threads", 1, 64),
        };
        let level = self.integer(&section, "level", 1, 19);
        Compression {
            level: level.unwrap_or(defaults.level),
            threads: threads.map_or(defaults.threads, i32::cast_unsigned),
        }
    }
}
