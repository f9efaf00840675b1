//! Under which epoch this host wrote last, in a chain that others may write to. Only one run at a time has the folder where that is
//! kept: whoever finds that nobody has taken a later epoch since need not wait until its former self has been silent for long.
//!
//! It still takes an epoch of its own: see `docs/decisions/one-epoch-a-run.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::{ChainPath, Epoch, FORMAT};

/// Its name beside the spool.
const FILE: &str = "epoch.json";
const MODE: u32 = 0o600;
const LARGEST: u64 = 4 << 10;

#[derive(Serialize, Deserialize)]
struct Taken {
    format: u64,
    /// The chain, by its path.
    chain: String,
    epoch: u32,
}

/// Keeps that this host writes a chain under that epoch from now on.
pub(super) fn keep(folder: &Path, chain: &ChainPath, epoch: Epoch) -> Result<(), durable::Error> {
    let taken = Taken {
        format: FORMAT,
        chain: chain.to_string(),
        epoch: epoch.0,
    };
    let bytes = serde_json::to_vec(&taken).expect("it has only text keys");
    durable::replace(&folder.join(FILE), &bytes, MODE)
}

/// Whether it was this host that wrote a chain under that epoch. Where that cannot be told, it was another.
pub(super) fn is_own(folder: &Path, chain: &ChainPath, epoch: Epoch) -> bool {
    let read = durable::read_plain(&folder.join(FILE), LARGEST).ok();
    let taken = read.and_then(|bytes| serde_json::from_slice::<Taken>(&bytes).ok());
    taken.is_some_and(|taken| taken.format == FORMAT && taken.chain == chain.to_string() && taken.epoch == epoch.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterId;

    #[test]
    fn only_the_epoch_that_was_kept_last_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let chain = |id: &str| ChainPath {
            cluster: ClusterId(0xab),
            chain: id.parse().unwrap(),
        };
        let (one, other) = (chain("20261120T101530Z-00000001"), chain("20261120T101530Z-00000002"));
        let is_own = |chain, epoch| is_own(folder.path(), chain, Epoch(epoch));
        assert!(!is_own(&one, 3));
        keep(folder.path(), &one, Epoch(3)).unwrap();
        assert_eq!(
            [is_own(&one, 3), is_own(&one, 2), is_own(&one, 4), is_own(&other, 3)],
            [true, false, false, false]
        );
        keep(folder.path(), &other, Epoch(3)).unwrap();
        assert_eq!([is_own(&one, 3), is_own(&other, 3)], [false, true]);
        std::fs::write(folder.path().join(FILE), "{\"format\": 1").unwrap();
        assert!(!is_own(&other, 3));
    }
}
