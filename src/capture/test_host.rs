//! For tests: a host whose only destination is one store, and whose clock can be set forward.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Known, Need, Now, Proven, Sight, Surroundings, WrittenBeside};
use crate::etcd;
use crate::health::Level;
use crate::layout::Outline;
use crate::store::Store;

/// The host.
pub(super) struct Alone {
    pub store: Store,
    pub later: Mutex<Duration>,
    pub said: Mutex<Vec<String>>,
    pub fed_since: Mutex<Option<Timestamp>>,
}

impl Alone {
    pub fn with(store: &Store) -> Alone {
        Alone {
            store: store.clone(),
            later: Mutex::default(),
            said: Mutex::default(),
            fed_since: Mutex::default(),
        }
    }

    /// So much time passes.
    pub fn pass(&self, by: Duration) {
        *self.later.lock().unwrap() += by;
    }
}

impl Surroundings for Alone {
    fn now(&self) -> Now {
        Now {
            time: Timestamp::now(),
            uncertainty_ms: None,
            instant: Instant::now() + *self.later.lock().unwrap(),
        }
    }

    fn look(&self) -> Result<Sight, String> {
        Err("nobody looks".to_owned())
    }

    fn written_last_beside(&self, _: &Outline) -> Result<WrittenBeside, String> {
        Err("nobody looks".to_owned())
    }

    fn look_at(&self, _: &Outline) -> Result<Known, String> {
        Err("nobody looks".to_owned())
    }

    fn prove(&self, _: &Outline) -> Result<Option<Proven>, String> {
        Err("nobody looks".to_owned())
    }

    fn open(&self, _: &str) -> Result<Store, String> {
        Ok(self.store.clone())
    }

    fn fed_since(&self, _: &str) -> Option<Timestamp> {
        *self.fed_since.lock().unwrap()
    }

    fn access(&self) -> Result<etcd::Access, String> {
        Err("nobody asks etcd".to_owned())
    }

    fn turn_after(&self) -> Duration {
        Duration::ZERO
    }

    fn take_full(&self, _: &str, _: Need) -> Result<(), String> {
        Err("nobody takes one".to_owned())
    }

    fn restoring(&self) -> Option<String> {
        None
    }

    fn say_once(&self, level: Level, what: &str) {
        self.say(level, what);
    }

    fn say(&self, level: Level, what: &str) {
        assert_ne!(level, Level::Error, "{what}");
        self.said.lock().unwrap().push(what.to_owned());
    }
}
