//! Namespaces of processes, mounts and networks in which everything of one run happens.
//!
//! The program starts itself anew as the first process of the enclosure. When that ends, the kernel ends all others in it
//! and with them go the mounts, bridges and names of networks: nothing must be undone by hand. What stays are files in
//! the run's own directory and empty control groups; the run removes them, or the next one does, if it was killed.
//!
//! Invariant: a run's directory is removed by its own run or after it is dead: its lock tells.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::preparation::{Suite, lab_dir};
use super::support::client::wait_for;

/// Tells the second start of the program where its run's directory is.
const STAGE: &str = "LIFEBOAT_LAB_STAGE";
const RUN_PREFIX: &str = "run-";
const LOCK: &str = "lock";
const POLL: Duration = Duration::from_millis(20);
/// How long the processes of a killed run may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(10);
/// What an ended run reports when it was interrupted.
const INTERRUPTED: u8 = 130;

/// The run's own directory, as the enclosed program knows it. Anywhere else than in an enclosure, where this program is the
/// first process, it would mount and unplug things of the machine's.
pub fn entered() -> Option<PathBuf> {
    let stage = std::env::var_os(STAGE).map(PathBuf::from);
    stage.filter(|_| std::process::id() == 1)
}

/// Starts this program again inside an enclosure, without some suites, and waits for its end, or for somebody who asks to
/// stop.
pub fn run(left_out: &[Suite]) -> Result<ExitCode, String> {
    let interrupted = listen();
    sweep();
    let stage = Stage::set_up()
        .map_err(|error| format!("it cannot have a directory and control groups of its own: {error}"))?;
    let mut enclosed = enclose(&stage.dir, left_out)?;
    loop {
        if let Some(status) = enclosed.try_wait().expect("our own child can be waited for") {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(1)));
        }
        if interrupted.load(Ordering::Relaxed) {
            enclosed.kill().expect("our own child can be killed");
            enclosed.wait().expect("our own child can be waited for");
            eprintln!("lab: interrupted, everything is taken down");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        thread::sleep(POLL);
    }
}

/// A control group of a host's own, below the one that this program is in; in each hierarchy that systemd uses.
///
/// Without it the hosts' systemds would all call the same groups theirs.
pub fn control_groups(stage: &Path, host: &str) -> Vec<PathBuf> {
    let run = stage.file_name().expect("it has a name").to_string_lossy().into_owned();
    let parents = own_control_groups();
    parents
        .iter()
        .map(|parent| parent.join(format!("lifeboat-lab-{run}-{host}")))
        .collect()
}

struct Stage {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Stage {
    fn set_up() -> io::Result<Stage> {
        let dir = lab_dir().join(format!("{RUN_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let file = File::create(dir.join(LOCK))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        let stage = Stage { dir, _lock: lock };
        let groups = control_groups(&stage.dir, "first");
        if groups.is_empty() {
            return Err(io::Error::other("this process is in no control group that is mounted"));
        }
        groups.iter().try_for_each(fs::create_dir)?;
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes what runs left that are no more.
fn sweep() {
    for entry in fs::read_dir(lab_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(RUN_PREFIX) {
            continue;
        }
        // Without its lock file it is just being made, or just being removed.
        let Ok(file) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            remove(&entry.path());
        }
    }
}

/// Removes the control groups of a run, then its directory. Processes that were killed take a moment to be gone; where
/// they take longer, everything stays for a later sweep.
fn remove(stage: &Path) {
    let deadline = Instant::now() + LAST_BREATH;
    loop {
        let groups = control_groups(stage, "");
        let left = groups.iter().filter(|group| !remove_control_groups(group)).count();
        if left == 0 {
            fs::remove_dir_all(stage).ok();
            return;
        }
        if Instant::now() > deadline {
            return;
        }
        thread::sleep(POLL);
    }
}

/// Removes the control groups whose names begin like this one's; tells whether none is left.
fn remove_control_groups(beginning: &Path) -> bool {
    let parent = beginning.parent().expect("it is below our own group");
    let prefix = beginning
        .file_name()
        .expect("it has a name")
        .to_string_lossy()
        .into_owned();
    let groups = fs::read_dir(parent).into_iter().flatten().flatten();
    let own = groups.filter(|group| group.file_name().to_string_lossy().starts_with(&prefix));
    own.fold(true, |gone, group| {
        remove_control_group(&group.path());
        gone && !group.path().exists()
    })
}

/// Removes a control group and those below; one that is in use stays.
fn remove_control_group(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_control_group(&below.path());
        }
    }
    fs::remove_dir(group).ok();
}

/// Where this process is in the hierarchies: cgroup2, and systemd's own one where the machine still has the first kind.
fn own_control_groups() -> Vec<PathBuf> {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let place = |marker: &str| {
        let line = memberships.lines().find_map(|line| line.split_once(marker));
        line.map(|(_, path)| path.trim_start_matches('/').to_owned())
    };
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.procs").exists());
    let unified = unified.and_then(|root| Some(root.join(place("0::")?)));
    let named = Path::new("/sys/fs/cgroup/systemd");
    let named = place("name=systemd:").map(|place| named.join(place));
    unified
        .into_iter()
        .chain(named)
        .filter(|group| group.is_dir())
        .collect()
}

/// The program once more, in namespaces of its own. It dies with this one.
fn enclose(stage: &Path, left_out: &[Suite]) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let skips = left_out
        .iter()
        .flat_map(|suite| ["--skip".to_owned(), format!("{}::", suite.name())]);
    // Not in the terminal's foreground: a Ctrl-C is this process's to handle, and hosts do not see it.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--fork", "--kill-child"])
        .args(["--pid", "--mount", "--net", "--mount-proc", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .args(skips)
        .env(STAGE, stage)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("setpriv: {error}"))
}

/// Set when somebody asks this program to stop.
fn listen() -> Arc<AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = Arc::new(AtomicBool::new(false));
    let set = asked.clone();
    let (ready, listening) = std::sync::mpsc::channel();
    thread::spawn(move || {
        wait_for(async move {
            let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened for");
            let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
            ready.send(()).ok();
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.store(true, Ordering::Relaxed);
        });
    });
    listening.recv().expect("the thread listens");
    asked
}
