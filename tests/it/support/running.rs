//! A run of the binary under test that the test looks at, feeds, signals or kills before it ends.

use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::host::Output;

/// How long something that must happen may take. Long, because tests share the machine.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// A run that goes on. Dropped, it is killed.
#[must_use]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts `command`.
    pub fn start(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary under test runs");
        let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
        Running { child, stdout, stderr }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that does the work: its child, if it has one.
    pub fn worker(&self) -> u32 {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let first = children.split_whitespace().next();
        first.and_then(|child| child.parse().ok()).unwrap_or(pid)
    }

    /// The writing end of its standard input, where the command asked for a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("the command asked for a pipe")
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: the program of that name is not on every system.
        let sent = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name, &self.pid().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "our own child can be signalled"
        );
    }

    /// Whether it has a file open whose path ends so.
    pub fn has_open(&self, path_end: &str) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.worker())) else {
            return false;
        };
        descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| target.to_string_lossy().ends_with(path_end))
    }

    /// What `ps` shows of it: its arguments and its environment.
    pub fn in_process_list(&self) -> String {
        let read = |what: &str| fs::read(format!("/proc/{}/{what}", self.pid())).expect("it runs");
        let (arguments, environment) = (read("cmdline"), read("environ"));
        format!(
            "{}\n{}",
            String::from_utf8_lossy(&arguments),
            String::from_utf8_lossy(&environment)
        )
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // After the name, which may hold anything: a process that nobody has waited for yet is a zombie.
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
    }

    /// Waits for its end; the code of one that was killed by a signal is -1.
    pub fn wait(mut self) -> Output {
        let status = self.child.wait().expect("our own child can be waited for");
        let text = |end: &mut Option<JoinHandle<String>>| {
            end.take()
                .map(|thread| thread.join().expect("reading does not panic"))
                .unwrap_or_default()
        };
        let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
        Output::new(status.code().unwrap_or(-1), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
