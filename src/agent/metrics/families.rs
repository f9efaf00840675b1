//! The metrics as text, from the agent's report: as a scrape gets them, as the textfile has them, as `lifeboat metrics`
//! prints them.
//!
//! Those of capture and its spool are in `deltas`.
//!
//! What there is to tell of destinations and schedules is counted by `health` (`stores`, `schedules`) and is in the report.
//!
//! Pure, and made from what the agent last computed: no store and no member is asked. Every instant is a Unix time, 0 for
//! what has never been, so that an alert can tell "never" from "long ago" and nothing is missing before the first backup.

mod deltas;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::super::status_file::Report;
use crate::health::{Event, LaneState, StoresState};

/// Which of the two text formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Flavour {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Flavour::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Flavour::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family of samples measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Gauge,
    Counter,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// What is measured.
    pub name: String,
    /// Of what.
    pub labels: BTreeMap<String, String>,
    /// How much.
    pub value: serde_json::Number,
}

/// The text being written.
struct Page {
    text: String,
    samples: Vec<Sample>,
    flavour: Flavour,
}

/// One family of samples that is being written.
struct Family<'p> {
    page: &'p mut Page,
    /// With `_total`, where it counts.
    name: String,
}

impl Page {
    fn family(&mut self, name: &str, sort: Sort, help: &str) -> Family<'_> {
        let sample = match sort {
            Sort::Gauge => format!("lifeboat_{name}"),
            Sort::Counter => format!("lifeboat_{name}_total"),
        };
        // OpenMetrics names a counter without the ending that its samples have.
        let described = match (self.flavour, sort) {
            (Flavour::OpenMetrics, Sort::Counter) => format!("lifeboat_{name}"),
            (Flavour::OpenMetrics | Flavour::Prometheus, _) => sample.clone(),
        };
        let word = match sort {
            Sort::Gauge => "gauge",
            Sort::Counter => "counter",
        };
        writeln!(self.text, "# HELP {described} {help}\n# TYPE {described} {word}").ok();
        Family {
            page: self,
            name: sample,
        }
    }

    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, Sort::Gauge, help)
    }

    fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, Sort::Counter, help)
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) -> &mut Self {
        let text = &mut self.page.text;
        text.push_str(&self.name);
        let mut before = '{';
        for (name, value) in labels {
            write!(text, "{before}{name}=\"{}\"", escaped(value)).ok();
            before = ',';
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let value = value.to_string();
        writeln!(text, " {value}").ok();
        self.page.samples.extend(serde_json::from_str(&value).ok().map(|value| {
            Sample {
                name: self.name.clone(),
                labels: labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                value,
            }
        }));
        self
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn unix(instant: Option<Timestamp>) -> String {
    instant.map_or("0".to_owned(), |instant| seconds(instant.as_millisecond()))
}

fn seconds(millis: i64) -> String {
    let (whole, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{rest:03}"),
    }
}

fn flag(is: bool) -> u8 {
    u8::from(is)
}

/// All metrics by the last `report`, as text; `is_up` says whether the agent runs.
pub fn render(report: Option<&Report>, is_up: bool, now: Timestamp, flavour: Flavour) -> String {
    page(report, is_up, now, flavour).text
}

/// The same for programs that read JSON.
pub fn samples(report: Option<&Report>, is_up: bool, now: Timestamp) -> Vec<Sample> {
    page(report, is_up, now, Flavour::Prometheus).samples
}

fn page(report: Option<&Report>, is_up: bool, now: Timestamp, flavour: Flavour) -> Page {
    let mut page = Page {
        text: String::with_capacity(16 << 10),
        samples: Vec::new(),
        flavour,
    };
    page.gauge("build_info", "The version that runs; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("agent_up", "Whether the agent runs on this host.")
        .sample(&[], flag(is_up));
    if let Some(report) = report {
        agent(&mut page, report, is_up, now);
        schedules(&mut page, report);
        last_backups(&mut page, report);
        destinations(&mut page, report);
        windows(&mut page, report.stores.as_ref(), &report.deltas);
        deltas::families(&mut page, &report.deltas, now);
        certificates(&mut page, report);
    }
    if flavour == Flavour::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page
}

fn agent(page: &mut Page, report: &Report, is_up: bool, now: Timestamp) {
    page.gauge("agent_start_timestamp_seconds", "When the agent began.")
        .sample(&[], unix(Some(report.started_at)));
    page.gauge("report_timestamp_seconds", "When the agent last judged how things are.")
        .sample(&[], unix(Some(report.written_at)));
    page.gauge(
        "configuration_last_reload_successful",
        "Whether the configuration that is there is the one in force.",
    )
    .sample(&[], flag(report.configuration_error.is_none()));
    page.gauge(
        "configuration_last_reload_success_timestamp_seconds",
        "When the configuration in force was taken over.",
    )
    .sample(&[], unix(Some(report.configured_at)));
    let verdict = report.verdict(now, is_up);
    page.gauge(
        "healthy",
        "Whether nothing is wrong, as `lifeboat status` says without its look at the members.",
    )
    .sample(&[], flag(verdict.problems.is_empty()));
    let mut problems = page.gauge("problems", "How much is wrong, by what it is: see docs/watching.md.");
    // No member is asked, so nothing is known of them.
    for event in Event::problems().filter(|event| *event != Event::MemberUnwell) {
        let count = verdict.problems.iter().filter(|problem| problem.event == event).count() as u64;
        let more = match event {
            Event::BackupUnproven => report.more_unproven,
            _ => 0,
        };
        problems.sample(&[("event", event.name())], count + more);
    }
    let mut running = page.gauge("job_running", "Whether a job of the schedule runs.");
    for schedule in &report.schedules {
        let runs = report.running.as_ref().is_some_and(|job| job.schedule == schedule.name);
        running.sample(&[("schedule", &schedule.name)], flag(runs));
    }
}

fn schedules(page: &mut Page, report: &Report) {
    let schedules = &report.schedules;
    let mut info = page.gauge("schedule_info", "The schedules; always 1.");
    for schedule in schedules {
        let labels = [
            ("schedule", &*schedule.name),
            ("kind", &schedule.kind),
            ("when", &schedule.when),
        ];
        info.sample(&labels, 1);
    }
    let mut next = page.gauge(
        "schedule_next_run_timestamp_seconds",
        "When the schedule runs next; 0 if never.",
    );
    for schedule in schedules {
        let at = schedule.next.as_ref().map(|next| next.at);
        next.sample(&[("schedule", &schedule.name)], unix(at));
    }
    let mut late = page.gauge(
        "schedule_late",
        "Whether the work of a slot is not done though its time is over.",
    );
    for schedule in schedules {
        let is_late = schedule.late.is_some() || schedule.ahead.is_some();
        late.sample(&[("schedule", &schedule.name)], flag(is_late));
    }
    let mut failing = page.gauge(
        "schedule_failures_in_a_row",
        "How often the present slot was tried in vain.",
    );
    for schedule in schedules {
        let attempts = schedule.failure.as_ref().map_or(0, |failure| failure.attempts);
        failing.sample(&[("schedule", &schedule.name)], attempts);
    }
    let pairs: Vec<_> = schedules
        .iter()
        .flat_map(|schedule| {
            let destinations = schedule.destinations.iter();
            destinations.map(move |destination| {
                let of_schedule = report.log.runs.get(&schedule.name);
                let runs = of_schedule.and_then(|runs| runs.get(destination)).cloned();
                // What was done before there was a log of it.
                let copies = schedule.last.iter().flat_map(|last| {
                    let copies = last.copies.iter().map(move |copy| (last.at, copy));
                    copies.filter(|(_, copy)| copy.destination == *destination)
                });
                let remembered = copies.clone().map(|(at, _)| at).max();
                let own = copies
                    .filter(|(_, copy)| copy.host == report.host)
                    .map(|(at, _)| at)
                    .max();
                (schedule, destination, runs.unwrap_or_default(), remembered, own)
            })
        })
        .collect();
    let mut success = page.gauge(
        "schedule_last_success_timestamp_seconds",
        "When the work of a slot was last seen to be done, whichever host did it; 0 if never.",
    );
    for (schedule, destination, runs, remembered, _) in &pairs {
        let labels = [("schedule", &*schedule.name), ("destination", destination)];
        success.sample(&labels, unix(runs.last_success.max(*remembered)));
    }
    let mut attempt = page.gauge(
        "schedule_last_attempt_timestamp_seconds",
        "When this host last tried; 0 if never.",
    );
    for (schedule, destination, runs, _, own) in &pairs {
        let labels = [("schedule", &*schedule.name), ("destination", destination)];
        attempt.sample(&labels, unix(runs.last_attempt.max(*own)));
    }
    let mut attempts = page.counter("schedule_attempts", "How often this host has tried.");
    for (schedule, destination, runs, ..) in &pairs {
        attempts.sample(
            &[("schedule", &*schedule.name), ("destination", destination)],
            runs.attempts,
        );
    }
    let mut failures = page.counter("schedule_failures", "How often that failed.");
    for (schedule, destination, runs, ..) in &pairs {
        failures.sample(
            &[("schedule", &*schedule.name), ("destination", destination)],
            runs.failures,
        );
    }
}

fn last_backups(page: &mut Page, report: &Report) {
    let full = || report.schedules.iter().filter(|schedule| schedule.kind == "full");
    let of = |name: &str| report.log.backups.get(name).cloned().unwrap_or_default();
    let mut bytes = page.gauge(
        "last_backup_size_bytes",
        "The size of the snapshot in the last backup that this host took.",
    );
    for schedule in full() {
        bytes.sample(&[("schedule", &schedule.name)], of(&schedule.name).bytes);
    }
    let mut stored = page.gauge("last_backup_stored_bytes", "Its size as it is stored.");
    for schedule in full() {
        stored.sample(&[("schedule", &schedule.name)], of(&schedule.name).stored_bytes);
    }
    let mut took = page.gauge("last_backup_duration_seconds", "How long each part of it took.");
    for schedule in full() {
        for phase in PHASES {
            let millis = of(&schedule.name).phases.get(phase).copied().unwrap_or(0);
            let labels = [("schedule", &*schedule.name), ("phase", phase)];
            took.sample(&labels, seconds(i64::try_from(millis).unwrap_or(i64::MAX)));
        }
    }
}

/// The parts of a backup, in their order.
const PHASES: [&str; 4] = ["prepare", "transfer", "prove", "retention"];

fn destinations(page: &mut Page, report: &Report) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    names.extend(
        report
            .schedules
            .iter()
            .flat_map(|schedule| &schedule.destinations)
            .map(String::as_str),
    );
    let found = || report.stores.iter().flat_map(|stores| &stores.destinations);
    names.extend(found().map(|found| found.name.as_str()));
    let of = |name: &str| found().find(|found| found.name == name);
    page.gauge(
        "destinations_read_timestamp_seconds",
        "When the destinations were last looked at; 0 if not yet.",
    )
    .sample(&[], unix(report.stores.as_ref().map(|stores| stores.read_at)));
    let mut each = |name: &str, help: &str, value: &dyn Fn(&crate::health::DestinationState) -> Option<String>| {
        let mut family = page.gauge(name, help);
        for destination in &names {
            let sample = match of(destination) {
                Some(found) => value(found),
                None => Some("0".to_owned()),
            };
            if let Some(sample) = sample {
                family.sample(&[("destination", destination)], sample);
            }
        }
    };
    each(
        "destination_readable",
        "Whether all of the destination could be read.",
        &|found| Some(flag(found.is_readable).to_string()),
    );
    each("destination_backups", "How many backups are in it.", &|found| {
        Some(found.backups.to_string())
    });
    each("destination_bad_backups", "How many of them are not good.", &|found| {
        Some(found.bad.to_string())
    });
    each(
        "destination_stored_bytes",
        "The size of all backups in it, as they are stored.",
        &|found| Some(found.stored_bytes.to_string()),
    );
    each(
        "destination_newest_backup_timestamp_seconds",
        "When its newest good backup was taken; 0 if there is none.",
        &|found| Some(unix(found.newest.as_ref().map(|newest| newest.taken_at))),
    );
    each(
        "destination_newest_backup_size_bytes",
        "The size of the snapshot in it.",
        &|found| Some(found.newest.as_ref().map_or(0, |newest| newest.bytes).to_string()),
    );
    each(
        "destination_newest_backup_stored_bytes",
        "Its size as it is stored.",
        &|found| {
            Some(
                found
                    .newest
                    .as_ref()
                    .map_or(0, |newest| newest.stored_bytes)
                    .to_string(),
            )
        },
    );
    each(
        "destination_newest_proven_backup_timestamp_seconds",
        "When its newest backup was taken that is proven as far as `backup.require` wants; 0 if there is none.",
        &|found| Some(unix(found.newest_proven)),
    );
    each(
        "destination_behind_backups",
        "How many backups it lacks that a schedule owes to it and another destination has.",
        &|found| Some(found.behind.as_ref().map_or(0, |behind| behind.backups).to_string()),
    );
    each(
        "destination_behind_since_timestamp_seconds",
        "Since when it lacks any; 0 if it lacks none.",
        &|found| Some(unix(found.behind.as_ref().and_then(|behind| behind.since))),
    );
    // Not every store says it, and 0 would be an alarm.
    each("destination_free_bytes", "What can still be written to it.", &|found| {
        found.free_bytes.map(|bytes| bytes.to_string())
    });
    each(
        "destination_credentials_expiry_timestamp_seconds",
        "When what proves to it who asks runs out, where that says so itself.",
        &|found| found.credentials_expire_at.map(|end| unix(Some(end))),
    );
    each("destination_size_bytes", "How large it is.", &|found| {
        found.total_bytes.map(|bytes| bytes.to_string())
    });
    let retained = |name: &str| report.log.retention.get(name).cloned().unwrap_or_default();
    let mut kept = page.gauge(
        "retention_kept_backups",
        "How many backups retention kept the last time.",
    );
    for destination in &names {
        kept.sample(&[("destination", destination)], retained(destination).kept);
    }
    let mut removed = page.counter("retention_removed_backups", "How many backups retention has removed.");
    for destination in &names {
        removed.sample(&[("destination", destination)], retained(destination).removed);
    }
}

/// The window of the accepted history, and its end by now: changes that were stored since the destinations were read move it.
fn windows(page: &mut Page, stores: Option<&StoresState>, lanes: &[LaneState]) {
    let mut windows = stores.iter().flat_map(|stores| &stores.windows);
    let accepted = windows.find(|window| window.accepted);
    let newest = stores
        .and_then(|stores| stores.latest.as_ref())
        .map(|latest| &latest.id);
    let end = accepted.map(|window| window.end_by_now(newest, lanes));
    page.gauge(
        "window_start_timestamp_seconds",
        "When the oldest point that can be restored was taken; 0 if there is none.",
    )
    .sample(&[], unix(accepted.map(|window| window.from_time)));
    page.gauge("window_end_timestamp_seconds", "When the newest was.")
        .sample(&[], unix(end.map(|(_, time)| time)));
    page.gauge("window_start_revision", "The revision of the oldest point.")
        .sample(&[], accepted.map_or(0, |window| window.from_revision.get()));
    page.gauge("window_end_revision", "The revision of the newest.")
        .sample(&[], end.map_or(0, |(revision, _)| revision.get()));
    let proof = stores.and_then(|stores| stores.last_proof.as_ref());
    page.gauge(
        "last_proof_timestamp_seconds",
        "When a backup was last proven, as it was taken or read back since; 0 if never.",
    )
    .sample(&[], unix(proof.map(|proof| proof.checked_at)));
    page.gauge(
        "last_proven_backup_timestamp_seconds",
        "When that backup was taken; 0 if none was proven.",
    )
    .sample(&[], unix(proof.map(|proof| proof.taken_at)));
}

fn certificates(page: &mut Page, report: &Report) {
    let mut expiry = page.gauge(
        "certificate_expiry_timestamp_seconds",
        "When the first certificate of a file that the configuration names expires.",
    );
    for certificate in report.stores.iter().flat_map(|stores| &stores.certificates) {
        expiry.sample(&[("key", &certificate.key)], unix(Some(certificate.expires_at)));
    }
}
