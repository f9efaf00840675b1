//! An etcd that is not heard: said once when it is plain that it is away, and once when it is heard again.
//!
//! A connection that breaks off is made again at once, as a rule; only where that fails, etcd is away. While a restore runs
//! on this host that is no wonder.

use std::time::{Duration, Instant};

use crate::model::Revision;
use crate::text::Length;

/// How often it is tried at least.
pub(super) const TRY_EVERY: Duration = Duration::from_secs(2);
/// How often it is said at most that a connection broke off and was made again.
const SAY_BREAKS_EVERY: Duration = Duration::from_secs(600);

/// Since when it is not heard, and what was said of that.
#[derive(Debug)]
pub(super) struct Away {
    since: Instant,
    because: Because,
}

#[derive(Debug)]
enum Because {
    /// The connection broke off.
    Broken,
    /// It cannot be made again: that was said.
    Gone,
    /// A restore ran on this host: that was said.
    Restore(String),
}

/// How what is captured goes on where it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// All of it came, or nothing was there.
    Yes,
    /// It may have a hole, which is found out when it is cut.
    NotKnown,
}

impl Away {
    /// It is not heard since `now`, for no reason that is known yet.
    pub fn begun(now: Instant) -> Away {
        Away {
            since: now,
            because: Because::Broken,
        }
    }

    /// A restore runs on this host.
    pub fn for_restore(id: String, now: Instant) -> Away {
        Away {
            since: now,
            because: Because::Restore(id),
        }
    }

    /// It cannot be heard again, and why; what is to be said of that, the first time.
    pub fn lasts(&mut self, why: &str, captured: Revision) -> Option<String> {
        match self.because {
            Because::Gone => None,
            Because::Broken | Because::Restore(_) => {
                self.because = Because::Gone;
                Some(format!(
                    "etcd is not heard: {why}. All up to revision {captured} is captured; it is tried again every {} s, and \
                     capture goes on from there",
                    TRY_EVERY.as_secs()
                ))
            }
        }
    }

    /// What is to be said once it is heard again behind that revision. `breaks_said_at` is when it was last said that a
    /// connection broke off.
    pub fn ends(
        self,
        captured: Revision,
        whole: Whole,
        now: Instant,
        breaks_said_at: &mut Option<Instant>,
    ) -> Option<String> {
        let what = match self.because {
            Because::Gone => format!("etcd is heard again after {}", Length(now.duration_since(self.since))),
            Because::Restore(id) => format!("restore {id} has ended, and etcd has the data that it had"),
            Because::Broken => {
                let is_news = breaks_said_at.is_none_or(|said| now.duration_since(said) >= SAY_BREAKS_EVERY);
                if !is_news {
                    return None;
                }
                *breaks_said_at = Some(now);
                "the connection to etcd broke off and was made again".to_owned()
            }
        };
        let lost = match whole {
            Whole::Yes => ", and nothing is lost",
            Whole::NotKnown => "",
        };
        Some(format!("{what}: capture goes on after revision {captured}{lost}"))
    }
}

/// Why it is not heard, in words for people: what a library says of its streams helps nobody.
pub(super) fn in_plain_words(why: &str) -> String {
    match why.split_once("the connection broke off") {
        Some((before, _)) => format!("{before}the connection broke off"),
        None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_and_so_is_its_end() {
        let (begun, captured) = (Instant::now(), Revision::new(119).unwrap());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut breaks = None;
        let mut away = Away::begun(begun);
        let said = away.lasts("m1: connection refused", captured).unwrap();
        assert!(
            said.starts_with("etcd is not heard: m1: connection refused. All up to revision 119"),
            "{said}"
        );
        assert_eq!(away.lasts("m1: no leader", captured), None);
        let said = away.ends(captured, Whole::Yes, after(68), &mut breaks).unwrap();
        assert_eq!(
            said,
            "etcd is heard again after 1 m 8 s: capture goes on after revision 119, and nothing is lost"
        );
        assert_eq!(breaks, None);
    }

    #[test]
    fn connections_that_break_off_all_the_time_are_not_said_all_the_time() {
        let (begun, captured) = (Instant::now(), Revision::new(119).unwrap());
        let mut breaks = None;
        let said: Vec<u64> = (0..700)
            .filter(|seconds| {
                let now = begun + Duration::from_secs(*seconds);
                Away::begun(now)
                    .ends(captured, Whole::NotKnown, now, &mut breaks)
                    .is_some()
            })
            .collect();
        assert_eq!(said, [0, 600]);
    }

    #[test]
    fn a_restore_that_changed_nothing_is_over_and_raw_words_are_left_out() {
        let now = Instant::now();
        let restore = Away::for_restore("20261130T084838Z-7f54c819".to_owned(), now);
        let said = restore.ends(Revision::new(7).unwrap(), Whole::Yes, now, &mut None);
        assert!(
            said.unwrap()
                .contains("has the data that it had: capture goes on after revision 7")
        );
        let raw = "Watch on http://a:1 failed: the connection broke off: is etcd still running? (h2 protocol error: x)";
        assert_eq!(
            in_plain_words(raw),
            "Watch on http://a:1 failed: the connection broke off"
        );
        assert_eq!(in_plain_words("m1: refused"), "m1: refused");
    }
}
