//! What the destinations say of the backups in them: looked at now and then, so that what goes wrong between two backups
//! is told too, and what was mended is not told any longer.
//!
//! Invariant: it looks on a thread of its own, one at a time, and never beside a job, whose work is half-done.
//! Invariant: whatever happens outside, it begins at most one look within [`APART`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::Work;
use super::alerts::Seen;
use crate::config::Config;
use crate::health::{Event, Look, Notice};

/// How often, if nothing happens.
const EVERY: Duration = Duration::from_secs(15 * 60);
/// How often while a destination cannot be used: it comes back when it is mounted or opened.
const WHILE_DISABLED: Duration = Duration::from_secs(60);
/// How long after something has happened outside: more may belong to it.
const SETTLES: Duration = Duration::from_millis(500);
/// How far two looks are apart at least that what happens outside asks for.
const APART: Duration = Duration::from_secs(3);
/// How long it may take before it is told that no answer comes.
const TAKES_AT_MOST: Duration = Duration::from_secs(5 * 60);

/// What was seen last.
#[derive(Debug, Default)]
pub struct StoreProbe {
    look: Option<Look>,
    /// When that look began.
    seen_from: Option<Instant>,
    looking: Option<Looking>,
    /// None: at once.
    next: Option<Instant>,
    /// When it is looked because something has happened outside; what a job sees meanwhile may be older.
    soon: Option<Instant>,
    begun: Option<Instant>,
    /// Told at the end of a look.
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct Looking {
    since: Instant,
    seen: oneshot::Receiver<Look>,
}

impl StoreProbe {
    /// One that has not looked yet; who is told at the end of each look.
    pub fn new(ended: Arc<Notify>) -> StoreProbe {
        StoreProbe {
            ended,
            ..StoreProbe::default()
        }
    }

    /// Has it looked at again soon: something has changed.
    pub fn hurry(&mut self) {
        self.next = None;
    }

    /// Has it looked at again in a moment: something has happened outside. Asked again meanwhile, that is not put off.
    pub fn happened(&mut self, now: Instant) {
        let earliest = self.begun.map_or(now, |begun| begun + APART);
        self.soon.get_or_insert((now + SETTLES).max(earliest));
    }

    /// When it looks next.
    pub fn due(&self, now: Instant) -> Instant {
        let next = self.next.unwrap_or(now);
        self.soon.map_or(next, |soon| soon.min(next))
    }

    /// Takes in what was seen, if a look is over.
    pub fn take_in(&mut self, now: Instant) {
        let Some(looking) = &mut self.looking else { return };
        match looking.seen.try_recv() {
            Ok(look) => {
                let since = looking.since;
                self.take(look, since, now);
            }
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
        self.looking = None;
    }

    /// Takes in what a job has seen that has just ended: that is newer than any look that is under way.
    pub fn saw(&mut self, look: Look, now: Instant) {
        self.looking = None;
        self.next = Some(now + EVERY);
        self.take(look, now, now);
    }

    fn take(&mut self, look: Look, since: Instant, now: Instant) {
        let mut problems = look.problems.iter();
        if problems.any(|problem| problem.event == Event::DestinationDisabled) {
            self.next = self.next.map(|next| next.min(now + WHILE_DISABLED));
        }
        self.look = Some(look);
        self.seen_from = Some(since);
    }

    /// Begins to look when it is time.
    pub fn turn(&mut self, work: &Arc<dyn Work>, config: &Arc<Config>, now: Instant) {
        if self.looking.is_some() || now < self.due(now) {
            return;
        }
        self.next = Some(now + EVERY);
        (self.soon, self.begun) = (None, Some(now));
        let (sender, seen) = oneshot::channel();
        let (work, config, ended) = (work.clone(), config.clone(), self.ended.clone());
        std::thread::spawn(move || {
            sender.send(work.look(&config)).ok();
            ended.notify_one();
        });
        self.looking = Some(Looking { since: now, seen });
    }

    /// Whether it looks right now.
    pub fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// What was seen last; none before the first look is over.
    pub fn look(&self) -> Option<&Look> {
        self.look.as_ref()
    }

    /// That a look does not end.
    pub fn silence(&self, now: Instant) -> Option<Notice> {
        let looking = self.looking.as_ref()?;
        (now - looking.since > TAKES_AT_MOST).then(|| {
            let message = format!(
                "the destinations do not say within {} s what is in them",
                TAKES_AT_MOST.as_secs()
            );
            Notice::new(Event::DestinationDisabled, message)
        })
    }

    /// Whether it was looked at all.
    pub fn is_known(&self) -> bool {
        self.look.is_some()
    }

    /// Since when what is wrong would have been seen.
    pub fn seen(&self) -> Seen {
        match self.seen_from {
            Some(_) if self.next.is_some() && self.soon.is_none() && self.looking.is_none() => Seen::All,
            Some(from) => Seen::From(from),
            None => Seen::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_outside_is_looked_at_in_a_moment_and_never_more_often_than_every_few_seconds() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut probe = StoreProbe {
            next: Some(start + EVERY),
            ..StoreProbe::default()
        };
        assert_eq!(probe.due(at(0)), start + EVERY);
        probe.happened(at(0));
        assert_eq!(probe.due(at(0)), at(500));
        probe.happened(at(400));
        assert_eq!(probe.due(at(400)), at(500), "who goes on puts it off to no end");
        (probe.soon, probe.begun) = (None, Some(at(500)));
        probe.happened(at(600));
        assert_eq!(probe.due(at(600)), at(3500));
        // What a job has seen meanwhile may be from before.
        probe.saw(Look::default(), at(700));
        assert_eq!(probe.due(at(700)), at(3500));
        assert_ne!(probe.seen(), Seen::All);
    }
}
