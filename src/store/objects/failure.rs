//! What the failures of opendal mean here, and how they are told.

use std::io;

use opendal::ErrorKind;

use super::super::Error;

pub(super) fn is_there_already(error: &opendal::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists | ErrorKind::Conflict
    )
}

/// Whether it is the bucket that is not there: by the code of the one kind of server or the other, or its words. To some of
/// them it is as if an object were not.
pub(super) fn has_no_bucket(error: &opendal::Error) -> bool {
    let said = error.message();
    [
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// What a server or the way to it said, in our words.
pub(super) fn failure(doing: &'static str, at: String, error: &opendal::Error) -> Error {
    if has_no_bucket(error) {
        return Error::NoBucket { doing, at };
    }
    if in_short(error).contains("failed to load signing credential") {
        return Error::NoCredentials { doing, at };
    }
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { doing, at },
        ErrorKind::PermissionDenied => Error::Refused {
            doing,
            at,
            why: in_short(error),
        },
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => Error::AlreadyExists { at },
        _ => Error::Io {
            doing,
            at,
            source: io::Error::other(in_short(error)),
        },
    }
}

/// The message and its causes on one line; no request, which may show more than a reader needs.
pub(super) fn in_short(error: &opendal::Error) -> String {
    const MOST: usize = 300;
    let mut text = plain(error.message());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST).collect()
}

/// The message of a server in the words that it has; opendal shows its document as Rust does.
pub(super) fn plain(text: &str) -> String {
    let part = |key: &str| {
        let (_, rest) = text.split_once(&format!("{key}: \""))?;
        rest.split_once('"')
            .map(|(value, _)| value)
            .filter(|value| !value.is_empty())
    };
    match (part("code"), part("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => text.to_owned(),
    }
}
