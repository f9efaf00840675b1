//! A command works in a process of its own, so that whoever waits for it is told the end, whatever hangs.
//!
//! A file system may hang in the kernel in such a way that no signal ends the call: one that is frozen, a disk that is
//! stalled. The thread that made the call cannot end, and neither can its process: a shell would wait for it as long as the
//! call takes, long after the command is done. So a command that uses stores is carried out by a child, which tells its exit
//! code through a pipe; the process that was started touches no store, and ends with that code.
//!
//! Invariant: the child lives no longer than the process that was started, and gets every signal that this one gets, once.
//! Invariant: the work is done once. Once there is a child, the process that was started never does it.
//!
//! Source: `fork(2)`, `signalfd(2)`, `PR_SET_PDEATHSIG` in `prctl(2)`, "uninterruptible sleep" in `proc(5)`.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdout, fork, getppid};

/// The signals that end a program and can be handed on.
const HANDED_ON: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// How long a child is waited for that has told its end: what it used is then counted as used by this process.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// What a child knows of the process that was started; none in a process that works by itself.
static ABOVE: OnceLock<Above> = OnceLock::new();

struct Above {
    pid: Pid,
    /// Where the child tells its end.
    tells: PipeWriter,
}

/// Which process this is, from here on.
pub enum Side {
    /// The child: it does the work, and then says so with [`tell`].
    Works,
    /// The process that was started: the work is over.
    IsDone(ExitCode),
}

/// Has a child do the work. Called while the process has one thread. After an error there is no child, and all is as before.
pub fn split() -> io::Result<Side> {
    let (hears, tells) = io::pipe()?;
    let mut signals = SigSet::empty();
    HANDED_ON.into_iter().for_each(|signal| signals.add(signal));
    let started = Pid::this();
    let asked = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let before = signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    #[expect(unsafe_code, reason = "a process that no store can hold has to be another one")]
    // SAFETY: there is one thread, so that the child has all there is, and no lock is held by a thread that it lacks.
    let forked = unsafe { fork() };
    match forked {
        Err(error) => {
            before.thread_set_mask().ok();
            Err(error.into())
        }
        Ok(ForkResult::Child) => {
            // A mask that was set before cannot be refused.
            before.thread_set_mask().ok();
            drop((hears, asked));
            ABOVE.set(Above { pid: started, tells }).ok();
            end_with_parent();
            Ok(Side::Works)
        }
        Ok(ForkResult::Parent { child }) => {
            drop(tells);
            let code = wait_for(child, hears, &asked, &before).unwrap_or_else(|_| {
                kill(child, Signal::SIGKILL).ok();
                reap(child);
                ExitCode::FAILURE
            });
            Ok(Side::IsDone(code))
        }
    }
}

/// Has this process, if it is a child, end when the one that was started does. A process that becomes another user has to
/// say so again.
pub fn end_with_parent() {
    let Some(above) = ABOVE.get() else { return };
    // Refused for no reason that there is here.
    set_pdeathsig(Signal::SIGKILL).ok();
    // It may have ended before that.
    if getppid() != above.pid {
        raise(Signal::SIGKILL).ok();
    }
}

/// Tells the end of the work, if this is a child; whoever reads what it prints hears that nothing more comes.
pub fn tell(code: u8) {
    let Some(above) = ABOVE.get() else { return };
    if let Ok((_, closed)) = io::pipe() {
        dup2_stdout(&closed).ok();
        dup2_stderr(&closed).ok();
    }
    // If nobody hears it, nobody waits.
    (&above.tells).write_all(&[code]).ok();
}

fn wait_for(child: Pid, mut hears: PipeReader, asked: &SignalFd, before: &SigSet) -> io::Result<ExitCode> {
    loop {
        let mut ready = [
            PollFd::new(hears.as_fd(), PollFlags::POLLIN),
            PollFd::new(asked.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let has_ended = ready[0].any().unwrap_or(true);
        while let Ok(Some(signal)) = asked.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            // What the terminal sends goes to the child too.
            if signal.ssi_code != SENT_BY_KERNEL
                && let Ok(signal) = Signal::try_from(number)
            {
                kill(child, signal).ok();
            }
        }
        if !has_ended {
            continue;
        }
        let mut code = [0];
        let told = match hears.read(&mut code) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            told => told?,
        };
        return match told {
            0 => Ok(end_of(child, before)),
            _ => {
                reap(child);
                Ok(ExitCode::from(code[0]))
            }
        };
    }
}

/// `SI_KERNEL` of `sigaction(2)`.
const SENT_BY_KERNEL: i32 = 0x80;

/// How a child ended that has told nothing: this process ends in the same way.
fn end_of(child: Pid, before: &SigSet) -> ExitCode {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            before.thread_set_mask().ok();
            raise(signal).ok();
            ExitCode::FAILURE
        }
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

fn reap(child: Pid) {
    let begun = Instant::now();
    while let Ok(WaitStatus::StillAlive) = waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        if begun.elapsed() > REAPED_WITHIN {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
