//! Why there is no backup.

use jiff::SignedDuration;

use super::destinations::{DestinationError, Written, reasons};
use super::observed::ContentError;
use crate::etcd;
use crate::etcd::choose::NoChoice;
use crate::model::ByteSize;
use crate::pipeline::EncodeError;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No member to ask.
    #[error(transparent)]
    NoMember(#[from] NoChoice),
    /// The member failed.
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    /// The member is slow.
    #[error(
        "{url} sends {rate}/s, {received} of {total} so far: the rest would take {left:#}, more than `backup.finish_within` \
         ({within:#}) leaves"
    )]
    Slow {
        /// The member's endpoint.
        url: String,
        /// How much it sends in a second.
        rate: ByteSize,
        /// What has come.
        received: ByteSize,
        /// What it promised.
        total: ByteSize,
        /// How long the rest would take.
        left: SignedDuration,
        /// How long all of it may take.
        within: SignedDuration,
    },
    /// The bytes are not a sound snapshot.
    #[error("the snapshot from {url} is not sound: {error}")]
    Content {
        /// The member's endpoint.
        url: String,
        /// What is wrong.
        error: ContentError,
    },
    /// Compression or encryption failed.
    #[error(transparent)]
    Encode(EncodeError),
    /// No destination has it.
    #[error("no destination has the backup: {}", reasons(.0))]
    NoDestination(Vec<Written>),
    /// Somebody asked to stop.
    #[error("interrupted; {}", kept(.left))]
    Interrupted {
        /// Why something of it may be left.
        left: Vec<String>,
    },
}

fn kept(left: &[String]) -> String {
    match left {
        [] => "nothing was kept".to_owned(),
        left => format!(
            "what was written may still be there, without a manifest, until the next backup removes it: {}",
            left.join("; ")
        ),
    }
}

impl Error {
    /// Whether another member may do better.
    pub(super) fn is_fault_of_member(&self) -> bool {
        match self {
            Error::Etcd(error) => !matches!(error, etcd::Error::Denied { .. }),
            Error::Slow { .. } => true,
            Error::NoMember(_)
            | Error::Content { .. }
            | Error::Encode(_)
            | Error::NoDestination(_)
            | Error::Interrupted { .. } => false,
        }
    }

    /// Whether something may have been begun in a destination where beginning failed: one that hangs may do so yet.
    pub(super) fn may_have_written(&self) -> bool {
        match self {
            Error::NoDestination(written) => written
                .iter()
                .any(|written| matches!(written.result, Err(DestinationError::Hangs { .. }))),
            Error::NoMember(_)
            | Error::Etcd(_)
            | Error::Slow { .. }
            | Error::Content { .. }
            | Error::Encode(_)
            | Error::Interrupted { .. } => true,
        }
    }
}

/// A member that was asked, and is at fault.
pub(super) struct GivenUp {
    pub name: String,
    pub(super) error: Error,
}

impl GivenUp {
    pub(super) fn told(&self, instead: &str) -> String {
        format!(
            "the backup was taken from {instead}: {} was given up: {}",
            self.name, self.error
        )
    }
}

/// Why there is no backup where no member is left to ask.
pub(super) fn all_given_up(mut given_up: Vec<GivenUp>) -> Error {
    if given_up.len() == 1
        && let Some(only) = given_up.pop()
    {
        return only.error;
    }
    let reasons = given_up
        .iter()
        .map(|member| format!("{}: {}", member.name, member.error));
    Error::NoMember(NoChoice::NoneAnswered {
        reasons: reasons.collect(),
    })
}
