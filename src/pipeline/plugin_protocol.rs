//! What is said between this program and a plugin of age: stanzas, one after the other, until both are done.
//!
//! Invariant: a plugin that says nothing, or never comes to an end, is killed; where nobody is there, within minutes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use age_core::format::Stanza;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a plugin may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// To say the next thing.
    silence: Duration,
    /// From its start to its end.
    in_all: Option<Duration>,
}

/// Where nobody can be asked.
const ALONE: Patience = Patience {
    silence: Duration::from_secs(30),
    in_all: Some(Duration::from_secs(120)),
};

/// Where somebody may have to find the key and touch it, and can end it.
const WITH_SOMEBODY: Patience = Patience {
    silence: Duration::from_secs(300),
    in_all: None,
};

/// The longest line, and the most that is read of a plugin in all.
const LONGEST_LINE: u64 = 64 << 10;
const MOST_BYTES: u64 = 1 << 20;

/// How often it is looked whether a plugin was killed, in milliseconds.
const LOOKED_EVERY: u16 = 200;

/// What a plugin wants of whoever is there.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// It has something to say.
    Message(&'a str),
    /// It asks for one of two answers; without the second it asks to go on.
    Confirm(&'a str, &'a str, Option<&'a str>),
    /// It asks for a text.
    Public(&'a str),
    /// It asks for a text that nobody may see.
    Secret(&'a str),
}

/// What somebody answered: to a message and to a confirmation nothing but whether it is so.
pub type Ask = fn(Question<'_>) -> Option<SecretString>;

static ASK: OnceLock<Ask> = OnceLock::new();

/// Has the questions of plugins asked. Without it there is nobody, as under the agent.
pub fn allow_questions(ask: Ask) {
    ASK.set(ask).ok();
}

/// Runs a program: says what there is to say, then hears it; `each` answers a command, or says why it ends.
pub(super) fn converse(
    program: &Path,
    machine: &str,
    said: &[Stanza],
    each: impl FnMut(&Stanza) -> Result<Reply, String>,
) -> Result<(), String> {
    let patience = match ASK.get() {
        Some(_) => WITH_SOMEBODY,
        None => ALONE,
    };
    converse_within(patience, program, machine, said, each)
}

fn converse_within(
    patience: Patience,
    program: &Path,
    machine: &str,
    said: &[Stanza],
    mut each: impl FnMut(&Stanza) -> Result<Reply, String>,
) -> Result<(), String> {
    let mut running = Running::start(program, machine, patience).map_err(|error| error.to_string())?;
    let ended = running.converse(said, &mut each);
    let killed = running.end();
    ended.map_err(|why| match killed {
        Some(Killed::Silent) => format!("it said nothing for {} s", patience.silence.as_secs()),
        Some(Killed::Endless(after)) => format!("it had not done after {} s", after.as_secs()),
        None => why,
    })
}

/// How a command of a plugin is answered.
pub(super) enum Reply {
    /// It is heard.
    Ok,
    /// A text, in the body.
    With(SecretString),
    /// Whether it is so, as an argument.
    Is(bool),
    /// There is no answer.
    Fail,
    /// It is no command that is known: plugins say such, too, to see that this is answered.
    Unsupported,
}

/// A plugin's process.
struct Running {
    child: Child,
    input: BufReader<io::Take<Heard>>,
    sign: Sender<()>,
    watch: JoinHandle<Option<Killed>>,
}

/// What a plugin says, until it is killed: a process that it has started may hold its output open for ever.
struct Heard {
    output: ChildStdout,
    is_killed: Arc<AtomicBool>,
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut asked = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            match poll(&mut asked, LOOKED_EVERY) {
                Ok(0) if self.is_killed.load(Ordering::Relaxed) => return Ok(0),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.output.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Why a plugin was killed.
enum Killed {
    /// It said nothing.
    Silent,
    /// It talked, and had not done after so long.
    Endless(Duration),
}

impl Running {
    fn start(program: &Path, machine: &str, patience: Patience) -> io::Result<Running> {
        let mut command = Command::new(program);
        let kept = ["HOME", "LANG", "XDG_RUNTIME_DIR"].into_iter();
        let kept = kept.filter_map(|name| Some((name, std::env::var_os(name)?)));
        command
            .arg(format!("--age-plugin={machine}"))
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(kept)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take().expect("it was asked for");
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sign, signs) = channel();
        let is_killed = Arc::new(AtomicBool::new(false));
        let heard = Heard {
            output,
            is_killed: is_killed.clone(),
        };
        let begun = Instant::now();
        let watch = std::thread::spawn(move || {
            loop {
                let left = patience.in_all.map(|all| all.saturating_sub(begun.elapsed()));
                let (wait, killed) = match left {
                    Some(left) if left < patience.silence => (left, Killed::Endless(begun.elapsed() + left)),
                    Some(_) | None => (patience.silence, Killed::Silent),
                };
                match signs.recv_timeout(wait) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => return None,
                    // It is waited for only after this thread has ended, so the number is still its own.
                    Err(RecvTimeoutError::Timeout) => {
                        is_killed.store(true, Ordering::Relaxed);
                        kill(pid, Signal::SIGKILL).ok();
                        return Some(killed);
                    }
                }
            }
        });
        Ok(Running {
            child,
            input: BufReader::new(heard.take(MOST_BYTES)),
            sign,
            watch,
        })
    }

    fn converse(
        &mut self,
        said: &[Stanza],
        each: &mut impl FnMut(&Stanza) -> Result<Reply, String>,
    ) -> Result<(), String> {
        let gone = |error: io::Error| format!("it does not listen: {error}");
        let mut output = self.child.stdin.take().expect("it was asked for");
        let done = stanza("done", &[], &[]);
        for stanza in said.iter().chain([&done]) {
            write_stanza(&mut output, stanza).map_err(gone)?;
        }
        output.flush().map_err(gone)?;
        loop {
            let command = read_stanza(&mut self.input)?;
            self.sign.send(()).ok();
            if command.tag == "done" {
                return Ok(());
            }
            let reply = match common(&command) {
                Some(reply) => reply,
                None => each(&command)?,
            };
            let reply = answered(&reply);
            // The time that somebody took to answer is not the plugin's.
            self.sign.send(()).ok();
            write_stanza(&mut output, &reply)
                .and_then(|()| output.flush())
                .map_err(gone)?;
        }
    }

    /// Ends it, and says why it was killed, if it was.
    fn end(mut self) -> Option<Killed> {
        drop(self.sign);
        drop(self.child.stdin.take());
        let killed = self.watch.join().unwrap_or(None);
        // It has said all that it had to.
        self.child.kill().ok();
        self.child.wait().ok();
        killed
    }
}

fn answered(reply: &Reply) -> Stanza {
    match reply {
        Reply::Ok => stanza("ok", &[], &[]),
        Reply::With(text) => stanza("ok", &[], text.expose_secret().as_bytes()),
        Reply::Is(true) => stanza("ok", &["yes"], &[]),
        Reply::Is(false) => stanza("ok", &["no"], &[]),
        Reply::Fail => stanza("fail", &[], &[]),
        Reply::Unsupported => stanza("unsupported", &[], &[]),
    }
}

/// Answers what every plugin may ask for.
fn common(command: &Stanza) -> Option<Reply> {
    let text = String::from_utf8_lossy(&command.body);
    let answer = |question: Question<'_>| ASK.get().and_then(|ask| ask(question));
    Some(match command.tag.as_str() {
        "msg" => {
            answer(Question::Message(&text));
            Reply::Ok
        }
        "confirm" => {
            let words: Vec<String> = command.args.iter().filter_map(|word| unarmoured(word)).collect();
            let (yes, no) = (
                words.first().map_or("yes", String::as_str),
                words.get(1).map(String::as_str),
            );
            match ASK.get() {
                None => Reply::Fail,
                Some(ask) => Reply::Is(ask(Question::Confirm(&text, yes, no)).is_some()),
            }
        }
        "request-public" => answer(Question::Public(&text)).map_or(Reply::Fail, Reply::With),
        "request-secret" => answer(Question::Secret(&text)).map_or(Reply::Fail, Reply::With),
        _ => return None,
    })
}

fn unarmoured(word: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(word).ok()?).ok()
}

pub(super) fn stanza(tag: &str, args: &[&str], body: &[u8]) -> Stanza {
    Stanza {
        tag: tag.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        body: body.to_vec(),
    }
}

/// How many characters of a body are on a line.
const BODY_COLUMNS: usize = 64;

fn write_stanza(output: &mut impl Write, stanza: &Stanza) -> io::Result<()> {
    let args = stanza.args.iter().map(|arg| format!(" {arg}"));
    let mut text = format!("-> {}{}\n", stanza.tag, args.collect::<String>());
    let body = SecretString::from(BASE64.encode(&stanza.body));
    let body = body.expose_secret();
    for line in body.as_bytes().chunks(BODY_COLUMNS) {
        text.push_str(std::str::from_utf8(line).expect("it is base64"));
        text.push('\n');
    }
    // A body ends with a line that is not full.
    if body.len().is_multiple_of(BODY_COLUMNS) {
        text.push('\n');
    }
    let text = SecretString::from(text);
    output.write_all(text.expose_secret().as_bytes())
}

fn read_stanza(input: &mut impl BufRead) -> Result<Stanza, String> {
    const BROKEN: &str = "it says something that is no part of the protocol";
    let head = read_line(input)?;
    let mut words = head.strip_prefix("-> ").ok_or(BROKEN)?.split(' ').map(str::to_owned);
    let tag = words.next().filter(|tag| !tag.is_empty()).ok_or(BROKEN)?;
    let args = words.collect();
    let mut body = Vec::new();
    loop {
        let line = read_line(input)?;
        if line.len() > BODY_COLUMNS {
            return Err(BROKEN.to_owned());
        }
        body.extend(BASE64.decode(&line).map_err(|_| BROKEN)?);
        if line.len() < BODY_COLUMNS {
            return Ok(Stanza { tag, args, body });
        }
    }
}

fn read_line(input: &mut impl BufRead) -> Result<String, String> {
    let mut line = Vec::new();
    let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
    read.map_err(|error| error.to_string())?;
    if line.pop() != Some(b'\n') {
        return Err("it ended too early".to_owned());
    }
    String::from_utf8(line).map_err(|_| "it says something that is no text".to_owned())
}

/// What an `error` of a plugin says.
pub(super) fn told(command: &Stanza) -> String {
    let text: String = String::from_utf8_lossy(&command.body).chars().take(400).collect();
    match text.trim() {
        "" => "it failed without a reason".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_stanza_is_written_and_read_back_whatever_its_length() {
        for length in [0, 1, 47, 48, 49, 96, 1000] {
            let body = vec![7; length];
            let one = stanza("a-tag", &["0", "x"], &body);
            let mut written = Vec::new();
            write_stanza(&mut written, &one).unwrap();
            let mut input = BufReader::new(written.as_slice());
            let read = read_stanza(&mut input).unwrap();
            assert_eq!((&read.tag, &read.args, &read.body), (&one.tag, &one.args, &one.body));
            assert_eq!(input.fill_buf().unwrap(), b"", "{length}");
        }
        for broken in ["", "-> \n\n", "no stanza\n\n", "-> a", "-> a\n%%%\n", "-> a\nAAAA"] {
            assert!(read_stanza(&mut broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    /// A plugin that is a script. Another process writes it: one that this one has open while it starts a third is busy.
    fn script(folder: &Path, text: &str) -> PathBuf {
        const WRITES: &str = r#"printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod 755 "$2""#;
        let program = folder.join("age-plugin-x");
        let written = Command::new("sh")
            .args(["-c", WRITES, "sh", text])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        program
    }

    #[test]
    fn a_program_that_says_nothing_or_talks_for_ever_is_ended() {
        const MESSAGE: &str = "-> msg\\n\\n";
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience {
            silence: Duration::from_secs(2),
            in_all: Some(Duration::from_secs(4)),
        };
        let begun = Instant::now();
        for (does, said, at_least) in [
            ("exec sleep 60", "it said nothing for 2 s", patience.silence),
            // What it has started is not killed with it, and still has its output.
            ("sleep 30; true", "it said nothing for 2 s", patience.silence),
            (
                &*format!("while :; do sleep 0.2; printf -- '{MESSAGE}'; done"),
                "it had not done after 4 s",
                patience.in_all.unwrap(),
            ),
        ] {
            let program = script(folder.path(), does);
            let begun = Instant::now();
            let fault = converse_within(patience, &program, "identity-v1", &[], |_| Ok(Reply::Ok));
            assert_eq!(fault.unwrap_err(), said);
            assert!(begun.elapsed() >= at_least);
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
        let program = script(folder.path(), "read head && read body && printf -- '-> done\\n\\n'");
        assert_eq!(
            converse_within(patience, &program, "identity-v1", &[], |_| Ok(Reply::Ok)),
            Ok(())
        );
    }

    #[test]
    fn a_confirmation_is_answered_by_an_argument() {
        let written = |reply: Reply| {
            let mut written = Vec::new();
            write_stanza(&mut written, &answered(&reply)).unwrap();
            String::from_utf8(written).unwrap()
        };
        assert_eq!(written(Reply::Is(true)), "-> ok yes\n\n");
        assert_eq!(written(Reply::Is(false)), "-> ok no\n\n");
        assert_eq!(written(Reply::With("a".to_owned().into())), "-> ok\nYQ\n");
    }
}
