//! The stored freelist: the pages that no tree uses.
//!
//! Page ids as u64 after the header; with a count of 0xFFFF in the header the first u64 is the real count.

use super::file::File;
use super::page::{FLAG_FREELIST, Fault, FaultKind, HEADER_LEN, Header, u64_at};

/// The count that says that the real one follows the header.
const LONG_COUNT: u16 = 0xFFFF;
const ID_LEN: usize = 8;

/// The length in bytes of the run at `page`, and the ids in the freelist there.
pub(super) fn read<'a>(file: &File<'a>, page: u64) -> Result<(usize, impl Iterator<Item = u64> + use<'a>), Fault> {
    let (_, run) = file.run(page)?;
    Ok((run.len(), parse(run).map_err(|kind| kind.on(page))?))
}

/// The ids in the freelist that is the run of pages `run`.
pub(super) fn parse(run: &[u8]) -> Result<impl Iterator<Item = u64> + use<'_>, FaultKind> {
    let header = Header::parse(run).ok_or(FaultKind::TooManyElements { count: 0 })?;
    if header.flags != FLAG_FREELIST {
        return Err(FaultKind::WrongType { flags: header.flags });
    }
    let (count, start) = if header.count == LONG_COUNT {
        (u64_at(run, HEADER_LEN).unwrap_or(u64::MAX), HEADER_LEN + ID_LEN)
    } else {
        (u64::from(header.count), HEADER_LEN)
    };
    let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(ID_LEN));
    let ids = len.and_then(|len| run.get(start..)?.get(..len));
    let ids = ids.ok_or(FaultKind::TooManyElements { count })?;
    Ok(ids.as_chunks::<ID_LEN>().0.iter().map(|id| u64::from_le_bytes(*id)))
}

/// How many bytes a freelist of `count` ids takes up, its header included.
pub(super) fn encoded_len(count: u64) -> u64 {
    let long = u64::from(count >= u64::from(LONG_COUNT));
    HEADER_LEN as u64 + (count + long) * ID_LEN as u64
}

/// The freelist of `count` ids for page `page`, without the padding to whole pages.
pub(super) fn encode(page: u64, overflow: u32, count: u64, ids: impl Iterator<Item = u64>) -> Vec<u8> {
    let short = u16::try_from(count).ok().filter(|count| *count < LONG_COUNT);
    let header = Header {
        id: page,
        flags: FLAG_FREELIST,
        count: short.unwrap_or(LONG_COUNT),
        overflow,
    };
    let mut bytes = header.encode().to_vec();
    if short.is_none() {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    ids.for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
    bytes
}
