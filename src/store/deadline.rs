//! Asking a store that may hang: it keeps a thread, not the program, and is then left alone until it has answered. How
//! long one may be silent is [`Limits`]; what a request over the network may take, each kind of store says by itself.
//!
//! Invariant: what is slow and gets on is waited for; a limit is one of silence.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a store may say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When it is asked for one thing.
    pub answer: Duration,
    /// While it tells or removes many things, one by one.
    pub listing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            answer: Duration::from_secs(30),
            listing: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The same, and neither longer than this.
    pub fn at_most(self, most: Duration) -> Limits {
        Limits {
            answer: self.answer.min(most),
            listing: self.listing.min(most),
        }
    }
}

/// A question that was put.
pub(super) struct Asked<T> {
    whom: String,
    answer: Receiver<T>,
    limit: Duration,
    signs: Signs,
    state: Arc<State>,
}

/// Signs of life of the one that is asked.
#[derive(Clone)]
pub(super) struct Signs {
    begun: Instant,
    /// Of the last sign, since it began.
    milliseconds: Arc<AtomicU64>,
}

impl Signs {
    fn begin() -> Signs {
        Signs {
            begun: Instant::now(),
            milliseconds: Arc::default(),
        }
    }

    /// It gets on.
    pub(super) fn give(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(since, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.milliseconds.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }
}

/// Changed under the lock of `HANGING` only.
#[derive(Default)]
struct State {
    has_answered: AtomicBool,
    is_counted: AtomicBool,
}

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silence {
    /// Not in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// Not to what was asked before, either.
    #[error("no answer yet to what it was asked before")]
    Still,
}

/// Who has let somebody wait too long, and how many questions are open there.
static HANGING: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

fn hanging() -> MutexGuard<'static, BTreeMap<String, u32>> {
    HANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts `question` to `whom`, and goes on. One that hangs is not asked again before it has answered: a dead server would
/// otherwise take a thread each time.
pub(super) fn ask<T: Send + 'static>(
    whom: &str,
    limit: Duration,
    question: impl FnOnce(&Signs) -> T + Send + 'static,
) -> Result<Asked<T>, Silence> {
    if hanging().contains_key(whom) {
        return Err(Silence::Still);
    }
    let (sender, answer) = sync_channel(1);
    let asked = Asked {
        whom: whom.to_owned(),
        answer,
        limit,
        signs: Signs::begin(),
        state: Arc::default(),
    };
    let (whom, signs, state) = (asked.whom.clone(), asked.signs.clone(), asked.state.clone());
    std::thread::spawn(move || {
        sender.send(question(&signs)).ok();
        let mut hanging = hanging();
        state.has_answered.store(true, Ordering::Relaxed);
        if state.is_counted.load(Ordering::Relaxed)
            && let Some(open) = hanging.get_mut(&whom)
        {
            *open -= 1;
            if *open == 0 {
                hanging.remove(&whom);
            }
        }
    });
    Ok(asked)
}

impl<T> Asked<T> {
    /// The answer, if it comes before the silence is longer than the limit. Who asks several waits for them side by side.
    pub(super) fn answer(self) -> Result<T, Silence> {
        self.answer_while(Duration::MAX, || {})
    }

    /// The same; `look` is called every so often meanwhile.
    pub(super) fn answer_while(self, every: Duration, mut look: impl FnMut()) -> Result<T, Silence> {
        loop {
            let left = self.limit.saturating_sub(self.signs.silence());
            match self.answer.recv_timeout(left.min(every)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if self.signs.silence() < self.limit => look(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let limit = self.limit;
        self.give_up();
        Err(Silence::Late(limit))
    }

    /// Waits no more: until it has answered, it is not asked again.
    pub(super) fn give_up(self) {
        let mut hanging = hanging();
        if !self.state.has_answered.load(Ordering::Relaxed) {
            self.state.is_counted.store(true, Ordering::Relaxed);
            *hanging.entry(self.whom).or_default() += 1;
        }
    }
}

/// Whether `whom` has not answered yet what was asked of it, and waited for in vain.
#[cfg(test)]
pub(super) fn is_hanging(whom: &str) -> bool {
    hanging().contains_key(whom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_is_not_asked_again_until_it_has_answered() {
        let (soon, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let (answer, hangs) = sync_channel::<u32>(1);
        let first = ask("nas", soon, move |_| hangs.recv().ok()).unwrap();
        assert_eq!(ask("nas", long, |_| 2).unwrap().answer(), Ok(2), "it may only be slow");
        assert_eq!(first.answer(), Err(Silence::Late(soon)));
        assert_eq!(ask("nas", long, |_| 2).err(), Some(Silence::Still));
        assert_eq!(ask("local", long, |_| 3).unwrap().answer(), Ok(3));
        answer.send(1).unwrap();
        let again = loop {
            match ask("nas", long, |_| 4) {
                Ok(asked) => break asked,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(again.answer(), Ok(4));
    }

    #[test]
    fn who_is_slow_and_gets_on_is_waited_for() {
        let limit = Duration::from_millis(200);
        let slow = ask("slow", limit, move |signs| {
            let begun = Instant::now();
            while begun.elapsed() < 3 * limit {
                signs.give();
                std::thread::yield_now();
            }
            5
        });
        assert_eq!(slow.unwrap().answer(), Ok(5));
    }
}
