//! `rebuild --follow`: one line for each event.

use jiff::Timestamp;
use serde::Serialize;

use crate::jobs::follow::{Event, Stand};
use crate::jobs::rebuild::Flags;
use crate::model::{ChainId, HashKv, Revision};
use crate::text::rfc3339;

/// One line.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    schema: u32,
    event: &'static str,
    revision: Revision,
    hash_kv: HashKv,
    as_of: Option<String>,
    lag_seconds: Option<f64>,
    database_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<&'a ChainId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revisions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deltas: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<&'a Flags>,
}

impl<'a> Line<'a> {
    /// The line of an event.
    pub fn of(event: &'a Event<'_>, stand: &Stand, now: Timestamp) -> Line<'a> {
        match event {
            Event::LaidOut { manifest, instead, .. } => Line {
                backup: Some(&manifest.chain),
                reason: instead.as_deref(),
                ..Line::named("laid_out", stand, now)
            },
            Event::Resumed => Line::named("resumed", stand, now),
            Event::Applied(applied) => Line {
                revisions: Some(applied.revisions),
                deltas: Some(applied.deltas),
                ..Line::named("applied", stand, now)
            },
            Event::WentOver(chain) => Line {
                backup: Some(chain),
                ..Line::named("went_over", stand, now)
            },
        }
    }

    /// The line that says from time to time where it stands.
    pub fn stands(stand: &Stand, now: Timestamp) -> Line<'a> {
        Line::named("stands", stand, now)
    }

    /// The last line: it stays there, and etcd is to be started with `flags`.
    pub fn ended(stand: &Stand, now: Timestamp, flags: &'a Flags) -> Line<'a> {
        Line {
            flags: Some(flags),
            ..Line::named("ended", stand, now)
        }
    }

    fn named(event: &'static str, stand: &Stand, now: Timestamp) -> Line<'a> {
        Line {
            schema: 1,
            event,
            revision: stand.revision,
            hash_kv: stand.hash_kv,
            as_of: stand.as_of.map(rfc3339),
            lag_seconds: stand.lag(now).map(|lag| lag.as_secs_f64()),
            database_bytes: stand.bytes,
            backup: None,
            revisions: None,
            deltas: None,
            reason: None,
            flags: None,
        }
    }
}
