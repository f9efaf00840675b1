//! What the agent remembers of each schedule: `schedules/NAME.json` in the state of the cluster.
//!
//! Invariant: a file is replaced whole, so a kill at any moment leaves the one before or the one after.
//! Invariant: what is remembered has a bound, far below what is read back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::schedule::{Handled, Slot, When};
use crate::slots::Stored;

const FORMAT: u64 = 1;
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
const LARGEST: u64 = 64 << 10;
/// How much is kept of what was not done: a store in which nothing can be kept has a line for each backup.
const MOST_UNDONE: usize = 5;
const LONGEST_UNDONE: usize = 1 << 10;

/// One schedule on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    format: u64,
    /// What named the slots below.
    when: String,
    /// The slots that were taken.
    pub handled: Handled,
    /// The last slot that is done, be it in one destination only.
    pub last_success: Option<Success>,
}

/// A slot whose backup is stored, in some of its destinations or in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// The slot.
    pub slot: Slot,
    /// When it was done.
    pub at: Timestamp,
    /// Which destinations have it, by name.
    pub stored: BTreeMap<String, Stored>,
    /// What was not done after it, or the first few of that: destinations that were not pruned, and why.
    pub undone: Vec<String>,
}

/// A memory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("read `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// It is not what was written there.
    #[error("`{}` cannot be understood ({detail})", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl Memory {
    /// Of a schedule that is new, or newly changed, at `now`.
    pub fn new(when: &When, now: Timestamp) -> Memory {
        Memory {
            format: FORMAT,
            when: when.to_string(),
            handled: Handled::since(now),
            last_success: None,
        }
    }

    /// The same for the present slots: if they are named otherwise than before, all up to `now` are forgotten.
    #[must_use]
    pub fn fitted(self, when: &When, now: Timestamp) -> Memory {
        if self.when == when.to_string() {
            return self;
        }
        Memory {
            last_success: self.last_success,
            ..Memory::new(when, now)
        }
    }

    /// Reads what is remembered of `schedule`; None if there is nothing.
    pub fn read(folder: &Path, schedule: &str) -> Result<Option<Memory>, Error> {
        let path = path(folder, schedule);
        let bytes = match durable::read_plain(&path, LARGEST) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let corrupt = |detail: String| Error::Corrupt {
            path: path.clone(),
            detail,
        };
        let memory: Memory = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        match memory.format {
            FORMAT => Ok(Some(memory)),
            other => Err(corrupt(format!("format {other} is of another lifeboat"))),
        }
    }

    /// Remembers this of `schedule`.
    pub fn write(&self, folder: &Path, schedule: &str) -> Result<(), durable::Error> {
        durable::create_dirs(&folder.join("schedules"), FOLDER_MODE)?;
        let bytes = serde_json::to_vec(self).expect("our documents have only text keys");
        durable::replace(&path(folder, schedule), &bytes, FILE_MODE)
    }
}

/// The first few of what was not done, none of them very long, and how many there are beside them.
pub fn few(mut undone: Vec<String>) -> Vec<String> {
    let more = undone.len().saturating_sub(MOST_UNDONE);
    undone.truncate(MOST_UNDONE);
    for text in &mut undone {
        text.truncate(text.floor_char_boundary(LONGEST_UNDONE));
    }
    if more > 0 {
        undone.push(format!("and {more} more: see the journal"));
    }
    undone
}

/// The names of schedules are safe as components of a path.
fn path(folder: &Path, schedule: &str) -> PathBuf {
    folder.join(format!("schedules/{schedule}.json"))
}
