//! The last configuration that was right, for commands that only look while it is being mended.
//!
//! Kept are the files as they were read, not what they came to: reading them again gives the same configuration by the
//! same checks. Where the record is kept is left to `state`.
//!
//! Invariant: no secret is in a record, as none is in a configuration; only the address of a heartbeat may be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::load::parse;
use super::{Config, Loaded};

const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u64,
    files: Vec<Recorded>,
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    path: PathBuf,
    text: String,
}

impl Loaded {
    /// What to keep of it; nothing if the name of a file is not text.
    pub fn to_record(&self) -> Option<Vec<u8>> {
        let files = self.files.iter().zip(&self.texts);
        let record = Record {
            format: FORMAT,
            files: files
                .map(|(path, text)| Recorded {
                    path: path.clone(),
                    text: text.clone(),
                })
                .collect(),
        };
        serde_json::to_vec(&record).ok()
    }
}

/// The configuration that was kept; nothing if the record cannot be read, or is not right any more.
pub fn recall(record: &[u8]) -> Option<Config> {
    let record: Record = serde_json::from_slice(record).ok()?;
    if record.format != FORMAT {
        return None;
    }
    let files = record.files.into_iter();
    let (config, _) = parse(files.map(|file| (file.path, file.text.into_bytes())).collect()).ok()?;
    Some(config)
}
