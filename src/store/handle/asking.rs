//! How a store is asked: on a thread of its own, with a limit to its silence.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::super::Error;
use super::super::deadline::{Asked, Signs, Silence, ask};
use super::super::over_backend::Inner;
use super::{Limits, Store};

/// How often it is looked whether a copy is to stop.
pub(super) const LOOKED_EVERY: Duration = Duration::from_millis(200);

impl Store {
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask_on(self.limits.answer, move |inner, _| question(inner))
    }

    pub(super) fn ask_for_many<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Inner, &Signs) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask_on(self.limits.listing, question)
    }

    /// Asks what may take long, as long as it gives a sign of life within the limit.
    pub(super) fn ask_on<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl FnOnce(&Inner, &Signs) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        answer(&self.location.key(), limit, move |signs| question(&inner, signs))?
    }

    /// Asks, and has `look` called every so often meanwhile.
    pub(super) fn ask_while<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl FnOnce(&Inner, &Signs) -> Result<T, Error> + Send + 'static,
        look: impl FnMut(),
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let asked = ask(&self.location.key(), limit, move |signs| question(&inner, signs));
        let answer = asked.and_then(|asked| asked.answer_while(LOOKED_EVERY, look));
        answer.map_err(|silence| self.hangs(&silence))?
    }

    pub(super) fn hangs(&self, why: &dyn fmt::Display) -> Error {
        Error::Hangs {
            at: self.location.key(),
            why: why.to_string(),
        }
    }
}

/// What the file system at `path` answers; `Hangs` if it does not.
pub fn asked<T: Send + 'static>(path: &Path, question: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    answer(&path.display().to_string(), Limits::default().answer, move |_| {
        question()
    })
}

/// Asks `whom`, and waits no longer for a sign of life than the limit says.
pub(super) fn answer<T: Send + 'static>(
    whom: &str,
    limit: Duration,
    question: impl FnOnce(&Signs) -> T + Send + 'static,
) -> Result<T, Error> {
    let silent = |silence: Silence| Error::Hangs {
        at: whom.to_owned(),
        why: silence.to_string(),
    };
    ask(whom, limit, question).and_then(Asked::answer).map_err(silent)
}
