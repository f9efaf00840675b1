//! The agent without a clock of its own: a job that hangs, a state that cannot be written, a configuration that is read
//! again.

use std::path::Path;
use std::sync::mpsc;

use super::super::{samples, watchdog};
use super::*;
use crate::config;
use crate::health::{Look, Notice};
use crate::jobs::capture::CaptureOrder;

/// Takes a slot, and then does what the test says, sign by sign.
struct Work {
    signs: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl super::Work for Work {
    fn carry_out(&self, order: &Order) -> Result<Ended, Trouble> {
        let signs = self.signs.lock().unwrap();
        while signs.recv().is_ok() {
            order.pulse.beat();
        }
        Err(Trouble::Stopped)
    }

    fn look(&self, _: &Config) -> Look {
        Look::default()
    }

    fn capture(&self, _: &CaptureOrder) {}
}

fn clock() -> Timestamp {
    "2026-11-20T10:15:30Z".parse().unwrap()
}

const CONFIGURATION: &str = r#"
[cluster]
name = "prod"
[members.m1]
client_urls = ["http://127.0.0.1:1"]
[encryption]
recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m"]
[destinations.local]
url = "file:///var/backups"
[schedules.hourly]
kind = "full"
every = "1h"
jitter = "0s"
"#;

/// What an agent needs to be in.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// An agent whose only schedule has a slot to catch up.
fn agent(folder: &Path, work: Work) -> Agent {
    agent_with(folder, "", &[("hourly", "every 1 h", "2026-01-01T00:00:00Z")], work)
}

/// An agent that has more in its configuration, and remembers of these schedules how they were and since when.
fn agent_with(folder: &Path, more: &str, memories: &[(&str, &str, &str)], work: impl super::Work + 'static) -> Agent {
    let path = folder.join("config.toml");
    std::fs::write(&path, format!("{CONFIGURATION}{more}")).unwrap();
    std::fs::create_dir(folder.join("schedules")).unwrap();
    for (name, when, since) in memories {
        let handled = format!(r#"{{"since":"{since}","runs":[]}}"#);
        let memory = format!(r#"{{"format":1,"when":"{when}","handled":{handled},"last_success":null}}"#);
        std::fs::write(folder.join(format!("schedules/{name}.json")), memory).unwrap();
    }
    Agent::new(Setup {
        config: config::load(&path).unwrap().config,
        path,
        faults: |_| Vec::new(),
        base: folder.to_owned(),
        state: folder.to_owned(),
        host: "db1".to_owned(),
        now: clock,
        work: Arc::new(work),
    })
}

#[test]
fn a_job_that_hangs_ends_the_feeding_of_the_watchdog_and_one_that_goes_on_does_not() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let (sign, signs) = mpsc::channel();
    let mut agent = agent(
        folder.path(),
        Work {
            signs: std::sync::Mutex::new(signs),
        },
    );
    let start = Instant::now();
    agent.turn();
    assert!(agent.job.is_some());
    assert!(agent.gets_on(start));
    let late = start + watchdog::HANGS_AFTER;
    sign.send(()).unwrap();
    while agent.job.as_ref().unwrap().pulse.count() == 0 {
        std::thread::yield_now();
    }
    assert!(agent.gets_on(late), "it got on since");
    let hangs = |agent: &Agent| {
        let verdict = agent.judge(clock()).1;
        let said = Report::read(folder.path()).unwrap().unwrap().doubts;
        let of_it = |notices: Vec<Notice>| {
            let mut hanging = notices.into_iter().filter(|notice| notice.event == Event::JobHangs);
            hanging.next().and_then(|notice| notice.about.schedule)
        };
        let (judged, said) = (of_it(verdict.problems), of_it(said));
        assert_eq!(judged, said, "who reads the status knows it too");
        judged
    };
    assert_eq!(hangs(&agent), None);
    assert!(!agent.gets_on(late + watchdog::HANGS_AFTER), "it hangs");
    assert_eq!(hangs(&agent).as_deref(), Some("hourly"));
    assert!(!agent.gets_on(late + 2 * watchdog::HANGS_AFTER), "and hangs");
    assert_eq!(hangs(&agent).as_deref(), Some("hourly"));
    drop(sign);
    let done = runtime.block_on(ended(&mut agent.job));
    agent.end(done);
    assert!(agent.gets_on(late + 3 * watchdog::HANGS_AFTER), "it is over");
    assert_eq!(hangs(&agent), None);
}

#[test]
fn a_job_that_does_not_stop_is_left_behind_and_one_that_does_is_waited_for() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let begun = |folder: &Path| {
        let (sign, signs) = mpsc::channel();
        let signs = std::sync::Mutex::new(signs);
        let mut agent = agent(folder, Work { signs });
        agent.turn();
        assert!(agent.job.is_some());
        (agent, sign)
    };
    let folder = tempfile::tempdir().unwrap();
    let (agent, sign) = begun(folder.path());
    let stopped = runtime.block_on(agent.stop(Duration::from_millis(50)));
    assert!(matches!(stopped, Err(Error::DidNotStop)), "{stopped:?}");
    drop(sign);

    let folder = tempfile::tempdir().unwrap();
    let (agent, sign) = begun(folder.path());
    drop(sign);
    runtime.block_on(agent.stop(STOP_WITHIN)).unwrap();
    let said = Report::read(folder.path()).unwrap().unwrap();
    assert_eq!(said.running, None);
}

#[test]
fn a_state_that_cannot_be_written_is_told_and_ends_nothing() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let (sign, signs) = mpsc::channel();
    let signs = std::sync::Mutex::new(signs);
    let mut agent = agent(folder.path(), Work { signs });
    let events = |agent: &Agent| -> Vec<Event> {
        let doubts = agent.judge(clock()).0.doubts;
        doubts.iter().map(|doubt| doubt.event).collect()
    };
    // A folder in the place of each file: not even root can write there.
    let in_the_way = |name: &str| {
        let path = folder.path().join(name);
        std::fs::remove_file(&path).ok();
        std::fs::create_dir(&path).unwrap();
        path
    };
    let status = in_the_way("status.json");
    let schedule = in_the_way("schedules/hourly.json");
    agent.turn();
    assert!(agent.job.is_some(), "the slot is taken all the same");
    assert_eq!(events(&agent), [Event::StateUnwritable]);
    drop(sign);
    let done = runtime.block_on(ended(&mut agent.job));
    agent.end(done);

    agent.keep_memories();
    std::fs::remove_dir(&schedule).unwrap();
    agent.turn();
    assert!(schedule.is_file(), "what was missed is written as soon as that works");
    assert_eq!(events(&agent), [Event::StateUnwritable], "the status is still missing");
    std::fs::remove_dir(&status).unwrap();
    agent.turn();
    assert_eq!(events(&agent), []);
    agent.turn();
    assert_eq!(Report::read(folder.path()).unwrap().unwrap().doubts, []);
}

#[test]
fn what_an_agent_says_is_said_again_so_that_silence_can_be_told() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let signs = std::sync::Mutex::new(mpsc::channel().1);
    let agent = agent(folder.path(), Work { signs });
    let said = agent.judge(clock()).0;
    let later = |seconds: i64| clock() + SignedDuration::from_secs(seconds);
    assert!(agent.judge(later(59)).0.says_no_more_than(&said));
    assert!(!agent.judge(later(60)).0.says_no_more_than(&said));
    assert!(!agent.judge(later(-60)).0.says_no_more_than(&said), "the clock was set");
    let told = |now, is_up| {
        let problems = said.verdict(now, is_up).problems.into_iter();
        let of_the_agent = problems.filter(|problem| problem.event == Event::AgentStopped);
        of_the_agent.map(|problem| problem.message).collect::<Vec<_>>()
    };
    assert_eq!(told(later(180), true), [""; 0]);
    let silent = told(later(181), true);
    assert!(
        silent[0].starts_with("the agent runs, but has not written `status.json` for 3 m 1 s"),
        "{silent:?}"
    );
    assert_eq!(told(later(-181), true), [""; 0]);
    let stopped = "the agent does not run, nothing is done on schedule: `systemctl start lifeboat`";
    assert_eq!(told(later(0), false), [stopped], "as `lifeboat status` tells it");
}

#[test]
fn a_refused_configuration_is_read_again_although_none_of_its_files_has_changed() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let signs = std::sync::Mutex::new(mpsc::channel().1);
    let mut agent = agent(folder.path(), Work { signs });
    let recipients = folder.path().join("elsewhere");
    let named = format!("recipients_file = {recipients:?}");
    let recipient = CONFIGURATION
        .split("[\"")
        .nth(2)
        .and_then(|rest| rest.split('"').next())
        .unwrap();
    let text = CONFIGURATION.replace(&format!("recipients = [\"{recipient}\"]"), &named);
    assert!(text.contains(&named));
    std::fs::write(&agent.path, text).unwrap();
    let mut files = Files::watch(&agent.path).unwrap();
    agent.reload(&mut files, Reason::Changed);
    assert!(agent.configuration_error.is_some());
    assert!(!agent.is_due_to_read());

    std::fs::write(&recipients, recipient).unwrap();
    assert!(!files.have_changed(agent.recipients_file()), "nothing tells");
    agent.read_at = Instant::now().checked_sub(READ_EVERY_WHILE_REFUSED).unwrap();
    assert!(agent.is_due_to_read());
    agent.reload(&mut files, Reason::Due);
    assert_eq!(agent.configuration_error, None);
    assert_eq!(agent.recipients_file(), Some(recipients.as_path()));
    assert!(!agent.is_due_to_read());
}

/// Works until a backup is due.
struct Yielding;

impl super::Work for Yielding {
    fn carry_out(&self, order: &Order) -> Result<Ended, Trouble> {
        if order.kind != Kind::Verify && order.schedule.as_str() != "copies" {
            return Err(Trouble::Stopped);
        }
        while !*order.gives_way.borrow() {
            std::thread::yield_now();
        }
        let until = "2026-11-20T12:05:00Z".parse().unwrap();
        let later = Fate::Later {
            why: "a backup is due".to_owned(),
            until,
        };
        let fates = order.destinations.iter().map(|name| (name.clone(), later.clone()));
        Ok(Ended {
            fates: fates.collect(),
            ..Ended::default()
        })
    }

    fn look(&self, _: &Config) -> Look {
        Look::default()
    }

    fn capture(&self, _: &CaptureOrder) {}
}

#[test]
fn a_verification_gives_way_to_a_backup_that_comes_due() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let verify = "[schedules.proof]\nkind = \"verify\"\nevery = \"1h\"\njitter = \"0s\"\n";
    let memories = [
        ("hourly", "every 1 h", "2026-11-20T10:10:00Z"),
        ("proof", "every 1 h", "2026-01-01T00:00:00Z"),
    ];
    let mut agent = agent_with(folder.path(), verify, &memories, Yielding);
    assert!(agent.turn() <= LOOK_FOR_BACKUPS_EVERY);
    let running = |agent: &Agent| agent.job.as_ref().map(|job| job.kind);
    assert_eq!(running(&agent), Some(Kind::Verify));
    assert!(!*agent.job.as_ref().unwrap().gives_way.borrow(), "no backup is due yet");
    agent.now = || "2026-11-20T11:00:01Z".parse().unwrap();
    agent.turn();
    let done = runtime.block_on(ended(&mut agent.job));
    agent.end(done);
    agent.turn();
    assert_eq!(running(&agent), Some(Kind::Full));
}

#[test]
fn the_metrics_count_each_backup_that_is_not_good_and_an_agent_that_does_not_run() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let signs = std::sync::Mutex::new(mpsc::channel().1);
    let mut agent = agent(folder.path(), Work { signs });
    let of = |report: &Report, is_up: bool, now: Timestamp, name: &str, event: &str| {
        let mut samples = samples(Some(report), is_up, now).into_iter();
        let found = samples.find(|sample| {
            let label = sample.labels.get("event").map_or("", String::as_str);
            sample.name == name && label == event
        });
        found.and_then(|sample| sample.value.as_u64())
    };
    let (problems, healthy) = ("lifeboat_problems", "lifeboat_healthy");
    agent.notifier.saw(Look::default());
    // As if its one schedule had just done its work.
    let well = |agent: &Agent| {
        let mut report = agent.judge(clock()).0;
        report.schedules.iter_mut().for_each(|schedule| schedule.late = None);
        report
    };
    let report = well(&agent);
    let late = clock() + SignedDuration::from_secs(181);
    for (is_up, now, stopped) in [(true, clock(), 0), (false, clock(), 1), (true, late, 1)] {
        assert_eq!(of(&report, is_up, now, problems, "agent-stopped"), Some(stopped));
        assert_eq!(of(&report, is_up, now, healthy, ""), Some(1 - stopped));
    }
    let by_hand = Report {
        schedules: Vec::new(),
        ..report
    };
    assert_eq!(of(&by_hand, false, clock(), healthy, ""), Some(1), "none is wanted");
    assert_eq!(
        of(&by_hand, true, clock(), problems, "member-unwell"),
        None,
        "nobody asks"
    );

    let bad = (0..40).map(|number| Notice::new(Event::BackupUnproven, format!("backup {number} has a bad copy")));
    agent.notifier.saw(Look {
        problems: bad.collect(),
        ..Look::default()
    });
    let report = well(&agent);
    assert_eq!(report.doubts.len(), 1);
    assert_eq!(of(&report, true, clock(), problems, "backup-unproven"), Some(40));
}

#[test]
fn each_thing_that_is_wrong_is_told_to_the_program_and_many_bad_backups_in_one_call() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let signs = std::sync::Mutex::new(mpsc::channel().1);
    let mut agent = agent(folder.path(), Work { signs });
    let script = "printf '%s\\n' \"$LIFEBOAT_EVENT: $LIFEBOAT_MESSAGE\" >> \"$0\"";
    let told = folder.path().join("told");
    let mut config = Config::clone(&agent.config);
    config.notify.on_failure = Some(config::OnFailure {
        path: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned(), told.display().to_string()],
    });
    let bad = |number: u32| Notice::new(Event::BackupUnproven, format!("backup {number} has a bad copy"));
    let unread = |name: &str| Notice::new(Event::SecretUnreadable, format!("{name} cannot be read"));
    let mut tell = |problems: Vec<Notice>, lines: usize| -> Vec<String> {
        let verdict = crate::health::Verdict {
            problems,
            ..Default::default()
        };
        agent.notifier.tell(&config, &verdict);
        runtime.block_on(async {
            loop {
                let text = std::fs::read_to_string(&told).unwrap_or_default();
                let read: Vec<String> = text.lines().map(str::to_owned).collect();
                if read.len() >= lines {
                    return read;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let mut problems: Vec<Notice> = (10..50).map(bad).chain(["a", "b"].map(unread)).collect();
    problems.push(Notice::new(Event::NoBackup, "a warning"));
    let first = [
        "secret-unreadable: a cannot be read",
        "secret-unreadable: b cannot be read",
        "backup-unproven: backup 49 has a bad copy (and 39 more: see `lifeboat status`)",
    ];
    assert_eq!(tell(problems.clone(), 3), first);
    // An older one, and one more of the same kind.
    problems.insert(0, bad(1));
    problems.push(unread("c"));
    let then = [
        "secret-unreadable: c cannot be read",
        "backup-unproven: backup 1 has a bad copy",
    ];
    assert_eq!(tell(problems, 5)[3..], then);
}

#[test]
fn a_backup_that_copies_gives_way_to_one_that_was_not_tried_yet_and_to_no_other() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let copies = "[schedules.copies]\nkind = \"full\"\nevery = \"24h\"\njitter = \"0s\"\n";
    let memories = [
        ("hourly", "every 1 h", "2026-11-20T10:10:00Z"),
        ("copies", "every 1 d", "2026-01-01T00:00:00Z"),
    ];
    let mut agent = agent_with(folder.path(), copies, &memories, Yielding);
    assert!(agent.turn() <= LOOK_FOR_BACKUPS_EVERY);
    let running = |agent: &Agent| agent.job.as_ref().map(|job| job.schedule.to_string());
    let makes_way = |agent: &Agent| *agent.job.as_ref().unwrap().gives_way.borrow();
    assert_eq!(running(&agent).as_deref(), Some("copies"));
    agent.turn();
    assert!(!makes_way(&agent), "its own slot is no other's");

    // One that failed comes again after its pause, and waits.
    let (hourly, slot) = ("hourly".parse().unwrap(), "2026-11-20T11:00:00Z".parse().unwrap());
    let failed = [("local".parse().unwrap(), Fate::Failed("no".to_owned()))];
    agent.now = || "2026-11-20T11:00:01Z".parse().unwrap();
    let before = "2026-11-20T11:00:00Z".parse().unwrap();
    agent
        .agenda
        .tried(&hourly, Slot::new(slot), failed.into(), Vec::new(), before);
    agent.now = || "2026-11-20T11:10:00Z".parse().unwrap();
    agent.turn();
    assert!(!makes_way(&agent), "it was tried");

    agent.now = || "2026-11-20T12:00:01Z".parse().unwrap();
    agent.turn();
    let done = runtime.block_on(ended(&mut agent.job));
    agent.end(done);
    agent.turn();
    assert_eq!(running(&agent).as_deref(), Some("hourly"));
}

#[test]
fn why_a_slot_fails_is_said_once_as_long_as_it_is_the_same() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let memories = [("hourly", "every 1 h", "2026-11-20T10:10:00Z")];
    let mut agent = agent_with(folder.path(), "", &memories, Yielding);
    let (hourly, local) = ("hourly".parse().unwrap(), "local".parse().unwrap());
    let slot = Slot::new("2026-11-20T11:00:00Z".parse().unwrap());
    let mut fails = |why: &str| {
        let entry = agent.agenda.entries().get(&hourly);
        let words = job_log::words_of_failure(entry, slot, &local, why);
        let failed = [(local.clone(), Fate::Failed(why.to_owned()))];
        agent
            .agenda
            .tried(&hourly, slot, failed.into(), Vec::new(), slot.instant());
        words
    };
    assert_eq!(fails("it is not mounted"), "it is not mounted");
    for times in [2, 3] {
        let again = format!("it failed again for the same reason ({times} times now)");
        assert_eq!(fails("it is not mounted"), again);
    }
    assert_eq!(fails("no space"), "no space");
}
