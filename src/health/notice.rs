//! One thing that is wrong, or that happened, in the words for people and with the names for programs.

use serde::{Deserialize, Serialize};

use super::event::Event;

/// Something that is wrong, or that happened and was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What.
    pub event: Event,
    /// What it is about.
    pub about: About,
    /// The same for people.
    pub message: String,
}

/// What a notice is about; nothing of this if it is about the agent itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct About {
    /// A schedule.
    pub schedule: Option<String>,
    /// A destination.
    pub destination: Option<String>,
    /// A backup.
    pub backup: Option<String>,
    /// A member.
    #[serde(default)]
    pub member: Option<String>,
}

impl Notice {
    /// Of the agent itself, or of this host.
    pub fn new(event: Event, message: impl Into<String>) -> Notice {
        Notice::about(event, About::default(), message)
    }

    /// Of something that has a name.
    pub fn about(event: Event, about: About, message: impl Into<String>) -> Notice {
        let message = message.into();
        Notice { event, about, message }
    }
}

impl About {
    /// About a schedule.
    pub fn schedule(name: &str) -> About {
        About {
            schedule: Some(name.to_owned()),
            ..About::default()
        }
    }

    /// About a destination.
    pub fn destination(name: &str) -> About {
        About {
            destination: Some(name.to_owned()),
            ..About::default()
        }
    }

    /// What there is, with the words for it.
    pub fn parts(&self) -> Vec<(&'static str, &String)> {
        let parts = [
            ("schedule", &self.schedule),
            ("destination", &self.destination),
            ("backup", &self.backup),
            ("member", &self.member),
        ];
        parts
            .into_iter()
            .filter_map(|(word, part)| Some((word, part.as_ref()?)))
            .collect()
    }
}
