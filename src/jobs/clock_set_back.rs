//! Whether this host's clock was set back, by the highest time that it remembers: see `schedule`.

use jiff::Timestamp;

use super::{Listener, host};
use crate::config::Config;
use crate::error_chain::with_causes;
use crate::health::{Event, Notice};
use crate::schedule::SetBack;
use crate::state::State;

/// Whether the clock was set back, or why that is not known.
pub fn set_back(config: &Config, now: Timestamp) -> Result<Option<SetBack>, String> {
    let state = host::state_to_read(&config.cluster.name).map_err(|failure| failure.message().to_owned())?;
    remembered(&state, now)
}

fn remembered(state: &State, now: Timestamp) -> Result<Option<SetBack>, String> {
    let highest = state.highest_time().map_err(|error| with_causes(&error))?;
    Ok(highest.and_then(|highest| highest.set_back(now)))
}

/// The same, for the verdict; in the same words as long as it lasts.
pub fn notice(state: &State, now: Timestamp) -> Option<Notice> {
    let message = match remembered(state, now) {
        Ok(None) => return None,
        Ok(Some(set_back)) => format!(
            "the clock of this host was set back, it has shown {:.0} before: nothing is removed for its age until it shows \
             that again, or has gone on for a day; if it is right now, remove `{}`",
            set_back.highest,
            state.clock_path().display()
        ),
        Err(error) => format!("whether the clock of this host was set back is not known: {error}"),
    };
    Some(Notice::new(Event::ClockSetBack, message))
}

/// Takes note of what the clock shows, and says if it was set back. What cannot be kept keeps nobody from working.
pub fn note(listener: &dyn Listener, state: &State) {
    let now = host::now();
    if let Err(error) = state.note_time(now) {
        listener.warn(&format!("the time is not remembered: {}", with_causes(&error)));
    }
    if let Some(set_back) = notice(state, now) {
        listener.warn(&set_back.message);
    }
}
