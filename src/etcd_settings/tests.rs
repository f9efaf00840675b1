//! Units as distributions ship them, and what comes of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use spellings::Spelling;

#[path = "../../tests/spellings/mod.rs"]
mod spellings;

const DEBIAN: &str = "/usr/bin/etcd $DAEMON_ARGS";
const FEDORA: &str = r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd""#;
const OLD_REDHAT: &str = r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${ETCD_NAME}\" --data-dir=\"${ETCD_DATA_DIR}\" --listen-client-urls=\"${ETCD_LISTEN_CLIENT_URLS}\"""#;

/// A unit and the files it names.
#[derive(Clone)]
struct Host {
    unit: Unit,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Host {
    fn new(exec_start: &str) -> Host {
        let words = unit_words(exec_start);
        Host {
            unit: Unit {
                name: "etcd.service".parse().unwrap(),
                files: vec![PathBuf::from("/usr/lib/systemd/system/etcd.service")],
                exec_start: vec![Command {
                    program: PathBuf::from(&words[0]),
                    words,
                    flags: Vec::new(),
                }],
                environment: Environment::default(),
                working_directory: Some(PathBuf::from("/")),
                root: None,
                user: Some("etcd".to_owned()),
            },
            files: BTreeMap::new(),
        }
    }

    fn environment_file(mut self, path: &str, content: &str) -> Host {
        let path = PathBuf::from(path);
        self.files.insert(path.clone(), content.as_bytes().to_vec());
        let is_optional = false;
        self.unit.environment.files.push(EnvironmentFile { path, is_optional });
        self
    }

    fn file(mut self, path: &str, content: &str) -> Host {
        self.files.insert(PathBuf::from(path), content.as_bytes().to_vec());
        self
    }

    fn read(&self) -> impl Fn(&Path) -> io::Result<Vec<u8>> {
        let files = self.files.clone();
        move |path: &Path| match files.get(path) {
            Some(content) => Ok(content.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn discover(&self) -> Result<EtcdSettings, Error> {
        discover(&self.unit, &Given::default(), &self.read())
    }

    fn refusal(&self) -> String {
        self.discover().unwrap_err().to_string()
    }

    fn overlay(&self) -> Option<Overlay> {
        self.overlay_for(&Given::default())
    }

    fn overlay_for(&self, given: &Given) -> Option<Overlay> {
        overlay(&self.unit, given, &cluster(), RESTORE, &self.read()).unwrap()
    }

    /// The host after the files were written and read by systemd, which is done here as far as our drop-ins need it.
    fn with(&self, files: &[NewFile]) -> Host {
        let mut host = self.clone();
        for file in files {
            host.files.insert(file.path.clone(), file.content.clone().into_bytes());
            if file.path.extension().is_some_and(|ending| ending == "conf") {
                host.unit.files.retain(|known| *known != file.path);
                host.unit.files.push(file.path.clone());
            }
            for path in file
                .content
                .lines()
                .filter_map(|line| line.strip_prefix("EnvironmentFile="))
            {
                host.unit.environment.files.retain(|file| file.path != Path::new(path));
                let (path, is_optional) = (PathBuf::from(path), false);
                host.unit.environment.files.push(EnvironmentFile { path, is_optional });
            }
        }
        host
    }
}

/// The words of a line in a unit file, quotes and specifiers undone.
fn unit_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None);
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match (open, sign) {
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, '"' | '\'') => {
                open = Some(sign);
                word.get_or_insert_default();
            }
            (Some(quote), _) if quote == sign => open = None,
            (_, '\\') => match signs.next().unwrap() {
                '\n' if open.is_none() => words.extend(word.take()),
                sign => word.get_or_insert_default().push(sign),
            },
            (_, '%') => word.get_or_insert_default().push_str(match signs.next().unwrap() {
                '%' => "%",
                'S' => "/var/lib",
                'p' => "etcd",
                sign => panic!("no specifier that is known here: {sign}"),
            }),
            (_, _) => word.get_or_insert_default().push(sign),
        }
    }
    words.extend(word);
    words
}

impl Host {
    /// A spelling as systemd would load it, as far as the table needs.
    fn of(spelling: &Spelling) -> Host {
        let text = spelling.exec_start.trim_start_matches(['-', '@', ':']);
        let signs = &spelling.exec_start[..spelling.exec_start.len() - text.len()];
        let mut host = Host::new(text);
        let command = &mut host.unit.exec_start[0];
        if signs.contains('@') {
            command.words.remove(0);
        }
        if signs.contains(':') {
            command.flags.push(ExecFlag::NoVariables);
        }
        for line in spelling.lines.iter().flat_map(|line| line.lines()) {
            let (key, value) = line.split_once('=').unwrap();
            let words = unit_words(value);
            let environment = &mut host.unit.environment;
            match key {
                "Environment" => environment.set.extend(words),
                "UnsetEnvironment" => environment.unset.extend(words),
                "WorkingDirectory" => host.unit.working_directory = Some(PathBuf::from(value)),
                "EnvironmentFile" => environment.files.push(EnvironmentFile {
                    path: PathBuf::from(words[0].trim_start_matches('-')),
                    is_optional: value.starts_with('-'),
                }),
                _ => assert!(key.starts_with("Exec"), "{key}"),
            }
        }
        for (path, content) in &spelling.files {
            host.files.insert(PathBuf::from(path), content.clone());
        }
        host
    }
}

#[test]
fn every_spelling_of_the_same_settings_is_read_as_the_same() {
    let found = spellings::spellings();
    assert!(found.len() >= 60, "{}", found.len());
    for spelling in found {
        let (name, host) = (&spelling.name, Host::of(&spelling));
        assert!(spelling.unit().contains("User=etcd"), "{name}");
        let settings = host.discover().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (&*settings.name, settings.data_dir.as_path()),
            (spellings::NAME, Path::new(spellings::DATA_DIR)),
            "{name}"
        );
        assert_eq!((settings.wal_dir, settings.forces_new_cluster), (None, false), "{name}");
        if !spelling.has_default_urls {
            assert_eq!(settings.listen_client_urls, [spellings::CLIENT_URL], "{name}");
            assert_eq!(settings.advertise_client_urls, [spellings::CLIENT_URL], "{name}");
            assert_eq!(settings.listen_peer_urls, [spellings::PEER_URL], "{name}");
            assert_eq!(settings.initial_advertise_peer_urls, [spellings::PEER_URL], "{name}");
        }
        assert_eq!(host.overlay().is_some(), spelling.is_environment, "{name}");
        assert!(
            changes(&host.unit, &Given::default(), &cluster(), &host.read()).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn what_would_put_another_cluster_together_is_found_with_its_place() {
    let way = |host: Host| host.discover().unwrap().other_way(&host.unit.name);
    let file = |content: &str| Host::new("/usr/bin/etcd $O").environment_file("/etc/default/etcd", content);
    let yaml = |content: &str| Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", content);
    assert_eq!(way(file("ETCD_DISCOVERY=\nETCD_FORCE_NEW_CLUSTER=false\n")), None);
    assert_eq!(
        way(yaml(
            "discovery:\nforce-new-cluster: false\ndiscovery-config: {token: ''}\n"
        )),
        None
    );
    for (host, said) in [
        (
            file("ETCD_FORCE_NEW_CLUSTER=true\n"),
            "`ETCD_FORCE_NEW_CLUSTER` in /etc/default/etcd",
        ),
        (
            file("O=-force-new-cluster\n"),
            "`--force-new-cluster` in the command of etcd.service",
        ),
        (
            file("ETCD_DISCOVERY_SRV=example.com\n"),
            "`ETCD_DISCOVERY_SRV` in /etc/default/etcd",
        ),
        (yaml("Force-New-Cluster: yes\n"), "`force-new-cluster` in /e.yml"),
        (
            yaml("discovery-config:\n  client:\n    endpoints: [http://d]\n"),
            "`discovery-endpoints` in /e.yml",
        ),
    ] {
        assert_eq!(way(host).as_deref(), Some(said));
    }
}

#[test]
fn a_flag_that_came_beside_a_variable_of_ours_is_told() {
    let shadowed = |host: &Host| shadowed(&host.unit, &Given::default(), &host.read()).unwrap();
    let later = |command: &str| {
        let mut host = debian().with(&debian().overlay().unwrap().files(TOKEN));
        host.unit.exec_start = Host::new(command).unit.exec_start;
        host
    };
    assert_eq!(shadowed(&later(DEBIAN)), Vec::<String>::new());
    assert_eq!(
        shadowed(&later(
            "/usr/bin/etcd --name=m1 --initial-cluster-state existing --initial-cluster=m1=http://a:2380"
        )),
        ["--initial-cluster", "--initial-cluster-state"]
    );
    // Where none of ours is left, and where etcd looks at no variable.
    assert_eq!(
        shadowed(&Host::new("/usr/bin/etcd --initial-cluster-state existing")),
        Vec::<String>::new()
    );
    let yaml = later("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", "initial-cluster-state: existing\n");
    assert_eq!(shadowed(&yaml), Vec::<String>::new());
}

#[test]
fn what_the_operator_should_change_is_told_for_each_place() {
    let told = |host: &Host| -> Vec<String> {
        let changes = changes(&host.unit, &Given::default(), &cluster(), &host.read()).unwrap();
        changes.iter().map(ToString::to_string).collect()
    };
    let members = "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380";
    assert_eq!(
        told(&debian()),
        [
            format!("in /etc/default/etcd: ETCD_INITIAL_CLUSTER: m1=http://10.0.0.1:2380 → {members}"),
            "in /etc/default/etcd: ETCD_INITIAL_ADVERTISE_PEER_URLS: not set → http://10.0.0.1:2380".to_owned(),
            "in /etc/default/etcd: ETCD_INITIAL_CLUSTER_STATE: not set → existing".to_owned(),
        ]
    );
    let laid = debian().with(&debian().overlay().unwrap().files(TOKEN));
    assert_eq!(
        told(&laid),
        told(&debian()),
        "what we have laid on is not the operator's"
    );
    let yaml = "name: old\ninitial-cluster: m2=http://10.0.0.2:2380,m1=http://10.0.0.1:2380/\ninitial-advertise-peer-urls: \
                http://10.0.0.1:2380\ninitial-cluster-state: new\n";
    let host = Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", yaml);
    assert_eq!(
        told(&host),
        [
            "in /e.yml: name: old → m1",
            "in /e.yml: initial-cluster-state: new → existing"
        ]
    );
    let flags = format!(
        "/usr/bin/etcd --name=m1 --initial-cluster={members} --initial-advertise-peer-urls http://10.0.0.1:2380"
    );
    assert_eq!(
        told(&Host::new(&flags)),
        ["in the command of etcd.service: --initial-cluster-state: not set → existing"]
    );
    assert_eq!(
        told(&Host::new(&format!("{flags} --initial-cluster-state existing"))),
        Vec::<String>::new()
    );
}

#[test]
fn what_only_a_command_knows_is_refused_where_a_restore_needs_it() {
    let by = |flags: &str| Host::new(&format!(r#"/bin/sh -c "exec etcd {flags}""#)).discover();
    let found =
        by("--name m1 --data-dir /d --advertise-client-urls http://$(hostname):2379 --initial-cluster $(cat /m)");
    let found = found.unwrap();
    assert_eq!(
        (found.advertise_client_urls, found.initial_cluster),
        (Vec::<String>::new(), String::new())
    );
    for flags in [
        "--name $(hostname)",
        "--name m1 --data-dir=/d/`hostname`",
        "--name m1 --wal-dir ~/wal",
    ] {
        let refused = by(flags).unwrap_err();
        assert!(matches!(refused, Error::Value { .. }), "{flags}: {refused}");
        assert!(refused.to_string().contains("the output of a command"), "{refused}");
    }
}

#[test]
fn values_in_yaml_are_text_as_go_makes_it() {
    for (value, text) in [
        ("0x10", "16"),
        ("010", "8"),
        ("1_000", "1000"),
        ("+5", "5"),
        ("3.10", "3.1"),
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("on", "true"),
        ("NO", "false"),
        ("2026-11-28", "2026-11-28"),
        ("1.2.3", "1.2.3"),
        ("'0x10'", "0x10"),
        ("!!str 010", "010"),
        ("m1", "m1"),
    ] {
        let host = Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", &format!("name: {value}\n"));
        assert_eq!(host.discover().unwrap().name, text, "{value}");
    }
    for wrong in [
        "- name\n",
        "name: [a]\n",
        "name: {a: b}\n",
        "a: *b\n",
        "'a\n",
        "<<: 1\n",
    ] {
        let host = Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", wrong);
        assert!(matches!(host.discover(), Err(Error::File { .. })), "{wrong}");
    }
}

const RESTORE: &str = "20261120T101530Z-9f3c4a1b";
const TOKEN: &str = "lifeboat-0123456789abcdef";

fn cluster() -> NewCluster {
    NewCluster {
        name: "m1".to_owned(),
        initial_cluster: "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380".to_owned(),
        advertise_peer_urls: vec!["http://10.0.0.1:2380".to_owned()],
    }
}

fn debian() -> Host {
    let content = "# etcd(1) daemon options\nETCD_NAME=\"m1\"\nETCD_DATA_DIR=\"/var/lib/etcd/default\"\n\
        ETCD_LISTEN_CLIENT_URLS=\"http://10.0.0.1:2379,http://127.0.0.1:2379\"\nETCD_INITIAL_CLUSTER=\"m1=http://10.0.0.1:2380\"\n\
        ETCD_INITIAL_CLUSTER_TOKEN=old\n#ETCD_WAL_DIR=/nowhere\nDAEMON_ARGS=\"\"\n";
    Host::new(DEBIAN).environment_file("/etc/default/etcd", content)
}

#[test]
fn a_sign_of_a_newer_systemd_is_refused_where_the_words_are_read_and_nothing_is_laid_on_elsewhere() {
    let mut host = debian();
    let flags = ["ignore-failure", "via-shell"].map(ExecFlag::named);
    host.unit.exec_start[0].flags = flags.into();
    let refusal = host.refusal();
    assert!(refusal.contains("`ExecStart=-[via-shell]/usr/bin/etcd"), "{refusal}");
    assert!(
        refusal.contains("what `via-shell` does to the command is not known"),
        "{refusal}"
    );
    let given = |settings| Given {
        settings,
        ..Given::default()
    };
    let laid = |settings| overlay(&host.unit, &given(settings), &cluster(), RESTORE, &host.read());
    assert!(laid(Place::Auto).is_err() && laid(Place::Flags).is_err());
    let said = Place::Environment("/etc/default/etcd".into());
    let found = discover(&host.unit, &given(said.clone()), &host.read()).unwrap();
    assert_eq!(found.name, "m1", "as the operator says");
    assert_eq!(laid(said).unwrap(), None);
    host.unit.exec_start[0].flags.pop();
    assert!(host.overlay().is_some(), "but for that one it is");
}

#[test]
fn debians_unit_takes_variables() {
    let found = debian().discover().unwrap();
    let files = vec![PathBuf::from("/etc/default/etcd")];
    assert_eq!(found.source, Source::Environment { files });
    assert_eq!((&*found.name, &*found.initial_cluster_token), ("m1", "old"));
    assert_eq!(found.data_dir, Path::new("/var/lib/etcd/default"));
    assert_eq!(found.wal_dir, None);
    assert_eq!(
        found.listen_client_urls,
        ["http://10.0.0.1:2379", "http://127.0.0.1:2379"]
    );
    assert_eq!(found.initial_cluster_state, ClusterState::New);
}

#[test]
fn flags_win_over_variables() {
    let flags =
        "ETCD_NAME=other\nETCD_DATA_DIR=/other\nDAEMON_ARGS=\"--name m1 -data-dir=/data \\\n --client-cert-auth\"\n";
    let found = Host::new(DEBIAN).environment_file("/etc/default/etcd", flags);
    let found = found.discover().unwrap();
    assert_eq!(found.source, Source::Flags);
    assert_eq!((&*found.name, &*found.data_dir), ("m1", Path::new("/data")));
    assert!(found.client_tls.client_cert_auth);
}

#[test]
fn a_later_environment_file_wins_over_an_earlier_one_and_over_the_unit() {
    let mut host = Host::new("/usr/bin/etcd")
        .environment_file("/etc/one", "ETCD_NAME=one\nETCD_DATA_DIR=/one\n")
        .environment_file("/etc/two", "ETCD_NAME=two\n");
    host.unit.environment.set = vec!["ETCD_NAME=unit".to_owned(), "ETCD_WAL_DIR=/wal".to_owned()];
    host.unit.environment.unset = vec!["ETCD_WAL_DIR".to_owned()];
    let found = host.discover().unwrap();
    assert_eq!((&*found.name, &*found.data_dir), ("two", Path::new("/one")));
    assert_eq!(found.wal_dir, None);
}

#[test]
fn a_config_file_makes_flags_and_variables_mean_nothing() {
    let yaml = "# settings\nname: m1\ndata-dir: /var/lib/etcd\npeer-transport-security:\n  cert-file: /pki/peer.crt\n  client-cert-auth: true\n";
    let host = Host::new("/usr/bin/etcd --config-file /etc/etcd/etcd.yml --name=flag")
        .environment_file("/etc/default/etcd", "ETCD_NAME=variable\nETCD_WAL_DIR=/wal\n")
        .file("/etc/etcd/etcd.yml", yaml);
    let found = host.discover().unwrap();
    let path = PathBuf::from("/etc/etcd/etcd.yml");
    assert_eq!(found.source, Source::ConfigFile { path });
    assert_eq!((&*found.name, found.wal_dir), ("m1", None));
    assert_eq!(found.peer_tls.cert_file, Some(PathBuf::from("/pki/peer.crt")));
    assert!(found.peer_tls.client_cert_auth && !found.client_tls.client_cert_auth);
    let by_variable = Host::new("/usr/bin/etcd")
        .environment_file("/etc/default/etcd", "ETCD_CONFIG_FILE=/etc/etcd/etcd.yml\n")
        .file("/etc/etcd/etcd.yml", yaml);
    assert_eq!(by_variable.discover().unwrap().data_dir, Path::new("/var/lib/etcd"));
}

#[test]
fn defaults_are_etcds() {
    let found = Host::new("/usr/local/bin/etcd --name=a").discover().unwrap();
    assert_eq!(found.data_dir, Path::new("/a.etcd"));
    assert_eq!(found.initial_cluster, "a=http://localhost:2380");
    assert_eq!(found.initial_cluster_token, "etcd-cluster");
    assert_eq!(found.listen_client_urls, ["http://localhost:2379"]);
    let mut host = Host::new("/usr/local/bin/etcd");
    host.unit.working_directory = Some(PathBuf::from("/var/lib/etcd"));
    assert_eq!(
        host.discover().unwrap().data_dir,
        Path::new("/var/lib/etcd/default.etcd")
    );
    host.unit.working_directory = None;
    assert!(host.refusal().contains("`WorkingDirectory=~`"), "{}", host.refusal());
}

#[test]
fn the_shells_of_fedora_and_red_hat_are_seen_through() {
    let content =
        "ETCD_NAME=m1\nETCD_DATA_DIR=/var/lib/etcd/default.etcd\nETCD_LISTEN_CLIENT_URLS=http://localhost:2379\n";
    for line in [FEDORA, OLD_REDHAT] {
        let host = Host::new(line).environment_file("/etc/etcd/etcd.conf", content);
        let found = host.discover().unwrap();
        assert_eq!(found.program, Path::new("/usr/bin/etcd"));
        assert_eq!(
            (&*found.name, &*found.data_dir),
            ("m1", Path::new("/var/lib/etcd/default.etcd"))
        );
    }
}

#[test]
fn what_is_not_understood_is_named() {
    for (line, reason) in [
        (
            "/usr/local/bin/start-etcd.sh",
            "`/usr/local/bin/start-etcd.sh` is not known to be etcd",
        ),
        (
            "/usr/bin/docker run --name etcd quay.io/coreos/etcd",
            "`/usr/bin/docker` is not known to be etcd",
        ),
        ("/usr/bin/etcd gateway start", "`gateway`, which has no data"),
        ("/usr/bin/etcd m1", "etcd takes no argument `m1`"),
        (
            r#"/bin/sh -c "/usr/bin/etcd --name={a,b}""#,
            "`{` in the script may do more",
        ),
        (
            r#"/bin/sh -c "/usr/bin/etcd $(cat /etc/flags)""#,
            "etcd takes no argument `…`",
        ),
        (
            r#"/bin/sh -c ". /etc/etcd.conf && exec etcd""#,
            "`.` in the script may change what etcd is started with",
        ),
        (
            r#"/bin/sh -c "cat /etc/members | etcd""#,
            "`cat` in the script may change",
        ),
        (r#"/bin/sh -c "/usr/bin/etcd --name='m1""#, "a quote is not closed"),
    ] {
        let host = Host::new(line);
        let refusal = host.refusal();
        assert!(refusal.starts_with("etcd.service has `ExecStart="), "{refusal}");
        assert!(refusal.ends_with(reason) || refusal.contains(reason), "{refusal}");
        assert!(
            host.discover()
                .unwrap_err()
                .next_step()
                .contains("`settings` in `[host]`")
        );
    }
    let mut several = debian();
    several.unit.exec_start.push(several.unit.exec_start[0].clone());
    assert!(several.refusal().contains("there are several"));
    let mut elsewhere = debian();
    elsewhere.unit.root = Some(PathBuf::from("/srv/etcd"));
    assert!(elsewhere.refusal().contains("RootDirectory=/srv/etcd"));
    let pattern = Host::new("/usr/bin/etcd").environment_file("/etc/etcd/*.env", "");
    assert!(pattern.refusal().contains("EnvironmentFile=/etc/etcd/*.env"));
    let wrong = Host::new("/usr/bin/etcd").environment_file("/etc/e", "ETCD_INITIAL_CLUSTER_STATE=old\n");
    assert!(wrong.refusal().contains("`initial-cluster-state` to `old`"));
}

#[test]
fn a_file_that_has_to_be_there_is_missed_and_an_optional_one_is_not() {
    let mut host = debian();
    host.files.clear();
    assert!(matches!(host.discover(), Err(Error::Unreadable { .. })));
    host.unit.environment.files[0].is_optional = true;
    assert_eq!(host.discover().unwrap().name, "default");
}

#[test]
fn the_operators_word_stands_in_for_what_is_not_understood() {
    let host = Host::new("/usr/local/bin/start-etcd.sh --fast now")
        .file("/etc/etcd.env", "ETCD_NAME=m1\nETCD_DATA_DIR=/data\n")
        .file("/etc/etcd.yaml", "name: m1\ndata-dir: /data\n");
    for settings in [
        Place::Environment(PathBuf::from("/etc/etcd.env")),
        Place::ConfigFile(PathBuf::from("/etc/etcd.yaml")),
    ] {
        let given = Given {
            settings,
            wal_dir: Some(PathBuf::from("/wal")),
            ..Given::default()
        };
        let found = discover(&host.unit, &given, &host.read()).unwrap();
        assert_eq!((&*found.name, &*found.data_dir), ("m1", Path::new("/data")));
        assert_eq!(found.wal_dir, Some(PathBuf::from("/wal")));
        assert_eq!(
            host.overlay_for(&given),
            None,
            "what the script does with variables is not known"
        );
    }
    let flags = Host::new("/opt/etcd/run --name=m1 --data-dir=/data");
    let given = Given {
        settings: Place::Flags,
        ..Given::default()
    };
    assert_eq!(discover(&flags.unit, &given, &flags.read()).unwrap().name, "m1");
    assert_eq!(flags.overlay_for(&given), None);
}

#[test]
fn the_files_are_as_they_always_were() {
    let files = debian().overlay().unwrap().files(TOKEN);
    let text = |files: &[NewFile]| -> String {
        let texts = files
            .iter()
            .map(|file| format!("==> {}\n{}", file.path.display(), file.content));
        texts.collect()
    };
    golden("environment", &text(&files));
    let unit = "etcd.service".parse().unwrap();
    let lock = Path::new("/var/lib/lifeboat-restore/etcd.service.lock");
    let guards =
        [Start::AsBefore, Start::WaitsForOthers].map(|start| guard(&unit, lock, "Wants=resume.service\n", start));
    golden("guard", &text(&guards));
}

#[test]
fn flags_are_laid_over_an_environment_and_name_the_cluster_alone() {
    let yaml = "name: m1\n";
    let laid = [
        debian(),
        Host::new("/usr/bin/etcd").environment_file("/e", "ETCD_NAME=m1\n"),
        Host::new(FEDORA).environment_file("/etc/etcd/etcd.conf", "ETCD_NAME=m1\n"),
        Host::new("/usr/bin/etcd --data-dir=/d --log-level $L"),
    ];
    for host in laid {
        let (before, overlay) = (host.discover().unwrap(), host.overlay().unwrap());
        let after = host.with(&overlay.files(TOKEN));
        let found = after.discover().unwrap();
        assert_eq!(found.initial_cluster, cluster().initial_cluster);
        assert_eq!(found.initial_cluster_token, TOKEN);
        assert_eq!(found.initial_cluster_state, ClusterState::Existing);
        assert_eq!((&found.name, &found.data_dir), (&before.name, &before.data_dir));
        assert_eq!(after.overlay(), Some(overlay), "a second restore lays the same on");
    }
    let plain = [
        Host::new("/usr/bin/etcd --name m1"),
        Host::new("/usr/bin/etcd --initial-cluster-token=t"),
        Host::new("/usr/bin/etcd $O").environment_file("/e", "O=-initial-cluster-state new\n"),
        Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", yaml),
        Host::new("/usr/bin/etcd")
            .environment_file("/e", "ETCD_CONFIG_FILE=/e.yml\n")
            .file("/e.yml", yaml),
        Host::new(OLD_REDHAT).environment_file("/e", "ETCD_NAME=m1\n"),
        Host::new(r#"/bin/sh -c "ETCD_INITIAL_CLUSTER=m1=http://old:2380 /usr/bin/etcd""#),
    ];
    for host in plain {
        assert_eq!(host.overlay(), None, "{:?}", host.unit.exec_start);
    }
    let mut taken_away = debian();
    taken_away.unit.environment.unset = vec!["ETCD_INITIAL_CLUSTER_TOKEN".to_owned()];
    assert_eq!(taken_away.overlay(), None);
}

#[test]
fn our_environment_file_is_read_last_or_not_written() {
    let with = |name: &str, content: &str| {
        let path = format!("/etc/systemd/system/etcd.service.d/{name}");
        let mut host = debian().file(&path, content);
        host.unit.files.push(PathBuf::from(path));
        let overlay = host.overlay()?;
        Some(overlay.drop_in.file_name()?.to_str()?.to_owned())
    };
    let sets = "[Service]\nEnvironmentFile=/other\n";
    assert_eq!(with("10-first.conf", sets).as_deref(), Some("50-lifeboat.conf"));
    assert_eq!(
        with("override.conf", "[Service]\nNice=1\n").as_deref(),
        Some("50-lifeboat.conf")
    );
    assert_eq!(with("override.conf", sets).as_deref(), Some("zz-50-lifeboat.conf"));
    assert_eq!(with("zzz.conf", sets), None);
    let line_break = NewCluster {
        initial_cluster: "a\nExecStart=/bin/sh".to_owned(),
        ..cluster()
    };
    let host = debian();
    let refused = overlay(&host.unit, &Given::default(), &line_break, RESTORE, &host.read());
    assert!(matches!(refused, Err(Error::Value { .. })));
}

/// Compares with `tests/golden/settings/NAME.txt`; `REFRESH=1` writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/settings/{name}.txt"));
    if std::env::var_os("REFRESH").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, kept, "{}: `REFRESH=1 cargo test` writes it anew", path.display());
}

#[test]
fn environment_files_are_read_as_systemd_reads_them() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("A=1", &[("A", "1")]),
        ("  A =  b c \t\nB=\n", &[("A", "b c"), ("B", "")]),
        ("A='x y'  \"z\"\n", &[("A", "x yz")]),
        ("A=x\"y\"\n", &[("A", "x\"y\"")]),
        ("A=\"a\\\"b\\\\c\\$d\\ne\"\n", &[("A", "a\"b\\c$d\\ne")]),
        ("A='a\\b'\n", &[("A", "a\\b")]),
        ("A=a\\\nb\\ c\n", &[("A", "ab c")]),
        ("A=\"a\nb\"\nC=d", &[("A", "a\nb"), ("C", "d")]),
        ("#A=1\n;B=2\nC=3 # no comment\n", &[("C", "3 # no comment")]),
        ("no assignment\nexport A=1\n1A=2\nB=2\r\n", &[("B", "2")]),
        ("A=\"unclosed\nB=2", &[("A", "unclosed\nB=2")]),
        ("A=trail\\ \n", &[("A", "trail ")]),
    ];
    for (content, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(
            environment::parse(Path::new("/e"), content).unwrap(),
            expected,
            "{content:?}"
        );
    }
    assert_eq!(
        environment::parse(Path::new("/e"), "# a\\\n# b\nB=2\n").unwrap().len(),
        1
    );
    assert!(
        environment::parse(Path::new("/e"), "# a\\\nB=2\n")
            .unwrap_err()
            .to_string()
            .contains("line 1")
    );
}

#[test]
fn variables_in_a_command_line_are_replaced_as_systemd_replaces_them() {
    let variables: Variables = [("A", "x 'y z'  w"), ("E", ""), ("P", "/p")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let command = |words: &str, flags| Command {
        program: PathBuf::from("/bin/a"),
        words: words.split(' ').map(str::to_owned).collect(),
        flags,
    };
    let cases = [
        (
            "/bin/a $A $E $NONE ${E} end",
            vec!["/bin/a", "x", "y z", "w", "", "end"],
        ),
        (
            "a --x=$P --y=${P}/q ${A} $$P $${P} 1$",
            vec!["a", "--x=$P", "--y=/p/q", "x 'y z'  w", "$P", "${P}", "1$"],
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(
            exec_words::expanded(&command(words, Vec::new()), &variables),
            expected,
            "{words}"
        );
    }
    let verbatim = command("a $A", vec![ExecFlag::NoVariables]);
    assert_eq!(exec_words::expanded(&verbatim, &variables), ["a", "$A"]);
}

fn value() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~äß€]{1,20}").unwrap()
}

proptest! {
    #[test]
    fn etcd_starts_with_exactly_what_was_laid_on(members in value(), url in value()) {
        let host = debian();
        let cluster = NewCluster { initial_cluster: members, advertise_peer_urls: vec![url.replace(',', "").trim().to_owned() + "x"], ..cluster() };
        let overlay = overlay(&host.unit, &Given::default(), &cluster, RESTORE, &host.read()).unwrap().unwrap();
        let found = host.with(&overlay.files(TOKEN)).discover().unwrap();
        prop_assert_eq!(found.initial_cluster, cluster.initial_cluster);
        prop_assert_eq!(found.initial_advertise_peer_urls, cluster.advertise_peer_urls);
    }

    #[test]
    fn nothing_in_a_file_makes_the_readers_panic(content in "\\PC*", lines in "[A-Z_=\"'\\\\ $#\n{}:a-]{0,80}") {
        for text in [&content, &lines] {
            environment::parse(Path::new("/e"), text).ok();
            yaml::values(Path::new("/e"), text.as_bytes()).ok();
            shell::parse(text, &[], &Variables::new(), &|words| words.is_empty()).ok();
            Host::new("/usr/bin/etcd $A").environment_file("/e", &format!("A='{text}'")).discover().ok();
        }
    }
}
