//! etcd's settings as a running systemd passes them on: read from the unit, and after we gave it others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lifeboat::etcd_settings::{self, Environment, EtcdSettings, ExecFlag, Given, NewCluster, Source, Unit};
use lifeboat::systemd::{Systemd, UnitName, read_file};

use super::spellings::{CLIENT_URL, DATA_DIR, PEER_URL, spellings};
use super::support::client::HashKv;
use super::support::etcd::{Etcd, Options};
use super::support::running::until;
use super::support::tools::{self, Version};

const WAIT: Duration = Duration::from_secs(20);
const FOLDER: &str = "/run/lifeboat-test-settings";

/// A program called etcd that writes down what it was started with.
const PROGRAM: &str = "#!/bin/sh\nprintf '%s\\0' \"$@\" >/run/lifeboat-test-settings/words\n/usr/bin/env -0 >/run/lifeboat-test-settings/environment\n";

/// A unit of ours with everything that it may leave.
struct Host {
    name: UnitName,
    systemd: Systemd,
}

impl Host {
    async fn new(case: &str, unit: &str) -> Host {
        let name: UnitName = format!("lifeboat-test-{case}.service").parse().unwrap();
        fs::create_dir_all(FOLDER).unwrap();
        let program = Path::new(FOLDER).join("etcd");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(Path::new("/run/systemd/system").join(name.as_str()), unit).unwrap();
        let systemd = Systemd::connect().await.unwrap();
        systemd.reload().await.unwrap();
        Host { name, systemd }
    }

    async fn unit(&self) -> Unit {
        self.systemd.etcd_unit(&self.name).await.unwrap()
    }

    async fn discover(&self) -> EtcdSettings {
        etcd_settings::discover(&self.unit().await, &Given::default(), &read_file).unwrap()
    }

    /// What the program was really started with, read by the same rules.
    async fn started_with(&self) -> EtcdSettings {
        let service = self.systemd.start_and_wait(&self.name, WAIT).await.unwrap();
        assert_eq!((&*service.result, service.main_status), ("success", 0));
        let list = |file: &str| -> Vec<String> {
            let text = fs::read_to_string(Path::new(FOLDER).join(file)).unwrap();
            text.split_terminator('\0').map(str::to_owned).collect()
        };
        let mut words = vec!["etcd".to_owned()];
        words.extend(list("words"));
        let unit = Unit {
            exec_start: vec![etcd_settings::Command {
                program: PathBuf::from(FOLDER).join("etcd"),
                words,
                flags: vec![ExecFlag::NoVariables],
            }],
            environment: Environment {
                manager: list("environment"),
                ..Environment::default()
            },
            ..self.unit().await
        };
        etcd_settings::discover(&unit, &Given::default(), &read_file).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_file(Path::new("/run/systemd/system").join(self.name.as_str())).ok();
        fs::remove_dir_all(format!("/etc/systemd/system/{}.d", self.name)).ok();
        fs::remove_file(format!("/etc/lifeboat/restore/{}.env", self.name)).ok();
        fs::remove_dir_all(FOLDER).ok();
        Command::new("systemctl").arg("daemon-reload").status().ok();
    }
}

/// Where settings are is told apart by what the unit says, not by what the program gets.
fn without_source(settings: EtcdSettings) -> EtcdSettings {
    EtcdSettings {
        source: Source::Flags,
        places: std::collections::BTreeMap::new(),
        ..settings
    }
}

fn cluster() -> NewCluster {
    NewCluster {
        name: "m1".to_owned(),
        initial_cluster: "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380".to_owned(),
        advertise_peer_urls: vec!["http://10.0.0.1:2380".to_owned()],
    }
}

const FILE: &str = "# settings\nETCD_NAME=\"m1\"\n ETCD_DATA_DIR = /run/da\\\nta dir \nETCD_INITIAL_CLUSTER='m1=http://a:2380,'\"m2=http://b:2380\"\n\
    ETCD_INITIAL_CLUSTER_TOKEN=a\\ \\\"b\"c\nFLAGS=\"--wal-dir '/run/w a l'  --peer-client-cert-auth\"\nEMPTY=\n";

#[test]
fn settings_are_those_that_systemd_passes_on_before_and_after_a_restore() {
    if !Path::new("/run/systemd/system").is_dir() || !nix::unistd::geteuid().is_root() {
        tools::skip("systemd", "this needs root on a host that systemd started");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let yaml = "name: m1\ninitial-cluster: m1=http://a:2380\ndata-dir: /run/data\n";
    let cases = [
        ("variables", r"$FLAGS $NONE $EMPTY"),
        (
            "flags",
            r#"--name=m1 "--initial-cluster=${ETCD_INITIAL_CLUSTER}" --initial-cluster-token '100%% $$x' $FLAGS"#,
        ),
        ("file", "--config-file=/run/lifeboat-test-settings.yaml"),
    ];
    fs::write("/run/lifeboat-test-settings.yaml", yaml).unwrap();
    fs::write("/run/lifeboat-test-settings.env", FILE).unwrap();
    for (case, words) in cases {
        runtime.block_on(check(case, &format!("{FOLDER}/etcd {words}")));
    }
    let script = format!(r#"/bin/bash -c "GOMAXPROCS=$(nproc) {FOLDER}/etcd --name=\"${{ETCD_NAME}}\" $FLAGS""#);
    runtime.block_on(check("shell", &script));
    let script = format!(r#"/bin/sh -c 'exec {FOLDER}/etcd --name "m\\$1"'"#);
    runtime.block_on(check("shell-flags", &script));
    fs::remove_file("/run/lifeboat-test-settings.yaml").unwrap();
    fs::remove_file("/run/lifeboat-test-settings.env").unwrap();
}

async fn check(case: &str, command: &str) {
    let unit = format!(
        "[Service]\nType=oneshot\nEnvironment=ETCD_NAME=unit\nEnvironmentFile=-/run/lifeboat-test-none\n\
         EnvironmentFile=/run/lifeboat-test-settings.env\nWorkingDirectory=/run\nExecStart={command}\n"
    );
    let host = Host::new(case, &unit).await;
    let found = host.discover().await;
    assert_eq!(
        without_source(found.clone()),
        without_source(host.started_with().await),
        "{case}"
    );
    let given = Given::default();
    let unit = host.unit().await;
    let overlay = etcd_settings::overlay(&unit, &given, &cluster(), "first", &read_file).unwrap();
    assert_eq!(overlay.is_some(), case == "variables", "{case}");
    let Some(overlay) = overlay else { return };
    let token = "lifeboat-0123456789abcdef $$ ${HOME} `id` #; é";
    for file in overlay.files(token) {
        fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        fs::write(&file.path, &file.content).unwrap();
    }
    host.systemd.reload().await.unwrap();
    let laid = host.discover().await;
    assert_eq!(laid.initial_cluster_token, token);
    assert_eq!((&laid.name, &laid.data_dir), (&found.name, &found.data_dir));
    assert_eq!(without_source(host.started_with().await), without_source(laid));
    let again = etcd_settings::overlay(&host.unit().await, &given, &cluster(), "first", &read_file).unwrap();
    assert_eq!(again, Some(overlay));
}

/// What a restore relies on where it leaves etcd's settings as they are.
#[test]
fn etcd_serves_what_is_laid_out_whatever_its_settings_say_of_the_cluster() {
    for version in Version::ALL {
        let Some(mut etcd) = Etcd::start(version, Options::default()) else {
            continue;
        };
        let before = written(&etcd);
        etcd.stop();
        etcd.set_flags(&[
            "--name=other",
            "--initial-cluster=m8=http://127.0.0.1:1,m9=http://127.0.0.1:2",
            "--initial-cluster-token=other",
            "--initial-cluster-state=new",
        ]);
        etcd.boot();
        assert_eq!(etcd.client().hash_kv(before.0).unwrap(), before.1, "{version:?}");
        etcd.stop();

        // The other half: a variable beside a flag of the same name, whatever both say.
        let started = Command::new(etcd.binary())
            .args(["--name=m1", "--data-dir"])
            .arg(&etcd.members[0].data_dir)
            .env("ETCD_NAME", "m1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(
            !started.status.success() && said.contains("shadowed"),
            "{version:?}: {said}"
        );
    }
}

/// The lab does the same with the distributions' older releases.
#[test]
fn the_newest_releases_read_every_yaml_spelling_as_we_do() {
    for version in [Version::V3_6, Version::V3_7] {
        let Some(mut etcd) = Etcd::start(version, Options::default()) else {
            continue;
        };
        let before = written(&etcd);
        etcd.stop();
        let (member, file) = (&etcd.members[0], etcd.directory().join("etcd.yml"));
        let data_dir = member.data_dir.display().to_string();
        let in_files = spellings()
            .into_iter()
            .filter(|spelling| spelling.name.starts_with("YAML, "));
        for spelling in in_files {
            let Ok(text) = String::from_utf8(spelling.files[0].1.clone()) else {
                continue;
            };
            let text = text
                .replace(DATA_DIR, &data_dir)
                .replace(CLIENT_URL, &member.client_url)
                .replace(PEER_URL, &member.peer_url);
            fs::write(&file, text).unwrap();
            let started = Command::new(etcd.binary())
                .arg("--config-file")
                .arg(&file)
                .stderr(Stdio::null())
                .spawn();
            let mut started = Running(started.unwrap());
            until(&format!("{version:?} to serve with {}", spelling.name), || {
                assert!(
                    started.0.try_wait().unwrap().is_none(),
                    "{version:?} ended: {}",
                    spelling.name
                );
                let served = etcd.client().hash_kv(before.0);
                served.is_ok_and(|served| served == before.1)
            });
        }
    }
}

/// Ends when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Writes, and gives the revision with its hash.
fn written(etcd: &Etcd) -> (i64, HashKv) {
    let client = etcd.client();
    client.put("/a", "1", 0).unwrap();
    let revision = client.revision().unwrap();
    (revision, client.hash_kv(revision).unwrap())
}
