//! The agent's sandbox on a live unit: what `check` prints lets the agent in, and what it cannot write to does not stop it.

use std::path::Path;
use std::process::Command;

use super::{KEEP_TWO, OFTEN};
use crate::cluster::Cluster;
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{CONFIG, STORE, UNIT, backups, drop_in, enable, ids, install, lifeboat, manifests};
use crate::support::tls::Tls;

/// Where the keys of etcd are, which only it may read.
const KEYS: &str = "/etc/etcd/pki";
/// Destinations that the unit as it is shipped cannot write to.
const OUTSIDE: [&str; 2] = ["/srv/etcd-backups", "/home/backups/etcd"];
/// Where the agent looks for the programs of keys, one of them, and a key that it opens.
const PLUGINS: &str = "/usr/lib/lifeboat/plugins";
const PLUGIN: &str = env!("CARGO_BIN_EXE_age-plugin-sample");
const PLUGIN_KEY: &str = "/etc/lifeboat/plugin-key.txt";
/// Each backup is opened soon.
const PROOF: &str = "[schedules.proof]\nkind = \"verify\"\nevery = \"3s\"\njitter = \"0s\"\n";
/// A destination in the folder of the state, which the unit may write to.
const INSIDE: &str = "/var/lib/lifeboat/second";
/// Where the file system of a destination is mounted.
const MOUNT: &str = "/mnt/etcd-backups";

pub fn what_check_prints_lets_the_agent_in(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    serve_with_tls(host);
    // One is there and root's, the other is not there at all.
    host.run(["mkdir", OUTSIDE[0]]);
    let [srv, home] = OUTSIDE;
    let key = |name: &str| format!("{{ file = \"{KEYS}/{name}\" }}");
    let more = format!(
        "[members.{}]\nclient_urls = [\"https://127.0.0.1:2379\"]\n\
         [cluster.tls]\nca = {}\ncert = {}\nkey = {}\n\
         [destinations.srv]\nurl = \"file://{srv}\"\n[destinations.home]\nurl = \"file://{home}\"\n",
        host.name,
        key("ca.pem"),
        key("client.pem"),
        key("client-key.pem"),
    );
    drop_in(host, "10-more.toml", &more);

    let found = lifeboat(host, ["--json", "check"]).expect_code(1).json();
    let unmet = found["sandbox"]["unmet"].as_array().map_or(0, Vec::len);
    assert_eq!(unmet, 1 + OUTSIDE.len(), "{found}");
    do_as_printed(host, &lifeboat(host, ["check"]).expect_code(1));
    let content = lifeboat(host, ["check", "--online"]).expect_code(0);
    assert!(
        content
            .stdout
            .contains("the sandbox allows everything this configuration needs"),
        "{content}"
    );
    for destination in [STORE, srv, home] {
        until(&format!("the agent's backups in {destination}"), || {
            let found = manifests(&host.path(destination));
            let is_scheduled = found.iter().any(|manifest| manifest["schedule"] == "often");
            holds(is_scheduled, host.journal(UNIT))
        });
    }
    lifeboat(host, ["status"]).expect_code(0);
}

pub fn the_program_of_a_key_is_run_inside_it(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}{PROOF}"));
    let keys = Command::new(PLUGIN).arg("plain").output().expect("it runs here");
    let keys = String::from_utf8(keys.stdout).expect("keys are text");
    let (recipient, identity) = keys.trim().split_once('\n').expect("one line each");
    host.copy_in(Path::new(PLUGIN), &format!("{PLUGINS}/age-plugin-sample"));
    host.write(PLUGIN_KEY, identity);
    host.run(["chown", "root:lifeboat", PLUGIN_KEY]);
    host.run(["chmod", "0640", PLUGIN_KEY]);
    host.shell(&format!(
        "sed -i 's|^recipients = .*|recipients = [\"{recipient}\"]\\nidentity = {{ file = \"{PLUGIN_KEY}\" }}|' {CONFIG}"
    ));
    enable(host);
    until("a backup that was made for the key and opened by it", || {
        let proven = backups(host)
            .iter()
            .any(|backup| backup["proof"] == "hash_kv" && backup["checked_at"].is_string());
        holds(proven, host.journal(UNIT))
    });
    let recipients = &manifests(&host.path(STORE))[0]["recipients"];
    assert_eq!(*recipients, serde_json::json!([recipient]));
    lifeboat(host, ["check", "--online"]).expect_code(0);
}

pub fn a_destination_that_turns_read_only_is_left_out_loudly_until_it_is_mended(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let second = format!("[destinations.second]\nurl = \"file://{INSIDE}\"\nretention = {{ keep_last = 2 }}\n");
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}{second}"));
    host.shell(&format!(
        "mkdir {INSIDE} && mount -t tmpfs tmpfs {INSIDE} && chown lifeboat:lifeboat {INSIDE}"
    ));
    enable(host);
    let agent = host.main_pid(UNIT);
    let in_second = || host.shell(&format!("find {INSIDE} -name 'full-*.json' | sort")).stdout;
    until("backups in both", || {
        holds(!ids(host).is_empty() && !in_second().is_empty(), host.journal(UNIT))
    });

    // Refused while a backup is being written there.
    until("the file system to turn read-only", || {
        let done = host.run_any(["mount", "-o", "remount,ro", INSIDE]);
        holds(done.code == 0, done)
    });
    let (left, before) = (in_second(), ids(host));
    until("the agent to say so", || {
        let told = host.shell(&format!(
            "journalctl --no-pager --output=cat --unit {UNIT} LIFEBOAT_EVENT=destination-disabled || true"
        ));
        holds(told.stdout.contains("cannot write to destination second"), told)
    });
    let wrong = lifeboat(host, ["status"]).expect_code(1);
    assert!(wrong.stdout.contains("destination second"), "{wrong}");
    until("the other destination to get more backups", || {
        let here = host.shell(&format!("find {STORE} -name 'full-*.json'")).stdout;
        let is_new = before.iter().all(|id| !here.contains(id.as_str()));
        holds(is_new && !here.is_empty(), here)
    });
    assert_eq!(in_second(), left);

    host.run(["mount", "-o", "remount,rw", INSIDE]);
    until("backups in the second again", || {
        let now = in_second();
        holds(now != left, (now, host.journal(UNIT)))
    });
    until("all to be well again", || {
        let now = lifeboat(host, ["status"]);
        holds(now.code == 0, now)
    });
    assert_eq!(host.main_pid(UNIT), agent, "the agent was never restarted");
}

pub fn another_file_system_in_place_of_a_destinations_is_what_the_agent_sees_too(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(&cluster, &format!("{KEEP_TWO}{OFTEN}"));
    let mounted = format!(
        "[destinations.local]\nenabled = false\n\
         [destinations.mounted]\nurl = \"file://{MOUNT}/lifeboat\"\nretention = {{ keep_last = 50 }}\n"
    );
    drop_in(host, "10-mounted.toml", &mounted);
    host.shell(&format!(
        "mkdir -p {MOUNT} && mount -t tmpfs tmpfs {MOUNT} && install -d -o lifeboat -g lifeboat {MOUNT}/lifeboat"
    ));
    // Named by the unit as the quick start does it, nothing of the unit's holds it.
    allow(host, MOUNT);
    enable(host);
    let agent = host.main_pid(UNIT);
    exchange(host, "/srv/second");
    assert_eq!(host.main_pid(UNIT), agent, "it had to be restarted");

    // Whoever names the folder in it has systemd put a mount there, which holds the one beneath.
    allow(host, &format!("{MOUNT}/lifeboat"));
    host.run(["systemctl", "restart", UNIT]);
    let agent = host.main_pid(UNIT);
    exchange(host, "/srv/third");
    assert_ne!(host.main_pid(UNIT), agent);
    let told = host.journal(UNIT);
    assert!(
        told.contains(&format!("{MOUNT} was unmounted on the host, and this agent still sees")),
        "{told}"
    );
}

/// Lets the agent write there, and nowhere else outside.
fn allow(host: &Host, path: &str) {
    let text = format!("[Service]\nReadWritePaths=-{path}\n");
    host.write("/etc/systemd/system/lifeboat.service.d/destination.conf", &text);
    host.run(["systemctl", "daemon-reload"]);
}

/// Once there are backups, puts a copy of what is mounted in its place; then the agent's next ones must be there.
fn exchange(host: &Host, copy: &str) {
    let in_copy = || manifests(&host.path(&format!("{copy}/lifeboat"))).len();
    let here = || host.shell(&format!("find {MOUNT} -name 'full-*.json' | wc -l")).stdout;
    let before = here();
    until("a backup more", || {
        holds(here() != before, (here(), host.journal(UNIT)))
    });
    // A backup may just be written there; and none may be that is not in the copy.
    until("it to be exchanged", || {
        let line = format!(
            "systemctl kill --signal=STOP {UNIT}; \
             rm -rf {copy} && cp -a {MOUNT} {copy} && umount {MOUNT} && mount --bind {copy} {MOUNT}; \
             code=$?; systemctl kill --signal=CONT {UNIT}; exit $code"
        );
        let done = host.run_any(["sh", "-c", &line]);
        holds(done.code == 0, done)
    });
    let copied = in_copy();
    until("the agent's backups in what is mounted now", || {
        holds(in_copy() > copied + 1, (in_copy(), host.journal(UNIT)))
    });
    until("all to be well", || {
        let now = lifeboat(host, ["status"]);
        holds(now.code == 0, now)
    });
}

/// Gives etcd certificates, and lets in only who has one of the same authority.
fn serve_with_tls(host: &Host) {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let tls = Tls::generate(folder.path());
    for file in [
        &tls.ca,
        &tls.server_cert,
        &tls.server_key,
        &tls.client_cert,
        &tls.client_key,
    ] {
        let name = file.file_name().expect("it is a file");
        host.copy_in(file, &Path::new(KEYS).join(name).display().to_string());
    }
    host.shell(&format!(
        "chown etcd:etcd {KEYS}/* && chmod 0644 {KEYS}/* && chmod 0600 {KEYS}/*-key.pem"
    ));
    host.shell(&format!(
        "printf '%s\\n' ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379 ETCD_ADVERTISE_CLIENT_URLS=https://127.0.0.1:2379 \
         ETCD_TRUSTED_CA_FILE={KEYS}/ca.pem ETCD_CERT_FILE={KEYS}/server.pem ETCD_KEY_FILE={KEYS}/server-key.pem \
         ETCD_CLIENT_CERT_AUTH=true >>/etc/default/etcd"
    ));
    host.run(["systemctl", "restart", "etcd"]);
}

/// Does what `check` has printed, to the letter.
#[track_caller]
fn do_as_printed(host: &Host, check: &Done) {
    let mut lines = check.stdout.lines();
    let path = lines
        .by_ref()
        .find_map(|line| line.strip_prefix("to give the agent access, write this to "));
    let path = path
        .unwrap_or_else(|| panic!("no drop-in: {check}"))
        .trim_end_matches(':');
    let indented = lines.by_ref().skip(1).map_while(|line| line.strip_prefix("    "));
    let unit: Vec<&str> = indented.collect();
    host.write(path, &format!("{}\n", unit.join("\n")));
    let settings = lines
        .clone()
        .filter_map(|line| line.strip_prefix("and in the configuration: "));
    let settings: Vec<&str> = settings.collect();
    drop_in(host, "50-credentials.toml", &settings.join("\n"));
    let commands = lines.filter_map(|line| {
        let command = line.strip_prefix("as root: ").or_else(|| line.strip_prefix("then: "));
        command.or_else(|| line.strip_prefix("      "))
    });
    let commands: Vec<&str> = commands.collect();
    assert!(unit.len() > 1 && !settings.is_empty() && commands.len() > 3, "{check}");
    for command in commands {
        host.shell(command);
    }
}
