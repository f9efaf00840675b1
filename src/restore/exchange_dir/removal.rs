//! What goes from our folder: new data that was never used, old data that was released, and folders that are empty.

use super::names::{condemned_as, gone, gone_made, kept, made};
use super::{Error, ExchangeDir, MOST_ENTRIES, OWN, inodes};
use crate::restore::plan::RestoreId;

impl ExchangeDir {
    /// Removes what was made and never used; whatever else lies there is left.
    pub fn discard_unused(&self, id: &RestoreId, new: &[u64]) -> Result<(), Error> {
        let is_new = |inode: &u64| new.contains(inode);
        match self.own.dir(made(id))? {
            Some(made) if !inodes(&made)?.iter().all(is_new) => Ok(()),
            Some(_) | None => self.discard_made(id),
        }
    }

    /// Removes what was made, finished or not.
    pub fn discard_made(&self, id: &RestoreId) -> Result<(), Error> {
        let prefix = made(id);
        for name in self.own.names(MOST_ENTRIES)? {
            if name.to_string_lossy().starts_with(&prefix) {
                self.own.remove_tree(&name)?;
            }
        }
        Ok(self.own.sync()?)
    }

    /// Takes the name from what is kept of a restore, by one step for each folder: from then on it is no data any more,
    /// however far its deletion comes.
    pub fn condemn(&self, id: &RestoreId) -> Result<(), Error> {
        for name in self.own.names(MOST_ENTRIES)? {
            let Some(gone) = condemned_as(&name, id) else { continue };
            if self.own.look(&gone)?.is_some() {
                // Of an earlier time, whose deletion was cut off.
                self.own.remove_tree(&gone)?;
            }
            self.own.rename(&name, &self.own, &gone)?;
        }
        Ok(self.own.sync()?)
    }

    /// Deletes what was condemned.
    pub fn discard_condemned(&self, id: &RestoreId) -> Result<(), Error> {
        let (kept, made) = (gone(id), gone_made(id));
        for name in self.own.names(MOST_ENTRIES)? {
            let text = name.to_string_lossy();
            if text == kept || text.starts_with(&made) {
                self.own.remove_tree(&name)?;
            }
        }
        Ok(self.own.sync()?)
    }

    /// Removes the folders of a restore that hold nothing, and ours if nothing is left in it.
    pub fn tidy(&self, id: &RestoreId) -> Result<(), Error> {
        for name in [made(id), kept(id)] {
            let Some(folder) = self.own.dir(&name)? else { continue };
            if folder.names(MOST_ENTRIES)?.is_empty() {
                self.own.remove_dir(&name)?;
            }
        }
        if self.own.names(MOST_ENTRIES)?.is_empty() {
            self.home.remove_dir(OWN)?;
            return Ok(self.home.sync()?);
        }
        Ok(self.own.sync()?)
    }
}
