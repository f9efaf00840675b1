//! Which chains ended only because another cluster answered: a restore on this host makes another one, and `rollback` brings back the
//! one before. Where the own cluster of such a chain is back, it is gone on with, so that nothing is left uncaptured; also by an agent
//! that was started or reloaded in between. So it is kept beside the spool.
//!
//! A chain that ends for any other reason since is none of them any more.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::FORMAT;
use crate::model::ChainId;

/// Its name beside the spool.
const FILE: &str = "set-aside.json";
const MODE: u32 = 0o600;
const LARGEST: u64 = 64 << 10;
/// How many are kept: more restores than that nobody takes back.
const MOST: usize = 64;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u64,
    /// The last one first.
    chains: Vec<ChainId>,
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct SetAside {
    path: PathBuf,
    chains: Vec<ChainId>,
}

impl SetAside {
    /// What is kept beside the spool in `folder`. Where that cannot be read, it is none, and why is said.
    pub fn of(folder: &Path) -> (SetAside, Option<String>) {
        let path = folder.join(FILE);
        let read = match durable::read_plain(&path, LARGEST) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|error| error.to_string()).and_then(|bytes| chains(&bytes)),
        };
        let (mut chains, trouble) = match read {
            Ok(chains) => (chains, None),
            Err(why) => {
                let what = format!(
                    "`{}` cannot be read ({why}): after a rollback of an earlier restore, what etcd had before the next full backup \
                     is not captured",
                    path.display()
                );
                (Vec::new(), Some(what))
            }
        };
        chains.truncate(MOST);
        (SetAside { path, chains }, trouble)
    }

    pub fn contains(&self, chain: &ChainId) -> bool {
        self.chains.contains(chain)
    }

    /// Another cluster answered where this chain was written. Where it cannot be kept, it is known in this run all the same.
    pub fn insert(&mut self, chain: ChainId) -> Result<(), durable::Error> {
        self.chains.retain(|known| *known != chain);
        self.chains.insert(0, chain);
        self.chains.truncate(MOST);
        self.keep()
    }

    /// This chain has ended for another reason.
    pub fn remove(&mut self, chain: &ChainId) -> Result<(), durable::Error> {
        if !self.contains(chain) {
            return Ok(());
        }
        self.chains.retain(|known| known != chain);
        self.keep()
    }

    fn keep(&self) -> Result<(), durable::Error> {
        let kept = Kept {
            format: FORMAT,
            chains: self.chains.clone(),
        };
        let bytes = serde_json::to_vec(&kept).expect("it has only text keys");
        durable::replace(&self.path, &bytes, MODE)
    }
}

fn chains(bytes: &[u8]) -> Result<Vec<ChainId>, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match kept.format {
        FORMAT => Ok(kept.chains),
        other => Err(format!("it is of format {other}, this version reads {FORMAT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(number: usize) -> ChainId {
        format!("20261120T101530Z-{number:08x}").parse().unwrap()
    }

    #[test]
    fn what_was_set_aside_is_known_to_the_next_run_until_it_ends_for_another_reason() {
        let folder = tempfile::tempdir().unwrap();
        let known = |number| {
            let (kept, trouble) = SetAside::of(folder.path());
            assert_eq!(trouble, None);
            kept.contains(&chain(number))
        };
        assert!(!known(1));
        let (mut kept, _) = SetAside::of(folder.path());
        kept.insert(chain(1)).unwrap();
        kept.insert(chain(2)).unwrap();
        assert!(known(1) && known(2) && !known(3));
        kept.remove(&chain(1)).unwrap();
        kept.remove(&chain(3)).unwrap();
        assert!(!known(1) && known(2));
        for number in 3..MOST + 2 {
            kept.insert(chain(number)).unwrap();
        }
        assert!(known(2) && known(MOST + 1));
        kept.insert(chain(MOST + 2)).unwrap();
        assert!(!known(2) && known(3));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_is_none() {
        for text in ["{\"format\":1,\"chains\":[", "{\"format\":2,\"chains\":[]}"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let (kept, trouble) = SetAside::of(folder.path());
            assert!(trouble.unwrap().contains(FILE), "{text}");
            assert!(!kept.contains(&chain(1)));
        }
    }
}
