//! `notify.on_failure`: a program of the operator's that is run when something happened.
//!
//! Invariant: the agent never waits for it, and none of the agent's environment goes to it but the path: secrets may be
//! in the rest. One runs at a time, for a bounded while; those that wait are bounded too.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::journal::Log;
use crate::config::OnFailure;
use crate::health::Event;
use crate::health::Notice;

/// How long it may run.
const RUNS_AT_MOST: Duration = Duration::from_secs(30);
/// How many may wait. Beyond that something is wrong that one more call does not tell.
const WAITING: usize = 32;
/// How much of a message it is told: the kernel starts no program with a variable of 128 KiB.
const LONGEST_MESSAGE: usize = 16 << 10;
/// Where programs are, if the agent was not told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The queue of calls. Dropped, what runs is killed.
pub struct Hook {
    calls: mpsc::Sender<Call>,
    log: Log,
}

/// One run of the program.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    program: OnFailure,
    event: Event,
    environment: Vec<(String, OsString)>,
}

impl Call {
    fn of(program: &OnFailure, notice: &Notice, cluster: &str) -> Call {
        Call {
            program: program.clone(),
            event: notice.event,
            environment: environment(notice, cluster, std::env::var_os("PATH")),
        }
    }
}

impl Hook {
    /// An empty queue. Needs a runtime to run in.
    pub fn new(log: Log) -> Hook {
        let (calls, waiting) = mpsc::channel(WAITING);
        tokio::spawn(work(waiting, log));
        Hook { calls, log }
    }

    /// Has `program` told of `notice`; `cluster` is whose agent this is.
    pub fn tell(&self, program: &OnFailure, notice: &Notice, cluster: &str) {
        let call = Call::of(program, notice, cluster);
        if self.calls.try_send(call).is_err() {
            self.failed(notice.event, &format!("not run: {WAITING} calls wait already"));
        }
    }

    fn failed(&self, event: Event, error: &str) {
        say_failed(self.log, event, error);
    }
}

async fn work(mut waiting: mpsc::Receiver<Call>, log: Log) {
    while let Some(call) = waiting.recv().await {
        if let Err(error) = run(&call, RUNS_AT_MOST).await {
            say_failed(log, call.event, &error);
        }
    }
}

fn say_failed(log: Log, of: Event, error: &str) {
    log.event(
        Event::HookFailed,
        "the program of `notify.on_failure` failed",
        &[("of", &of.name()), ("error", &error)],
    );
}

/// Runs `program` once, and waits for it.
pub(super) async fn once(program: &OnFailure, notice: &Notice, cluster: &str) -> Result<(), String> {
    run(&Call::of(program, notice, cluster), RUNS_AT_MOST).await
}

fn environment(notice: &Notice, cluster: &str, path: Option<OsString>) -> Vec<(String, OsString)> {
    let message = clean(&notice.message[..notice.message.floor_char_boundary(LONGEST_MESSAGE)]);
    let mut environment: Vec<(String, OsString)> = vec![
        ("PATH".to_owned(), path.unwrap_or_else(|| PATH.into())),
        ("LIFEBOAT_EVENT".to_owned(), notice.event.name().into()),
        ("LIFEBOAT_MESSAGE".to_owned(), message.into()),
        ("LIFEBOAT_CLUSTER".to_owned(), cluster.into()),
    ];
    let parts = notice.about.parts().into_iter();
    environment.extend(parts.map(|(word, part)| (format!("LIFEBOAT_{}", word.to_uppercase()), clean(part).into())));
    environment
}

/// Without what no variable can hold and what could do something to a terminal: some of it comes from outside, and must not
/// keep the program from being run.
fn clean(value: &str) -> String {
    let is_kept = |c: char| c == '\n' || !c.is_control();
    value.chars().map(|c| if is_kept(c) { c } else { ' ' }).collect()
}

/// Runs it to its end, or ends it and all that it began.
async fn run(call: &Call, at_most: Duration) -> Result<(), String> {
    let program = call.program.path.display();
    let mut command = Command::new(&call.program.path);
    command
        .args(&call.program.arguments)
        .env_clear()
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("start {program}: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    match tokio::time::timeout(at_most, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program}: {status}")),
        Ok(Err(error)) => Err(format!("wait for {program}: {error}")),
        Err(_) => {
            // It is a child still, so the number is nobody else's.
            if let Some(group) = group {
                killpg(group, Signal::SIGKILL).ok();
            }
            child.kill().await.ok();
            Err(format!("{program}: killed after {} s", at_most.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::health::About;

    fn call(script: &str, folder: &Path) -> Call {
        let notice = Notice {
            event: Event::ScheduleLate,
            about: About::schedule("hourly"),
            message: "late since\nyesterday".to_owned(),
        };
        Call {
            program: OnFailure {
                path: "/bin/sh".into(),
                arguments: vec!["-c".to_owned(), script.to_owned(), folder.display().to_string()],
            },
            event: notice.event,
            environment: environment(&notice, "prod", None),
        }
    }

    /// Whether any process has the folder among its arguments.
    fn runs_with(folder: &Path) -> bool {
        let folder = folder.display().to_string();
        let mut processes = fs::read_dir("/proc").unwrap().flatten();
        processes.any(|process| {
            let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(&folder)
        })
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn it_is_told_what_happened_and_gets_nothing_else_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let call = call(
            "cd \"$0\"; env > all; printf %s \"$LIFEBOAT_MESSAGE\" > message",
            folder.path(),
        );
        block_on(run(&call, RUNS_AT_MOST)).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("message"), "late since\nyesterday");
        let all = read("all");
        for expected in [
            "LIFEBOAT_EVENT=schedule-late",
            "LIFEBOAT_SCHEDULE=hourly",
            "LIFEBOAT_CLUSTER=prod",
        ] {
            assert!(all.lines().any(|line| line == expected), "{all}");
        }
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!all.contains("CARGO_"), "{all}");
    }

    #[test]
    fn of_a_long_message_it_is_told_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut call = call("printf %s \"$LIFEBOAT_MESSAGE\" > \"$0/message\"", folder.path());
        let notice = Notice {
            event: Event::BackupIncomplete,
            about: About::schedule("check"),
            message: format!("x{}", "ü".repeat(200_000)),
        };
        call.environment = environment(&notice, "prod", None);
        block_on(run(&call, RUNS_AT_MOST)).unwrap();
        let told = fs::read_to_string(folder.path().join("message")).unwrap();
        assert!(notice.message.starts_with(&told));
        assert_eq!(told.len(), LONGEST_MESSAGE - 1, "cut between two characters");
    }

    #[test]
    fn what_a_member_or_a_store_puts_into_a_message_does_not_keep_the_program_from_being_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut call = call(
            "cd \"$0\"; printf %s \"$LIFEBOAT_MESSAGE\" > message; printf %s \"$LIFEBOAT_MEMBER\" > member",
            folder.path(),
        );
        let member = About {
            member: Some("m\0\u{9b}1".to_owned()),
            ..About::default()
        };
        let notice = Notice::about(Event::BackupFailed, member, "etcd says \0 and \x1b[2J\nno more");
        call.environment = environment(&notice, "prod", None);
        block_on(run(&call, RUNS_AT_MOST)).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("message"), "etcd says   and  [2J\nno more");
        assert_eq!(read("member"), "m  1");
    }

    #[test]
    fn what_fails_says_why_and_what_does_not_end_is_killed_with_all_that_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let error = block_on(run(&call("exit 3", folder.path()), RUNS_AT_MOST)).unwrap_err();
        assert_eq!(error, "/bin/sh: exit status: 3");
        let mut missing = call("", folder.path());
        missing.program.path = "/nonexistent".into();
        let error = block_on(run(&missing, RUNS_AT_MOST)).unwrap_err();
        assert!(error.starts_with("start /nonexistent: No such file"), "{error}");

        let script = "mkfifo \"$0/pipe\"; cat < \"$0/pipe\" & cat < \"$0/pipe\"";
        let error = block_on(run(&call(script, folder.path()), Duration::from_millis(300))).unwrap_err();
        assert_eq!(error, "/bin/sh: killed after 0 s");
        // What was begun dies a moment after what began it.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while runs_with(folder.path()) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
