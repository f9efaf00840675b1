//! etcd's settings as a running systemd passes them on: read from the unit, and after we gave it others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lifeboat::settings::{self, Environment, EtcdSettings, ExecFlag, Given, NewCluster, Source, Unit};
use lifeboat::systemd::{Systemd, UnitName, read_file};

use super::support::tools;

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
        settings::discover(&self.unit().await, &Given::default(), &read_file).unwrap()
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
            exec_start: vec![settings::Command {
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
        settings::discover(&unit, &Given::default(), &read_file).unwrap()
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
    let source = Source::Flags;
    EtcdSettings { source, ..settings }
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
    let overlay = settings::overlay(&unit, &given, &cluster(), "first", &read_file).unwrap();
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
    let again = settings::overlay(&host.unit().await, &given, &cluster(), "first", &read_file).unwrap();
    assert_eq!(again, Some(overlay));
}
