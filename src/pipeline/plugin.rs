//! Keys that a program of their own holds (a hardware key, a TPM, post-quantum): age's plugin protocol.
//!
//! ```text
//! program --age-plugin=recipient-v1   add-recipient, wrap-file-key, done     →  recipient-stanza, labels, done
//! program --age-plugin=identity-v1    add-identity, recipient-stanza, done   →  file-key, done
//! ```
//!
//! The program is `age-plugin-NAME` in one folder that the configuration names, never one of PATH; it and its folder must be
//! root's or this user's, and nobody else may write to them. It gets a bare environment, and is killed when it says nothing
//! for too long. What it asks is answered only where somebody is there to ask: see [`allow_questions`].
//!
//! Source: <https://c2sp.org/age-plugin>.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bech32::primitives::decode::CheckedHrpstring;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where plugins are, unless the configuration says otherwise.
pub const PLUGINS: &str = "/usr/lib/lifeboat/plugins";

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

/// Why a plugin did not do what it was to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {}: {why}", .program.display())]
pub struct PluginFault {
    /// The program.
    pub program: PathBuf,
    /// Why.
    pub why: String,
}

/// A plugin, by the name that its keys have in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugin {
    program: PathBuf,
}

impl Plugin {
    fn named(name: &str, folder: &Path) -> Option<Plugin> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
        let is_name = !name.is_empty() && name.bytes().all(fits);
        is_name.then(|| Plugin {
            program: folder.join(format!("age-plugin-{name}")),
        })
    }

    fn fault(&self, why: impl fmt::Display) -> PluginFault {
        PluginFault {
            program: self.program.clone(),
            why: why.to_string(),
        }
    }

    /// Refuses a program that is not there, or that another user could have put there.
    fn look(&self) -> Result<(), PluginFault> {
        let own = nix::unistd::geteuid().as_raw();
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        for path in [folder, &self.program] {
            let found = std::fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.fault(format!(
                    "it is not there: install it, and link or copy it into {} (`[encryption] plugins` names another folder)",
                    folder.display()
                )),
                _ => self.fault(error),
            })?;
            let is_foreign = found.uid() != 0 && found.uid() != own;
            if is_foreign || found.mode() & 0o022 != 0 {
                let path = path.display();
                return Err(self.fault(format!(
                    "others could have changed {path}: give it to root (`chown root: {path} && chmod go-w {path}`)"
                )));
            }
        }
        Ok(())
    }

    /// Runs it: says `lines`, then hears it; `each` answers a command, or says why it ends.
    fn talk(
        &self,
        machine: &str,
        said: &[Stanza],
        each: impl FnMut(&Stanza) -> Result<Reply, String>,
    ) -> Result<(), PluginFault> {
        let patience = match ASK.get() {
            Some(_) => WITH_SOMEBODY,
            None => ALONE,
        };
        self.talk_within(patience, machine, said, each)
    }

    fn talk_within(
        &self,
        patience: Patience,
        machine: &str,
        said: &[Stanza],
        mut each: impl FnMut(&Stanza) -> Result<Reply, String>,
    ) -> Result<(), PluginFault> {
        self.look()?;
        let mut running = Running::start(self, machine, patience).map_err(|error| self.fault(error))?;
        let ended = running.converse(said, &mut each);
        let killed = running.end();
        match (ended, killed) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(Killed::Silent)) => {
                Err(self.fault(format!("it said nothing for {} s", patience.silence.as_secs())))
            }
            (Err(_), Some(Killed::Endless(after))) => {
                Err(self.fault(format!("it had not done after {} s", after.as_secs())))
            }
            (Err(why), None) => Err(self.fault(why)),
        }
    }
}

/// How a command of a plugin is answered.
enum Reply {
    Ok,
    /// A text, in the body.
    With(SecretString),
    /// Whether it is so, as an argument.
    Is(bool),
    Fail,
    /// It is no command that is known: plugins say such, too, to see that this is answered.
    Unsupported,
}

/// A plugin's process.
struct Running {
    child: Child,
    input: BufReader<io::Take<std::process::ChildStdout>>,
    sign: Sender<()>,
    watch: JoinHandle<Option<Killed>>,
}

/// Why a plugin was killed.
enum Killed {
    /// It said nothing.
    Silent,
    /// It talked, and had not done after so long.
    Endless(Duration),
}

impl Running {
    fn start(plugin: &Plugin, machine: &str, patience: Patience) -> io::Result<Running> {
        let mut command = Command::new(&plugin.program);
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
                        kill(pid, Signal::SIGKILL).ok();
                        return Some(killed);
                    }
                }
            }
        });
        Ok(Running {
            child,
            input: BufReader::new(output.take(MOST_BYTES)),
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

fn stanza(tag: &str, args: &[&str], body: &[u8]) -> Stanza {
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
fn told(command: &Stanza) -> String {
    let text: String = String::from_utf8_lossy(&command.body).chars().take(400).collect();
    match text.trim() {
        "" => "it failed without a reason".to_owned(),
        text => text.to_owned(),
    }
}

/// A recipient of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PluginRecipient {
    text: String,
    plugin: Plugin,
}

impl PluginRecipient {
    /// Reads `age1NAME1…`.
    pub fn parse(text: &str, folder: &Path) -> Option<PluginRecipient> {
        let prefix = prefix(text)?;
        let plugin = Plugin::named(prefix.strip_prefix("age1")?, folder)?;
        let text = text.to_owned();
        Some(PluginRecipient { text, plugin })
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.plugin.program
    }

    /// Why its program cannot be used.
    pub fn look(&self) -> Result<(), PluginFault> {
        self.plugin.look()
    }
}

impl age::Recipient for PluginRecipient {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let said = [
            stanza("add-recipient", &[&self.text], &[]),
            stanza("extension-labels", &[], &[]),
            stanza("wrap-file-key", &[], file_key.expose_secret()),
        ];
        let (mut stanzas, mut labels) = (Vec::new(), HashSet::new());
        let talked = self.plugin.talk("recipient-v1", &said, |command| {
            match (command.tag.as_str(), command.args.as_slice()) {
                ("recipient-stanza", [file, tag, args @ ..]) if file == "0" => stanzas.push(Stanza {
                    tag: tag.clone(),
                    args: args.to_vec(),
                    body: command.body.clone(),
                }),
                ("labels", args) => labels.extend(args.iter().cloned()),
                ("error", _) => return Err(told(command)),
                _ => return Ok(Reply::Unsupported),
            }
            Ok(Reply::Ok)
        });
        let talked = talked.and_then(|()| match stanzas.is_empty() {
            true => Err(self.plugin.fault("it made nothing for the recipient")),
            false => Ok(()),
        });
        talked.map_err(|fault| age::EncryptError::Io(io::Error::other(fault)))?;
        Ok((stanzas, labels))
    }
}

/// An identity of a plugin. It has no `Debug`: some hold the secret itself.
pub(super) struct PluginIdentity {
    text: SecretString,
    plugin: Plugin,
}

impl PluginIdentity {
    /// Reads `AGE-PLUGIN-NAME-1…`.
    pub fn parse(text: &str, folder: &Path) -> Option<PluginIdentity> {
        let prefix = prefix(text)?.to_ascii_lowercase();
        let name = prefix.strip_prefix("age-plugin-")?.trim_end_matches('-');
        Some(PluginIdentity {
            plugin: Plugin::named(name, folder)?,
            text: SecretString::from(text.to_owned()),
        })
    }
}

/// An identity of a plugin while a file is opened. That it fails is no end: another identity may open the file.
pub(super) struct Asked<'a> {
    /// The identity.
    pub identity: &'a PluginIdentity,
    /// Where it is written down why it did not open the file.
    pub faults: &'a RefCell<Vec<PluginFault>>,
}

impl age::Identity for Asked<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        match self.identity.unwrap(stanzas) {
            Ok(key) => key.map(Ok),
            Err(fault) => {
                self.faults.borrow_mut().push(fault);
                None
            }
        }
    }
}

impl PluginIdentity {
    /// The key that one of the stanzas wraps; none where they are for others.
    fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, PluginFault> {
        let mut said = vec![stanza("add-identity", &[self.text.expose_secret()], &[])];
        said.extend(stanzas.iter().map(|wrapped| {
            let args = [
                &["0", wrapped.tag.as_str()][..],
                &wrapped.args.iter().map(String::as_str).collect::<Vec<_>>(),
            ];
            stanza("recipient-stanza", &args.concat(), &wrapped.body)
        }));
        let mut key = None;
        let mut why = None;
        self.plugin.talk("identity-v1", &said, |command| {
            match command.tag.as_str() {
                "file-key" if command.body.len() == FILE_KEY_BYTES && key.is_none() => {
                    key = Some(FileKey::init_with_mut(|key| key.copy_from_slice(&command.body)));
                }
                "error" => why = Some(told(command)),
                _ => return Ok(Reply::Unsupported),
            }
            Ok(Reply::Ok)
        })?;
        match (key, why) {
            (None, Some(why)) => Err(self.plugin.fault(why)),
            (key, _) => Ok(key),
        }
    }
}

/// The checksum of age's keys: Bech32's, of text as long as it comes.
enum Unbounded {}

impl bech32::Checksum for Unbounded {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = 6;
    const GENERATOR_SH: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    const TARGET_RESIDUE: u32 = 1;
}

/// What stands before the last `1` of a key whose checksum is right, in lower case.
fn prefix(text: &str) -> Option<String> {
    let checked = CheckedHrpstring::new::<Unbounded>(text).ok()?;
    Some(checked.hrp().to_lowercase())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_key_of_a_plugin_names_its_program_in_the_pinned_folder_and_nowhere_else() {
        let data = [7_u8; 1200];
        let hrp = |text: &str| bech32::Hrp::parse(text).unwrap();
        let long = bech32::encode_lower::<Unbounded>(hrp("age1pq"), &data).unwrap();
        let recipient = PluginRecipient::parse(&long, Path::new("/p")).unwrap();
        assert_eq!(recipient.plugin.program, Path::new("/p/age-plugin-pq"));
        let mut wrong = long.clone();
        wrong.pop();
        wrong.push(if long.ends_with('q') { 'p' } else { 'q' });
        assert_eq!(PluginRecipient::parse(&wrong, Path::new("/p")), None);
        let outside = bech32::encode_lower::<Unbounded>(hrp("age1../x"), &data).unwrap();
        assert_eq!(PluginRecipient::parse(&outside, Path::new("/p")), None);
        let identity = bech32::encode_upper::<Unbounded>(hrp("AGE-PLUGIN-YUBIKEY-"), &[1]).unwrap();
        let identity = PluginIdentity::parse(&identity, Path::new("/p")).unwrap();
        assert_eq!(identity.plugin.program, Path::new("/p/age-plugin-yubikey"));
    }

    /// A plugin that is a script. Another process writes it: one that this one has open while it starts a third is busy.
    fn script(folder: &Path, text: &str) -> Plugin {
        const WRITES: &str = r#"printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod 755 "$2""#;
        let plugin = Plugin::named("x", folder).unwrap();
        let written = Command::new("sh")
            .args(["-c", WRITES, "sh", text])
            .arg(&plugin.program)
            .status();
        assert!(written.unwrap().success());
        plugin
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
            (
                &*format!("while :; do sleep 0.2; printf -- '{MESSAGE}'; done"),
                "it had not done after 4 s",
                patience.in_all.unwrap(),
            ),
        ] {
            let plugin = script(folder.path(), does);
            let begun = Instant::now();
            let fault = plugin.talk_within(patience, "identity-v1", &[], |_| Ok(Reply::Ok));
            assert_eq!(fault.unwrap_err().why, said);
            assert!(begun.elapsed() >= at_least);
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let plugin = script(folder.path(), "read head && read body && printf -- '-> done\\n\\n'");
        assert_eq!(
            plugin.talk_within(patience, "identity-v1", &[], |_| Ok(Reply::Ok)),
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

    #[test]
    fn a_program_that_others_could_have_put_there_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let plugin = Plugin::named("x", folder.path()).unwrap();
        let said = |plugin: &Plugin| plugin.look().unwrap_err().to_string();
        assert!(
            said(&plugin).contains("it is not there: install it"),
            "{}",
            said(&plugin)
        );
        std::fs::write(&plugin.program, "").unwrap();
        std::fs::set_permissions(&plugin.program, std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(said(&plugin).contains("others could have changed"), "{}", said(&plugin));
        std::fs::set_permissions(&plugin.program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(plugin.look(), Ok(()));
    }
}
