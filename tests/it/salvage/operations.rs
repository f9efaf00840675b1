//! Random operations that touch every rule by which etcd executes an entry of its log, those that it refuses included.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions, PutOptions,
    Txn, TxnOp,
};

use super::super::support::random::Random;

/// How many names there are: few, so that they are overwritten, deleted and made again.
const NAMES: u64 = 24;
/// Long enough that no lease runs out by itself.
const TTL_SECONDS: i64 = 36_000;

/// What is known of the store, to ask for what is there and for what is not.
pub struct Operations {
    random: Random,
    leases: Vec<i64>,
    revoked: Vec<i64>,
    revision: i64,
    quiet: u64,
}

/// How often the server did what was asked, and how often it refused.
#[derive(Debug, Default, Clone, Copy)]
pub struct Answers {
    pub done: u64,
    pub refused: u64,
}

impl Operations {
    /// The operations of a seed, with a compaction among some 25 times `quiet`.
    pub fn new(seed: u64, quiet: u64) -> Operations {
        Operations {
            quiet,
            random: Random::new(seed),
            leases: Vec::new(),
            revoked: Vec::new(),
            revision: 1,
        }
    }

    /// Asks for the next `count`.
    pub async fn run(&mut self, client: &mut Client, count: u64) -> Answers {
        let mut answers = Answers::default();
        for _ in 0..count {
            match self.step(client).await {
                Ok(()) => answers.done += 1,
                Err(Error::GRpcStatus(_)) => answers.refused += 1,
                Err(error) => panic!("the server is gone: {error}"),
            }
        }
        answers
    }

    async fn step(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.random.below(100) {
            0..34 => {
                let (key, value, options) = (self.key(), self.value(), self.put_options());
                let answer = client.put(key, value, Some(options)).await?;
                self.note(answer.header());
            }
            34..44 => {
                let answer = client.delete(self.key(), self.delete_options()).await?;
                self.note(answer.header());
            }
            44..78 => {
                let txn = self.txn(0);
                let answer = client.txn(txn).await?;
                self.note(answer.header());
            }
            78..85 => {
                let id = i64::try_from(self.random.next() >> 2).expect("62 bits") + 1;
                // Now and then one that is there already.
                let id = match self.random.once_in(5) {
                    true => self.leases.last().copied().unwrap_or(id),
                    false => id,
                };
                let options = LeaseGrantOptions::new().with_id(id);
                client.lease_grant(TTL_SECONDS, Some(options)).await?;
                self.leases.push(id);
            }
            85..91 => {
                let id = match self.leases.is_empty() || self.random.once_in(6) {
                    true => self.revoked.last().copied().unwrap_or(77),
                    false => {
                        let place = self.random.below(self.leases.len() as u64);
                        self.leases.swap_remove(usize::try_from(place).expect("an index"))
                    }
                };
                self.revoked.push(id);
                client.lease_revoke(id).await?;
            }
            // Each brings the database up to the log.
            91..95 if self.random.once_in(self.quiet) => {
                // Sometimes one that is done already, or that is still to come.
                let back = i64::try_from(self.random.below(60)).expect("it is small") - 3;
                let physical = self.random.once_in(2).then(|| CompactionOptions::new().with_physical());
                client.compact(self.revision - back, physical).await?;
            }
            _ => {
                let answer = client.get(self.key(), Some(GetOptions::new().with_prefix())).await?;
                self.note(answer.header());
            }
        }
        Ok(())
    }

    fn note(&mut self, header: Option<&etcd_client::ResponseHeader>) {
        self.revision = header.map_or(self.revision, etcd_client::ResponseHeader::revision);
    }

    fn name(number: u64) -> String {
        format!("/salvage/{:02}", number % NAMES)
    }

    fn key(&mut self) -> String {
        Self::name(self.random.below(NAMES))
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(60) {
            0 => 20_000,
            1..6 => 0,
            len => len,
        };
        (0..len)
            .map(|_| b'a' + self.random.next().to_le_bytes()[0] % 3)
            .collect()
    }

    fn lease(&mut self) -> i64 {
        match self.random.below(10) {
            0..3 if !self.leases.is_empty() => *self.random.one_of(&self.leases),
            3 if !self.revoked.is_empty() => *self.random.one_of(&self.revoked),
            _ => 0,
        }
    }

    fn put_options(&mut self) -> PutOptions {
        let mut options = PutOptions::new();
        match self.random.below(12) {
            // With these etcd wants no value, or no lease, beside them: most are refused before they come to the log.
            0 => options = options.with_ignore_lease(),
            1 => options = options.with_prev_key(),
            _ => options = options.with_lease(self.lease()),
        }
        options
    }

    fn delete_options(&mut self) -> Option<DeleteOptions> {
        let options = DeleteOptions::new();
        match self.random.below(10) {
            0..3 => Some(options.with_range(self.key())),
            3 => Some(options.with_prefix()),
            4 => Some(options.with_prev_key()),
            5 if self.random.once_in(4) => Some(options.with_from_key()),
            _ => None,
        }
    }

    /// Keys of puts are taken from disjoint parts: etcd refuses a transaction that puts one twice.
    fn txn(&mut self, depth: u32) -> Txn {
        let compares: Vec<Compare> = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let [then, otherwise] = [0, 1].map(|_| self.operations(depth));
        Txn::new().when(compares).and_then(then).or_else(otherwise)
    }

    fn operations(&mut self, depth: u32) -> Vec<TxnOp> {
        let first = self.random.below(NAMES);
        let count = self.random.below(5);
        (0..count)
            .map(|place| {
                let name = Self::name(first + place);
                match self.random.below(12) {
                    0..5 => {
                        let options = self.put_options();
                        TxnOp::put(name, self.value(), Some(options))
                    }
                    5 => TxnOp::put(name, "", Some(PutOptions::new().with_ignore_value())),
                    6..8 => {
                        let options = self
                            .random
                            .once_in(3)
                            .then(|| DeleteOptions::new().with_range(self.key()));
                        TxnOp::delete(name, options)
                    }
                    8 => TxnOp::get(name, None),
                    9 => {
                        // Where one at the top cannot be answered, servers differ in what they do.
                        let back = i64::try_from(self.random.below(90)).expect("it is small") - 2;
                        let back = if depth == 0 { 0 } else { back };
                        let revision = (self.revision - back).max(0);
                        TxnOp::get(name, Some(GetOptions::new().with_revision(revision)))
                    }
                    _ if depth < 3 => TxnOp::txn(self.txn(depth + 1)),
                    _ => TxnOp::delete(name, None),
                }
            })
            .collect()
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let how = [
            CompareOp::Equal,
            CompareOp::Greater,
            CompareOp::Less,
            CompareOp::NotEqual,
        ];
        let how = *self.random.one_of(&how);
        let near = self.revision - i64::try_from(self.random.below(80)).expect("it is small");
        let compare = match self.random.below(5) {
            0 => Compare::version(key, how, i64::try_from(self.random.below(3)).expect("it is small")),
            1 => Compare::create_revision(key, how, if self.random.once_in(2) { 0 } else { near }),
            2 => Compare::mod_revision(key, how, near),
            3 => Compare::value(key, how, self.value()),
            _ => Compare::lease(key, how, self.lease()),
        };
        match self.random.below(5) {
            0 => compare.with_range(self.key()),
            1 => compare.with_prefix(),
            _ => compare,
        }
    }
}
