//! Under which epochs this host wrote last, in chains that others may write to. Only one run at a time has the folder where that is
//! kept: whoever finds that nobody has taken a later epoch since need not wait until its former self has been silent for long.
//!
//! Of several chains, as one that was left may be gone on with: after a restore that was taken back, say.
//!
//! One that was set up anew has nothing of that: where the last writer has its name, that is taken for its former self, once.
//!
//! It still takes an epoch of its own: see `docs/decisions/one-epoch-a-run.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::{ChainPath, Epoch, FORMAT};

/// Its name beside the spool.
const FILE: &str = "epoch.json";
const MODE: u32 = 0o600;
const LARGEST: u64 = 64 << 10;
/// Of how many chains it is kept: those of two months of daily backups. What is older is waited for as that of another host.
const MOST: usize = 64;

#[derive(Serialize, Deserialize)]
struct Taken {
    format: u64,
    /// The last one.
    #[serde(flatten)]
    last: Own,
    /// Those before, the last of them first; the first versions did not keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Own>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Own {
    /// The chain, by its path.
    chain: String,
    /// The last epoch of this host there.
    epoch: u32,
}

/// Keeps that this host writes a chain under that epoch from now on.
pub(super) fn keep(folder: &Path, chain: &ChainPath, epoch: Epoch) -> Result<(), durable::Error> {
    let last = Own {
        chain: chain.to_string(),
        epoch: epoch.0,
    };
    let before = read(folder).filter(|own| own.chain != last.chain).take(MOST - 1);
    let taken = Taken {
        format: FORMAT,
        before: before.collect(),
        last,
    };
    let bytes = serde_json::to_vec(&taken).expect("it has only text keys");
    durable::replace(&folder.join(FILE), &bytes, MODE)
}

/// Whether it was this host that wrote a chain under that epoch. Where that cannot be told, it was another.
pub(super) fn is_own(folder: &Path, chain: &ChainPath, epoch: Epoch) -> bool {
    let chain = chain.to_string();
    read(folder).any(|own| own.chain == chain && own.epoch == epoch.0)
}

/// Whether nothing was ever kept there: this host was set up anew. What is there and cannot be read was kept.
pub(super) fn is_new(folder: &Path) -> bool {
    let read = durable::read_plain(&folder.join(FILE), LARGEST);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// What is kept, the last one first; nothing where that cannot be read.
fn read(folder: &Path) -> impl Iterator<Item = Own> {
    let read = durable::read_plain(&folder.join(FILE), LARGEST).ok();
    let taken = read.and_then(|bytes| serde_json::from_slice::<Taken>(&bytes).ok());
    let taken = taken.filter(|taken| taken.format == FORMAT);
    taken
        .into_iter()
        .flat_map(|taken| std::iter::once(taken.last).chain(taken.before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterId;

    fn chain(number: usize) -> ChainPath {
        ChainPath {
            cluster: ClusterId(0xab),
            chain: format!("20261120T101530Z-{number:08x}").parse().unwrap(),
        }
    }

    #[test]
    fn of_each_chain_the_epoch_that_was_kept_last_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (chain(1), chain(2));
        let is_own = |chain, epoch| is_own(folder.path(), chain, Epoch(epoch));
        assert!(!is_own(&one, 3) && is_new(folder.path()));
        keep(folder.path(), &one, Epoch(3)).unwrap();
        assert_eq!(
            [is_own(&one, 3), is_own(&one, 2), is_own(&one, 4), is_own(&other, 3)],
            [true, false, false, false]
        );
        keep(folder.path(), &other, Epoch(3)).unwrap();
        assert_eq!([is_own(&one, 3), is_own(&other, 3)], [true, true]);
        keep(folder.path(), &one, Epoch(5)).unwrap();
        assert_eq!(
            [is_own(&one, 3), is_own(&one, 5), is_own(&other, 3)],
            [false, true, true]
        );
        std::fs::write(folder.path().join(FILE), "{\"format\": 1").unwrap();
        assert!(!is_new(folder.path()));
        assert!(!is_own(&other, 3) && !is_own(&one, 5));
    }

    #[test]
    fn what_an_older_version_has_kept_counts_and_there_is_an_end_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let old = format!("{{\"format\":1,\"chain\":\"{}\",\"epoch\":7}}", chain(0));
        std::fs::write(folder.path().join(FILE), old).unwrap();
        let is_own = |number, epoch| is_own(folder.path(), &chain(number), Epoch(epoch));
        assert!(is_own(0, 7));
        for number in 1..MOST {
            keep(folder.path(), &chain(number), Epoch(1)).unwrap();
        }
        assert!(is_own(0, 7) && is_own(1, 1) && is_own(MOST - 1, 1));
        keep(folder.path(), &chain(MOST), Epoch(1)).unwrap();
        assert!(!is_own(0, 7) && is_own(1, 1) && is_own(MOST, 1));
    }
}
