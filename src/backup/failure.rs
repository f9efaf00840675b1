//! Why there is no backup.

use jiff::SignedDuration;

use super::destinations::{DestinationError, Written, reasons};
use super::snapshot_observer::ContentError;
use crate::etcd;
use crate::etcd::choose_member::NoChoice;
use crate::model::ByteSize;
use crate::pipeline::EncodeError;
use crate::text::Length;

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
        "{url} sends {rate}/s, {received} of {total} so far: the rest would take {}, more than `backup.finish_within` ({}) \
         leaves",
        Length(.left.unsigned_abs()), Length(.within.unsigned_abs())
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
    /// The data of the member is wrong, and a backup of that kind is kept already.
    #[error("the data of member {member} is wrong: {}{}", .faults.join("; "), .left.iter().map(|why| format!("; {why}")).collect::<String>())]
    Wrong {
        /// The member's name in the configuration.
        member: String,
        /// What is wrong.
        faults: Vec<String>,
        /// Why something of the backup may be left.
        left: Vec<String>,
    },
    /// No member is left to ask, and what at least one of them sent is not a sound snapshot.
    #[error("no member gives a sound snapshot: {}", .reasons.join("; "))]
    NoneSound {
        /// One line a member.
        reasons: Vec<String>,
    },
    /// What was made of deltas does not pass as what it was made.
    #[error("what was made of the deltas is not what comes to the destinations: {what}")]
    OtherThanMade {
        /// How.
        what: String,
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
            Error::Slow { .. } | Error::Content { .. } => true,
            Error::NoMember(_)
            | Error::Wrong { .. }
            | Error::NoneSound { .. }
            | Error::OtherThanMade { .. }
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
            | Error::Wrong { .. }
            | Error::NoneSound { .. }
            | Error::OtherThanMade { .. }
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

/// Why there is no backup where no member is left to ask: `no_choice` says why none of those can be that were not given
/// up.
pub(super) fn none_left(mut given_up: Vec<GivenUp>, no_choice: NoChoice) -> Error {
    let others = match no_choice {
        NoChoice::NoneAnswered { reasons } => reasons,
        other @ (NoChoice::Unknown { .. } | NoChoice::SeveralClusters { .. }) => return other.into(),
    };
    if others.is_empty()
        && given_up.len() == 1
        && let Some(only) = given_up.pop()
    {
        return only.error;
    }
    let is_damaged = given_up
        .iter()
        .any(|member| matches!(member.error, Error::Content { .. }));
    let reasons = given_up
        .iter()
        .map(|member| format!("{}: {}", member.name, member.error));
    let reasons = reasons.chain(others).collect();
    match is_damaged {
        true => Error::NoneSound { reasons },
        false => NoChoice::NoneAnswered { reasons }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(name: &str) -> GivenUp {
        let error = Error::Etcd(etcd::Error::Silent {
            url: format!("http://{name}:2379"),
            call: "MemberList",
            after: std::time::Duration::from_secs(10),
        });
        GivenUp {
            name: name.to_owned(),
            error,
        }
    }

    fn damaged(name: &str) -> GivenUp {
        let error = Error::Content {
            url: format!("http://{name}:2379"),
            error: ContentError::Digest,
        };
        GivenUp {
            name: name.to_owned(),
            error,
        }
    }

    fn others(reasons: &[&str]) -> NoChoice {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        NoChoice::NoneAnswered { reasons }
    }

    #[test]
    fn of_members_given_up_and_members_that_do_not_answer_all_are_named() {
        let error = none_left(vec![silent("m1")], others(&["m2: cannot be reached"]));
        let says =
            "no member can be asked: m1: http://m1:2379 gave no answer to MemberList for 10 s; m2: cannot be reached";
        assert_eq!(error.to_string(), says);
        let error = none_left(vec![silent("m1")], others(&[]));
        assert!(matches!(error, Error::Etcd(_)), "of one alone: {error}");
        let error = none_left(Vec::new(), others(&["m2: cannot be reached"]));
        assert_eq!(error.to_string(), "no member can be asked: m2: cannot be reached");
    }

    #[test]
    fn how_long_a_slow_member_would_take_is_told_in_the_words_of_all_spans() {
        let slow = Error::Slow {
            url: "http://m1:2379".to_owned(),
            rate: ByteSize(1 << 10),
            received: ByteSize(60 << 10),
            total: ByteSize(100 << 20),
            left: SignedDuration::new(102_340, 1_999_884),
            within: SignedDuration::from_hours(2),
        };
        let told = slow.to_string();
        assert!(
            told.ends_with("would take 1 d 4 h 25 m 40 s, more than `backup.finish_within` (2 h) leaves"),
            "{told}"
        );
    }

    #[test]
    fn damage_is_told_as_such_whoever_else_fails() {
        assert!(damaged("m1").error.is_fault_of_member());
        for (given_up, reasons) in [
            (vec![damaged("m1"), silent("m2")], &[][..]),
            (vec![damaged("m1")], &["m2: cannot be reached"]),
        ] {
            let error = none_left(given_up, others(reasons));
            assert!(matches!(error, Error::NoneSound { .. }), "{error}");
            let told = error.to_string();
            assert!(
                told.contains("m1: the snapshot from http://m1:2379") && told.contains("; m2: "),
                "{told}"
            );
        }
        assert!(matches!(
            none_left(vec![damaged("m1")], others(&[])),
            Error::Content { .. }
        ));
    }
}
