//! The metrics: what an agent serves, writes and prints, in the judgement of Prometheus' own tool; and the alert rules, each
//! on its fault and none on what is no fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::prometheus::Prometheus;
use super::support::running::until;
use super::support::tools::{Version, debian};

const RULES: &str = "packaging/prometheus/lifeboat.rules.yml";
const ONCE: &str = "[schedules.rarely]\nkind = \"full\"\nevery = \"8000h\"\n";
const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"1s\"\n";
const OFTEN: &str = "[schedules.rarely]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";

/// The values of an exposition, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    samples.collect()
}

fn request(mut stream: impl Read + Write, accept: &str) -> String {
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

/// What `promtool check metrics` says of an exposition; nothing is good.
fn checked(promtool: &Path, text: &str) -> String {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    format!(
        "{}{}{}",
        said[0],
        said[1],
        if output.status.success() { "" } else { "failed" }
    )
}

#[test]
fn an_agent_serves_writes_and_prints_the_same_and_all_of_it_before_the_first_backup() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let textfile = host.path("lifeboat.prom");
    let metrics = format!("[metrics]\nlisten = \"{port}\"\ntextfile = {textfile:?}\n");
    host.configure(&etcd, &format!("{ONCE}{metrics}"));
    let agent = host.start(["agent"]);
    let scrape = || request(TcpStream::connect(port).unwrap(), "text/plain");
    until("the first look at the destinations", || {
        TcpStream::connect(port).is_ok() && samples(&scrape())["lifeboat_destinations_read_timestamp_seconds"] > 0.0
    });
    let before = scrape();
    let values = samples(&before);
    assert_eq!(values["lifeboat_agent_up"], 1.0);
    assert_eq!(values["lifeboat_problems{event=\"no-backup\"}"], 1.0);
    assert_eq!(values["lifeboat_schedule_late{schedule=\"rarely\"}"], 0.0);
    assert_eq!(
        values["lifeboat_schedule_last_success_timestamp_seconds{schedule=\"rarely\",destination=\"local\"}"],
        0.0
    );
    assert_eq!(values["lifeboat_window_end_timestamp_seconds"], 0.0);

    host.configure(&etcd, &format!("{OFTEN}{metrics}"));
    let taken = "lifeboat_destination_backups{destination=\"local\"}";
    until("a backup that was looked at", || {
        let now = samples(&scrape());
        now.get(taken).is_some_and(|taken| *taken > 0.0) && now["lifeboat_window_end_timestamp_seconds"] > 0.0
    });
    let after = scrape();
    let values = samples(&after);
    // The same with other values, but for the room of a store, which was not there.
    let names = |text: &str| {
        let is_fixed = |name: &String| {
            let varies = ["when=", "destination_free_bytes", "destination_size_bytes"];
            !varies.iter().any(|part| name.contains(part))
        };
        samples(text).into_keys().filter(is_fixed).collect::<Vec<_>>()
    };
    assert_eq!(names(&before), names(&after));
    for positive in [
        "lifeboat_healthy",
        "lifeboat_schedule_attempts_total{schedule=\"rarely\",destination=\"local\"}",
        "lifeboat_last_backup_size_bytes{schedule=\"rarely\"}",
        "lifeboat_last_backup_duration_seconds{schedule=\"rarely\",phase=\"transfer\"}",
        "lifeboat_destination_newest_backup_timestamp_seconds{destination=\"local\"}",
        "lifeboat_destination_newest_proven_backup_timestamp_seconds{destination=\"local\"}",
        "lifeboat_destination_free_bytes{destination=\"local\"}",
        "lifeboat_window_start_timestamp_seconds",
        "lifeboat_window_end_revision",
    ] {
        assert!(values[positive] > 0.0, "{positive}:\n{after}");
    }
    until("the textfile", || {
        fs::read_to_string(&textfile).is_ok_and(|text| samples(&text).get(taken).is_some_and(|taken| *taken > 0.0))
    });
    let printed = host.lifeboat(["metrics"]).expect_code(0).stdout;
    assert_eq!(names(&printed), names(&after));
    let json = host.lifeboat(["--json", "metrics"]).expect_code(0).json();
    assert_eq!(json["metrics"].as_array().map(Vec::len), Some(samples(&after).len()));

    let open = request(
        TcpStream::connect(port).unwrap(),
        "application/openmetrics-text; version=1.0.0",
    );
    assert!(
        open.ends_with("# EOF\n") && open.contains("# TYPE lifeboat_schedule_attempts counter"),
        "{open}"
    );
    // What a scrape costs, connection and all; most of it is the machine's doing where it is busy.
    let mut costs: Vec<Duration> = (0..50)
        .map(|_| {
            let begun = Instant::now();
            scrape();
            begun.elapsed()
        })
        .collect();
    costs.sort_unstable();
    assert!(
        costs[25] < Duration::from_millis(100),
        "half of the scrapes took {:?}",
        costs[25]
    );

    agent.signal("TERM");
    agent.wait().expect_code(0);
    let stopped = samples(&host.lifeboat(["metrics"]).expect_code(0).stdout);
    assert_eq!(stopped["lifeboat_agent_up"], 0.0);
    for page in [RULES, "packaging/grafana/lifeboat.json"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let names = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        for name in names.filter(|name| name.starts_with("lifeboat_")) {
            // Only with TLS.
            let is_there = after.contains(&format!("# TYPE {name} ")) || name.starts_with("lifeboat_certificate_");
            assert!(is_there, "{page}: there is no {name}");
        }
    }
    let Some(promtool) = debian("promtool") else { return };
    for text in [&before, &after, &printed] {
        assert_eq!(checked(&promtool, text), "", "{text}");
    }
}

/// Where nothing is wrong these have no rows; with them, the dashboard tells what is.
const OF_FAULTS: [&str; 3] = [
    "lifeboat_problems",
    "lifeboat_destination_bad_backups",
    "increase(lifeboat_deltas_gaps_total",
];

#[test]
fn a_prometheus_finds_data_for_all_of_the_dashboard_and_nothing_to_alert_of() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let page = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let host = Host::new(&etcd);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "[schedules.proof]\nkind = \"verify\"\nevery = \"3s\"\njitter = \"0s\"\n\
         [destinations.local.retention]\nkeep_last = 2\n[metrics]\nlisten = \"{address}\"\n{DELTAS}"
    );
    host.configure(&etcd, &format!("{OFTEN}{more}"));
    let agent = host.start(["agent"]);
    until("the agent to listen", || TcpStream::connect(address).is_ok());
    let Some(prometheus) = Prometheus::start(address, &page(RULES)) else {
        return;
    };
    let healthy = || prometheus.asked("lifeboat_healthy == 1 and lifeboat_window_end_revision > 0");
    until("a healthy host", || !healthy().is_empty());
    let dashboard = fs::read_to_string(page("packaging/grafana/lifeboat.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = 0;
    for (title, target) in panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap(), target))
    }) {
        let expression = target["expr"].as_str().unwrap().replace("$instance", ".*");
        // The certificates are those of a cluster with TLS.
        if expression.contains("lifeboat_certificate_") {
            continue;
        }
        let is_of_fault = OF_FAULTS.iter().any(|name| expression.starts_with(name));
        // An increase needs to be seen twice.
        until(title, || prometheus.asked(&expression).is_empty() == is_of_fault);
        asked += 1;
    }
    assert!(asked >= 20, "{asked} expressions");
    captures(&etcd, &prometheus);
    assert_eq!(prometheus.alerts(), [""; 0]);
    agent.signal("TERM");
    agent.wait().expect_code(0);
    until("the agent to be missed", || {
        prometheus.alerts().contains(&"LifeboatDown".to_owned())
    });
}

/// That what is captured is measured.
fn captures(etcd: &Etcd, prometheus: &Prometheus) {
    let written = etcd.client().put("/measured", "x", 0).unwrap();
    let at_least = [
        ("lifeboat_deltas_captured_revision{lane=\"own\"}", written as f64),
        ("lifeboat_deltas_writing", 1.0),
        ("lifeboat_deltas_epoch", 1.0),
        ("lifeboat_deltas_puts_total{destination=\"local\"}", 1.0),
        ("lifeboat_deltas_put_bytes_total", 100.0),
        (
            "lifeboat_deltas_destination_revision{destination=\"local\"}",
            written as f64,
        ),
        ("time() - lifeboat_deltas_destination_last_put_timestamp_seconds", 0.0),
        ("lifeboat_deltas_whole_timestamp_seconds", 1.0),
        ("lifeboat_deltas_last_flush_timestamp_seconds", 1.0),
        ("lifeboat_deltas_late_after_seconds", 30.0),
        ("lifeboat_deltas_spool_limit_bytes", 1.0),
    ];
    for (expression, least) in at_least {
        until(expression, || {
            !prometheus.asked(&format!("{expression} >= {least}")).is_empty()
        });
    }
    for at_rest in [
        "lifeboat_deltas_lag_seconds",
        "lifeboat_deltas_lag_revisions",
        "lifeboat_deltas_spool_bytes",
    ] {
        until(at_rest, || !prometheus.asked(&format!("{at_rest} == 0")).is_empty());
    }
}

#[test]
fn a_socket_serves_too_and_what_cannot_be_served_or_written_is_told_and_hinders_nothing() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!(
        "[metrics]\nlisten = \"{}\"\ntextfile = \"/nowhere/lifeboat.prom\"\n",
        taken.local_addr().unwrap()
    );
    host.configure(&etcd, &format!("{OFTEN}{metrics}"));
    let agent = host.start(["agent"]);
    until("a backup", || {
        let listed = host.lifeboat(["--json", "list"]).json();
        listed["backups"].as_array().is_some_and(|backups| !backups.is_empty())
    });
    until("both to be told", || {
        let told = host.lifeboat(["--json", "status"]).stdout;
        told.contains("metrics are not served at") && told.contains("metrics are not written to /nowhere/lifeboat.prom")
    });
    let socket = host.path("metrics.socket");
    host.configure(&etcd, &format!("{OFTEN}[metrics]\nlisten = {socket:?}\n"));
    until("the socket", || socket.exists());
    let text = request(UnixStream::connect(&socket).unwrap(), "*/*");
    assert_eq!(samples(&text)["lifeboat_agent_up"], 1.0);
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    for told in [
        "metrics are not served at",
        "metrics are not written to /nowhere/lifeboat.prom",
    ] {
        assert_eq!(said.matches(told).count(), 1, "{told}: {said}");
    }
    assert!(!socket.exists());
}

/// Series with other values than those of a host that is well.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// What Prometheus has scraped of a host that is well, a value a minute for two days; `changes` are other values, by the
/// beginning of the series.
fn series(job: &str, changes: Changes<'_>) -> String {
    const WELL: [(&str, &str); 30] = [
        ("up{", "1x2880"),
        ("lifeboat_agent_up{", "1x2880"),
        ("lifeboat_report_timestamp_seconds{", "0+60x2880"),
        ("lifeboat_healthy{", "1x2880"),
        ("lifeboat_schedule_late{schedule=\"hourly\",", "0x2880"),
        ("lifeboat_schedule_failures_in_a_row{schedule=\"hourly\",", "0x2880"),
        (
            "lifeboat_schedule_last_success_timestamp_seconds{schedule=\"hourly\",",
            "0x2880",
        ),
        (
            "lifeboat_schedule_last_attempt_timestamp_seconds{schedule=\"hourly\",",
            "0x2880",
        ),
        ("lifeboat_schedule_attempts_total{schedule=\"hourly\",", "0x2880"),
        ("lifeboat_configuration_last_reload_successful{", "1x2880"),
        ("lifeboat_destination_free_bytes{destination=\"local\",", "1000000x2880"),
        (
            "lifeboat_destination_newest_backup_stored_bytes{destination=\"local\",",
            "1000x2880",
        ),
        (
            "lifeboat_certificate_expiry_timestamp_seconds{key=\"cluster.tls.cert\",",
            "31536000x2880",
        ),
        ("lifeboat_problems{event=\"no-backup\",", "0x2880"),
        ("lifeboat_problems{event=\"backup-unproven\",", "0x2880"),
        ("lifeboat_problems{event=\"backup-incomplete\",", "0x2880"),
        ("lifeboat_problems{event=\"new-lineage\",", "0x2880"),
        ("lifeboat_problems{event=\"destination-disabled\",", "0x2880"),
        ("lifeboat_problems{event=\"destination-behind\",", "0x2880"),
        ("lifeboat_problems{event=\"deltas-behind\",", "0x2880"),
        ("lifeboat_problems{event=\"recipients-changed\",", "0x2880"),
        ("lifeboat_deltas_etcd_silent{lane=\"own\",", "0x2880"),
        ("lifeboat_deltas_lag_seconds{lane=\"own\",", "0x2880"),
        ("lifeboat_deltas_late_after_seconds{lane=\"own\",", "50x2880"),
        ("lifeboat_deltas_spool_bytes{lane=\"own\",", "0x2880"),
        ("lifeboat_deltas_spool_limit_bytes{lane=\"own\",", "1000x2880"),
        (
            "lifeboat_deltas_gaps_total{lane=\"own\",reason=\"compacted\",",
            "0x2880",
        ),
        ("lifeboat_deltas_gaps_total{lane=\"own\",reason=\"restored\",", "0x2880"),
        ("lifeboat_destination_behind_backups{destination=\"far\",", "0x2880"),
        (
            "lifeboat_destination_behind_since_timestamp_seconds{destination=\"far\",",
            "0x2880",
        ),
    ];
    let mut text = String::new();
    for (changed, _) in changes {
        assert!(WELL.iter().any(|(name, _)| name == changed), "{changed}");
    }
    for (name, values) in WELL {
        let change = changes.iter().find(|(changed, _)| *changed == name);
        let values = change.map_or(values, |(_, values)| values);
        writeln!(
            text,
            "      - {{ series: '{name}job=\"{job}\",instance=\"h1\"}}', values: '{values}' }}"
        )
        .unwrap();
    }
    text
}

/// A test of the rules: at each of these times, exactly these alerts fire.
fn rule_test(name: &str, changes: Changes<'_>, fires: &[(&str, Option<&str>)]) -> String {
    rule_test_of("lifeboat", name, changes, fires)
}

/// The same of what this job has scraped.
fn rule_test_of(job: &str, name: &str, changes: Changes<'_>, fires: &[(&str, Option<&str>)]) -> String {
    let mut text = format!(
        "  - name: {name}\n    interval: 1m\n    input_series:\n{}",
        series(job, changes)
    );
    text.push_str("    promql_expr_test:\n");
    for (at, alert) in fires {
        let expected = match alert {
            Some(alert) => format!("[{{ labels: '{{alertname=\"{alert}\"}}', value: 1 }}]"),
            None => "[]".to_owned(),
        };
        writeln!(
            text,
            "      - expr: count by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: {at}\n        \
             exp_samples: {expected}"
        )
        .unwrap();
    }
    text
}

fn quiet(at: [&'static str; 4]) -> [(&'static str, Option<&'static str>); 4] {
    at.map(|at| (at, None))
}

#[test]
fn each_alert_fires_on_its_fault_and_none_on_what_is_no_fault() {
    let Some(promtool) = debian("promtool") else { return };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(RULES);
    let late = "lifeboat_schedule_late{schedule=\"hourly\",";
    let fails = "lifeboat_schedule_failures_in_a_row{schedule=\"hourly\",";
    let free = "lifeboat_destination_free_bytes{destination=\"local\",";
    let expiry = "lifeboat_certificate_expiry_timestamp_seconds{key=\"cluster.tls.cert\",";
    let stored = "lifeboat_destination_newest_backup_stored_bytes{destination=\"local\",";
    let success = "lifeboat_schedule_last_success_timestamp_seconds{schedule=\"hourly\",";
    let reload = "lifeboat_configuration_last_reload_successful{";
    let report = "lifeboat_report_timestamp_seconds{";
    let no_backup = "lifeboat_problems{event=\"no-backup\",";
    let mut tests = vec![
        rule_test("nothing changes for two days", &[], &quiet(["10m", "2h", "26h", "47h"])),
        rule_test(
            "other hosts take every slot of a shared store",
            &[(success, "0+60x2880")],
            &quiet(["10m", "2h", "26h", "47h"]),
        ),
        rule_test(
            "the agent has just begun, and the first slot is still to come",
            &[
                (no_backup, "1x60 0x2820"),
                ("lifeboat_healthy{", "0x50 1x2830"),
                (stored, "0x60 1000x2820"),
            ],
            &quiet(["10m", "55m", "2h", "26h"]),
        ),
        rule_test(
            "the host sleeps for eight hours, and catches up what it missed",
            &[
                ("up{", "1x60 _x480 1x600"),
                ("lifeboat_agent_up{", "1x60 _x480 1x600"),
                (report, "0+60x60 _x480 3600 32520+60x600"),
                ("lifeboat_healthy{", "1x60 _x480 0x10 1x590"),
                (late, "0x60 _x480 1x10 0x590"),
                (fails, "0x60 _x480 3x3 0x597"),
            ],
            &quiet(["50m", "545m", "550m", "560m"]),
        ),
        rule_test(
            "a destination that was away is caught up",
            &[
                (
                    "lifeboat_destination_behind_backups{destination=\"far\",",
                    "0x60 5x20 0x2800",
                ),
                (
                    "lifeboat_destination_behind_since_timestamp_seconds{destination=\"far\",",
                    "0x60 3600x20 0x2800",
                ),
            ],
            &quiet(["61m", "70m", "2h", "26h"]),
        ),
        rule_test(
            "the agent is restarted",
            &[
                ("up{", "1x60 0x2 1x600"),
                ("lifeboat_agent_up{", "1x60 _x2 1x600"),
                ("lifeboat_deltas_lag_seconds{lane=\"own\",", "0x60 _x2 40 0x600"),
                (
                    "lifeboat_deltas_gaps_total{lane=\"own\",reason=\"compacted\",",
                    "3x60 _x2 0x600",
                ),
            ],
            &quiet(["61m", "62m", "64m", "70m"]),
        ),
        rule_test(
            "a restore on the host has ended a chain",
            &[(
                "lifeboat_deltas_gaps_total{lane=\"own\",reason=\"restored\",",
                "0x60 1x600",
            )],
            &quiet(["61m", "62m", "64m", "70m"]),
        ),
    ];
    // From the sixty-first minute on: not at once, but soon.
    let faults: [(&str, Changes<'_>, &str, &str, &str); 19] = [
        (
            "the agent is gone",
            &[
                ("up{", "1x60 0x600"),
                ("lifeboat_agent_up{", "1x60 _x600"),
                (report, "0+60x60 _x600"),
            ],
            "64m",
            "70m",
            "LifeboatDown",
        ),
        (
            "no agent runs",
            &[("lifeboat_agent_up{", "1x60 0x600")],
            "64m",
            "70m",
            "LifeboatDown",
        ),
        (
            "a textfile stays as it was",
            &[(report, "0+60x60 3600x600")],
            "68m",
            "90m",
            "LifeboatSilent",
        ),
        (
            "a schedule is late",
            &[(late, "0x60 1x600")],
            "65m",
            "90m",
            "LifeboatScheduleLate",
        ),
        (
            "a schedule fails again and again",
            &[(fails, "0x60 1 2 3+1x600")],
            "65m",
            "90m",
            "LifeboatScheduleFails",
        ),
        (
            "a day without any backup",
            &[(no_backup, "1x2880")],
            "23h",
            "25h",
            "LifeboatNoBackup",
        ),
        (
            "a backup is not good",
            &[("lifeboat_problems{event=\"backup-unproven\",", "0x60 1x600")],
            "65m",
            "90m",
            "LifeboatBackupBad",
        ),
        (
            "a destination lacks the backup",
            &[("lifeboat_problems{event=\"backup-incomplete\",", "0x60 1x600")],
            "65m",
            "130m",
            "LifeboatBackupIncomplete",
        ),
        (
            "etcd was wiped",
            &[("lifeboat_problems{event=\"new-lineage\",", "0x60 1x600")],
            "62m",
            "70m",
            "LifeboatNewHistory",
        ),
        (
            "a destination is not mounted",
            &[("lifeboat_problems{event=\"destination-disabled\",", "0x60 1x600")],
            "65m",
            "90m",
            "LifeboatDestinationUnusable",
        ),
        (
            "a destination stays behind the others",
            &[("lifeboat_problems{event=\"destination-behind\",", "0x60 1x600")],
            "65m",
            "90m",
            "LifeboatDestinationBehind",
        ),
        (
            "changes are not captured for a while",
            &[("lifeboat_deltas_lag_seconds{lane=\"own\",", "0x60 30 60+60x600")],
            "61m",
            "65m",
            "LifeboatDeltasLate",
        ),
        (
            "changes are not captured at all",
            &[("lifeboat_problems{event=\"deltas-behind\",", "0x60 1x600")],
            "61m",
            "65m",
            "LifeboatDeltasBehind",
        ),
        (
            "the recipients have changed",
            &[("lifeboat_problems{event=\"recipients-changed\",", "0x60 1x600")],
            "60m",
            "64m",
            "LifeboatRecipientsChanged",
        ),
        (
            "the spool is nearly full",
            &[("lifeboat_deltas_spool_bytes{lane=\"own\",", "0x60 801x600")],
            "61m",
            "65m",
            "LifeboatDeltasFill",
        ),
        (
            "a chain ended, because etcd had compacted what was not captured",
            &[(
                "lifeboat_deltas_gaps_total{lane=\"own\",reason=\"compacted\",",
                "0x60 1x600",
            )],
            "59m",
            "62m",
            "LifeboatDeltasGap",
        ),
        (
            "a destination is nearly full",
            &[(free, "1000000x60 1999x600")],
            "65m",
            "90m",
            "LifeboatDestinationFull",
        ),
        (
            "the configuration is refused",
            &[(reload, "1x60 0x600")],
            "65m",
            "90m",
            "LifeboatConfigurationRefused",
        ),
        (
            "something else is wrong",
            &[("lifeboat_healthy{", "1x60 0x600")],
            "65m",
            "130m",
            "LifeboatUnhealthy",
        ),
    ];
    tests.extend(faults.iter().map(|(name, changes, not_yet, then, alert)| {
        rule_test(name, changes, &[(not_yet, None), (then, Some(alert))])
    }));
    let down = Some("LifeboatEtcdDown");
    tests.push(rule_test(
        "etcd is down, and nothing is captured",
        &[
            ("lifeboat_deltas_etcd_silent{lane=\"own\",", "0x60 1x600"),
            ("lifeboat_deltas_lag_seconds{lane=\"own\",", "0x60 60+60x600"),
            ("lifeboat_problems{event=\"deltas-behind\",", "0x70 1x590"),
        ],
        &[("60m", None), ("64m", down), ("90m", down)],
    ));
    tests.push(rule_test(
        "a certificate expires in ten days",
        &[(expiry, "864000x600")],
        &[("30m", None), ("90m", Some("LifeboatCertificateExpires"))],
    ));
    let absent = Some("LifeboatAbsent");
    tests.extend([
        rule_test_of(
            "node",
            "node_exporter has the textfile",
            &[],
            &quiet(["10m", "2h", "26h", "47h"]),
        ),
        rule_test_of(
            "node",
            "the textfile is gone",
            &[(report, "0+60x60 _x2820")],
            &[("60m", None), ("75m", None), ("90m", absent), ("24h", absent)],
        ),
        rule_test_of(
            "node",
            "no host ever had a textfile",
            &[(report, "_x2880")],
            &[("10m", None), ("30m", absent), ("26h", absent)],
        ),
    ]);
    let text = fs::read_to_string(&rules).unwrap();
    let alerts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    for alert in alerts {
        let fires = tests.iter().any(|test| test.contains(&format!("\"{alert}\"")));
        assert!(fires, "{alert} has a test in which it fires");
    }

    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("test.yml");
    let tests = tests.concat();
    fs::write(
        &file,
        format!(
            "rule_files: [{}]\nevaluation_interval: 1m\ntests:\n{tests}",
            rules.display()
        ),
    )
    .unwrap();
    let checks = [
        ["check".as_ref(), "rules".as_ref(), rules.as_os_str()],
        ["test".as_ref(), "rules".as_ref(), file.as_os_str()],
    ];
    for args in checks {
        let output = Command::new(&promtool).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        assert!(output.status.success(), "{}{}", said[0], said[1]);
    }
}
