//! One of three members is lost and the others are well: what a refused restore prints, typed, brings it back, however etcd
//! gets its settings, where everybody must show a certificate.

use std::fs;

use super::restores::written_and_backed_up;
use crate::cluster::{CERTIFICATES, Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, until};
use crate::install::{drop_in, install, lifeboat};
use crate::support::client::wait_for;

const YAML: &str = "/etc/etcd/etcd.yaml";
const UNIT: &str = "/etc/systemd/system/etcd.service.d/10-lab.conf";
/// Where the lines keep what `member add` has said.
const ADDED: &str = "/run/etcd-rejoin.txt";

/// Where a host's etcd has its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settings {
    Environment,
    Yaml,
    Flags,
}

pub fn what_is_printed_brings_a_lost_member_back_with_tls_whatever_its_settings_are_in(lab: &Lab<'_>) {
    let cluster = Cluster::start_with_tls(lab, 3);
    install(&cluster, "");
    let file = |name: &str| format!("{{ file = \"{CERTIFICATES}/{name}.pem\" }}");
    let (ca, cert, key) = (file("ca"), file("client"), file("client-key"));
    for host in &cluster.hosts {
        let tls = format!("[cluster]\ntls = {{ ca = {ca}, cert = {cert}, key = {key} }}\n");
        drop_in(host, "tls.toml", &tls);
    }
    let (_, before) = written_and_backed_up(&cluster);
    let all = [Settings::Environment, Settings::Yaml, Settings::Flags];
    for (host, settings) in cluster.hosts.iter().zip(all) {
        spell(&cluster, host, settings);
        host.run(["systemctl", "daemon-reload"]);
        host.run(["systemctl", "restart", "etcd"]);
        cluster.wait_until_served();
    }
    for (host, settings) in cluster.hosts.iter().zip(all) {
        host.run(["systemctl", "kill", "--signal=KILL", "etcd"]);
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR).join("member/snap")).expect("root can remove it");
        let refused = lifeboat(host, ["restore", "latest", "--dry-run"]).expect_code(7);
        let lines = refused.stderr.lines().filter_map(|line| line.strip_prefix("      "));
        let mut edits = 0;
        for line in lines {
            match line.starts_with('#') {
                false => drop(host.shell(line)),
                true => {
                    edit(host, settings, line);
                    edits += 1;
                }
            }
        }
        assert_eq!(edits, usize::from(settings != Settings::Environment), "{refused}");
        cluster.wait_until_served();
        let client = cluster.client_of(host);
        until("the same keys", || before.is_served_by(&client));
        let members = wait_for(cluster.client().raw().member_list()).expect("it serves");
        let members = members.members().to_vec();
        assert!(
            members.len() == 3 && members.iter().all(|member| !member.is_learner()),
            "{members:?}"
        );
    }
}

/// What a host's etcd is told, as pairs of a flag and its value, and those of TLS.
fn pairs(cluster: &Cluster, host: &Host) -> Vec<(String, String)> {
    let own = [
        ("name".to_owned(), host.name.clone()),
        ("data-dir".to_owned(), DATA_DIR.to_owned()),
    ];
    let settings = cluster.settings(host);
    let rest = settings.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("ETCD_")?.split_once('=')?;
        Some((name.to_lowercase().replace('_', "-"), value.to_owned()))
    });
    own.into_iter().chain(rest).collect()
}

fn spell(cluster: &Cluster, host: &Host, settings: Settings) {
    let pairs = pairs(cluster, host);
    let command = match settings {
        Settings::Environment => return,
        Settings::Flags => {
            let flags = pairs.iter().map(|(name, value)| format!(" --{name}={value}"));
            format!("/usr/bin/etcd{}", flags.collect::<String>())
        }
        Settings::Yaml => {
            let of_tls = ["cert-file", "key-file", "trusted-ca-file", "client-cert-auth"];
            let block = |title: &str, prefix: &str| {
                let lines = pairs.iter().filter_map(|(name, value)| {
                    let name = name.strip_prefix(prefix).filter(|name| of_tls.contains(name))?;
                    Some(format!("  {name}: {value}\n"))
                });
                format!("{title}:\n{}", lines.collect::<String>())
            };
            let plain = pairs
                .iter()
                .filter(|(name, _)| !of_tls.iter().any(|tls| name.ends_with(tls)));
            let plain: String = plain.map(|(name, value)| format!("{name}: {value}\n")).collect();
            let (client, peer) = (
                block("client-transport-security", ""),
                block("peer-transport-security", "peer-"),
            );
            host.write(YAML, &format!("{plain}{client}{peer}"));
            format!("/usr/bin/etcd --config-file={YAML}")
        }
    };
    let cleared = "[Service]\nEnvironment=\nEnvironmentFile=\nExecStart=\n";
    host.write(UNIT, &format!("{cleared}ExecStart={command}\n"));
}

/// Does what a line asks for that only a person can.
fn edit(host: &Host, settings: Settings, line: &str) {
    let place = match settings {
        Settings::Environment => unreachable!("its variables are laid over it"),
        Settings::Yaml => YAML,
        Settings::Flags => "etcd.service",
    };
    assert!(line.contains(&format!("({place})")), "{line}");
    let added = host.run(["cat", ADDED]).stdout;
    let members = added
        .lines()
        .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let members = members
        .unwrap_or_else(|| panic!("it is not in {added}"))
        .trim_matches('"');
    let path = if settings == Settings::Yaml { YAML } else { UNIT };
    let text = fs::read_to_string(host.path(path)).expect("it is there");
    let changed = match settings {
        Settings::Yaml => {
            let lines = text.lines().filter(|line| !line.starts_with("initial-cluster:"));
            let rest: String = lines.map(|line| format!("{line}\n")).collect();
            format!("initial-cluster: {members}\ninitial-cluster-state: existing\n{rest}")
        }
        Settings::Environment | Settings::Flags => {
            let words = text
                .split(' ')
                .map(|word| match word.starts_with("--initial-cluster=") {
                    true => format!("--initial-cluster={members} --initial-cluster-state=existing"),
                    false => word.to_owned(),
                });
            words.collect::<Vec<_>>().join(" ")
        }
    };
    assert_ne!(changed, text);
    host.write(path, &changed);
    host.run(["systemctl", "daemon-reload"]);
}
