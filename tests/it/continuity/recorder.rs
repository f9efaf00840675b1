//! Whoever writes down what a cluster does, on his own: a watch of the whole key space, and HashKV now and then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etcd_client::{EventType, WatchOptions};

use super::super::support::client::{Client, HashKv, wait_for};

/// A change, without its revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub key: Vec<u8>,
    /// None of a deletion.
    pub put: Option<Put>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Put {
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub value: Vec<u8>,
}

/// All changes by revision, in their order.
pub type Written = BTreeMap<i64, Vec<Change>>;

#[derive(Default)]
struct Shared {
    written: Mutex<Written>,
    hashes: Mutex<Vec<HashKv>>,
    stop: AtomicBool,
    /// Whether it goes on behind what was compacted before it came.
    may_miss: bool,
}

/// Writes down until it is told to stop.
pub struct Recorder {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Recorder {
    /// Begins with the revision `from`; each time a connection ends, another member is asked.
    pub fn begin(clients: Vec<Client>, from: i64) -> Recorder {
        Recorder::with(Shared::default(), clients, from)
    }

    /// The same of one member, from what may be compacted before it comes: a member that is killed is behind.
    pub fn of_one(client: Client, from: i64) -> Recorder {
        let shared = Shared {
            may_miss: true,
            ..Shared::default()
        };
        Recorder::with(shared, vec![client], from)
    }

    fn with(shared: Shared, clients: Vec<Client>, from: i64) -> Recorder {
        let shared = Arc::new(shared);
        let (watching, asking) = (Arc::clone(&shared), Arc::clone(&shared));
        let others = clients.clone();
        let threads = vec![
            thread::spawn(move || watch(&watching, &clients, from)),
            thread::spawn(move || ask(&asking, &others)),
        ];
        Recorder { shared, threads }
    }

    /// The last revision that has come.
    pub fn last(&self) -> i64 {
        let written = self.shared.written.lock().unwrap();
        written.last_key_value().map_or(0, |(revision, _)| *revision)
    }

    /// What was written down, and what members reported meanwhile.
    pub fn end(self) -> (Written, Vec<HashKv>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it writes down");
        }
        let written = std::mem::take(&mut *self.shared.written.lock().unwrap());
        let hashes = std::mem::take(&mut *self.shared.hashes.lock().unwrap());
        (written, hashes)
    }
}

fn watch(shared: &Shared, clients: &[Client], mut next: i64) {
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let client = &clients[turn % clients.len()];
        turn += 1;
        next = wait_for(watch_one(shared, client, next));
        thread::sleep(Duration::from_millis(100));
    }
}

/// Until the connection ends. Gives the first revision that has not come.
async fn watch_one(shared: &Shared, client: &Client, mut next: i64) -> i64 {
    let options = WatchOptions::new().with_all_keys().with_start_revision(next);
    let mut raw = client.raw();
    let begun = tokio::time::timeout(Duration::from_secs(5), raw.watch("", Some(options))).await;
    let Ok(Ok(mut stream)) = begun else { return next };
    while !shared.stop.load(Ordering::Relaxed) {
        let message = match tokio::time::timeout(Duration::from_millis(500), stream.message()).await {
            Err(_) => continue,
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None) | Err(_)) => break,
        };
        if message.compact_revision() > 0 {
            assert!(shared.may_miss, "the recorder was too slow: {message:?}");
            return next.max(message.compact_revision() + 1);
        }
        if message.canceled() {
            break;
        }
        let mut written = shared.written.lock().unwrap();
        for event in message.events() {
            let kv = event.kv().expect("an event has a key");
            if kv.mod_revision() < next {
                continue;
            }
            let put = (event.event_type() == EventType::Put).then(|| Put {
                create_revision: kv.create_revision(),
                version: kv.version(),
                lease: kv.lease(),
                value: kv.value().to_vec(),
            });
            let change = Change {
                key: kv.key().to_vec(),
                put,
            };
            written.entry(kv.mod_revision()).or_default().push(change);
        }
        // Without fragments no revision is split.
        next = next.max(written.last_key_value().map_or(0, |(revision, _)| *revision) + 1);
    }
    next
}

/// What a watch from `from` on is told within a second.
pub fn heard_late(client: &Client, from: i64) -> Written {
    let shared = Shared {
        may_miss: true,
        ..Shared::default()
    };
    let watching = watch_one(&shared, client, from);
    wait_for(async { tokio::time::timeout(Duration::from_secs(1), watching).await }).ok();
    shared.written.into_inner().unwrap()
}

fn ask(shared: &Shared, clients: &[Client]) {
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(300));
        turn += 1;
        if let Ok(hash) = clients[turn % clients.len()].hash_kv(0) {
            shared.hashes.lock().unwrap().push(hash);
        }
    }
}
