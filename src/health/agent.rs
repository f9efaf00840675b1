//! The agent as others see it, and the configuration that it works by.

use std::time::Duration;

use super::{Event, Notice};
use crate::schedule::Span;

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentState {
    /// It runs and says how it is.
    Runs,
    /// It runs, and says nothing: it cannot where its state is full or read-only.
    Silent {
        /// For how long; none if it never said anything.
        since: Option<Duration>,
        /// Where it should say it.
        folder: String,
    },
    /// It does not run, though there are schedules.
    Stopped {
        /// What to type, and what it is good for.
        next: String,
    },
}

/// What is wrong with the configuration, as a command and as the agent reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// Why the command could not read it, and goes by the last one that was right.
    pub broken: Option<&'a str>,
    /// Why the agent refused it.
    pub refused: Option<&'a str>,
}

impl AgentState {
    pub(super) fn problem(&self) -> Option<Notice> {
        let message = match self {
            AgentState::Runs => return None,
            AgentState::Silent { since, folder } => {
                let silent = match since {
                    None => "has written no `status.json`".to_owned(),
                    Some(since) => format!("has not written `status.json` for {}", Span(*since)),
                };
                format!(
                    "the agent runs, but {silent} in `{folder}`, so its state is not known: is there room? \
                     `journalctl -u lifeboat` says more"
                )
            }
            AgentState::Stopped { next } => {
                format!("the agent does not run, nothing is done on schedule: {next}")
            }
        };
        Some(Notice::new(Event::AgentStopped, message))
    }
}

impl Configuration<'_> {
    /// Told once, if both say it.
    pub(super) fn problem(&self) -> Option<Notice> {
        let (who, error) = match (self.broken, self.refused) {
            (Some(error), None) => ("this uses the last valid one", error),
            (Some(error), Some(_)) => ("the agent keeps the previous one", error),
            (None, Some(error)) => ("the agent has refused it and keeps the previous one", error),
            (None, None) => return None,
        };
        // Behind the first line stands every problem, each with its line drawn: one will do here.
        let mut lines = error.lines();
        let first = lines.next().unwrap_or_default();
        let telling = lines.next().unwrap_or(first);
        let message = format!("the configuration is wrong, {who}: {telling}; `lifeboat check` shows all of it");
        Some(Notice::new(Event::ConfigurationRefused, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_is_wrong_is_told_once_and_in_one_line() {
        let drawn = "the configuration is invalid: 1 problem\na.toml:20:12: not valid TOML\n   |\n20 | nonsense =";
        let told = |broken, refused| {
            let problem = Configuration { broken, refused }.problem();
            problem.map(|notice| notice.message)
        };
        for (broken, refused) in [(Some(drawn), None), (None, Some(drawn)), (Some(drawn), Some(drawn))] {
            let told = told(broken, refused).unwrap();
            assert!(told.contains(": a.toml:20:12: not valid TOML; "), "{told}");
            assert!(!told.contains('\n') && !told.contains("nonsense"), "{told}");
        }
        let unread = told(Some("read configuration a.toml: denied"), None).unwrap();
        assert!(unread.contains("read configuration a.toml: denied"), "{unread}");
        assert_eq!(told(None, None), None);
    }
}
