//! The one memory map of the program: a database file, read-only, of which no more is resident than was looked at lately.
//! Where somebody else may cut such a file, [`Mapped::given`] sees to it that the program ends with a word about it.
//!
//! What is mapped counts as memory of the process once it was looked at, though the kernel could take it back at any time.
//! So whoever walks over a map tells [`Behind`] where it is, and what lies behind is let go: it stays in the page cache.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Once;

use memmap2::UncheckedAdvice;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::statfs::fstatfs;

/// How much of a map is resident at most, where a walk tells of all that it looks at, and no piece is longer.
pub const RESIDENT_BYTES: usize = 24 << 20;

/// How much the kernel maps at once around a place that is looked at, if it is in the page cache.
const BLOCK: usize = 64 << 10;

/// The file systems whose files are mapped where others may change them: they lie on this machine, and each page of a file
/// is there as long as the file is. `f_type` of statfs(2): ext2 to ext4, XFS, Btrfs, bcachefs, F2FS, ZFS, tmpfs, overlayfs.
const LOCAL: [u32; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xca45_1a4e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x0102_1994,
    0x794c_7630,
];

/// What is said, and the exit code, where a page of a map can no longer be read.
const CUT_SHORT: &[u8] = b"error: the file cannot be read any more: it was cut short meanwhile, or its disk fails\n  \
    next: copy it, and use the copy\n";
const FAILED: libc::c_int = 1;

/// The whole map is let go after so many windows, whatever else was looked at meanwhile.
const WINDOWS: u32 = 16;

/// The bytes of a file that nobody else changes.
pub struct Mapped {
    map: memmap2::Mmap,
    /// How much of its beginning is not that of the file, and not let go.
    own: usize,
}

impl Mapped {
    /// Maps `file`, which must not be changed or cut by anybody else while the map lives.
    #[expect(unsafe_code, reason = "a database does not fit into the memory of a small host")]
    pub fn new(file: &File) -> io::Result<Mapped> {
        // SAFETY: the caller answers for it that nobody truncates the file or writes to what is read of the map.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Mapped { map, own: 0 })
    }

    /// The same with other bytes in some places near its beginning, each given with its offset. The file has its own there
    /// still, and whatever is written to it there later is not seen.
    #[expect(unsafe_code, reason = "a database does not fit into the memory of a small host")]
    pub fn with(file: &File, other: &[(u64, &[u8])]) -> io::Result<Mapped> {
        // SAFETY: as above. What is written goes to pages of this process alone.
        let mut map = unsafe { memmap2::MmapOptions::new().map_copy(file) }?;
        let mut own = 0;
        for (offset, bytes) in other {
            let start = usize::try_from(*offset).map_err(io::Error::other)?;
            let end = start.saturating_add(bytes.len());
            let place = map.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            place.copy_from_slice(bytes);
            own = own.max(end);
        }
        Ok(Mapped {
            map: map.make_read_only()?,
            own: own.next_multiple_of(BLOCK),
        })
    }

    /// Maps a `file` that was named on this command line, or made for it, if it is a plain one of a file system on this
    /// machine. Whoever named it may still change it; where it is cut, the program ends and says so.
    pub fn given(file: &File) -> io::Result<Option<Mapped>> {
        // Its type has another width on each machine.
        let kind = fstatfs(file)?.filesystem_type().0 as u32;
        if !file.metadata()?.is_file() || !LOCAL.contains(&kind) {
            return Ok(None);
        }
        static TOLD: Once = Once::new();
        TOLD.call_once(tell_of_what_is_cut);
        Mapped::new(file).map(Some)
    }

    /// Begins a walk over it.
    pub fn behind(&self) -> Behind<'_> {
        Behind {
            map: self,
            window: RefCell::new(Window {
                blocks: Vec::with_capacity(RESIDENT_BYTES / BLOCK),
                count: 0,
            }),
        }
    }

    /// Lets go of `len` bytes from `offset` on; they are read from the file again when they are looked at.
    #[expect(unsafe_code, reason = "the kernel is told of memory that is borrowed")]
    fn let_go(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len);
        let offset = offset.max(self.own);
        let len = end.saturating_sub(offset);
        // SAFETY: pages of a map that is only read, but for those of its own beginning, hold nothing but what is in the file: whoever looks at them
        // again sees the same bytes. A refusal of the advice does no harm.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) }.ok();
    }
}

/// Ends the program with a word where a page of a map is not there any more, in place of a bare signal.
#[expect(
    unsafe_code,
    reason = "the kernel tells that a mapped file was cut by a signal, and by nothing else"
)]
fn tell_of_what_is_cut() {
    extern "C" fn tell(_: libc::c_int) {
        // SAFETY: both may be called in a handler of a signal: signal-safety(7). The message is static.
        unsafe {
            libc::write(libc::STDERR_FILENO, CUT_SHORT.as_ptr().cast(), CUT_SHORT.len());
            libc::_exit(FAILED);
        }
    }
    let action = SigAction::new(SigHandler::Handler(tell), SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the handler calls nothing but what a handler may call. Without it the signal ends the program, too.
    unsafe { sigaction(Signal::SIGBUS, &action) }.ok();
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// What lies behind a walk over a map, in any order, is let go.
pub struct Behind<'m> {
    map: &'m Mapped,
    window: RefCell<Window>,
}

/// What is resident.
struct Window {
    /// The blocks looked at, by their address.
    blocks: Vec<usize>,
    /// How many windows there were before.
    count: u32,
}

impl Behind<'_> {
    /// The walk is about to look at `bytes` of the map.
    #[inline]
    pub fn looks_at(&self, bytes: &[u8]) {
        let start = bytes.as_ptr().addr();
        let blocks = start / BLOCK..=(start + bytes.len().saturating_sub(1)) / BLOCK;
        let mut window = self.window.borrow_mut();
        if window.blocks.last() == Some(blocks.end()) {
            return;
        }
        if window.blocks.len() + blocks.clone().count() > RESIDENT_BYTES / BLOCK {
            window.let_go(self.map);
        }
        window.blocks.extend(blocks);
    }
}

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        self.map.let_go(0, self.map.len());
    }
}

impl Window {
    fn let_go(&mut self, map: &Mapped) {
        self.count += 1;
        if self.count.is_multiple_of(WINDOWS) {
            map.let_go(0, map.len());
            self.blocks.clear();
            return;
        }
        let base = map.as_ptr().addr();
        let offset_of = |block: usize| (block * BLOCK).saturating_sub(base).min(map.len());
        self.blocks.sort_unstable();
        for run in self.blocks.chunk_by(|one, next| next - one <= 1) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let start = offset_of(*first);
                map.let_go(start, offset_of(last + 1) - start);
            }
        }
        self.blocks.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PAGE: usize = 4096;

    /// How much of the map is resident.
    fn resident(map: &Mapped) -> usize {
        let start = format!("{:x}-", map.as_ptr().addr());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
    }

    /// Looks at every page in the order of `order` and returns how much was resident at most.
    fn walked(map: &Mapped, order: impl Iterator<Item = usize>) -> usize {
        let behind = map.behind();
        let mut most = 0;
        for (count, page) in order.enumerate() {
            let bytes = &map[page * PAGE..][..PAGE];
            behind.looks_at(bytes);
            assert_eq!(bytes[..8], page.to_le_bytes());
            if count % 256 == 0 {
                most = most.max(resident(map));
            }
        }
        most
    }

    #[test]
    fn what_is_laid_over_a_map_stays_and_is_not_in_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 4 * BLOCK]).unwrap();
        let map = Mapped::with(&file, &[(3, b"it"), (PAGE as u64, b"that")]).unwrap();
        let walk = map.behind();
        walk.looks_at(&map);
        drop(walk);
        assert_eq!((&map[3..5], &map[PAGE..PAGE + 4]), (&b"it"[..], &b"that"[..]));
        assert!(map[5..PAGE].iter().chain(&map[PAGE + 4..]).all(|byte| *byte == 7));
        assert!(Mapped::new(&file).unwrap().iter().all(|byte| *byte == 7));
        assert!(Mapped::with(&file, &[(4 * BLOCK as u64 - 1, b"it")]).is_err());
    }

    #[test]
    fn little_is_resident_in_whatever_order_a_map_is_walked_over() {
        let pages = 3 * RESIDENT_BYTES / PAGE;
        let mut file = tempfile::tempfile().unwrap();
        for page in 0..pages {
            let mut bytes = [0; PAGE];
            bytes[..8].copy_from_slice(&page.to_le_bytes());
            file.write_all(&bytes).unwrap();
        }
        let map = Mapped::new(&file).unwrap();
        let in_order = walked(&map, 0..pages);
        assert!(in_order <= RESIDENT_BYTES + 2 * BLOCK, "{in_order}");
        // A step that has no factor in common with the number of pages, which has 2 and 3 only.
        let scattered = walked(&map, (0..pages).map(|page| page * 7919 % pages));
        assert!(scattered <= RESIDENT_BYTES + 2 * BLOCK, "{scattered}");
    }
}
