//! What a running systemd reports, as we read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lifeboat::etcd_settings::{EnvironmentFile, ExecFlag};
use lifeboat::sandbox::{Bound, Credential, Listed, ProtectHome, ProtectSystem};
use lifeboat::systemd::{ActiveState, Error, Systemd, UnitName};

use super::support::tools;

/// Whether systemd started this host and we are root; says so if not.
fn is_at_home() -> bool {
    let at_home = Path::new("/run/systemd/system").is_dir() && nix::unistd::geteuid().is_root();
    if !at_home {
        tools::skip("systemd", "this needs root on a host that systemd started");
    }
    at_home
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

/// A unit that lives as long as this value.
struct Installed {
    name: String,
    folder: PathBuf,
}

impl Installed {
    fn new(name: &str, text: &str, drop_in: &str) -> Installed {
        let folder = PathBuf::from("/run/systemd/system");
        let installed = Installed {
            name: format!("{name}.service"),
            folder,
        };
        fs::write(installed.file(), text).unwrap();
        fs::create_dir_all(installed.drop_ins()).unwrap();
        fs::write(installed.drop_ins().join("50-paths.conf"), drop_in).unwrap();
        reload();
        installed
    }

    fn file(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn drop_ins(&self) -> PathBuf {
        self.folder.join(format!("{}.d", self.name))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        fs::remove_file(self.file()).ok();
        fs::remove_dir_all(self.drop_ins()).ok();
        reload();
    }
}

fn reload() {
    let done = Command::new("systemctl").arg("daemon-reload").status().unwrap();
    assert!(done.success());
}

const UNIT: &str = "[Service]
Type=exec
ExecStart=-/bin/sleep 600 '--name=a b' $ARGS
User=nobody
Group=nogroup
SupplementaryGroups=daemon
Environment=A=1 'B=two words'
EnvironmentFile=-/etc/default/none
EnvironmentFile=/dev/null
WorkingDirectory=/
TimeoutStartSec=infinity
TimeoutStopSec=7s
StateDirectory=lifeboat-test
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ReadWritePaths=-/var/backups/none
ReadOnlyPaths=/srv
InaccessiblePaths=-/mnt
TemporaryFileSystem=/opt:ro
BindPaths=/etc:/media
BindReadOnlyPaths=/usr
SetCredential=word:hello
";

#[test]
fn a_service_is_read_as_it_is_set_up() {
    if !is_at_home() {
        return;
    }
    let drop_in = "[Service]\nReadWritePaths=/srv/backups\nLoadCredential=client.key:/etc/hostname\n";
    let installed = Installed::new("lifeboat-test-reading", UNIT, drop_in);
    let service = block_on(async {
        let systemd = Systemd::connect().await.unwrap();
        systemd.service(&name(&installed.name)).await.unwrap()
    });

    let unit = &service.unit;
    assert_eq!(unit.id, installed.name);
    assert_eq!(unit.active_state, ActiveState::Inactive);
    assert_eq!(unit.fragment_path.as_deref(), Some(installed.file().as_path()));
    assert_eq!(unit.drop_in_paths, [installed.drop_ins().join("50-paths.conf")]);
    assert!(!unit.need_daemon_reload);
    assert_eq!(service.kind, "exec");
    assert_eq!(service.main_pid, None);
    let command = &service.exec_start[0];
    assert_eq!(command.words, ["/bin/sleep", "600", "--name=a b", "$ARGS"]);
    assert_eq!(command.flags, [ExecFlag::IgnoreFailure]);
    assert_eq!(service.environment.set, ["A=1", "B=two words"]);
    let file = |path: &str, is_optional| EnvironmentFile {
        path: PathBuf::from(path),
        is_optional,
    };
    assert_eq!(
        service.environment.files,
        [file("/etc/default/none", true), file("/dev/null", false)]
    );
    assert_eq!(service.timeout_start, None);
    assert_eq!(service.timeout_stop, Some(Duration::from_secs(7)));

    let sandbox = &service.sandbox;
    assert_eq!(sandbox.user.as_deref(), Some("nobody"));
    assert_eq!(sandbox.group.as_deref(), Some("nogroup"));
    assert_eq!(sandbox.supplementary_groups, ["daemon"]);
    assert_eq!(sandbox.root_directory, None);
    assert_eq!(sandbox.protect_system, ProtectSystem::Strict);
    assert_eq!(sandbox.protect_home, ProtectHome::ReadOnly);
    assert!(sandbox.private_tmp && sandbox.private_devices);
    let expected = ["-/var/backups/none", "/srv/backups"].map(Listed::of);
    assert_eq!(sandbox.read_write, expected);
    assert_eq!(sandbox.read_only, [Listed::of("/srv")]);
    assert_eq!(sandbox.inaccessible, [Listed::of("-/mnt")]);
    assert_eq!(sandbox.temporary, [PathBuf::from("/opt")]);
    let bound = |from: &str, to: &str, writable| Bound {
        from: PathBuf::from(from),
        to: PathBuf::from(to),
        writable,
    };
    assert_eq!(
        sandbox.bound,
        [bound("/etc", "/media", true), bound("/usr", "/usr", false)]
    );
    assert_eq!(sandbox.own_directories, [PathBuf::from("/var/lib/lifeboat-test")]);
    let credential = |name: &str, from: Option<&str>| Credential {
        name: name.to_owned(),
        from: from.map(PathBuf::from),
    };
    assert_eq!(
        sandbox.credentials,
        [
            credential("client.key", Some("/etc/hostname")),
            credential("word", None)
        ]
    );
}

#[test]
fn a_unit_that_does_not_exist_is_named() {
    if !is_at_home() {
        return;
    }
    let read = block_on(async {
        let systemd = Systemd::connect().await.unwrap();
        systemd.service(&name("lifeboat-test-none")).await
    });
    let error = read.unwrap_err();
    assert!(matches!(&error, Error::NoUnit { unit } if unit.as_str() == "lifeboat-test-none.service"));
    assert_eq!(error.to_string(), "systemd knows no unit `lifeboat-test-none.service`");
}

#[test]
fn a_host_without_systemd_is_told_apart() {
    if Path::new("/run/systemd/system").exists() {
        tools::skip("a host without systemd", "systemd started this one");
        return;
    }
    let error = block_on(Systemd::connect()).unwrap_err();
    assert!(matches!(error, Error::NoSystemd { .. }), "{error}");
    assert!(error.to_string().contains("/run/systemd/system"), "{error}");
}

const WAIT: Duration = Duration::from_secs(20);

#[test]
fn a_stop_waits_until_nothing_of_the_service_runs() {
    if !is_at_home() {
        return;
    }
    let text = "[Service]\nType=exec\nExecStart=/bin/sleep 600\nExecStop=/bin/sleep 1\n";
    let installed = Installed::new("lifeboat-test-stopping", text, "");
    let unit = name(&installed.name);
    block_on(async {
        let systemd = Systemd::connect().await.unwrap();
        let started = systemd.start_and_wait(&unit, WAIT).await.unwrap();
        assert_eq!(started.unit.active_state, ActiveState::Active);
        let pid = started.main_pid.unwrap();
        let error = systemd.stop(&unit, Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, Error::Unfinished { .. }), "{error}");
        let stopped = systemd.stop(&unit, WAIT).await.unwrap();
        assert_eq!(
            (stopped.unit.active_state, stopped.main_pid),
            (ActiveState::Inactive, None)
        );
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        let again = systemd.stop(&unit, WAIT).await.unwrap();
        assert!(again.unit.active_state.is_down(), "what is stopped already is stopped");
    });
}

#[test]
fn a_start_that_a_condition_skips_is_told_from_one_that_worked() {
    if !is_at_home() {
        return;
    }
    let text = "[Unit]\nConditionPathExists=!/etc/hostname\n[Service]\nExecStart=/bin/sleep 600\n";
    let installed = Installed::new("lifeboat-test-skipped", text, "");
    block_on(async {
        let systemd = Systemd::connect().await.unwrap();
        let skipped = systemd.start_and_wait(&name(&installed.name), WAIT).await.unwrap();
        assert!(!skipped.unit.condition_result);
        assert_eq!(skipped.unit.active_state, ActiveState::Inactive);
    });
}

#[test]
fn a_service_that_fails_again_and_again_shows_it_and_can_be_reset() {
    if !is_at_home() {
        return;
    }
    let text = "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=/bin/sh -c 'exit 7'\nRestart=always\nRestartSec=10ms\n";
    let installed = Installed::new("lifeboat-test-failing", text, "");
    let unit = name(&installed.name);
    block_on(async {
        let systemd = Systemd::connect().await.unwrap();
        systemd.start(&unit).await.unwrap();
        let failed = systemd.watch(&unit, WAIT, |service| {
            (service.unit.active_state == ActiveState::Failed).then(|| service.clone())
        });
        let failed = failed.await.unwrap().unwrap();
        assert_eq!((failed.restarts, failed.main_status), (3, 7));
        systemd.reset_failed(&unit).await.unwrap();
        let reset = systemd.service(&unit).await.unwrap();
        assert_eq!((reset.unit.active_state, reset.restarts), (ActiveState::Inactive, 0));
        let missing = systemd.reset_failed(&name("lifeboat-test-none")).await.unwrap_err();
        assert!(matches!(missing, Error::NoUnit { .. }), "{missing}");
    });
}
