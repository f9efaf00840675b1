//! Destinations on a server that is reached by SSH: the same life as in a directory, on a real OpenSSH.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lifeboat::error_chain::with_causes;
use lifeboat::layout::ObjectName;
use lifeboat::secret::Secret;
use lifeboat::store::{Access, Error, Location, Server, SftpOptions, Store};

use super::stores::conformance;
use super::support::etcd::{Etcd, Options};
use super::support::host::{Host, files_below};
use super::support::life::{self, Away};
use super::support::shared;
use super::support::sshd::{SECRET, Sshd};
use super::support::tools::Version;

/// What a store may take before it is left out, and some time for what is done beside.
const ONE_WAIT: Duration = Duration::from_secs(30 + 15);

fn location(sshd: &Sshd) -> Location {
    Location::Server(Box::new(Server {
        user: sshd.user().to_owned(),
        host: "127.0.0.1".to_owned(),
        port: sshd.port(),
        path: sshd.root().display().to_string(),
        options: SftpOptions {
            host_key: Some(sshd.host_key()),
            key: Some(Secret::File(sshd.path("client"))),
            ..SftpOptions::default()
        },
    }))
}

fn open(location: &Location) -> Result<Store, Error> {
    let access = Access::Write { now: Timestamp::now() };
    Store::open(location, &"prod".parse().unwrap(), None, access)
}

/// The tables of a destination `away`; `more` is what else is said of it.
fn table(sshd: &Sshd, more: &str) -> String {
    format!(
        "[destinations.away]\nurl = \"{}\"\nkey = {{ file = {:?} }}\n{more}",
        sshd.url(),
        sshd.path("client")
    )
}

fn host_with(etcd: &Etcd, sshd: &Sshd, more: &str) -> Host {
    let host = Host::new(etcd);
    let known = format!("host_key = \"{}\"\n{more}", sshd.host_key());
    host.configure(etcd, &table(sshd, &known));
    host
}

/// What a host has in its environment that knows of the server by nothing else; its key by the home directory.
fn environment(key: &Path) -> [(&'static str, &OsStr); 2] {
    [
        ("LIFEBOAT_SFTP_KEY", key.as_ref()),
        ("LIFEBOAT_SFTP_PASSPHRASE", SECRET.as_ref()),
    ]
}

/// The names of all that belongs to a backup, on the server.
fn files_of(sshd: &Sshd, id: &str) -> Vec<String> {
    let files = files_below(&sshd.root()).into_iter();
    let files = files.map(|file| file.display().to_string());
    files.filter(|file| file.contains(id)).collect()
}

#[test]
fn a_server_keeps_the_promises_of_every_store() {
    let Some(sshd) = Sshd::start() else { return };
    let location = location(&sshd);
    conformance::conforms(&|| open(&location).unwrap(), 128 << 10, true);
    let store = open(&location).unwrap();
    let space = store.free_space().unwrap().unwrap();
    let own = nix::sys::statvfs::statvfs(&sshd.root()).unwrap();
    assert_eq!(space.total, own.blocks() * own.fragment_size());
    // Nothing that was being written is left, and nothing is anybody else's to read.
    for file in files_below(&sshd.root()) {
        assert!(!file.to_string_lossy().ends_with(".partial"), "{file:?}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &str| fs::metadata(sshd.root().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("prod"), mode("prod/store.json")), (0o750, 0o640));
}

#[test]
fn the_whole_life_of_backups_on_a_server() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let Some(sshd) = Sshd::start() else { return };
    let host = host_with(&etcd, &sshd, "[destinations.away.retention]\nkeep_last = 1\n");
    fs::create_dir(host.path(".ssh")).unwrap();
    let known = format!("[127.0.0.1]:{} {}\n", sshd.port(), sshd.host_key());
    fs::write(host.path(".ssh/known_hosts"), known).unwrap();
    let key = sshd.path("locked");
    let away = Away {
        name: "away",
        url: &sshd.url(),
        environment: &environment(&key),
        of_backup: &|id| files_of(&sshd, id),
    };
    life::lead(&host, &etcd.client(), &away);
}

#[test]
fn a_server_that_shows_another_key_is_told_nothing() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let host = Host::new(etcd);
    // Nobody wrote its key down: what it showed is told, and the line to write.
    host.configure(etcd, &table(&sshd, ""));
    let line = format!("`host_key = \"{}\"`", sshd.host_key());
    let refused = host.lifeboat(["backup", "--to", "away"]).expect_code(1);
    refused.says(&["showed a key that nobody wrote down: SHA256:", &line]);
    host.without_configuration(&environment(&sshd.path("locked")), ["list", "--from", &sshd.url()])
        .expect_code(1)
        .says(&["showed a key that nobody wrote down: SHA256:"]);
    // Another is known: by the configuration, or by a file.
    let other = fs::read_to_string(sshd.path("client.pub")).unwrap();
    let other = other.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    host.configure(etcd, &table(&sshd, &format!("host_key = \"{other}\"\n")));
    let refused = host.lifeboat(["check", "--online"]).expect_code(1);
    refused.says(&["is not one of those that are known of it: somebody may be in between: SHA256:"]);
    let known = host.path("known");
    fs::write(&known, format!("[127.0.0.1]:{} {other}\n", sshd.port())).unwrap();
    host.configure(etcd, &table(&sshd, &format!("known_hosts = {{ file = {known:?} }}\n")));
    let refused = host.lifeboat(["backup", "--to", "away"]).expect_code(1);
    refused.says(&["somebody may be in between"]);
    assert_eq!(files_below(&sshd.root()), [] as [PathBuf; 0]);
    assert!(!sshd.said().contains("Accepted"), "{}", sshd.said());
    // Its ECDSA key will do as well.
    let ecdsa = fs::read_to_string(sshd.path("host-ecdsa.pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {ecdsa}", sshd.port())).unwrap();
    host.backup();
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let host = host_with(etcd, &sshd, "");
    let by = |what: &str| {
        let known = format!("host_key = \"{}\"\n{what}\n", sshd.host_key());
        host.configure(etcd, &format!("[destinations.away]\nurl = \"{}\"\n{known}", sshd.url()));
        host.lifeboat(["backup", "--to", "away"])
    };
    let key = |path: PathBuf| format!("key = {{ file = {path:?} }}");
    let secret = host.path("secret");
    fs::write(&secret, SECRET).unwrap();
    let wrong = host.path("wrong");
    fs::write(&wrong, "wrong").unwrap();
    let is_refused = |what: &str, why: &str| {
        by(what).expect_code(1).says(&["refused: look at the credentials", why]);
    };
    is_refused(
        &key(sshd.make_key("stranger")),
        "is not let in by the key; it takes publickey",
    );
    is_refused(
        &key(sshd.make_key("rsa")),
        "is an RSA key, which is not read: make one with `ssh-keygen -t ed25519",
    );
    is_refused(
        &key(sshd.path("locked")),
        "`key` has a passphrase: name where it is by `passphrase`",
    );
    let locked = |passphrase: &Path| format!("{}\npassphrase = {{ file = {passphrase:?} }}", key(sshd.path("locked")));
    is_refused(&locked(&wrong), "`passphrase` is not its own");
    is_refused(&key(secret.clone()), "is no private key of OpenSSH's");
    by(&locked(&secret)).expect_code(0);
    let password = |path: &Path| format!("password = {{ file = {path:?} }}");
    is_refused(&password(&wrong), "is not let in by the password");
    if sshd.takes_passwords() {
        by(&password(&secret)).expect_code(0);
        by(&format!("{}\n{}", key(sshd.path("stranger")), password(&secret))).expect_code(0);
    }
}

#[test]
fn a_folder_that_is_not_there_is_named_and_never_made() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let host = host_with(etcd, &sshd, "");
    fs::remove_dir(sshd.root()).unwrap();
    host.lifeboat(["backup"]).expect_code(3).says(&[
        "destination away does not have it: ",
        "there is no such folder on the server",
    ]);
    fs::create_dir(sshd.root()).unwrap();
    host.backup();
    // Gone again, with all that was in it: what this host knows of it keeps a new one from being taken for it.
    fs::rename(sshd.root(), sshd.path("elsewhere")).unwrap();
    host.lifeboat(["backup"])
        .expect_code(3)
        .says(&["store ", "is not in `sftp://"]);
    fs::create_dir(sshd.root()).unwrap();
    host.lifeboat(["backup"])
        .expect_code(3)
        .says(&["store ", "is not in `sftp://"]);
    assert_eq!(files_below(&sshd.root()), [] as [PathBuf; 0]);
}

#[test]
fn a_server_that_is_gone_or_hangs_costs_its_deadline_and_no_other_destination() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(mut sshd) = Sshd::start() else { return };
    let host = host_with(etcd, &sshd, "");
    host.backup();
    let goes_on = |said: &str| {
        let begun = Instant::now();
        let taken = host
            .lifeboat(["backup"])
            .expect_code(3)
            .says(&["destination away does not have it: ", said]);
        assert!(begun.elapsed() < ONE_WAIT, "{:?}", begun.elapsed());
        let id = taken.stdout.trim().to_owned();
        let has_it = |file: &PathBuf| file.to_string_lossy().contains(&id);
        assert!(host.stored_files().iter().any(has_it));
    };
    sshd.freeze(true);
    goes_on("no answer within ");
    sshd.freeze(false);
    host.backup();
    sshd.kill();
    goes_on("Connection refused");
    sshd.boot();
    host.backup();
}

/// An object of so many bytes that they do not fit into what is under way at once.
fn content() -> Vec<u8> {
    (0..6_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn full() -> ObjectName {
    "ab/20261120T101530Z-9f3c4a1b/full.db.zst.age".parse().unwrap()
}

#[test]
fn what_is_being_sent_or_read_outlives_a_connection() {
    let Some(mut sshd) = Sshd::start() else { return };
    let location = location(&sshd);
    let store = open(&location).unwrap();
    let content = content();
    let mut upload = store.begin(&full()).unwrap();
    for (index, block) in content.chunks(1_000_000).enumerate() {
        match index {
            2 => sshd.break_connections(),
            4 => {
                sshd.kill();
                sshd.boot();
            }
            _ => {}
        }
        upload.write_all(block).unwrap();
    }
    sshd.break_connections();
    upload.commit().unwrap();
    assert!(fs::read(sshd.root().join("prod").join(full().to_string())).unwrap() == content);

    let (mut object, _) = store.open_object(&full()).unwrap();
    let mut read = vec![0; 3_000_000];
    object.read_exact(&mut read).unwrap();
    sshd.break_connections();
    object.read_to_end(&mut read).unwrap();
    assert!(read == content);
    // Small questions are asked again.
    sshd.break_connections();
    assert_eq!(store.list().unwrap().len(), 2);
    store.remove(&full()).unwrap();
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_nothing_that_is_listed() {
    let Some(mut sshd) = Sshd::start() else { return };
    let location = location(&sshd);
    let store = open(&location).unwrap();
    let content = content();
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&content[..3_000_000]).unwrap();
    sshd.kill();
    let written = upload.write_all(&content[3_000_000..]);
    let ended = written.and_then(|()| upload.commit().map_err(std::io::Error::other));
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("sftp://"), "{error}");
    sshd.boot();
    let listed = store.list().unwrap();
    let partial = listed
        .iter()
        .find(|object| matches!(object.name, lifeboat::layout::Listed::Partial { .. }));
    assert!(partial.is_some_and(|partial| partial.bytes <= 6_000_000), "{listed:?}");
    assert!(matches!(store.open_object(&full()), Err(Error::NotFound { .. })));
    // A run that is known to be dead is swept at once.
    let begun = lifeboat::store::Begun {
        dead: [full().chain().unwrap().chain.clone()].into(),
        ..lifeboat::store::Begun::default()
    };
    assert_eq!(store.sweep(&begun).unwrap().len(), 1);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn a_connection_that_breaks_while_the_time_is_asked_for_is_an_error_and_no_end() {
    let Some(sshd) = Sshd::start_mortal() else { return };
    let store = open(&location(&sshd)).unwrap();
    let ahead = store.now().unwrap().duration_since(Timestamp::now());
    assert!(ahead.abs() < jiff::SignedDuration::from_mins(1), "{ahead}");
    sshd.dies_of("fstat");
    let error = with_causes(&store.now().unwrap_err());
    assert!(
        sshd.has_died_of("fstat") && error.contains("the connection broke"),
        "{error}"
    );
    store.now().unwrap();
}

#[test]
fn a_document_of_another_is_not_taken_for_ones_own_where_the_reply_is_lost() {
    let Some(sshd) = Sshd::start_mortal() else { return };
    let store = open(&location(&sshd)).unwrap();
    let pin: ObjectName = "ab/20261120T101530Z-9f3c4a1b/pin.json".parse().unwrap();
    store.put_new(&pin, b"of one").unwrap();
    // The name is taken, so the other's file goes; the connection breaks before that is said.
    sshd.dies_of("unlink");
    let second = store.put_new(&pin, b"of two");
    assert!(sshd.has_died_of("unlink"));
    assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
    assert_eq!(store.read_small(&pin, 100).unwrap(), b"of one");
    // One's own is known again.
    store.remove(&pin).unwrap();
    sshd.dies_of("unlink");
    store.put_new(&pin, b"of two").unwrap();
    assert!(sshd.has_died_of("unlink"));
    assert_eq!(store.read_small(&pin, 100).unwrap(), b"of two");
}
