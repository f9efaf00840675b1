//! Locks of objects, in stores that have them.

use jiff::Timestamp;

use super::Store;
use crate::layout::ObjectName;
use crate::store::Error;

impl Store {
    /// Locks an object against whoever may remove it, for as long as is configured; nothing where nothing is. A manifest is
    /// locked as it is written.
    pub fn lock(&self, object: &ObjectName) -> Result<(), Error> {
        let object = object.clone();
        self.ask(move |store| store.backend().lock(&object))
    }

    /// Whether what is written may not be removed for a while.
    pub fn locks(&self) -> bool {
        self.inner.backend().locks()
    }

    /// The same of one that is not locked, as one may be that a run has written which was killed before it locked it.
    pub fn lock_if_it_is_not(&self, object: &ObjectName) -> Result<(), Error> {
        let object = object.clone();
        self.ask(move |store| {
            let backend = store.backend();
            // Who may set locks need not have the right to see them; once more makes one longer at most.
            let is_locked = || match backend.locked_until(&object) {
                Err(Error::Refused { .. }) => Ok(false),
                until => Ok::<_, Error>(until?.is_some()),
            };
            match backend.locks() && !is_locked()? {
                true => backend.lock(&object),
                false => Ok(()),
            }
        })
    }

    /// Until when an object is locked; none if it is not, or where nothing is ever locked.
    pub fn locked_until(&self, object: &ObjectName) -> Result<Option<Timestamp>, Error> {
        let object = object.clone();
        self.ask(move |store| store.backend().locked_until(&object))
    }
}
