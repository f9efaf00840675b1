//! Which point of the history is meant, and what leads to it: a full backup, and the changes behind it.
//!
//! The newest good full backup at or before the point is taken whose chain reaches it. What is chosen is a value that is
//! printed before anything is touched; a point that cannot be had is refused, with those next to it.

mod seek;
#[cfg(test)]
mod tests;
mod to_time;
mod windows;

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use super::stores::blame;
use super::{Exit, Failure, Listener, host};
use crate::catalog::{Backup, Following, PieceKind, Window, nearest};
use crate::destinations::Destinations;
use crate::layout::delta::TimeMark;
use crate::model::{ByteSize, ChainId, Revision};
use crate::pipeline::Identities;
use crate::source::delta::Belongs;
use crate::source::{Chain, Changes, Notes};
use crate::text::{count, rfc3339};
use seek::Sought;

pub use to_time::ToTime;
pub use windows::{Counted, KnownGap, KnownWindow, Stretch, stretches, window_of, windows};

/// A point, as it is asked for beside SOURCE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Point {
    /// None: of `latest` the last that can be had, of a chain its full backup.
    #[default]
    OfSource,
    /// That revision.
    Revision(Revision),
    /// The last revision at or before that time.
    Time(ToTime),
    /// The last revision before the last deletion of that key.
    BeforeDelete(Vec<u8>),
    /// The last revision before the last deletion of a key that begins so.
    BeforeDeletePrefix(Vec<u8>),
}

/// A point that was chosen, behind a full backup or at it.
#[derive(Clone)]
pub struct Chosen {
    /// The revision.
    pub revision: Revision,
    /// ToTime it was the last one, as far as a mark of just this revision tells.
    pub mark: Option<TimeMark>,
    /// Where none does, a mark behind it: it was the last one before that.
    pub not_after: Option<TimeMark>,
    /// What was found out on the way, in words.
    pub found: Option<String>,
    /// The revision of the full backup.
    base: Revision,
    deltas: usize,
    packs: usize,
    bytes: u64,
    /// The last revision of the history that there is.
    last: Revision,
    /// Whether a full backup was named by its ID, and no point in its chain.
    is_named: bool,
    chain: Chain,
    notes: Notes,
}

impl Chosen {
    /// The changes behind the full backup; none where the point is the full backup.
    pub fn changes(&self) -> Option<Changes> {
        self.is_behind().then(|| {
            let changes = self.chain.clone().changes(self.base, self.revision, self.notes.clone());
            changes.of_stored_bytes(self.bytes)
        })
    }

    /// Whether changes lead to it.
    pub fn is_behind(&self) -> bool {
        self.revision > self.base
    }

    /// How many bytes of deltas and packs lead to it, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was passed over while changes were read, each once.
    pub fn tell_notes(&self, listener: &dyn Listener) {
        self.notes.take().iter().for_each(|note| listener.alarm(note));
    }

    /// How much leads to it, in words.
    pub fn way(&self) -> String {
        let mut parts = vec![format!("the full backup at revision {}", self.base)];
        parts.extend((self.deltas > 0).then(|| count(self.deltas as u64, "delta")));
        parts.extend((self.packs > 0).then(|| count(self.packs as u64, "pack")));
        match self.deltas + self.packs {
            0 => parts.concat(),
            _ => format!("{} ({})", parts.join(", then "), ByteSize(self.bytes)),
        }
    }

    /// Until when it was the last revision, in words.
    pub fn time(&self) -> Option<String> {
        let marked = self.mark.map(|mark| format!("as it was at {}", exactly(mark)));
        marked.or_else(|| Some(format!("not after {}", exactly(self.not_after?))))
    }

    /// What of the history is not in it, in words.
    pub fn lost(&self) -> Option<String> {
        let behind = self.last.get().saturating_sub(self.revision.get());
        (behind > 0).then(|| {
            let more = match self.is_named {
                // Whoever types an ID may not know that it is a full backup alone.
                true => ": `latest` in place of the ID restores up to there",
                false => "",
            };
            format!(
                "{} behind it, up to revision {}{more}",
                count(behind.cast_unsigned(), "revision"),
                self.last
            )
        })
    }

    /// All of that, each line with a name.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let revision = match self.time() {
            Some(time) => format!("revision {}, {time}", self.revision),
            None => format!("revision {}", self.revision),
        };
        let lines = [
            Some(("point", revision)),
            self.found.clone().map(|found| ("", found)),
            Some(("from", self.way())),
            self.lost().map(|lost| ("not in it", lost)),
        ];
        lines.into_iter().flatten().collect()
    }
}

/// The time of a mark, and how exact it is.
fn exactly(mark: TimeMark) -> String {
    let uncertainty = match mark.uncertainty_ms {
        Some(ms) => format!(" ± {ms} ms"),
        None => " (by a clock that may not be exact)".to_owned(),
    };
    format!("{:.3}{uncertainty}", mark.time)
}

/// What a point is looked for in.
pub struct Search<'a> {
    /// The destinations.
    pub places: &'a Destinations,
    /// What opens deltas.
    pub identities: Option<Arc<Identities>>,
    /// Who hears of what is passed over.
    pub listener: &'a dyn Listener,
}

/// A good full backup that may be the beginning, and what follows it.
struct Candidate<'a> {
    backup: &'a Backup,
    following: Following,
    window: Window,
}

/// A point that was found in a chain.
struct Place<'c, 'a> {
    candidate: &'c Candidate<'a>,
    revision: Revision,
    mark: Option<TimeMark>,
    not_after: Option<TimeMark>,
    found: Option<String>,
}

impl<'a> Candidate<'a> {
    fn of(backup: &'a Backup) -> Candidate<'a> {
        let following = Following::of(backup);
        let window = following.window();
        Candidate {
            backup,
            following,
            window,
        }
    }

    fn holds(&self, revision: Revision) -> bool {
        (self.window.from..=self.window.to).contains(&revision)
    }

    /// The full backup as a mark: at its time it was the last revision.
    fn begin(&self) -> TimeMark {
        TimeMark {
            revision: self.window.from,
            time: self.backup.manifest().first_byte_at,
            uncertainty_ms: None,
        }
    }
}

impl<'a> Search<'a> {
    /// The point that is meant: in the chain of `named` where an id named it, otherwise anywhere in the history of it.
    pub fn choose(&self, named: &'a Backup, by_id: bool, point: &Point) -> Result<(&'a Backup, Chosen), Failure> {
        let lineage = &named.manifest().lineage;
        let is_of_history = |backup: &&Backup| backup.manifest().lineage == *lineage && backup.is_good();
        let of_history = self.places.catalog.backups().iter().filter(is_of_history);
        let mut all: Vec<Candidate<'a>> = of_history.map(Candidate::of).collect();
        if all.iter().all(|candidate| candidate.backup.id() != named.id()) {
            all.push(Candidate::of(named));
        }
        // The newest first.
        all.sort_by(|a, b| b.backup.newness().cmp(&a.backup.newness()));
        let all = all.as_slice();
        let may_be = |candidate: &&Candidate<'a>| !by_id || candidate.backup.id() == named.id();
        let candidates: Vec<&Candidate<'a>> = all.iter().filter(may_be).collect();
        let place = match point {
            Point::OfSource if by_id => candidates.first().map(|candidate| Place {
                candidate,
                revision: candidate.window.from,
                mark: Some(candidate.begin()),
                not_after: None,
                found: None,
            }),
            Point::OfSource => {
                let tip = candidates.iter().map(|candidate| candidate.window.to).max();
                tip.and_then(|tip| self.at_revision(&candidates, tip))
            }
            Point::Revision(revision) => self.at_revision(&candidates, *revision),
            Point::Time(when) => {
                let time = when.time(host::now());
                return match self.at_time(&candidates, time)? {
                    Some(place) => self.chosen(place, all),
                    None => Err(self.no_such_time(&candidates, time)?),
                };
            }
            Point::BeforeDelete(key) => Some(self.before_delete(&candidates, key, &|other| other == key)?),
            Point::BeforeDeletePrefix(prefix) => {
                Some(self.before_delete(&candidates, prefix, &|other| other.starts_with(prefix))?)
            }
        };
        match (place, point) {
            (Some(place), Point::OfSource) => {
                let (backup, chosen) = self.chosen(place, all)?;
                let is_named = by_id;
                Ok((backup, Chosen { is_named, ..chosen }))
            }
            (Some(place), _) => self.chosen(place, all),
            (None, Point::Revision(revision)) => Err(self.no_such_revision(named, by_id, all, *revision)),
            (None, _) => Err(Failure::new(Exit::NotFound, "there is no such point")),
        }
    }

    /// That revision, behind the newest full backup from which it is reached.
    fn at_revision<'c>(&self, candidates: &[&'c Candidate<'a>], revision: Revision) -> Option<Place<'c, 'a>> {
        let mut candidates = candidates.iter();
        let candidate = candidates.find(|candidate| candidate.holds(revision))?;
        let mark = match revision == candidate.window.from {
            true => Some(candidate.begin()),
            false => self.mark_at(candidate, revision),
        };
        Some(Place {
            candidate,
            revision,
            mark,
            not_after: None,
            found: None,
        })
    }

    /// The last revision at or before `time`, behind the newest full backup from which it is reached.
    ///
    /// Of chains that overlap each may know of another one: what was caught up with has the time at which that was done in
    /// one, and its own in the other. Each tells no more than was there, also one that ends before `time`, so the highest is the
    /// answer. One of them has to go on beyond it: else it is not known what came meanwhile.
    fn at_time<'c>(&self, candidates: &[&'c Candidate<'a>], time: Timestamp) -> Result<Option<Place<'c, 'a>>, Failure> {
        let (mut best, mut is_known): (Option<TimeMark>, bool) = (None, false);
        for candidate in candidates {
            let may_know_more = best.is_none_or(|best| candidate.window.to > best.revision);
            if candidate.begin().time > time || (is_known && !may_know_more) {
                continue;
            }
            let Sought { mark, goes_on } = self.seek(candidate, time)?;
            is_known |= goes_on;
            if best.is_none_or(|best| mark.revision > best.revision) {
                best = Some(mark);
            }
        }
        Ok(best.filter(|_| is_known).and_then(|mark| {
            let candidate = candidates.iter().find(|candidate| candidate.holds(mark.revision))?;
            Some(Place {
                candidate,
                revision: mark.revision,
                mark: Some(mark),
                not_after: None,
                found: Some(format!("asked for {}", rfc3339(time))),
            })
        }))
    }

    fn before_delete<'c>(
        &self,
        candidates: &[&'c Candidate<'a>],
        wanted: &[u8],
        is_meant: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Place<'c, 'a>, Failure> {
        let (mut unseen, mut next): (Vec<String>, Option<Revision>) = (Vec::new(), None);
        // The last deletion is in the chain that reaches furthest, or behind what of it was seen there in the next.
        let mut furthest_first: Vec<&Candidate<'a>> = candidates.to_vec();
        furthest_first.sort_by_key(|candidate| Reverse(candidate.window.to));
        for candidate in furthest_first {
            if next.is_some_and(|next| candidate.window.from >= next) {
                continue;
            }
            // What lies between two chains is in none: the key may have been deleted there.
            if let Some(next) = next.filter(|next| candidate.window.to < *next) {
                unseen.push(format!("{} to {next}", candidate.window.to));
            }
            next = Some(candidate.window.from);
            if let Some(deleted) = self.deleted_in(candidate, is_meant)? {
                let before = Revision::new(deleted.revision.get() - 1).unwrap_or(candidate.window.from);
                let before = before.max(candidate.window.from);
                if !unseen.is_empty() {
                    self.listener.alarm(&format!(
                        "what was deleted between revisions {} is in no chain, and not known",
                        unseen.join(", ")
                    ));
                }
                // The newest full backup from which it is reached.
                let nearest = candidates.iter().find(|other| other.holds(before));
                return Ok(Place {
                    candidate: nearest.unwrap_or(&candidate),
                    revision: before,
                    mark: deleted.before.filter(|mark| mark.revision == before),
                    not_after: deleted.after,
                    found: Some(deleted.words()),
                });
            }
        }
        let key = String::from_utf8_lossy(wanted).into_owned();
        let windows: Vec<String> = candidates
            .iter()
            .rev()
            .map(|candidate| words(&candidate.window))
            .collect();
        let message = format!(
            "no deletion of `{}` is in what can be restored (revisions {})",
            crate::text::clean(&key),
            windows.join(", ")
        );
        Err(blame(
            self.places,
            Failure::new(Exit::NotFound, message)
                .next("`lifeboat list` shows the windows; give a point with --to-time"),
        ))
    }

    fn chosen(&self, place: Place<'_, 'a>, all: &[Candidate<'a>]) -> Result<(&'a Backup, Chosen), Failure> {
        let Place {
            candidate,
            revision,
            mark,
            not_after,
            found,
        } = place;
        let plan = candidate.following.plan(revision);
        // It was chosen because it is reached.
        let plan = plan.map_err(|hole| Failure::new(Exit::NotFound, hole))?;
        let of_kind = |kind| plan.iter().filter(|piece| piece.kind == kind).count();
        let last = all
            .iter()
            .map(|candidate| candidate.window.to.max(candidate.window.from));
        let chosen = Chosen {
            revision,
            mark,
            not_after,
            found,
            base: candidate.window.from,
            deltas: of_kind(PieceKind::Delta),
            packs: of_kind(PieceKind::Pack),
            bytes: plan.iter().map(|piece| piece.bytes).sum(),
            last: last.max().unwrap_or(revision),
            is_named: false,
            chain: self.chain(candidate),
            notes: Notes::default(),
        };
        Ok((candidate.backup, chosen))
    }

    /// What reads the changes of a chain.
    fn chain(&self, candidate: &Candidate<'_>) -> Chain {
        Chain {
            belongs: belongs(candidate.backup),
            following: candidate.following.clone(),
            stores: self.places.stores.clone(),
            identities: self.identities.clone(),
        }
    }

    fn no_such_revision(&self, named: &Backup, by_id: bool, all: &[Candidate<'_>], wanted: Revision) -> Failure {
        let mut own = all.iter();
        let own = own.find(|candidate| by_id && candidate.backup.id() == named.id());
        let message = match own {
            Some(own) => format!(
                "revision {wanted} cannot be had from {}: it has revisions {}{}",
                named.id(),
                words(&own.window),
                hole(&own.window, wanted)
            ),
            None => {
                let holes = all.iter().map(|candidate| hole(&candidate.window, wanted));
                format!(
                    "revision {wanted} cannot be had{}",
                    holes.max_by_key(String::len).unwrap_or_default()
                )
            }
        };
        let windows = all.iter().map(|candidate| (candidate.backup.id(), &candidate.window));
        let (last, first) = nearest(windows, wanted);
        let point = |chain: &ChainId, revision| format!("{chain}:{revision}");
        let near = near(
            last.map(|(chain, revision)| point(chain, revision)),
            first.map(|(chain, revision)| point(chain, revision)),
        );
        let inside = all.iter().find(|candidate| candidate.holds(wanted));
        let near = match inside {
            Some(other) => format!("{} has it: {}", other.backup.id(), point(other.backup.id(), wanted)),
            None => near,
        };
        blame(self.places, Failure::new(Exit::NotFound, message).next(near))
    }

    fn no_such_time(&self, candidates: &[&Candidate<'_>], wanted: Timestamp) -> Result<Failure, Failure> {
        let point = |candidate: &Candidate<'_>, mark: TimeMark| {
            let (chain, revision) = (candidate.backup.id(), mark.revision);
            (mark.time, format!("{chain}:{revision} at {}", rfc3339(mark.time)))
        };
        let mut before = Vec::new();
        for candidate in candidates.iter().filter(|candidate| candidate.begin().time <= wanted) {
            before.push(point(candidate, self.end_of(candidate)));
        }
        let behind = candidates.iter().filter(|candidate| candidate.begin().time > wanted);
        let behind = behind.map(|candidate| point(candidate, candidate.begin()));
        let near = near(
            before.into_iter().max().map(|(_, words)| words),
            behind.min().map(|(_, words)| words),
        );
        let message = format!(
            "what was there at {} is not known: no backup or delta is of that time",
            rfc3339(wanted)
        );
        Ok(blame(self.places, Failure::new(Exit::NotFound, message).next(near)))
    }
}

/// What the objects of a chain are held to.
pub(super) fn belongs(backup: &Backup) -> Belongs {
    Belongs {
        chain: backup.manifest().chain_path(),
        lineage: backup.manifest().lineage.clone(),
    }
}

fn near(last: Option<String>, first: Option<String>) -> String {
    match (last, first) {
        (Some(last), Some(first)) => format!("the nearest points are {last} before it and {first} behind it"),
        (Some(last), None) => format!("the nearest point is {last}, before it"),
        (None, Some(first)) => format!("the nearest point is {first}, behind it"),
        (None, None) => "`lifeboat list` shows what there is".to_owned(),
    }
}

fn words(window: &Window) -> String {
    match window.from == window.to {
        true => window.to.to_string(),
        false => format!("{} to {}", window.from, window.to),
    }
}

/// That a revision lies behind a hole, in words.
fn hole(window: &Window, wanted: Revision) -> String {
    let mut holes = window.holes.iter();
    let before = holes.rfind(|hole| hole.from() <= wanted);
    match before.filter(|_| window.behind.is_some_and(|behind| behind >= wanted)) {
        Some(hole) => format!("; revisions {} to {} are missing before it", hole.from(), hole.to()),
        None => String::new(),
    }
}
