//! `lifeboat rebuild --follow`: what is said of a data directory that is kept up.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::rebuild::print_flags;
use super::{Context, Exit, Failure};
use crate::jobs::follow::{Asked, Event, Hears, Stand, follow, now};
use crate::jobs::rebuild::Flags;
use crate::jobs::source::described;
use crate::json::follow::Line;
use crate::terminal::{Bar, Format, Output};
use crate::text::{count, rfc3339};

/// How often it is said that it keeps up, where nobody looks at a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(60);

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
        Format::Json => output.json(&Line::ended(&stand, now(), flags)),
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
    fn say(&self, text: &str) {
        self.bar.replace(None);
        self.output.line(text);
    }
}

impl Hears for Teller<'_> {
    fn event(&self, event: &Event<'_>, stand: &Stand) {
        if let Event::Applied(applied) = event {
            self.revisions.set(self.revisions.get() + applied.revisions);
        }
        if self.output.format == Format::Json {
            return self.output.json(&Line::of(event, stand, now()));
        }
        let revision = stand.revision;
        match event {
            Event::LaidOut { manifest, rebuilt, .. } => {
                self.say(&format!(
                    "laid out at revision {revision}, from {}",
                    described(manifest)
                ));
                if rebuilt.auth.enabled {
                    self.say(&format!(
                        "users, roles and passwords are those of revision {}, whatever comes behind it",
                        manifest.to_revision
                    ));
                }
            }
            Event::Resumed => self.say(&format!("gone on with at revision {revision}")),
            Event::Applied(applied) => self.output.detail(format!(
                "{} of {} taken in: revision {revision}, {}",
                count(applied.revisions, "revision"),
                count(applied.deltas, "delta"),
                behind(stand)
            )),
            Event::WentOver(chain) => self.say(&format!(
                "the deltas of backup {chain} are gone on with, at revision {revision}"
            )),
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
                Format::Json => self.output.json(&Line::stands(stand, now())),
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
