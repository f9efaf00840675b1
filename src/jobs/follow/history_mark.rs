//! What is written down in data that is kept up: which history it is of. How far it is stands in its database.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::jobs::rebuild::refused_by;
use crate::jobs::{Exit, Failure, failed};
use crate::model::LineageId;
use crate::rebuild::Warm;

/// Which history data is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    lineage: LineageId,
}

impl Mark {
    pub fn of(lineage: &LineageId) -> Mark {
        Mark {
            format: 1,
            lineage: lineage.clone(),
        }
    }

    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let mut text = serde_json::to_string(self).map_err(failed)?;
        text.push('\n');
        Ok(text.into_bytes())
    }
}

/// Fails where data is not of `lineage`, or where it does not say of which it is: the changes of one history may well fit behind
/// the data of another one.
pub(super) fn held_to(lineage: &LineageId, warm: &Warm, data_dir: &Path) -> Result<(), Failure> {
    const NEXT: &str = "move it aside or remove it, or give another directory: it is laid out anew then";
    let data_dir = data_dir.display();
    let refused = |message: String| Failure::new(Exit::Refused, message).next(NEXT);
    let bytes = warm.history().map_err(|error| refused_by(&error, None))?;
    let Some(bytes) = bytes else {
        return Err(refused(format!(
            "which history {data_dir} is of is not written down in it: `--follow` has not laid it out, or what said so was removed"
        )));
    };
    let mark: Mark = serde_json::from_slice(&bytes)
        .map_err(|error| refused(format!("which history {data_dir} is of cannot be read: {error}")))?;
    match mark.lineage == *lineage {
        true => Ok(()),
        false => Err(refused(format!(
            "{data_dir} is of lineage {}, and {lineage} is the one that counts now: etcd's data was replaced or restored",
            mark.lineage
        ))),
    }
}
