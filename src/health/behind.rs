//! How far a destination is behind the others: the backups that schedules owe to it and that it does not have.
//!
//! The agent copies them by itself, so that being behind is no fault. Staying behind is one: for longer than the work of the
//! schedule that feeds it may be late.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{About, Event, Notice};
use crate::model::ChainId;

/// How many are named.
const NAMED: usize = 20;

/// The backups of one schedule that a destination lacks, at least one, in the order of their slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The schedule.
    pub schedule: String,
    /// How long after a slot its work must be done.
    pub late_after: Duration,
    /// Since when the destination lacks any of it without an end.
    pub since: Timestamp,
    /// What it lacks.
    pub backups: Vec<OwedBackup>,
}

/// A backup that a destination lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedBackup {
    /// Its id.
    pub id: ChainId,
    /// The slot that it was taken for.
    pub slot: Timestamp,
    /// A destination that has it.
    pub from: String,
}

/// How far a destination is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindState {
    /// How many backups it lacks.
    pub backups: u64,
    /// The oldest of them.
    pub oldest: Option<OwedBackup>,
    /// Since when it lacks any.
    pub since: Option<Timestamp>,
    /// Their ids from the oldest on, the first few.
    pub ids: Vec<ChainId>,
}

impl BehindState {
    pub(super) fn of(owed: &[Owed]) -> BehindState {
        let mut all: Vec<&OwedBackup> = owed.iter().flat_map(|owed| &owed.backups).collect();
        all.sort_by_key(|backup| (backup.slot, &backup.id));
        BehindState {
            backups: all.len() as u64,
            oldest: all.first().map(|oldest| (*oldest).clone()),
            since: owed.iter().map(|owed| owed.since).min(),
            ids: all.iter().take(NAMED).map(|backup| backup.id.clone()).collect(),
        }
    }
}

impl Owed {
    /// That the destination has stayed behind for too long, if it has.
    pub(super) fn problem(&self, destination: &str, now: Timestamp) -> Option<Notice> {
        let oldest = self.backups.first()?;
        let lasts = Duration::try_from(now.duration_since(self.since)).unwrap_or_default();
        (lasts > self.late_after).then(|| {
            let Owed { schedule, since, .. } = self;
            let OwedBackup { slot, from, .. } = oldest;
            let backups = match self.backups.len() {
                1 => format!("1 backup of schedule {schedule} since {since:.0}, that of slot {slot:.0}"),
                several => {
                    format!("{several} backups of schedule {schedule} since {since:.0}, the oldest of slot {slot:.0}")
                }
            };
            Notice {
                event: Event::DestinationBehind,
                about: About {
                    destination: Some(destination.to_owned()),
                    ..About::schedule(schedule)
                },
                message: format!(
                    "destination {destination} lacks {backups}: the agent copies them after each \
                     backup, and its journal says why it cannot; to copy them now: `lifeboat copy --from {from} --to \
                     {destination}`"
                ),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-20T{text}:00Z").parse().unwrap()
    }

    fn owed(schedule: &str, since: &str, slots: &[&str]) -> Owed {
        let backups = slots.iter().map(|slot| OwedBackup {
            id: format!("20261120T{}00Z-00000001", slot.replace(':', ""))
                .parse()
                .unwrap(),
            slot: at(slot),
            from: "local".to_owned(),
        });
        Owed {
            schedule: schedule.to_owned(),
            late_after: Duration::from_secs(3600),
            since: at(since),
            backups: backups.collect(),
        }
    }

    #[test]
    fn being_behind_is_told_and_only_staying_behind_is_wrong() {
        let owed = owed("hourly", "12:30", &["10:00", "11:00"]);
        assert_eq!(owed.problem("far", at("12:30")), None);
        assert_eq!(owed.problem("far", at("13:30")), None);
        let told = owed.problem("far", at("13:31")).unwrap();
        assert_eq!(told.event, Event::DestinationBehind);
        assert!(
            told.message.starts_with(
                "destination far lacks 2 backups of schedule hourly since 2026-11-20T12:30:00Z, the oldest of slot \
                 2026-11-20T10:00:00Z:"
            ),
            "{}",
            told.message
        );
        // A clock that was set back.
        assert_eq!(owed.problem("far", at("03:00")), None);
    }

    #[test]
    fn what_several_schedules_owe_is_told_together() {
        let both = [
            owed("daily", "12:30", &["02:00"]),
            owed("hourly", "11:30", &["01:00", "11:00"]),
        ];
        let state = BehindState::of(&both);
        assert_eq!((state.backups, state.since), (3, Some(at("11:30"))));
        assert_eq!(state.oldest.map(|oldest| oldest.slot), Some(at("01:00")));
        let slots: Vec<String> = state.ids.iter().map(|id| id.to_string()[9..13].to_owned()).collect();
        assert_eq!(slots, ["0100", "0200", "1100"]);
        assert_eq!(BehindState::of(&[]), BehindState::default());
        let many = vec!["01:00"; 500];
        assert_eq!(BehindState::of(&[owed("hourly", "12:00", &many)]).ids.len(), NAMED);
    }
}
