//! The document for people: labels at the left, on a terminal no line longer than that is wide.

use std::time::Duration;

use jiff::Timestamp;

use crate::health::{BehindState, Capturing, Copy, LaneState, Notice, ScheduleState, Window};
use crate::model::ByteSize;
use crate::status::{DestinationRow, Status};
use crate::terminal::{Output, Style, Table, columns, typed, wrap};
use crate::text::{Length, age, brief, clean, count};

const LABEL: usize = 12;

/// Prints all of it.
pub(super) fn print(output: &Output, document: &Status) {
    // A program that looks for a text finds it in one line.
    let columns = columns().unwrap_or(usize::MAX);
    let page = Page { output, columns };
    let style = match document.problems.is_empty() {
        true => Style::Good,
        false => Style::Bad,
    };
    for line in wrap("", &clean(&typed(&brief(&verdict(document)))), columns) {
        output.styled_line(style, line);
    }
    let is_long = |problem: &Notice| problem.message.contains('\n');
    if document.problems.len() > 1 || document.problems.iter().any(is_long) {
        for problem in &document.problems {
            page.wrapped("  - ", &problem.message);
        }
    }
    for note in &document.notes {
        page.wrapped("note: ", note);
    }
    output.line("");
    restorable(&page, document);
    changes(&page, document);
    proof(&page, document);
    agent(&page, document);
    if let Some(rest) = document.restores.rest() {
        page.field("restores", &rest);
    }
    schedules(&page, document);
    destinations(&page, &document.destinations, document.now);
    members(output, document);
}

/// All in one line.
fn verdict(document: &Status) -> String {
    match (document.problems.as_slice(), &document.latest) {
        ([], Some(latest)) => format!(
            "ok: the latest backup is {} old, {}",
            age(latest.taken_at, document.now),
            latest.id
        ),
        ([], None) => "ok".to_owned(),
        ([only], _) => format!("WRONG: {}", only.message.lines().next().unwrap_or_default()),
        (several, _) => format!("WRONG: {} problems", several.len()),
    }
}

struct Page<'a> {
    output: &'a Output,
    columns: usize,
}

impl Page<'_> {
    /// A line under `label`.
    fn field(&self, label: &str, text: &str) {
        self.wrapped(&format!("{label:<LABEL$}"), text);
    }

    /// Text behind `first`; the lines that follow begin where it began.
    fn wrapped(&self, first: &str, text: &str) {
        let mut first = first.to_owned();
        for text in typed(&brief(text)).lines() {
            // A command, to be copied as it stands.
            if text.starts_with("    ") {
                self.output.line(format!("{first}{}", clean(text)));
                continue;
            }
            for line in wrap(&first, &clean(text), self.columns) {
                self.output.line(line);
            }
            first = " ".repeat(first.chars().count());
        }
    }
}

/// So many histories are shown; more are counted.
const HISTORIES: usize = 2;

/// What is said of the destinations where none of them can be read.
const NOT_KNOWN: &str = "not known: no destination can be read";

/// The accepted history first, then the newest.
fn restorable(page: &Page<'_>, document: &Status) {
    let now = document.now;
    let mut windows: Vec<&Window> = document.windows.iter().collect();
    windows.sort_by_key(|window| (std::cmp::Reverse(window.accepted), std::cmp::Reverse(window.to_time)));
    let mut label = "restorable";
    for window in windows.iter().take(HISTORIES) {
        page.field(label, &in_window(window, windows.len() > 1, now));
        label = "";
    }
    match windows.len().saturating_sub(HISTORIES) {
        _ if windows.is_empty() && no_destination_is_read(document) => page.field(label, NOT_KNOWN),
        _ if windows.is_empty() => page.field(label, "nothing"),
        0 => {}
        1 => page.field(label, "and 1 older lineage: `lifeboat list`"),
        older => page.field(label, &format!("and {older} older lineages: `lifeboat list`")),
    }
}

fn no_destination_is_read(document: &Status) -> bool {
    let mut enabled = document.destinations.iter().filter(|row| row.enabled).peekable();
    enabled.peek().is_some() && enabled.all(|row| row.error.is_some())
}

fn in_window(window: &Window, is_one_of_several: bool, now: Timestamp) -> String {
    let of = match is_one_of_several {
        true => format!(" of lineage {}", window.lineage),
        false => String::new(),
    };
    let backups = count(window.points, "backup");
    let (from, to) = (window.from_revision, window.to_revision);
    let (oldest, newest) = (age(window.from_time, now), age(window.to_time, now));
    let text = match from == to {
        true => format!("{backups}{of}, {newest} old (revision {to})"),
        false => format!("{backups}{of}, from {oldest} ago (revision {from}) to {newest} ago (revision {to})"),
    };
    match window.every_point_from.zip(window.every_point_from_time) {
        Some((revision, _)) if revision == from => format!("{text}, and any moment between"),
        Some((revision, time)) => {
            format!(
                "{text}, and any moment of the last {} (from revision {revision} on)",
                age(time, now)
            )
        }
        None => text,
    }
}

/// Whether what happens between the backups is captured.
fn changes(page: &Page<'_>, document: &Status) {
    const LABEL: &str = "changes";
    let is_running = document.agent.as_ref().is_some_and(|agent| agent.running);
    if !document.captures {
        return page.field(LABEL, "not captured between backups: `[deltas]` is off");
    }
    if document.lanes.is_empty() {
        let why = match is_running {
            true => "capture has not begun yet",
            false => "the agent does not run",
        };
        return page.field(LABEL, &format!("not captured: {why}"));
    }
    let mut label = LABEL;
    for lane in &document.lanes {
        let of = match document.lanes.len() {
            1 => String::new(),
            _ => format!(" ({} destinations)", lane.lane),
        };
        let text = captured(lane, &document.windows, document.now);
        page.field(label, &format!("{text}{of}"));
        label = "";
    }
}

/// What the agent said last is some seconds old: what lies in the destinations by now was captured, too.
fn captured(lane: &LaneState, windows: &[Window], now: Timestamp) -> String {
    match (lane.capturing, &lane.trouble) {
        (Capturing::StandingBy, _) if lane.lag(now).is_some_and(|lag| lag >= lane.late_after()) => {
            format!(
                "not captured: {} is to do it, and nothing comes of it",
                lane.who_writes()
            )
        }
        (Capturing::StandingBy, _) => format!("captured by {}", lane.who_writes()),
        (_, Some(_)) if lane.hears_nobody() => "not captured: no member answers".to_owned(),
        (_, Some(why)) => format!("not captured: {why}"),
        (Capturing::Waiting, None) => "not captured yet".to_owned(),
        (Capturing::Writing, None) => match (lane.captured_to, lane.whole_at) {
            (Some(revision), Some(at)) => {
                let mut stored = windows.iter().filter(|window| window.accepted);
                let newer = stored.find(|window| window.from_revision <= revision && revision < window.to_revision);
                let (revision, at) =
                    newer.map_or((revision, at), |window| (window.to_revision, window.to_time.max(at)));
                format!("captured up to revision {revision}, {} ago", age(at, now))
            }
            _ => "captured from now on".to_owned(),
        },
    }
}

fn proof(page: &Page<'_>, document: &Status) {
    let text = match &document.last_proof {
        Some(last) => format!(
            "{} is {}, proven {} ago",
            last.id,
            last.proof,
            age(last.checked_at, document.now)
        ),
        None if no_destination_is_read(document) => NOT_KNOWN.to_owned(),
        None => "none yet: `lifeboat verify` with an identity".to_owned(),
    };
    page.field("last proof", &text);
}

fn agent(page: &Page<'_>, document: &Status) {
    let Some(agent) = &document.agent else {
        page.field("agent", "does not run on this host, and never has");
        return;
    };
    match agent.running {
        true => page.field(
            "agent",
            &format!("runs since {:.0}, process {}", agent.started_at, agent.pid),
        ),
        false => page.field("agent", "does not run"),
    }
    if let Some(job) = &agent.job {
        page.field("", &format!("now: schedule {} since {:.0}", job.schedule, job.since));
    }
}

fn schedules(page: &Page<'_>, document: &Status) {
    let mut label = "schedules";
    for schedule in &document.schedules {
        let state = &schedule.state;
        page.field(label, &format!("{}: {}", state.name, next_run(state, document.now)));
        for text in &schedule.clock_changes {
            page.field("", &format!("  {text}"));
        }
        for wait in &state.waits {
            let text = format!(
                "  destination {}: slot {:.0}: {}",
                wait.destination, wait.slot, wait.why
            );
            page.field("", &text);
        }
        if let Some(last) = &state.last {
            for Copy { destination, host, id } in &last.copies {
                let what = id.as_ref().map_or("done".to_owned(), ToString::to_string);
                page.field(
                    "",
                    &format!("  last: {}, {what} in {destination}, by {host}", last.slot),
                );
            }
        }
        label = "";
    }
    if document.schedules.is_empty() {
        page.field(label, "none");
    }
}

fn next_run(state: &ScheduleState, now: Timestamp) -> String {
    let Some(next) = &state.next else {
        return format!("no next run: `{}` names nothing more before the year 2200", state.when);
    };
    let jitter = match state.jitter_seconds {
        0 => String::new(),
        seconds => format!(
            ", {} after each slot on this host",
            Length(Duration::from_secs(seconds))
        ),
    };
    let when = format!("{}{jitter}", state.when);
    match (next.at <= now, next.is_catch_up) {
        (true, false) => format!("due now ({when})"),
        (true, true) => format!("due now, to catch up slot {:.0} ({when})", next.slot),
        (false, _) => format!("next run {:.0} ({when})", next.at),
    }
}

fn destinations(page: &Page<'_>, destinations: &[DestinationRow], now: Timestamp) {
    let table = Table::new(&["DESTINATION", ">BACKUPS", ">LAST", ">BEHIND", ">FREE", ">OF"]);
    let mut table = table.may_go(&["OF"]);
    for row in destinations {
        let last = row.state.newest.as_ref();
        let (last, free) = match (row.enabled, &row.error) {
            (false, _) => ("switched off".to_owned(), None),
            (true, Some(_)) => ("not readable".to_owned(), None),
            (true, None) => (
                last.map_or("none".to_owned(), |last| format!("{} ago", age(last.taken_at, now))),
                row.state.free_bytes.zip(row.state.total_bytes),
            ),
        };
        let size = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| ByteSize(bytes).to_string());
        table.row(vec![
            row.state.name.clone(),
            match row.enabled && row.error.is_none() {
                true => row.state.backups.to_string(),
                false => "-".to_owned(),
            },
            last,
            match &row.state.behind {
                Some(behind) => behind.backups.to_string(),
                None => "-".to_owned(),
            },
            size(free.map(|(free, _)| free)),
            size(free.map(|(_, total)| total)),
        ]);
    }
    if !destinations.is_empty() {
        page.output.line("");
        page.output.table(&table);
    }
    for row in destinations {
        if let Some(end) = row.state.credentials_expire_at {
            page.wrapped(
                &format!("{}: ", row.state.name),
                &format!("its credentials run out at {end:.0}"),
            );
        }
        if let Some(text) = row.state.behind.as_ref().and_then(behind) {
            page.wrapped(&format!("{}: ", row.state.name), &text);
        }
    }
}

/// How far a destination is behind, if it is.
fn behind(state: &BehindState) -> Option<String> {
    let oldest = state.oldest.as_ref()?;
    let since = state
        .since
        .map_or(String::new(), |since| format!(", behind since {since:.0}"));
    Some(format!(
        "{} behind, oldest {}{since}",
        count(state.backups, "backup"),
        to_the_minute(oldest.slot)
    ))
}

/// A slot mostly has no seconds.
fn to_the_minute(slot: Timestamp) -> String {
    let text = format!("{slot:.0}");
    match text.strip_suffix(":00Z") {
        Some(minutes) => format!("{minutes}Z"),
        None => text,
    }
}

fn members(output: &Output, document: &Status) {
    if document.members.is_empty() {
        return;
    }
    let table = Table::new(&["MEMBER", "ROLE", "ETCD", ">DATABASE", "ENDPOINT"]);
    let table = table.without_blank(&["ETCD", "DATABASE"]);
    let mut table = table.may_go(&["DATABASE", "ETCD"]);
    for member in &document.members {
        let size = member.database_bytes.map(|bytes| ByteSize(bytes).to_string());
        table.row(vec![
            member.name.clone(),
            member.role.to_owned(),
            member.version.clone().unwrap_or_default(),
            size.unwrap_or_default(),
            member.url.clone(),
        ]);
    }
    output.line("");
    output.table(&table);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{NextRun, OwedBackup};
    use crate::model::Revision;

    #[test]
    fn what_can_be_restored_is_told_in_one_sentence() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let now = at("2026-11-20T12:00:00Z");
        let revision = |number: i64| Revision::new(number).unwrap();
        let mut window = Window {
            lineage: "00000000000000ab-00000001".parse().unwrap(),
            accepted: true,
            points: 1,
            from_revision: revision(301),
            to_revision: revision(301),
            from_time: at("2026-11-20T11:48:00Z"),
            to_time: at("2026-11-20T11:48:00Z"),
            every_point_from: None,
            every_point_from_time: None,
        };
        assert_eq!(in_window(&window, false, now), "1 backup, 12 min old (revision 301)");
        window.points = 6;
        window.to_revision = revision(341);
        window.to_time = at("2026-11-20T11:59:10Z");
        let text = "6 backups, from 12 min ago (revision 301) to 50 s ago (revision 341)";
        assert_eq!(in_window(&window, false, now), text);
        window.every_point_from = Some(revision(301));
        window.every_point_from_time = Some(window.from_time);
        assert_eq!(
            in_window(&window, false, now),
            format!("{text}, and any moment between")
        );
        window.every_point_from = Some(revision(321));
        window.every_point_from_time = Some(at("2026-11-20T11:58:00Z"));
        let told = in_window(&window, true, now);
        assert!(
            told.starts_with("6 backups of lineage 00000000000000ab-00000001, from")
                && told.ends_with(", and any moment of the last 2 min (from revision 321 on)"),
            "{told}"
        );
    }

    #[test]
    fn what_is_captured_is_told_by_the_newer_of_agent_and_destinations() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let revision = |number: i64| Revision::new(number).unwrap();
        let now = at("2026-11-20T12:00:00Z");
        let mut lane = LaneState {
            capturing: Capturing::Writing,
            captured_to: Some(revision(101)),
            whole_at: Some(at("2026-11-20T11:59:46Z")),
            every_ms: 10_000,
            ..LaneState::default()
        };
        let mut window = Window {
            lineage: "00000000000000ab-00000001".parse().unwrap(),
            accepted: true,
            points: 1,
            from_revision: revision(90),
            to_revision: revision(106),
            from_time: at("2026-11-20T11:48:00Z"),
            to_time: at("2026-11-20T11:59:57Z"),
            every_point_from: None,
            every_point_from_time: None,
        };
        assert_eq!(captured(&lane, &[], now), "captured up to revision 101, 14 s ago");
        assert_eq!(
            captured(&lane, std::slice::from_ref(&window), now),
            "captured up to revision 106, 3 s ago"
        );
        window.accepted = false;
        assert_eq!(captured(&lane, &[window], now), "captured up to revision 101, 14 s ago");
        lane.capturing = Capturing::StandingBy;
        assert_eq!(captured(&lane, &[], now), "captured by another host");
        lane.writer = Some("h2".to_owned());
        assert_eq!(captured(&lane, &[], now), "captured by host h2");
        lane.behind_since = Some(at("2026-11-20T11:59:00Z"));
        assert!(captured(&lane, &[], now).starts_with("not captured: host h2 is to do it"));
    }

    #[test]
    fn how_far_a_destination_is_behind_is_told_in_few_words() {
        let mut state = BehindState::default();
        assert_eq!(behind(&state), None);
        state.backups = 2;
        state.since = Some("2026-11-20T12:03:04.5Z".parse().unwrap());
        state.oldest = Some(OwedBackup {
            id: "20261120T100012Z-00000001".parse().unwrap(),
            slot: "2026-11-20T10:00:00Z".parse().unwrap(),
            from: "local".to_owned(),
        });
        assert_eq!(
            behind(&state).unwrap(),
            "2 backups behind, oldest 2026-11-20T10:00Z, behind since 2026-11-20T12:03:04Z"
        );
        state.backups = 1;
        state.oldest.as_mut().unwrap().slot = "2026-11-20T10:00:30Z".parse().unwrap();
        assert!(
            behind(&state)
                .unwrap()
                .starts_with("1 backup behind, oldest 2026-11-20T10:00:30Z,")
        );
    }

    #[test]
    fn the_next_run_is_told_with_its_reason() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let mut state = ScheduleState {
            name: "hourly".to_owned(),
            kind: "full".to_owned(),
            when: "hourly".to_owned(),
            jitter_seconds: 252,
            next: Some(NextRun {
                slot: at("2026-11-20T11:00:00Z"),
                at: at("2026-11-20T11:04:12Z"),
                is_catch_up: false,
            }),
            late: None,
            ahead: None,
            failure: None,
            waits: Vec::new(),
            missing: Vec::new(),
            last: None,
            destinations: Vec::new(),
        };
        let now = at("2026-11-20T11:00:30Z");
        assert_eq!(
            next_run(&state, now),
            "next run 2026-11-20T11:04:12Z (hourly, 4 m 12 s after each slot on this host)"
        );
        state.jitter_seconds = 0;
        let later = at("2026-11-20T11:04:12Z");
        assert_eq!(next_run(&state, later), "due now (hourly)");
        state.next.as_mut().unwrap().is_catch_up = true;
        assert_eq!(
            next_run(&state, later),
            "due now, to catch up slot 2026-11-20T11:00:00Z (hourly)"
        );
        state.next = None;
        assert!(next_run(&state, later).starts_with("no next run: `hourly`"));
    }
}
