//! The agent as others see it, and the configuration that it works by.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::{Event, Notice};
use crate::text::Length;

/// After how long what an agent said is not taken for the present: longer than it sleeps and writes.
const SILENT_AFTER: Duration = Duration::from_secs(180);

/// What shows how the agent is.
#[derive(Debug, Clone, Copy)]
pub struct AgentSigns<'a> {
    /// Whether it runs.
    pub runs: bool,
    /// Whether there are schedules for it to follow.
    pub has_schedules: bool,
    /// When it last said how it is; none if it never did.
    pub said_at: Option<Timestamp>,
    /// Whether it starts with the host, where that is known.
    pub starts_with_host: Option<bool>,
    /// Where it says how it is, where that is known.
    pub folder: Option<&'a Path>,
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentState {
    /// It runs and says how it is; or there is nothing for it to do.
    Runs,
    /// It runs, and says nothing: it cannot where its state is full or read-only.
    Silent {
        /// For how long; none if it never said anything.
        since: Option<Duration>,
        /// Where it should say it, where that is known.
        folder: Option<String>,
    },
    /// It does not run, though there are schedules.
    Stopped {
        /// What to type.
        next: &'static str,
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
    /// Whether the agent does at `now` what it is there for, and says so: the one place that decides it.
    pub fn of(signs: &AgentSigns<'_>, now: Timestamp) -> AgentState {
        if !signs.runs {
            return match (signs.has_schedules, signs.starts_with_host) {
                (false, _) => AgentState::Runs,
                (true, Some(false)) => AgentState::Stopped {
                    next: "`systemctl enable --now lifeboat`",
                },
                (true, Some(true) | None) => AgentState::Stopped {
                    next: "`systemctl start lifeboat`",
                },
            };
        }
        // One that spoke in the future, by a clock that was set back since, is not silent.
        let since = |said: Timestamp| Duration::try_from(now.duration_since(said)).unwrap_or_default();
        let since = signs.said_at.map(since);
        if since.is_some_and(|since| since <= SILENT_AFTER) {
            return AgentState::Runs;
        }
        AgentState::Silent {
            since,
            folder: signs.folder.map(|folder| folder.display().to_string()),
        }
    }

    pub(super) fn problem(&self) -> Option<Notice> {
        let message = match self {
            AgentState::Runs => return None,
            AgentState::Silent { since, folder } => {
                let silent = match since {
                    None => "has written no `status.json`".to_owned(),
                    Some(since) => format!("has not written `status.json` for {}", Length(*since)),
                };
                let place = folder
                    .as_ref()
                    .map_or(String::new(), |folder| format!(" in `{folder}`"));
                format!(
                    "the agent runs, but {silent}{place}, so its state is not known: is there room? \
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
        let first = first_problem(error);
        let message = format!("the configuration is wrong, {who}: {first}; `lifeboat check` shows all of it");
        Some(Notice::new(Event::ConfigurationRefused, message))
    }
}

/// The first problem in the error of a configuration, in one line. Behind its first line stands every problem, each with its
/// line drawn.
pub fn first_problem(error: &str) -> &str {
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    lines.next().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-20T10:15:30Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn ago(seconds: i64) -> Option<Timestamp> {
        Some(now() - jiff::SignedDuration::from_secs(seconds))
    }

    /// One that has schedules, and spoke just now.
    fn signs(runs: bool) -> AgentSigns<'static> {
        AgentSigns {
            runs,
            has_schedules: true,
            said_at: ago(1),
            starts_with_host: None,
            folder: Some(Path::new("/var/lib/lifeboat/prod")),
        }
    }

    fn told(signs: &AgentSigns<'_>) -> Option<String> {
        let problem = AgentState::of(signs, now()).problem()?;
        assert_eq!(problem.event, Event::AgentStopped);
        Some(problem.message)
    }

    #[test]
    fn an_agent_that_does_not_run_is_told_where_there_is_work_for_it_with_what_starts_it() {
        let told = |starts_with_host, has_schedules| {
            told(&AgentSigns {
                starts_with_host,
                has_schedules,
                ..signs(false)
            })
        };
        let stopped = "the agent does not run, nothing is done on schedule";
        for (starts_with_host, next) in [
            (Some(false), "`systemctl enable --now lifeboat`"),
            (Some(true), "`systemctl start lifeboat`"),
            (None, "`systemctl start lifeboat`"),
        ] {
            assert_eq!(told(starts_with_host, true), Some(format!("{stopped}: {next}")));
            assert_eq!(told(starts_with_host, false), None, "nobody misses it");
        }
    }

    #[test]
    fn an_agent_that_runs_is_silent_once_it_has_said_nothing_for_longer_than_it_sleeps() {
        let silence = |said_at| match AgentState::of(&AgentSigns { said_at, ..signs(true) }, now()) {
            AgentState::Silent { since, .. } => Some(since),
            AgentState::Runs => None,
            AgentState::Stopped { next } => panic!("it runs: {next}"),
        };
        assert_eq!(silence(ago(180)), None);
        assert_eq!(silence(ago(181)), Some(Some(Duration::from_secs(181))));
        assert_eq!(silence(ago(-181)), None, "the clock was set back");
        assert_eq!(silence(None), Some(None), "it never said anything");
    }

    #[test]
    fn a_silence_is_told_with_its_length_and_its_place_where_they_are_known() {
        let told = |said_at, folder| {
            let message = told(&AgentSigns {
                said_at,
                folder,
                ..signs(true)
            })
            .unwrap();
            message.split_once(", so its state").unwrap().0.to_owned()
        };
        let folder = Some(Path::new("/state"));
        assert_eq!(
            told(None, folder),
            "the agent runs, but has written no `status.json` in `/state`"
        );
        let for_an_hour = told(ago(3600), folder);
        assert_eq!(
            for_an_hour,
            "the agent runs, but has not written `status.json` for 1 h in `/state`"
        );
        assert_eq!(told(None, None), "the agent runs, but has written no `status.json`");
    }

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
