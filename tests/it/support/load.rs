//! A load with everything in it that leaves its mark in etcd's files: puts, deletes, ranges, transactions, leases.
//!
//! The same seed gives the same operations. Names and shapes are those of Kubernetes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use etcd_client::{Compare, CompareOp, DeleteOptions, Error, PutOptions, Txn, TxnOp};

use super::client::Client;
use super::random::Random;

const KINDS: [&str; 5] = ["configmaps", "events", "leases", "pods", "secrets"];
/// Names are drawn from this many per kind, so that keys are overwritten, deleted and made again.
const NAMES: u64 = 60;
/// Long enough that no lease of a test runs out by itself.
const TTL_SECONDS: i64 = 36_000;

/// The sequence of operations of one seed.
pub struct Load {
    random: Random,
    leases: Vec<i64>,
}

impl Load {
    /// The load of a seed.
    pub fn new(seed: u64) -> Load {
        Load {
            random: Random::new(seed),
            leases: Vec::new(),
        }
    }

    /// Does the next `operations`; each must succeed.
    pub fn run(&mut self, client: &Client, operations: usize) {
        for _ in 0..operations {
            self.step(client)
                .expect("a healthy cluster takes every operation of the load");
        }
    }

    /// Compacts to a point shortly before the present revision and returns it.
    pub fn compact(&mut self, client: &Client) -> i64 {
        let revision = client.revision().expect("a healthy cluster can be read");
        let back = i64::try_from(self.below(20)).expect("a small number") + 1;
        let target = revision - back;
        client
            .compact(target)
            .expect("the revision exists and is not compacted yet");
        target
    }

    /// Goes on with the load in a thread until it is told to stop.
    pub fn in_background(mut self, client: Client) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut done = 0;
            while !stopped.load(Ordering::Relaxed) {
                match self.step(&client) {
                    Ok(()) => done += 1,
                    Err(error) => return (self, done, ControlFlow::Break(error)),
                }
            }
            (self, done, ControlFlow::Continue(()))
        });
        Background { stop, thread }
    }

    /// Does the next operation.
    pub fn step(&mut self, client: &Client) -> Result<(), Error> {
        match self.below(100) {
            0..55 => {
                let (key, value) = (self.key(), self.value());
                client.put(&key, value, 0).map(drop)
            }
            55..67 => client.delete(&self.key()).map(drop),
            67..72 => {
                let (kind, from) = (self.kind(), self.below(NAMES));
                let name = |number| format!("/registry/{kind}/default/object-{number:03}");
                client.delete_range(&name(from), &name(from + 4)).map(drop)
            }
            72..88 => {
                let txn = self.txn();
                client.txn(txn).map(drop)
            }
            88..97 => self.put_with_lease(client),
            _ => match self.leases.pop() {
                Some(lease) => client.revoke(lease),
                None => Ok(()),
            },
        }
    }

    /// A transaction of several changes in one revision, with a branch that depends on what is there.
    fn txn(&mut self) -> Txn {
        let kind = self.kind();
        let from = self.below(NAMES);
        let name = |number: u64| format!("/registry/{kind}/transacted/object-{number:03}");
        let guard = Compare::create_revision(name(from), CompareOp::Equal, 0);
        let put = |load: &mut Load, number| TxnOp::put(name(number), load.value(), None);
        let when_new = vec![put(self, from), put(self, from + 1), put(self, from + 2)];
        let nested = Txn::new().and_then([put(self, from + 3)]);
        let otherwise = vec![
            TxnOp::delete(name(from), Some(DeleteOptions::new().with_range(name(from + 2)))),
            put(self, from + 2),
            TxnOp::txn(nested),
        ];
        Txn::new().when([guard]).and_then(when_new).or_else(otherwise)
    }

    fn put_with_lease(&mut self, client: &Client) -> Result<(), Error> {
        let lease = i64::try_from(self.next() >> 2).expect("62 bits") + 1;
        client.grant(lease, TTL_SECONDS)?;
        self.leases.push(lease);
        let options = Some(PutOptions::new().with_lease(lease));
        let puts: Vec<TxnOp> = (0..2)
            .map(|part| {
                let key = format!("/registry/masterleases/{lease:x}-{part}");
                TxnOp::put(key, self.value(), options.clone())
            })
            .collect();
        client.txn(Txn::new().and_then(puts)).map(drop)
    }

    fn key(&mut self) -> String {
        let (kind, number) = (self.kind(), self.below(NAMES));
        format!("/registry/{kind}/default/object-{number:03}")
    }

    fn kind(&mut self) -> &'static str {
        let index = usize::try_from(self.below(KINDS.len() as u64)).expect("a small number");
        KINDS[index]
    }

    /// Mostly small, now and then of several pages of the file.
    fn value(&mut self) -> Vec<u8> {
        let words = match self.below(50) {
            0 => 3_000,
            1 => 0,
            _ => 4 + self.below(80),
        };
        (0..words).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn next(&mut self) -> u64 {
        self.random.next()
    }
}

/// A load that runs in a thread.
#[must_use]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Load, usize, ControlFlow<Error>)>,
}

impl Background {
    /// Stops it and gives it back, with the number of operations that it did. Every one must have succeeded.
    pub fn stop(self) -> (Load, usize) {
        let (load, done, end) = self.join();
        if let ControlFlow::Break(error) = end {
            panic!("the load in the background failed after {done} operations: {error}");
        }
        (load, done)
    }

    /// Stops it where the server was killed meanwhile, so that its last operation may have failed.
    pub fn abandon(self) -> usize {
        self.join().1
    }

    fn join(self) -> (Load, usize, ControlFlow<Error>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}
