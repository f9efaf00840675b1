//! How the agent notices what happens around it, and how it tells: files that lie elsewhere, journal, hook, heartbeat.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::etcd::{Etcd, Options, Security};
use super::support::host::{CLUSTER, Host};
use super::support::running::{Running, until};
use super::support::tools::Version;

const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";

fn status(host: &Host) -> serde_json::Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    serde_json::from_str(&text).expect("it is replaced whole")
}

fn schedules(host: &Host) -> usize {
    status(host)["schedules"].as_array().map_or(0, Vec::len)
}

fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_code(0).stderr
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test stands for a program of somebody else"
)]
fn a_link_that_is_swapped_outside_the_watched_directories_is_followed_and_remembered() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let text = fs::read_to_string(host.config()).unwrap();
    for (version, more) in [("1", ""), ("2", &*OFTEN.replace("often", "other"))] {
        let folder = host.path("elsewhere").join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), format!("{text}{more}")).unwrap();
    }
    let data = host.path("elsewhere/data");
    symlink("1", &data).unwrap();
    fs::remove_file(host.config()).unwrap();
    symlink(data.join("config.toml"), host.config()).unwrap();

    let agent = host.start(["agent"]);
    until("one schedule", || schedules(&host) == 1);
    symlink("2", host.path("elsewhere/new")).unwrap();
    fs::rename(host.path("elsewhere/new"), &data).unwrap();
    until("the other file's two", || schedules(&host) == 2);
    stop(agent);

    fs::write(host.path("elsewhere/2/config.toml"), "nonsense").unwrap();
    let shown = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(shown["schedules"].as_array().unwrap().len(), 2, "{shown}");
}

/// A server that counts the requests for its address.
fn listener() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/s3cret-token", listener.local_addr().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut stream, mut request) = (stream, [0; 4096]);
            let length = stream.read(&mut request).unwrap_or(0);
            if request[..length].starts_with(b"GET /s3cret-token ") {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).ok();
        }
    });
    (url, heard)
}

#[test]
fn the_hook_is_called_once_when_it_begins_and_once_when_it_is_over_and_the_heartbeat_stays_away_meanwhile() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let (url, heard) = listener();
    let (hook, told) = (host.path("hook"), host.path("told"));
    fs::write(
        &hook,
        "#!/bin/sh\necho \"$LIFEBOAT_EVENT $LIFEBOAT_SCHEDULE $1 $LIFEBOAT_CLUSTER\" >> \"${0%hook}told\"\n",
    )
    .unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let notify = format!(
        "[notify]\non_failure = [{hook:?}, \"dba\"]\nheartbeat = {{ env = \"HEARTBEAT\" }}\nheartbeat_every = \"10s\"\n"
    );
    host.configure(&etcd, &format!("{OFTEN}{notify}"));
    let mut command = host.command(["agent"]);
    // What systemd left for another program.
    command.env("HEARTBEAT", &url).env("JOURNAL_STREAM", "1:1");
    let agent = Running::start(command);
    until("the first heartbeat", || heard.load(Ordering::SeqCst) == 1);
    let read = || fs::read_to_string(&told).unwrap_or_default();
    assert_eq!(read(), "");

    etcd.stop();
    until("the hook to be called", || !read().is_empty());
    let mut attempts = BTreeSet::new();
    until("three failures", || {
        let again = status(&host)["schedules"][0]["failure"]["again_at"].clone();
        attempts.extend(again.as_str().map(str::to_owned));
        attempts.len() >= 3
    });
    assert_eq!(read(), "backup-failed often dba test\n");
    let before = heard.load(Ordering::SeqCst);
    etcd.boot();
    until("the recovery to be told", || read().contains("recovered"));
    assert_eq!(read(), "backup-failed often dba test\nrecovered  dba test\n");
    assert_eq!(heard.load(Ordering::SeqCst), before, "nothing was well");
    until("the heartbeat to come again", || heard.load(Ordering::SeqCst) > before);
    let said = stop(agent);
    assert!(said.contains(" info ready "), "{said}");
    assert!(said.contains("backup failed schedule=often"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_key_that_no_backup_needs_keeps_nothing_back_and_is_missed_aloud() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let missing = host.path("nowhere/identity.txt");
    host.reconfigure(
        "[encryption]\n",
        &format!("[encryption]\nidentity = {{ file = {missing:?} }}\n"),
    );
    let agent = host.start(["agent"]);
    until("a backup", || !status(&host)["schedules"][0]["last"].is_null());
    until("the notice", || {
        status(&host)["doubts"].to_string().contains("secret-unreadable")
    });
    let shown = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(shown.contains("`encryption.identity`"), "{shown}");
    let said = stop(agent);
    assert!(said.contains(missing.to_str().unwrap()), "{said}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test stands for a program of somebody else"
)]
fn rotated_tls_files_are_used_for_the_next_connection() {
    let security = Security::Tls;
    let Some(etcd) = Etcd::start(
        Version::V3_5,
        Options {
            security,
            ..Options::default()
        },
    ) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let key = &etcd.credentials.tls.as_ref().unwrap().client_key;
    let right = fs::read(key).unwrap();
    let rotate = |content: &[u8]| {
        let new = key.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, key).unwrap();
    };
    let agent = host.start(["agent"]);
    let taken = || {
        host.lifeboat(["--json", "list"]).json()["backups"]
            .as_array()
            .map_or(0, Vec::len)
    };
    let fails = || status(&host)["schedules"][0]["failure"].is_object();
    until("a backup", || taken() > 0);
    rotate(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n");
    until("the wrong key to be used", fails);
    rotate(&right);
    until("the right key to be used", || !fails());
    let said = stop(agent);
    assert!(!said.contains("configuration taken over"), "{said}");
}

#[test]
fn a_program_that_is_added_hears_what_is_wrong_already_and_can_be_tried() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    host.lifeboat(["notify", "--test"])
        .expect_code(78)
        .says(&["notify.on_failure"]);
    etcd.stop();
    let agent = host.start(["agent"]);
    until("a failure", || status(&host)["schedules"][0]["failure"].is_object());
    let (hook, told) = (host.path("hook"), host.path("told"));
    fs::write(&hook, "#!/bin/sh\necho \"$LIFEBOAT_EVENT\" >> \"${0%hook}told\"\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let (url, heard) = listener();
    let notify = format!("[notify]\non_failure = [{hook:?}]\nheartbeat = \"{url}\"\n");
    host.configure(&etcd, &format!("{OFTEN}{notify}"));
    let read = || fs::read_to_string(&told).unwrap_or_default();
    until("the program to hear of it", || read().contains("backup-failed"));
    stop(agent);

    let tried = host.lifeboat(["notify", "--test"]).expect_code(0).stdout;
    assert_eq!(tried, "notify.on_failure: ok\nnotify.heartbeat: ok\n");
    assert!(read().ends_with("test\n"), "{}", read());
    assert_eq!(heard.load(Ordering::SeqCst), 1, "the agent sent none: nothing was well");
    fs::write(&hook, "#!/bin/sh\nexit 3\n").unwrap();
    let tried = host.lifeboat(["--json", "notify", "--test"]).expect_code(3).json();
    assert_eq!(tried["tried"][0]["ok"], false);
    assert!(
        tried["tried"][0]["error"].as_str().unwrap().ends_with("exit status: 3"),
        "{tried}"
    );
}

#[test]
fn a_reload_asks_first_whether_the_configuration_can_be_taken_over() {
    let host = Host::without_cluster();
    let etcd = "http://127.0.0.1:1";
    let good = format!(
        "[cluster]\nname = \"prod\"\n[members.m1]\nclient_urls = [\"{etcd}\"]\n[encryption]\nrecipients = \
         [\"age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m\"]\n[destinations.local]\nurl = \
         \"file:///var/backups\"\n[cluster.auth]\nuser = \"root\"\npassword = {{ credential = \"password\" }}\n"
    );
    fs::write(host.config(), &good).unwrap();
    host.lifeboat(["agent", "--check"]).expect_code(0);
    fs::write(host.config(), good.replace("name =", "nmae =")).unwrap();
    host.lifeboat(["agent", "--check"]).expect_code(78).says(&["nmae"]);
    let missing = good.replace("{ credential = \"password\" }", "{ file = \"/nowhere/password\" }");
    fs::write(host.config(), missing).unwrap();
    host.lifeboat(["agent", "--check"])
        .expect_code(78)
        .says(&["/nowhere/password"]);

    // What the agent that runs refuses is refused here too, although nothing else is wrong with it.
    let password = host.path("password");
    fs::write(&password, "secret").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let good = good.replace("{ credential = \"password\" }", &format!("{{ file = {password:?} }}"));
    fs::write(host.config(), &good).unwrap();
    let agent = host.start(["agent"]);
    let status = host.path("state").join("prod/status.json");
    until("the agent to say how it is", || status.is_file());
    host.lifeboat(["agent", "--check"]).expect_code(0);
    let renamed = good.replace("\"prod\"", "\"stage\"");
    fs::write(host.config(), &renamed).unwrap();
    for _ in 0..2 {
        host.lifeboat(["agent", "--check"])
            .expect_code(78)
            .says(&["`cluster.name` was prod when the agent began and is stage now"]);
    }
    until("the agent to refuse it too", || {
        fs::read_to_string(&status).is_ok_and(|said| said.contains("`cluster.name` was prod when the agent began"))
    });
    stop(agent);
    host.lifeboat(["agent", "--check"]).expect_code(0);
}
