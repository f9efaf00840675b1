//! Why a member cannot be used, in plain words.

use std::time::Duration;

use crate::error_chain::with_causes;
use crate::model::Revision;

/// What went wrong with a member.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection: nobody there, or not yet.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// The chain of causes in one line.
        reason: String,
    },
    /// No connection, and none as long as nothing is changed: an address that is none, TLS that does not fit.
    #[error("cannot reach {url}: {reason}")]
    Misfit {
        /// The endpoint.
        url: String,
        /// The chain of causes in one line.
        reason: String,
    },
    /// The member wants a login, or refuses ours.
    #[error("{url} refuses {call}: {reason}")]
    Denied {
        /// The endpoint.
        url: String,
        /// The call that was refused.
        call: &'static str,
        /// What the member said.
        reason: String,
    },
    /// The revision that was asked for is gone or does not exist yet.
    #[error("{url} has no revision {revision}: {reason}")]
    NoSuchRevision {
        /// The endpoint.
        url: String,
        /// The revision that was asked for.
        revision: Revision,
        /// What the member said: compacted, or future.
        reason: String,
    },
    /// The member did not answer in time, or stopped in mid-stream.
    #[error("{url} gave no answer to {call} for {} s", .after.as_secs())]
    Silent {
        /// The endpoint.
        url: String,
        /// The call that hung.
        call: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// Any other failure of a call.
    #[error("{call} on {url} failed: {reason}")]
    Call {
        /// The endpoint.
        url: String,
        /// The call.
        call: &'static str,
        /// The chain of causes in one line.
        reason: String,
    },
    /// The answer cannot be what etcd sends.
    #[error("{url} answered {call} with {what}")]
    Nonsense {
        /// The endpoint.
        url: String,
        /// The call.
        call: &'static str,
        /// What was wrong with it.
        what: String,
    },
}

impl Error {
    /// Whether the member answers, but has no quorum behind it.
    pub fn is_lack_of_quorum(&self) -> bool {
        match self {
            Error::Call { reason, .. } => reason.contains("no leader") || reason.contains("request timed out"),
            Error::Silent { .. } => true,
            Error::Unreachable { .. }
            | Error::Misfit { .. }
            | Error::Denied { .. }
            | Error::NoSuchRevision { .. }
            | Error::Nonsense { .. } => false,
        }
    }

    /// Whether the member takes no write because its database has come to its quota.
    pub fn is_lack_of_space(&self) -> bool {
        matches!(self, Error::Call { reason, .. } if reason.contains("database space exceeded"))
    }

    /// The same with `fault`, which our own certificate has, where a member broke the connection off: of a refusal in TLS
    /// 1.3 it says no more.
    pub(super) fn blamed_on(self, fault: &str) -> Error {
        let is_broken_off = |reason: &str| reason.contains(ENDED) || reason.contains("alert");
        let blamed = |reason: String| match is_broken_off(&reason) {
            true => format!("{fault} ({reason})"),
            false => reason,
        };
        match self {
            Error::Call { url, reason, .. } if is_broken_off(&reason) => Error::Misfit {
                url,
                reason: fault.to_owned(),
            },
            Error::Misfit { url, reason } => Error::Misfit {
                url,
                reason: blamed(reason),
            },
            Error::Unreachable { url, reason } => Error::Unreachable {
                url,
                reason: blamed(reason),
            },
            other => other,
        }
    }

    /// Whether the member is a learner, which does not answer this call.
    pub fn is_of_learner(&self) -> bool {
        matches!(self, Error::Call { reason, .. } if reason.contains("not supported for learner"))
    }

    /// Whether the same call may do later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Silent { .. } | Error::Call { .. } => true,
            Error::Misfit { .. } | Error::Denied { .. } | Error::NoSuchRevision { .. } | Error::Nonsense { .. } => {
                false
            }
        }
    }
}

pub(super) fn failed(url: &str, call: &'static str, error: &etcd_client::Error) -> Error {
    use tonic::Code;
    let url = url.to_owned();
    let etcd_client::Error::GRpcStatus(status) = error else {
        let reason = explained(&url, call, causes(error));
        return Error::Call { url, call, reason };
    };
    let reason = match status.message() {
        "" => explained(&url, call, causes(status)),
        message => explained(&url, call, with_first_cause(message, status)),
    };
    // etcd answers a wrong password, and a call without any login, with InvalidArgument; a client certificate whose name
    // is no user's with FailedPrecondition.
    const LOGIN: [&str; 3] = ["authentication failed", "user name is empty", "user name not found"];
    let login = LOGIN.iter().any(|sign| reason.contains(sign));
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => Error::Denied { url, call, reason },
        Code::InvalidArgument | Code::FailedPrecondition if login => Error::Denied { url, call, reason },
        _ => Error::Call { url, call, reason },
    }
}

/// What a status says, and what was at the beginning of it, where that is another thing.
fn with_first_cause(message: &str, status: &tonic::Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |error| error.source());
    match causes.last().map(ToString::to_string) {
        Some(first) if !message.contains(&first) => format!("{message}: {first}"),
        Some(_) | None => message.to_owned(),
    }
}

/// Whether both sides spoke and did not come to terms: what rustls refuses comes as invalid data.
pub(super) fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut of_io = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    of_io.any(|cause| cause.kind() == std::io::ErrorKind::InvalidData)
}

/// What it most often means that a member ends a connection at once.
const ENDED: &str = "it ended the connection: does it want a client certificate (`cert` and `key` in [cluster.tls])?";

/// What a broken handshake most often means.
pub(super) fn explained(url: &str, call: &str, reason: String) -> String {
    // Of a refusal in TLS 1.3 nothing is left but a connection that ends with the first call.
    const BROKEN: [&str; 4] = [
        "operation was canceled",
        "transport error",
        "broken pipe",
        "connection reset",
    ];
    let is_first = matches!(call, "Authenticate" | "Status");
    let is_http = reason.contains("http2 error") || reason.contains("h2 protocol error");
    let meaning = if is_http && !is_first {
        "the connection broke off: is etcd still running?"
    } else if is_http {
        "it answers, but not as a client port of etcd: is this the peer port, or one that wants https?"
    } else if reason.contains("tls handshake eof") || reason.contains("received corrupt message") {
        "it does not speak TLS: should the URL begin with http?"
    } else if is_first && url.starts_with("https:") && BROKEN.iter().any(|sign| reason.contains(sign)) {
        ENDED
    } else {
        return reason;
    };
    format!("{meaning} ({reason})")
}

/// An error and its causes, without tonic's own first word, which says nothing where a cause follows it.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let text = with_causes(error);
    let text = text.strip_prefix("transport error: ").unwrap_or(&text);
    // So rustls begins what it was told to say.
    text.replacen("other error: ", "", 1)
}
