//! What is written down in a data directory that is kept up: which history it is of. How far it is stands in its database.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::jobs::{Exit, Failure, failed};
use crate::model::LineageId;

/// The file in the data directory that says which history it is of.
const MARK: &str = ".lifeboat-follow.json";
/// No mark is longer.
const MARK_BYTES: u64 = 64 << 10;

/// Which history data is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    pub lineage: LineageId,
}

impl Mark {
    pub fn of(lineage: &LineageId) -> Mark {
        Mark {
            format: 1,
            lineage: lineage.clone(),
        }
    }

    pub fn write(&self, data_dir: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_string(self).map_err(failed)?;
        text.push('\n');
        durable::replace(&data_dir.join(MARK), text.as_bytes(), 0o600).map_err(failed)
    }
}

/// What is written down in a data directory; nothing where a run died before it did.
pub(super) fn read_mark(data_dir: &Path) -> Result<Option<Mark>, Failure> {
    let path = data_dir.join(MARK);
    let bytes = match durable::read_plain(&path, MARK_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::new(
                Exit::Failed,
                format!("cannot read {}: {error}", path.display()),
            ));
        }
    };
    let mark = serde_json::from_slice(&bytes);
    mark.map(Some).map_err(|error| {
        let message = format!("{} cannot be read: {error}", path.display());
        Failure::new(Exit::Failed, message).next("remove the directory, and run it again")
    })
}
