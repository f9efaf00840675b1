//! `lifeboat rebuild --follow`: what is said of a data directory that is kept up.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::rebuild::{Flags, print_flags};
use super::{Context, Exit, Failure};
use crate::jobs::follow::{Asked, Event, Hears, Stand, follow, now};
use crate::jobs::source::described;
use crate::model::{ChainId, HashKv, Revision};
use crate::terminal::{Bar, Format, Output};
use crate::text::{count, rfc3339};

/// How often it is said that it keeps up, where nobody looks at a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// One line of what programs see.
#[derive(Serialize)]
struct Line<'a> {
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

impl Line<'_> {
    fn of(event: &'static str, stand: &Stand) -> Self {
        Line {
            schema: 1,
            event,
            revision: stand.revision,
            hash_kv: stand.hash_kv,
            as_of: stand.as_of.map(rfc3339),
            lag_seconds: stand.lag(now()).map(|lag| lag.as_secs_f64()),
            database_bytes: stand.bytes,
            backup: None,
            revisions: None,
            deltas: None,
            reason: None,
            flags: None,
        }
    }
}

/// Tells it, in lines and in one line that moves.
struct Teller<'a> {
    output: &'a Output,
    bar: RefCell<Option<Bar>>,
    /// When it was said last how it is.
    told_at: Cell<Instant>,
    /// Revisions that were taken in since it was begun, and when that was.
    revisions: Cell<u64>,
    begun: Instant,
}

pub(super) fn run(context: &Context, asked: &Asked<'_>, flags: &Flags, stop: &AtomicBool) -> Result<Exit, Failure> {
    let output = &context.output;
    let teller = Teller {
        output,
        bar: RefCell::new(None),
        told_at: Cell::new(Instant::now()),
        revisions: Cell::new(0),
        begun: Instant::now(),
    };
    let ended = follow(asked, output, &teller, stop);
    teller.bar.replace(None);
    let Some(stand) = ended? else {
        return Err(Failure::new(Exit::Failed, "interrupted; nothing was kept"));
    };
    match output.format {
        Format::Json => output.json(&Line {
            flags: Some(flags),
            ..Line::of("ended", &stand)
        }),
        Format::Text => {
            output.line(format!("it stays at revision {}, {}", stand.revision, behind(&stand)));
            output.line("");
            print_flags(output, flags);
            output.line("");
            output.line("next: start etcd; or run the same command again, to go on");
        }
    }
    Ok(Exit::Done)
}

impl Teller<'_> {
    fn json(&self, line: &Line<'_>) {
        self.output.json(line);
    }

    fn say(&self, text: &str) {
        self.bar.replace(None);
        if self.output.format == Format::Text {
            self.output.line(text);
        }
    }
}

impl Hears for Teller<'_> {
    fn event(&self, event: &Event<'_>, stand: &Stand) {
        let is_json = self.output.format == Format::Json;
        match event {
            Event::LaidOut {
                manifest,
                rebuilt,
                instead,
            } => {
                if is_json {
                    return self.json(&Line {
                        backup: Some(&manifest.chain),
                        reason: instead.as_deref(),
                        ..Line::of("laid_out", stand)
                    });
                }
                self.say(&format!(
                    "laid out at revision {}, from {}",
                    stand.revision,
                    described(manifest)
                ));
                if rebuilt.auth.enabled {
                    self.say(&format!(
                        "users, roles and passwords are those of revision {}, whatever comes behind it",
                        manifest.to_revision
                    ));
                }
            }
            Event::Resumed => match is_json {
                true => self.json(&Line::of("resumed", stand)),
                false => self.say(&format!("gone on with at revision {}", stand.revision)),
            },
            Event::Applied(applied) => {
                self.revisions.set(self.revisions.get() + applied.revisions);
                if is_json {
                    return self.json(&Line {
                        revisions: Some(applied.revisions),
                        deltas: Some(applied.deltas),
                        ..Line::of("applied", stand)
                    });
                }
                self.output.detail(format!(
                    "{} of {} taken in: revision {}, {}",
                    count(applied.revisions, "revision"),
                    count(applied.deltas, "delta"),
                    stand.revision,
                    behind(stand)
                ));
            }
            Event::WentOver(chain) => match is_json {
                true => self.json(&Line {
                    backup: Some(chain),
                    ..Line::of("went_over", stand)
                }),
                false => self.say(&format!(
                    "the deltas of backup {chain} are gone on with, at revision {}",
                    stand.revision
                )),
            },
        }
    }

    fn stands(&self, stand: &Stand) {
        if self.output.shows_progress() {
            let seconds = self.begun.elapsed().as_secs_f64().max(1.0);
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = self.revisions.get() as f64 / seconds;
            let mut bar = self.bar.borrow_mut();
            let bar = bar.get_or_insert_with(|| Bar::new(self.output, "follow"));
            bar.says(format!(
                "revision {}, {}, {rate:.1} revisions/s",
                stand.revision,
                behind(stand)
            ));
        } else if self.told_at.get().elapsed() >= TOLD_EVERY {
            self.told_at.set(Instant::now());
            match self.output.format {
                Format::Json => self.json(&Line::of("stands", stand)),
                Format::Text => self
                    .output
                    .line(format!("revision {}, {}", stand.revision, behind(stand))),
            }
        }
    }

    fn lays_out(&self, bytes: u64, of: u64) {
        let mut bar = self.bar.borrow_mut();
        bar.get_or_insert_with(|| Bar::new(self.output, "rebuild"))
            .at(bytes, of);
    }
}

/// How far behind it is, in words.
fn behind(stand: &Stand) -> String {
    let known: Option<(Timestamp, Duration)> = stand.as_of.zip(stand.lag(now()));
    match known {
        Some((as_of, lag)) => format!("as of {} ({:.0} s ago)", rfc3339(as_of), lag.as_secs_f64()),
        None => "as of when is not known yet".to_owned(),
    }
}
