//! `[notify]`: who is told when something is wrong, and who notices when nothing is heard.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use age::secrecy::{ExposeSecret, SecretString};

use super::duration::duration;
use super::file::Value;
use super::reader::Reader;
use super::section::Section;
use crate::secret::{Secret, SecretError};

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// What is run when something happened.
    pub on_failure: Option<OnFailure>,
    /// What is asked for as long as all is well.
    pub heartbeat: Option<HeartbeatUrl>,
    /// How often.
    pub heartbeat_every: Duration,
}

/// A program that is run without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnFailure {
    /// Where it is, an absolute path.
    pub path: PathBuf,
    /// What it gets, before nothing else.
    pub arguments: Vec<String>,
}

/// An `http://` or `https://` URL. Most hold a token, so it is treated as a secret wherever it stands.
#[derive(Clone)]
pub enum HeartbeatUrl {
    /// It stands in the configuration itself.
    Written(SecretString),
    /// It is kept elsewhere.
    Kept(Secret),
}

impl HeartbeatUrl {
    /// The URL as it is now.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            HeartbeatUrl::Written(url) => Ok(url.clone()),
            HeartbeatUrl::Kept(secret) => secret.read(),
        }
    }

    pub(super) fn kept(&self) -> Option<&Secret> {
        match self {
            HeartbeatUrl::Written(_) => None,
            HeartbeatUrl::Kept(secret) => Some(secret),
        }
    }
}

impl fmt::Debug for HeartbeatUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeartbeatUrl::Written(_) => f.write_str("(a URL)"),
            HeartbeatUrl::Kept(secret) => secret.fmt(f),
        }
    }
}

impl PartialEq for HeartbeatUrl {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (HeartbeatUrl::Written(one), HeartbeatUrl::Written(other)) => one.expose_secret() == other.expose_secret(),
            (HeartbeatUrl::Kept(one), HeartbeatUrl::Kept(other)) => one == other,
            (HeartbeatUrl::Written(_), HeartbeatUrl::Kept(_)) | (HeartbeatUrl::Kept(_), HeartbeatUrl::Written(_)) => {
                false
            }
        }
    }
}

impl Eq for HeartbeatUrl {}

impl Default for Notify {
    fn default() -> Self {
        Notify {
            on_failure: None,
            heartbeat: None,
            heartbeat_every: Duration::from_secs(5 * 60),
        }
    }
}

const PERIODS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

impl Reader<'_> {
    pub(super) fn notify(&mut self, root: &Section<'_>) -> Notify {
        let section = root.section("notify");
        let every = section.text("heartbeat_every").and_then(|given| {
            let every = duration(given.value).filter(|every| PERIODS.contains(every));
            every.or_else(|| self.refuse(&section, "heartbeat_every", &given))
        });
        Notify {
            on_failure: self.program(&section),
            heartbeat: self.heartbeat(&section),
            heartbeat_every: every.unwrap_or(Notify::default().heartbeat_every),
        }
    }

    fn program(&mut self, section: &Section<'_>) -> Option<OnFailure> {
        let list = section.list("on_failure")?;
        let texts = list.texts();
        let Some((program, arguments)) = texts.split_first() else {
            self.missing(section, "on_failure");
            return None;
        };
        if !Path::new(program.value).is_absolute() {
            let message = format!(
                "`{}` is not a path that starts with `/`; the program is run without a shell",
                program.path
            );
            self.problems.at(program.origin, &message);
            return None;
        }
        Some(OnFailure {
            path: program.value.into(),
            arguments: arguments.iter().map(|given| given.value.to_owned()).collect(),
        })
    }

    fn heartbeat(&mut self, section: &Section<'_>) -> Option<HeartbeatUrl> {
        let given = section.given("heartbeat")?;
        let Value::Text(text) = &given.value.value else {
            return self.secret(section, "heartbeat").map(HeartbeatUrl::Kept);
        };
        let is_url = text
            .parse::<reqwest::Url>()
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_url {
            let message = format!(
                "`{}` is not {}; what stands here is not shown",
                given.path,
                section.expected("heartbeat")
            );
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        Some(HeartbeatUrl::Written(text.clone().into()))
    }
}
