//! An SSH server of a test's own: OpenSSH's, on a port of the loopback address, that serves files and nothing else.
//!
//! As root it runs in a mount namespace, where it finds the accounts that it wants and nothing of the machine is changed. As
//! an ordinary user it runs as he is, lets him alone in, and takes no passwords.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::{ports, preload, server, tools};

/// The password of [`Sshd::user`], and the passphrase of keys that have one.
pub const SECRET: &str = super::moto::SECRET;

/// The same, as `crypt(3)` keeps it.
const CRYPTED: &str =
    "$6$lifeboat$WXMQEBEpM1nxXfgXobw3d42EU8cuslS.Zv3egcrbCPLvf6ShMYpzry/LjiP63WXp0LMSAI8TXn0H.5IzSpZiZ0";

/// Stands before what a server is asked for: the process that serves a connection dies of it, as told once by a file.
const DYING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
static void die_of(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", DYING_OF, name);
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    if (real(path) == 0) kill(getpid(), SIGKILL);
}
int fstat(int a, struct stat *b) {
    static int (*real)(int, struct stat *);
    if (!real) real = dlsym(RTLD_NEXT, "fstat");
    die_of("fstat");
    return real(a, b);
}
int unlink(const char *a) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    int done = real(a);
    die_of("unlink");
    return done;
}
"#;

/// A server. Dropping it ends it; what was stored there goes with it.
pub struct Sshd {
    binary: PathBuf,
    keygen: PathBuf,
    port: u16,
    user: String,
    is_root: bool,
    process: Option<Child>,
    /// What it is started with.
    shim: Option<PathBuf>,
    dir: TempDir,
}

impl Sshd {
    /// One that serves, or `None` after saying that the test is skipped.
    pub fn start() -> Option<Sshd> {
        let mut server = Sshd::made()?;
        server.boot();
        Some(server)
    }

    /// The same, of which a connection can be had to die of what it is asked for: see [`Sshd::dies_of`].
    pub fn start_mortal() -> Option<Sshd> {
        let mut server = Sshd::made()?;
        let told = server.path("dying");
        let source = DYING.replace("DYING_OF", &format!("{:?}", told.display().to_string()));
        let shim = preload::shim(&told, &source, "a library that stands before fstat(2)")?;
        server.shim = Some(shim);
        server.boot();
        Some(server)
    }

    /// Has the next process die that looks at an open file (`fstat`), before it does, or that removes a name (`unlink`), when
    /// it has done so.
    pub fn dies_of(&self, call: &str) {
        fs::write(self.path("dying").join(call), "").unwrap();
    }

    /// Whether a process has died of it.
    pub fn has_died_of(&self, call: &str) -> bool {
        !self.path("dying").join(call).exists()
    }

    fn made() -> Option<Sshd> {
        let is_root = nix::unistd::geteuid().is_root();
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let server = Sshd {
            binary: tools::debian("sshd")?,
            keygen: tools::debian("ssh-keygen")?,
            port: ports::free(),
            user: match is_root {
                true => "keeper".to_owned(),
                false => own.expect("this user has a name").name,
            },
            is_root,
            process: None,
            shim: None,
            dir: tempfile::Builder::new()
                .prefix("lifeboat-sshd-")
                .tempdir()
                .expect("a directory can be made"),
        };
        fs::create_dir(server.root()).expect("our own directory can be written");
        for key in ["host", "host-ecdsa", "client", "locked"] {
            server.make_key(key);
        }
        let let_in = ["client.pub", "locked.pub"].map(|name| fs::read_to_string(server.path(name)).unwrap());
        fs::write(server.path("authorized"), let_in.concat()).unwrap();
        Some(server)
    }

    /// Makes a key, as people do; `locked` has a passphrase.
    pub fn make_key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let kind = match name {
            "host-ecdsa" => "ecdsa",
            "rsa" => "rsa",
            _ => "ed25519",
        };
        let passphrase = if name == "locked" { SECRET } else { "" };
        let made = Command::new(&self.keygen)
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .status();
        assert!(made.is_ok_and(|made| made.success()), "ssh-keygen makes a key");
        path
    }

    /// Starts it again after [`Sshd::kill`], with what was stored before.
    pub fn boot(&mut self) {
        let path = |name: &str| self.path(name).display().to_string();
        let settings = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {}\nPermitRootLogin yes\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp -l VERBOSE\nForceCommand internal-sftp\n",
            self.port,
            path("host"),
            path("host-ecdsa"),
            path("authorized"),
        );
        fs::write(self.path("settings"), settings).unwrap();
        let mut command = match self.is_root {
            true => self.in_a_namespace(),
            false => Command::new(self.absolute()),
        };
        command
            .args(["-D", "-e", "-f"])
            .arg(self.path("settings"))
            .process_group(0);
        if let Some(shim) = &self.shim {
            preload::into(&mut command, shim);
        }
        let log = self.path("log");
        server::boot(&mut command, &mut self.process, "sshd", self.port, &log);
    }

    /// The server in a mount namespace with the accounts of this test.
    fn in_a_namespace(&self) -> Command {
        let with = |file: &str, line: &str| {
            let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            let own = self.path(file);
            fs::write(&own, format!("{text}{line}")).unwrap();
            own
        };
        let passwd = with(
            "passwd",
            &format!(
                "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n{}:x:0:0::/:/bin/sh\n",
                self.user
            ),
        );
        let shadow = with("shadow", &format!("{}:{CRYPTED}:19000:0:99999:7:::\n", self.user));
        fs::create_dir_all(self.path("run/sshd")).unwrap();
        let script = "mount --make-rprivate / && mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/shadow && \
                      mount --bind \"$3\" /run && shift 3 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]);
        command.args([passwd, shadow, self.path("run"), self.absolute()]);
        command
    }

    /// It starts itself again, by a name that does not depend on where it is.
    fn absolute(&self) -> PathBuf {
        match self.binary.is_absolute() {
            true => self.binary.clone(),
            false => PathBuf::from("/usr/sbin/sshd"),
        }
    }

    /// The URL of a folder that is there.
    pub fn url(&self) -> String {
        format!("sftp://{}@127.0.0.1:{}{}", self.user, self.port, self.root().display())
    }

    /// Who it lets in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it takes passwords.
    pub fn takes_passwords(&self) -> bool {
        self.is_root
    }

    /// The folder that [`Sshd::url`] means.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// A file of the server's, or of those that it lets in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its own public key, without the comment.
    pub fn host_key(&self) -> String {
        public(&self.path("host.pub"))
    }

    /// Kills it, and whoever serves for it, with SIGKILL: its port is nobody's then.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let served = self.serving(process.id());
            process.kill().expect("our own child can be killed");
            process.wait().expect("our own child can be waited for");
            for pid in served {
                signal("KILL", pid);
            }
        }
    }

    /// Breaks all connections, and takes new ones.
    pub fn break_connections(&self) {
        let pid = self.process.as_ref().expect("it was started").id();
        for pid in self.serving(pid) {
            signal("KILL", pid);
        }
    }

    /// Stops it where it stands, or lets it go on: it takes connections and answers none.
    pub fn freeze(&self, is_frozen: bool) {
        let pid = self.process.as_ref().expect("it was started").id();
        for pid in self.serving(pid).into_iter().chain([pid]) {
            signal(if is_frozen { "STOP" } else { "CONT" }, pid);
        }
    }

    /// The processes that serve one connection each.
    pub fn connections(&self) -> usize {
        let pid = self.process.as_ref().expect("it was started").id();
        self.serving(pid).len()
    }

    /// All that this process has begun.
    fn serving(&self, pid: u32) -> Vec<u32> {
        let (mut all, mut next) = (Vec::new(), vec![pid]);
        while let Some(parent) = next.pop() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            all.extend(&children);
            next.extend(children);
        }
        all
    }

    /// What it has written.
    pub fn said(&self) -> String {
        server::said(&self.path("log"))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            eprintln!("--- the last of sshd's log\n{}", last.join("\n"));
        }
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\" 2>/dev/null", name, &pid.to_string()])
        .status();
    assert!(sent.is_ok(), "a shell runs here");
}

/// The kind and the bytes of a public key.
fn public(path: &Path) -> String {
    let line = fs::read_to_string(path).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
