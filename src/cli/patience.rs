//! Asking a file system that may hang: it keeps a thread, not the program, and is then left alone until it has answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A question that was put.
pub(super) struct Asked<T> {
    whom: String,
    answer: Receiver<T>,
    until: Instant,
    limit: Duration,
    state: Arc<State>,
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
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<Asked<T>, Silence> {
    if hanging().contains_key(whom) {
        return Err(Silence::Still);
    }
    let (sender, answer) = sync_channel(1);
    let asked = Asked {
        whom: whom.to_owned(),
        answer,
        until: Instant::now() + limit,
        limit,
        state: Arc::default(),
    };
    let (whom, state) = (asked.whom.clone(), asked.state.clone());
    std::thread::spawn(move || {
        sender.send(question()).ok();
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
    /// The answer, if it comes in time. Who asks several waits for them side by side.
    pub(super) fn answer(self) -> Result<T, Silence> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.answer.recv_timeout(left).map_err(|_| {
            let mut hanging = hanging();
            if !self.state.has_answered.load(Ordering::Relaxed) {
                self.state.is_counted.store(true, Ordering::Relaxed);
                *hanging.entry(self.whom).or_default() += 1;
            }
            Silence::Late(self.limit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_is_not_asked_again_until_it_has_answered() {
        let (soon, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let (answer, hangs) = sync_channel::<u32>(1);
        let first = ask("nas", soon, move || hangs.recv().ok()).unwrap();
        assert_eq!(ask("nas", long, || 2).unwrap().answer(), Ok(2), "it may only be slow");
        assert_eq!(first.answer(), Err(Silence::Late(soon)));
        assert_eq!(ask("nas", long, || 2).err(), Some(Silence::Still));
        assert_eq!(ask("local", long, || 3).unwrap().answer(), Ok(3));
        answer.send(1).unwrap();
        let again = loop {
            match ask("nas", long, || 4) {
                Ok(asked) => break asked,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(again.answer(), Ok(4));
    }
}
