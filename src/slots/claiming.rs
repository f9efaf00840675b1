//! A claim of a slot that is kept while the work on it goes on.
//!
//! What claims mean is decided in `free_or_taken`. Invariant: a held claim ends with a word in the store, whatever becomes of the
//! work: done, or given up. One that is cut off with its process runs out.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use jiff::Timestamp;

use super::free_or_taken::{Standing, standing};
use crate::layout::claim::CLAIM_HOLDS;
use crate::layout::claim::{Claim, State};
use crate::layout::{Clocks, HostName, ObjectName, SlotPath};
use crate::model::ChainId;
use crate::store::{self, Store};

/// How often the claim is made anew.
const RENEWED_EVERY: Duration = Duration::from_secs(CLAIM_HOLDS.as_secs().unsigned_abs() / 3);
/// How long the last word is waited for: a store that hangs must not hold up the agent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a number for the last word is looked for, while others write theirs.
const ATTEMPTS: u32 = 5;

/// Who claims, and for which backup.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// The host.
    pub host: HostName,
    /// The run, as in the manifest.
    pub run: String,
    /// The backup to be.
    pub chain: ChainId,
}

/// A slot that this host works on in one store. Dropped, it is given up.
#[must_use]
#[derive(Debug)]
pub struct HeldClaim {
    words: Option<Sender<Word>>,
    ended: Receiver<()>,
}

/// What is to be said in the store.
#[derive(Debug)]
enum Word {
    /// Another backup is the one that is to be there.
    Names(ChainId),
    /// The last word.
    Ends(State),
}

/// What the work of a slot leaves in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// A backup: a claim that says "done" counts together with it, and only so.
    Backup,
    /// Nothing that could be looked for.
    Nothing,
}

/// How `slot` stands in `store` by its claims; `now` is the clock of this host, `is_gone` as in [`standing()`].
pub fn look(
    store: &Store,
    slot: &SlotPath,
    leaves: Leaves,
    is_gone: impl Fn(&ChainId) -> bool,
    now: Timestamp,
) -> Result<Standing, store::Error> {
    let (newest, next) = store.newest_claim(slot)?;
    let claimed = newest.as_ref().and_then(|found| found.claim.as_ref().ok());
    let is_there = match claimed.filter(|claim| claim.state == State::Done) {
        Some(claim) if leaves == Leaves::Backup => store.has_backup(slot, &claim.chain)?,
        Some(_) | None => true,
    };
    // After the listing, so that nothing in it is from later than now.
    let clocks = Clocks {
        host: now,
        store: store.now()?,
    };
    let standing = standing(slot.instant(), newest.as_ref(), is_gone, |_| is_there, clocks);
    Ok(match standing {
        // Strangers may have taken the one that follows.
        Standing::Free(number) => Standing::Free(number.max(next)),
        Standing::Done { .. } | Standing::Held { .. } => standing,
    })
}

impl HeldClaim {
    /// Claims `slot` by `number`, and keeps it until `end`. None if another was faster.
    pub fn begin(
        store: &Store,
        slot: &SlotPath,
        number: u32,
        claimant: &Claimant,
    ) -> Result<Option<HeldClaim>, store::Error> {
        let mut claims = Claims {
            store: store.clone(),
            slot: slot.clone(),
            claimant: claimant.clone(),
            number,
        };
        match claims.say(State::Taking) {
            Ok(()) => {}
            Err(store::Error::AlreadyExists { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let (told, words) = channel();
        let (done, ended) = channel();
        std::thread::spawn(move || {
            claims.keep(&words, RENEWED_EVERY);
            // Nobody may be waiting any more.
            done.send(()).ok();
        });
        Ok(Some(HeldClaim {
            words: Some(told),
            ended,
        }))
    }

    /// Claims it for another backup from here on, as one that is copied: what a claim names no sweep touches, and "done"
    /// counts together with it.
    pub fn names(&self, chain: &ChainId) {
        if let Some(words) = &self.words {
            words.send(Word::Names(chain.clone())).ok();
        }
    }

    /// Says what became of the work.
    pub fn end(mut self, state: State) {
        if let Some(words) = self.words.take() {
            // It listens until it has heard this.
            words.send(Word::Ends(state)).ok();
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        drop(self.words.take());
        // Without it, the claim runs out.
        self.ended.recv_timeout(PATIENCE).ok();
    }
}

struct Claims {
    store: Store,
    slot: SlotPath,
    claimant: Claimant,
    /// That of the next claim.
    number: u32,
}

impl Claims {
    fn keep(&mut self, words: &Receiver<Word>, every: Duration) {
        let mut is_lost = false;
        loop {
            let state = match words.recv_timeout(every) {
                Err(RecvTimeoutError::Timeout) if is_lost => continue,
                Err(RecvTimeoutError::Timeout) => {
                    // Another error may be gone the next time; until then the claim runs on.
                    is_lost = matches!(self.say_again(), Err(store::Error::AlreadyExists { .. }));
                    continue;
                }
                Ok(Word::Names(chain)) => {
                    self.claimant.chain = chain;
                    if !is_lost {
                        is_lost = matches!(self.say_again(), Err(store::Error::AlreadyExists { .. }));
                    }
                    continue;
                }
                Ok(Word::Ends(state)) => state,
                Err(RecvTimeoutError::Disconnected) => State::GivenUp,
            };
            match state {
                // It is another's to give up.
                State::Taking | State::GivenUp if is_lost => {}
                State::Taking | State::GivenUp | State::Done => self.conclude(state),
            }
            return;
        }
    }

    /// Writes the last word, also after another's. If it cannot be written, the claim runs out and the backup itself
    /// tells that it is there.
    fn conclude(&mut self, state: State) {
        for _ in 0..ATTEMPTS {
            let Err(store::Error::AlreadyExists { .. }) = self.say(state) else {
                return;
            };
            match (state, self.store.newest_claim(&self.slot)) {
                (State::Done, Ok((Some(_), next))) => self.number = next,
                (State::Done | State::GivenUp | State::Taking, _) => return,
            }
        }
    }

    /// Claims it for longer. What is there by this number may be our own word, whose reply was lost.
    fn say_again(&mut self) -> Result<(), store::Error> {
        let said = self.say(State::Taking);
        if let Err(store::Error::AlreadyExists { .. }) = said
            && let Ok((Some(newest), _)) = self.store.newest_claim(&self.slot)
            && newest.number == self.number
            && newest
                .claim
                .is_ok_and(|claim| claim.run == self.claimant.run && claim.host == self.claimant.host.as_str())
        {
            self.number = self.number.saturating_add(1);
            return self.say(State::Taking);
        }
        said
    }

    fn say(&mut self, state: State) -> Result<(), store::Error> {
        let Claimant { host, run, chain } = &self.claimant;
        let claim = Claim::new(host, run, chain, state, self.store.now()?);
        let mut put = self.put(&claim);
        if let Err(store::Error::AlreadyExists { .. }) = put
            && let (newest, next) = self.store.newest_claim(&self.slot)?
            && newest.is_none_or(|newest| newest.number < self.number)
        {
            // A stranger has the number, who keeps nobody from anything.
            self.number = next;
            put = self.put(&claim);
        }
        put?;
        self.number = self.number.saturating_add(1);
        Ok(())
    }

    fn put(&self, claim: &Claim) -> Result<(), store::Error> {
        let name = ObjectName::Claim(self.slot.clone(), self.number);
        self.store.put_document(&name, &claim.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::manifest::tests::manifest;
    use crate::store::tests::store;

    fn slot() -> SlotPath {
        SlotPath::new("hourly".parse().unwrap(), "2020-11-20T10:00:00Z".parse().unwrap())
    }

    fn claimant(host: &str) -> Claimant {
        Claimant {
            host: HostName::nearest(host),
            run: "1a2b".to_owned(),
            chain: "20261120T100001Z-9f3c4a1b".parse().unwrap(),
        }
    }

    fn claims(store: &Store, host: &str, number: u32) -> Claims {
        Claims {
            store: store.clone(),
            slot: slot(),
            claimant: claimant(host),
            number,
        }
    }

    fn newest(store: &Store) -> (u32, String, State) {
        let found = store.newest_claim(&slot()).unwrap().0.unwrap();
        let claim = found.claim.unwrap();
        (found.number, claim.host, claim.state)
    }

    #[test]
    fn one_host_has_the_slot_until_it_says_what_became_of_it() {
        let (_root, store) = store();
        let first = HeldClaim::begin(&store, &slot(), 1, &claimant("h1")).unwrap().unwrap();
        assert!(HeldClaim::begin(&store, &slot(), 1, &claimant("h2")).unwrap().is_none());
        let standing = look(&store, &slot(), Leaves::Nothing, |_| false, store.now().unwrap()).unwrap();
        assert!(matches!(standing, Standing::Held { host, .. } if host == "h1"));
        drop(first);
        assert_eq!(newest(&store), (2, "h1".to_owned(), State::GivenUp));
        assert_eq!(
            look(&store, &slot(), Leaves::Nothing, |_| false, store.now().unwrap()).unwrap(),
            Standing::Free(3)
        );
        let second = HeldClaim::begin(&store, &slot(), 3, &claimant("h2")).unwrap().unwrap();
        second.end(State::Done);
        assert_eq!(newest(&store), (4, "h2".to_owned(), State::Done));
    }

    #[test]
    fn a_claim_whose_reply_was_lost_is_still_ours_and_one_of_another_is_not() {
        let (_root, store) = store();
        let mut claims = claims(&store, "h1", 1);
        claims.say(State::Taking).unwrap();
        claims.say(State::Taking).unwrap();
        // As if it had not heard of its second word.
        claims.number = 2;
        claims.say_again().unwrap();
        assert_eq!((claims.number, newest(&store).0), (4, 3));
        self::claims(&store, "h2", 4).say(State::Taking).unwrap();
        let lost = claims.say_again();
        assert!(matches!(lost, Err(store::Error::AlreadyExists { .. })), "{lost:?}");
    }

    #[test]
    fn a_claim_names_the_backup_that_is_copied_instead_of_the_one_to_be() {
        let (_root, store) = store();
        let held = HeldClaim::begin(&store, &slot(), 1, &claimant("h1")).unwrap().unwrap();
        let copied: ChainId = "20261120T100002Z-00000001".parse().unwrap();
        held.names(&copied);
        held.end(State::Done);
        let named = |number| {
            let words = store.read_small(&ObjectName::Claim(slot(), number), 1 << 16).unwrap();
            let claim: serde_json::Value = serde_json::from_slice(&words).unwrap();
            (claim["state"].to_string(), claim["chain"].as_str().unwrap().to_owned())
        };
        assert_eq!(named(2), ("\"taking\"".to_owned(), copied.to_string()));
        assert_eq!(named(3), ("\"done\"".to_owned(), copied.to_string()));
    }

    #[test]
    fn a_word_that_a_backup_is_done_is_believed_together_with_the_backup_of_that_slot() {
        let (root, store) = store();
        HeldClaim::begin(&store, &slot(), 1, &claimant("h1"))
            .unwrap()
            .unwrap()
            .end(State::Done);
        let standing = || look(&store, &slot(), Leaves::Backup, |_| false, store.now().unwrap()).unwrap();
        assert_eq!(standing(), Standing::Free(3), "there is no such backup");

        let of_slot = |at: &str| {
            let mut manifest = manifest(0xab, claimant("h1").chain.as_str(), 10);
            manifest.schedule = Some("hourly".to_owned());
            manifest.slot = Some(at.parse().unwrap());
            manifest
        };
        let put = |manifest: &crate::layout::Manifest| {
            let chain = root
                .path()
                .join(format!("prod/{}/{}", manifest.cluster.id, manifest.chain));
            std::fs::remove_dir_all(&chain).ok();
            std::fs::create_dir_all(&chain).unwrap();
            let object = std::fs::File::create(chain.join("full.db.zst.age")).unwrap();
            object.set_len(manifest.stored.bytes).unwrap();
            std::fs::write(chain.join(format!("full-{:020}.json", 10)), manifest.to_bytes()).unwrap();
            object
        };
        put(&of_slot("2020-11-20T11:00:00Z"));
        assert_eq!(standing(), Standing::Free(3), "it is of another slot");
        let object = put(&of_slot("2020-11-20T10:00:00Z"));
        assert!(matches!(standing(), Standing::Done { .. }));
        object.set_len(1).unwrap();
        assert_eq!(standing(), Standing::Free(3), "it is cut short");
    }

    #[test]
    fn a_slot_that_the_stores_clock_has_not_reached_is_handed_out_once_to_those_by_whose_clock_it_has_come() {
        let (_root, store) = store();
        let today = store.now().unwrap();
        let tomorrow = today + jiff::SignedDuration::from_hours(24);
        let slot = SlotPath::new("hourly".parse().unwrap(), tomorrow);
        assert_eq!(
            look(&store, &slot, Leaves::Nothing, |_| false, tomorrow).unwrap(),
            Standing::Free(1)
        );
        let first = HeldClaim::begin(&store, &slot, 1, &claimant("h1")).unwrap().unwrap();
        first.end(State::Done);
        let standing = look(&store, &slot, Leaves::Nothing, |_| false, tomorrow).unwrap();
        assert!(matches!(standing, Standing::Done { .. }), "{standing:?}");
        assert_eq!(
            look(&store, &slot, Leaves::Nothing, |_| false, today).unwrap(),
            Standing::Free(3)
        );
    }

    #[test]
    fn a_claim_is_renewed_until_another_has_the_slot_and_only_what_is_done_is_said_after_that() {
        for (last_word, said) in [
            (Some(State::Done), (1001, "h1".to_owned(), State::Done)),
            (None, (1000, "h2".to_owned(), State::Taking)),
        ] {
            let (_root, store) = store();
            claims(&store, "h1", 1).say(State::Taking).unwrap();
            let (words, heard) = channel();
            std::thread::scope(|scope| {
                let mut own = claims(&store, "h1", 2);
                let keeper = scope.spawn(move || {
                    own.keep(&heard, Duration::from_millis(5));
                });
                while newest(&store).0 < 4 {
                    std::thread::yield_now();
                }
                // Another takes over, by the next number that is free.
                let mut number = newest(&store).0 + 1;
                while claims(&store, "h2", number).say(State::Taking).is_err() {
                    number = newest(&store).0 + 1;
                }
                claims(&store, "h2", 1000).say(State::Taking).unwrap();
                words.send(Word::Ends(last_word.unwrap_or(State::GivenUp))).unwrap();
                keeper.join().unwrap();
            });
            assert_eq!(newest(&store), said);
        }
    }
}
