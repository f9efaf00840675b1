//! The document for people: labels at the left, on a terminal no line longer than that is wide.

use std::time::Duration;

use jiff::Timestamp;

use crate::health::{BehindState, Copy, Notice, ProofState, ScheduleState, Window};
use crate::model::ByteSize;
use crate::schedule::Span;
use crate::status::{DestinationRow, Status};
use crate::terminal::{Output, Style, Table, columns, typed};
use crate::text::{age, brief, clean, count};

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
    restorable(&page, &document.windows, document.now);
    proof(&page, document.last_proof.as_ref(), document.now);
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

/// Lines of at most `columns` characters, unless a word is longer.
fn wrap(first: &str, text: &str, columns: usize) -> Vec<String> {
    // Where the text itself is indented, so is the rest of it.
    let own = text.chars().take_while(|character| *character == ' ').count();
    let indent = " ".repeat(first.chars().count() + own);
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut is_begun = false;
    for word in words(text) {
        let length = line.chars().count() + usize::from(is_begun) + word.chars().count();
        if is_begun && length > columns {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(&word);
        is_begun = true;
    }
    lines.push(line);
    lines
}

/// The words of a text; a command between backticks is one of them.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split(' ') {
        match words.last_mut().filter(|_| is_open) {
            Some(last) => {
                last.push(' ');
                last.push_str(word);
            }
            None => words.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

fn restorable(page: &Page<'_>, windows: &[Window], now: Timestamp) {
    let mut label = "restorable";
    for window in windows {
        let of = match windows.len() {
            1 => String::new(),
            _ => format!(" of lineage {}", window.lineage),
        };
        let points = count(window.points, "point");
        let (to, newest) = (window.to_revision, age(window.to_time, now));
        let text = match window.points {
            1 => format!("{points}{of}: {newest} old (revision {to})"),
            _ => format!(
                "{points}{of}: newest {newest} old (revision {to}), oldest {} old (revision {})",
                age(window.from_time, now),
                window.from_revision
            ),
        };
        let every = window.every_point_from.zip(window.every_point_from_time);
        let text = match every {
            Some((revision, time)) => format!("{text}; every point back to {} (revision {revision})", age(time, now)),
            None => text,
        };
        page.field(label, &text);
        label = "";
    }
    if windows.is_empty() {
        page.field(label, "nothing");
    }
}

fn proof(page: &Page<'_>, last: Option<&ProofState>, now: Timestamp) {
    let text = match last {
        Some(last) => format!(
            "{} is {}, proven {} ago",
            last.id,
            last.proof,
            age(last.checked_at, now)
        ),
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
        seconds => format!(", {} after each slot on this host", Span(Duration::from_secs(seconds))),
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

    #[test]
    fn long_texts_go_on_under_their_beginning() {
        assert_eq!(wrap("a  ", "bb cc dd", 8), ["a  bb cc", "   dd"]);
        assert_eq!(wrap("", "bb cc", 80), ["bb cc"]);
        assert_eq!(wrap("a ", "averylongword b", 5), ["a averylongword", "  b"]);
        assert_eq!(
            wrap("", "do `a b c`, d e", 8),
            ["do", "`a b c`,", "d e"],
            "a command can be copied"
        );
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
