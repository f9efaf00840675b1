//! When backups are taken: `[schedules.NAME]`.
//!
//! Invariant: a schedule names at least one destination, and all that it names are switched on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::{self, TimeZone};

use super::duration::long_duration;
use super::file::Value;
use super::nearest_name::closest;
use super::reader::Reader;
use super::section::{Given, Section};
use super::{Destination, DestinationName};
use crate::model::ScheduleName;
use crate::schedule::calendar::{OnCalendar, SHORTHANDS};
use crate::schedule::{CatchUp, When};
use crate::text::Length;

/// What is done at a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A full backup, and retention after it.
    Full,
    /// Some of the backups are read back and, if this host has an identity, opened.
    Verify,
    /// Retention alone.
    Prune,
}

impl Kind {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Verify => "verify",
            Kind::Prune => "prune",
        }
    }
}

/// `[schedules.NAME]`: something that is done at each of its slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What.
    pub kind: Kind,
    /// What names its slots.
    pub when: When,
    /// Within how long after a slot each host has its own moment.
    pub jitter: Duration,
    /// What becomes of slots that came while the host was off.
    pub catch_up: CatchUp,
    /// How long after a slot its work must have been done.
    pub late_after: Duration,
    /// Where its backups go, or what it works on; at least one.
    pub destinations: BTreeSet<DestinationName>,
}

/// Within how long after a slot each host has its own moment, where nothing is said.
const JITTER: Duration = Duration::from_secs(60);
/// How long after a slot its backup must have been taken, where nothing is said.
const LATE_AFTER: Duration = Duration::from_secs(3600);

/// Slots closer than this are hardly meant.
const SHORTEST_SENSIBLE: Duration = Duration::from_secs(60);

const JITTERS: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
const LATES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

impl Reader<'_> {
    /// `destinations` are those that are switched on.
    pub(super) fn schedules(
        &mut self,
        root: &Section<'_>,
        destinations: &BTreeMap<DestinationName, Destination>,
    ) -> BTreeMap<ScheduleName, Schedule> {
        let mut schedules = BTreeMap::new();
        for (name, key, section) in root.section("schedules").named() {
            let name = self.parsed(&Given {
                path: section.path.clone(),
                value: name,
                origin: key,
            });
            let schedule = self.schedule(&section, destinations);
            schedules.extend(name.zip(schedule));
        }
        schedules
    }

    /// None if it is switched off or wrong.
    fn schedule(
        &mut self,
        section: &Section<'_>,
        destinations: &BTreeMap<DestinationName, Destination>,
    ) -> Option<Schedule> {
        let is_on = self.is_on(section);
        let kind = match section.text("kind") {
            None => {
                if is_on {
                    self.missing(section, "kind");
                }
                None
            }
            Some(given) => match given.value {
                "full" => Some(Kind::Full),
                "verify" => Some(Kind::Verify),
                "prune" => Some(Kind::Prune),
                "drill" | "defrag" => {
                    let message = format!(
                        "`{}`: schedules of kind \"{}\" are known only to later versions of lifeboat",
                        given.path, given.value
                    );
                    self.problems.at(given.origin, &message);
                    None
                }
                _ => self.refuse(section, "kind", &given),
            },
        };
        let when = self.when(section);
        let jitter = self.within(section, "jitter", JITTERS);
        let late_after = self.within(section, "late_after", LATES);
        let catch_up = section.given("catch_up");
        let is_off = catch_up.is_some_and(|given| matches!(given.value.value, Value::Boolean(false)));
        let destinations = self.chosen(section, destinations);
        self.doubt_pace(section, when.as_ref(), jitter);
        if is_on && section.entry("when").is_none() && section.entry("every").is_none() {
            self.missing(section, "when");
        }
        if is_on && destinations.is_empty() && section.entry("destinations").is_none() && self.problems.is_empty() {
            let message = format!(
                "`{}`: there is no destination that its backups could go to",
                section.path
            );
            self.problems.nowhere(&message);
        }
        Some(Schedule {
            when: when.filter(|_| is_on)?,
            kind: kind?,
            jitter: jitter.unwrap_or(JITTER),
            catch_up: if is_off { CatchUp::Never } else { CatchUp::Once },
            late_after: late_after.unwrap_or(LATE_AFTER),
            destinations,
        })
    }

    /// Slots so close that a backup or its jitter runs into the next are allowed, and hardly meant.
    fn doubt_pace(&mut self, section: &Section<'_>, when: Option<&When>, jitter: Option<Duration>) {
        let Some(When::Every(every)) = when else { return };
        let Some(given) = section.given("every") else { return };
        let every = every.period();
        if every < SHORTEST_SENSIBLE {
            let message = format!("`{}`: every {} is very frequent", given.path, Length(every));
            self.warnings.at(given.origin, &message);
        }
        if let (Some(jitter), Some(entry)) = (jitter.filter(|jitter| *jitter > every), section.entry("jitter")) {
            let message = format!(
                "`{}.jitter` of {} is longer than the {} from slot to slot",
                section.path,
                Length(jitter),
                Length(every)
            );
            self.warnings.at(&entry.key, &message);
        }
    }

    /// What names the slots: of `when` and `every` the one in the later file.
    fn when(&mut self, section: &Section<'_>) -> Option<When> {
        let (when, every) = (section.text("when"), section.text("every"));
        match (when, every) {
            (Some(when), Some(every)) if when.origin.file() == every.origin.file() => {
                let message = format!(
                    "`{}`: `when` stands beside it; a schedule takes one of the two",
                    every.path
                );
                self.problems.at(every.origin, &message);
                None
            }
            (Some(when), Some(every)) if when.origin.file() > every.origin.file() => self.calendar(&when),
            (Some(_) | None, Some(every)) => self.parsed(&every).map(When::Every),
            (Some(when), None) => self.calendar(&when),
            (None, None) => None,
        }
    }

    fn calendar(&mut self, given: &Given<'_, &str>) -> Option<When> {
        match OnCalendar::parse(given.value, &TimeZone::system(), tz::db()) {
            // A slot has its name to the second.
            Ok(calendar) if calendar.divides_seconds() => {
                let message = format!(
                    "`{}`: \"{}\" names more than one moment of a second: expected one at most, as in `*:*:0/1`",
                    given.path,
                    given.value.escape_debug()
                );
                self.problems.at(given.origin, &message);
                None
            }
            Ok(calendar) => Some(When::Calendar(Box::new(calendar))),
            Err(error) => {
                let period = given.value.trim().trim_start_matches("every").trim();
                let near = closest(given.value.trim(), SHORTHANDS.into_iter(), 2);
                let hint = match (long_duration(period), near) {
                    (Some(_), _) => format!("; a period is written as `every = \"{period}\"`"),
                    (None, Some(near)) => format!("; did you mean `{near}`?"),
                    (None, None) => String::new(),
                };
                self.problems
                    .at(given.origin, &format!("`{}`: {error}{hint}", given.path));
                None
            }
        }
    }

    /// The destinations that are named, or all.
    pub(super) fn chosen(
        &mut self,
        section: &Section<'_>,
        destinations: &BTreeMap<DestinationName, Destination>,
    ) -> BTreeSet<DestinationName> {
        let Some(list) = section.list("destinations") else {
            return destinations.keys().cloned().collect();
        };
        if list.value.is_empty() {
            let message = format!("`{}` is empty: leave it out for all destinations", list.path);
            self.problems.at(list.origin, &message);
        }
        let mut chosen = BTreeSet::new();
        for given in list.texts() {
            match destinations.get_key_value(given.value) {
                Some((name, _)) => {
                    chosen.insert(name.clone());
                }
                None => {
                    let known = destinations.keys().map(DestinationName::as_str);
                    let hint = closest(given.value, known, 2).map(|near| format!("; did you mean `{near}`?"));
                    let message = format!(
                        "`{}`: `{}` is not one of `[destinations]` that are switched on{}",
                        given.path,
                        given.value,
                        hint.unwrap_or_default()
                    );
                    self.problems.at(given.origin, &message);
                }
            }
        }
        chosen
    }

    pub(super) fn within(
        &mut self,
        section: &Section<'_>,
        name: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let given = section.text(name)?;
        let duration = long_duration(given.value).filter(|duration| range.contains(duration));
        duration.or_else(|| self.refuse(section, name, &given))
    }
}
