//! A database that can be looked at in any order: in memory, as what was encrypted comes on no disk as plaintext; or where
//! it lies, as a plain file on this machine is there already.

use std::ops::{ControlFlow, Deref};

use super::{Error, Hashed, SnapshotHasher, Source};
use crate::bbolt;
use crate::durable::Mapped;

/// Memory for that many bytes, if so many may be used and are there.
pub fn room_for(bytes: u64, memory: u64) -> Option<Vec<u8>> {
    let wanted = usize::try_from(bytes).ok().filter(|_| bytes <= memory)?;
    let mut room = Vec::new();
    room.try_reserve_exact(wanted).ok()?;
    Some(room)
}

/// A database that is held.
pub struct Held {
    /// All of it. What follows a database, a digest or a tail that is not in use, is no part of it.
    pub database: Database,
    /// What all bytes of the source came to.
    pub hashed: Hashed,
}

/// The bytes of a database.
pub enum Database {
    /// In memory.
    InMemory(Vec<u8>),
    /// The first `len` of a file.
    Mapped {
        /// The file.
        map: Mapped,
        /// How many of its bytes are the database.
        len: usize,
    },
}

impl Database {
    /// Does something with the database. Of one that is mapped little is resident: what lies behind is let go.
    pub fn over<R>(&self, work: impl FnOnce(Result<bbolt::File<'_>, bbolt::Error>) -> R) -> R {
        match self {
            Database::InMemory(bytes) => work(bbolt::File::open(bytes)),
            Database::Mapped { map, .. } => {
                let behind = map.behind();
                let follower = |bytes: &[u8]| behind.looks_at(bytes);
                work(bbolt::File::open(self).map(|file| file.followed_by(&follower)))
            }
        }
    }

    /// How much memory it takes.
    pub fn memory(&self) -> u64 {
        match self {
            Database::InMemory(bytes) => bytes.len() as u64,
            Database::Mapped { .. } => 0,
        }
    }
}

impl Deref for Database {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Database::InMemory(bytes) => bytes,
            Database::Mapped { map, len } => map.get(..*len).unwrap_or(map),
        }
    }
}

/// Why a database is not held.
#[derive(Debug)]
pub enum NotHeld {
    /// It has more bytes than may be taken.
    TooLarge {
        /// How many.
        needed: u64,
    },
    /// The source cannot be read.
    Unread(Error),
    /// `each` broke it off.
    BrokenOff,
}

impl Source {
    /// Reads all of the source, and keeps its database: where it lies, or if it is no larger than `memory`. `each` hears how
    /// many bytes have come.
    pub fn hold(&mut self, memory: u64, mut each: impl FnMut(u64) -> ControlFlow<()>) -> Result<Held, NotHeld> {
        let needed = self.database_bytes();
        let mut database = match self.mapped(needed) {
            Some(mapped) => mapped,
            None => Database::InMemory(room_for(needed, memory).ok_or(NotHeld::TooLarge { needed })?),
        };
        let mut hasher = SnapshotHasher::default();
        let (mut block, mut done) = (Vec::new(), 0);
        while self.next_block(&mut block).map_err(NotHeld::Unread)? {
            hasher.update(&block);
            if let Database::InMemory(bytes) = &mut database {
                let room = usize::try_from(needed).unwrap_or(usize::MAX) - bytes.len();
                bytes.extend_from_slice(&block[..block.len().min(room)]);
            }
            done += block.len() as u64;
            if each(done).is_break() {
                return Err(NotHeld::BrokenOff);
            }
        }
        let hashed = hasher.finish();
        Ok(Held { database, hashed })
    }

    /// The database where it lies, if it is a plain file that can be mapped.
    fn mapped(&self, needed: u64) -> Option<Database> {
        let len = usize::try_from(needed).ok()?;
        // One that cannot be mapped can be read.
        let map = Mapped::given(self.file.as_ref()?).ok()??;
        (map.len() >= len).then_some(Database::Mapped { map, len })
    }
}
