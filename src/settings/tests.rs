//! Units as distributions ship them, and what comes of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const DEBIAN: &str = "/usr/bin/etcd $DAEMON_ARGS";
const FEDORA: &str = r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd""#;
const OLD_REDHAT: &str = r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${ETCD_NAME}\" --data-dir=\"${ETCD_DATA_DIR}\" --listen-client-urls=\"${ETCD_LISTEN_CLIENT_URLS}\"""#;

/// A unit and the files it names.
#[derive(Clone)]
struct Host {
    unit: Unit,
    files: BTreeMap<PathBuf, String>,
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
        self.files.insert(path.clone(), content.to_owned());
        let is_optional = false;
        self.unit.environment.files.push(EnvironmentFile { path, is_optional });
        self
    }

    fn file(mut self, path: &str, content: &str) -> Host {
        self.files.insert(PathBuf::from(path), content.to_owned());
        self
    }

    fn read(&self) -> impl Fn(&Path) -> io::Result<Vec<u8>> {
        let files = self.files.clone();
        move |path: &Path| match files.get(path) {
            Some(content) => Ok(content.clone().into_bytes()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn discover(&self) -> Result<EtcdSettings, Error> {
        discover(&self.unit, &Given::default(), &self.read())
    }

    fn refusal(&self) -> String {
        self.discover().unwrap_err().to_string()
    }

    fn write(&self) -> Result<Written, Error> {
        self.write_for(&Given::default(), &cluster())
    }

    fn write_for(&self, given: &Given, cluster: &NewCluster) -> Result<Written, Error> {
        let restore = "20261120T101530Z-9f3c4a1b";
        write(&self.unit, given, cluster, Start::WaitsForOthers, restore, &self.read())
    }

    /// The host after the files were written and read by systemd, which is done here as far as our drop-ins need it.
    fn with(&self, written: &Written) -> Host {
        let mut host = self.clone();
        for file in &written.files {
            host.files.insert(file.path.clone(), file.content.clone());
        }
        let drop_in = written.files.last().unwrap().path.clone();
        host.unit
            .files
            .extend((!self.unit.files.contains(&drop_in)).then_some(drop_in));
        for line in written.files.last().unwrap().content.lines() {
            match line.split_once('=') {
                Some(("EnvironmentFile", path)) => {
                    host.unit.environment.files.retain(|file| file.path != Path::new(path));
                    let (path, is_optional) = (PathBuf::from(path), false);
                    host.unit.environment.files.push(EnvironmentFile { path, is_optional });
                }
                Some(("ExecStart", "")) => host.unit.exec_start.clear(),
                Some(("ExecStart", text)) => {
                    let words = unit_words(text);
                    host.unit.exec_start.push(Command {
                        program: PathBuf::from(&words[0]),
                        words,
                        flags: Vec::new(),
                    });
                }
                Some(_) | None => {}
            }
        }
        host
    }
}

fn contents(written: &Written) -> BTreeMap<&Path, &str> {
    let files = written.files.iter();
    files.map(|file| (&*file.path, &*file.content)).collect()
}

/// The words of a line in a unit file, quotes and specifiers undone.
fn unit_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None);
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match (open, sign) {
            (None, ' ') => words.extend(word.take()),
            (None, '"' | '\'') if word.is_none() => {
                open = Some(sign);
                word = Some(String::new());
            }
            (Some(quote), _) if quote == sign => open = None,
            (_, '\\') => word.get_or_insert_default().push(signs.next().unwrap()),
            (_, '%') => {
                assert_eq!(signs.next(), Some('%'));
                word.get_or_insert_default().push('%');
            }
            (_, _) => word.get_or_insert_default().push(sign),
        }
    }
    words.extend(word);
    words
}

fn cluster() -> NewCluster {
    NewCluster {
        name: "m1".to_owned(),
        initial_cluster: "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380".to_owned(),
        token: "lifeboat-0123456789abcdef".to_owned(),
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
        let written = host.write().unwrap();
        assert_eq!(
            written.files[0].path,
            Path::new("/etc/lifeboat/restore/etcd.service.env"),
            "{line}"
        );
        assert_eq!(host.with(&written).discover().unwrap(), written.settings);
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
        (r#"/bin/sh -c "/usr/bin/etcd; true""#, "`;` in the script may do more"),
        (
            r#"/bin/sh -c "/usr/bin/etcd --name=$(hostname)""#,
            "the output of `hostname` is not known",
        ),
        (
            r#"/bin/sh -c ". /etc/etcd.conf && exec etcd""#,
            "`&` in the script may do more",
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
    let places = [
        (
            Place::Environment(PathBuf::from("/etc/etcd.env")),
            "/etc/lifeboat/restore/etcd.service.env",
        ),
        (
            Place::ConfigFile(PathBuf::from("/etc/etcd.yaml")),
            "/etc/lifeboat/restore/etcd.service.yaml",
        ),
    ];
    for (settings, own) in places {
        let given = Given {
            settings,
            wal_dir: Some(PathBuf::from("/wal")),
            ..Given::default()
        };
        let found = discover(&host.unit, &given, &host.read()).unwrap();
        assert_eq!((&*found.name, &*found.data_dir), ("m1", Path::new("/data")));
        assert_eq!(found.wal_dir, Some(PathBuf::from("/wal")));
        let written = host.write_for(&given, &cluster()).unwrap();
        assert_eq!(written.files[0].path, Path::new(own));
        let after = host.with(&written);
        assert_eq!(discover(&after.unit, &given, &after.read()).unwrap(), written.settings);
        let again = after.write_for(&given, &cluster()).unwrap();
        assert_eq!(contents(&again), contents(&written));
    }
    let flags = Host::new("/opt/etcd/run --name=m1 --data-dir=/data");
    let given = Given {
        settings: Place::Flags,
        ..Given::default()
    };
    let written = flags.write_for(&given, &cluster()).unwrap();
    assert_eq!(written.settings.initial_cluster_token, cluster().token);
}

#[test]
fn the_files_are_as_they_always_were() {
    let yaml = "# the cluster\nname: m1\n\"initial-cluster\": m1=http://old:2380,\n  m2=http://old2:2380\n# where\ndata-dir: /var/lib/etcd\nheartbeat-interval: 0x64\nenable-pprof: on\n\
        discovery-srv: example.com\nclient-transport-security:\n  cert-file: /pki/a.crt\nforce-new-cluster: false\n";
    let hosts = [
        ("environment", debian()),
        (
            "discovery",
            Host::new("/usr/bin/etcd").environment_file(
                "/e",
                "ETCD_DATA_DIR=/d\nETCD_DISCOVERY=https://d/1\nETCD_FORCE_NEW_CLUSTER=true\n",
            ),
        ),
        (
            "config-file",
            Host::new("/usr/bin/etcd --config-file=/etc/etcd/etcd.yml").file("/etc/etcd/etcd.yml", yaml),
        ),
        (
            "flags",
            Host::new(
                "/usr/bin/etcd --name m1 --data-dir=/var/lib/etcd --initial-cluster=m1=http://old:2380 --discovery-srv=example.com $EXTRA \"--log-outputs=/var/log/100%% $${x}\"",
            ),
        ),
        (
            "shell",
            Host::new(r#"/bin/sh -c "exec /usr/bin/etcd --initial-cluster m1=http://old:2380 --name=m1""#),
        ),
    ];
    for (name, host) in hosts {
        let written = host.write().unwrap();
        let mut text = String::new();
        for file in &written.files {
            text.push_str(&format!(
                "==> {} ({:?})\n{}",
                file.path.display(),
                file.access,
                file.content
            ));
        }
        golden(name, &text);
        let after = host.with(&written);
        assert_eq!(after.discover().unwrap(), written.settings, "{name}");
        let wanted = EtcdSettings {
            source: written.settings.source.clone(),
            ..write::wanted(&host.discover().unwrap(), &cluster())
        };
        assert_eq!(written.settings, wanted, "{name}");
        // A script only grows: the last flags win.
        let again = after.write().unwrap();
        assert_eq!(again.settings, written.settings, "{name}: after a second restore");
        assert!(
            name == "shell" || contents(&again) == contents(&written),
            "{name}: a second restore"
        );
    }
    let guard = guard(
        &"etcd.service".parse().unwrap(),
        Path::new("/var/lib/lifeboat-restore/etcd.service.lock"),
    );
    golden(
        "guard",
        &format!("==> {} ({:?})\n{}", guard.path.display(), guard.access, guard.content),
    );
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
fn a_default_data_directory_stays_when_the_name_changes() {
    for host in [
        Host::new("/usr/bin/etcd"),
        Host::new("/usr/bin/etcd --name=old"),
        Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", "name: old\n"),
    ] {
        let before = host.discover().unwrap();
        let written = host.write().unwrap();
        assert_eq!(written.settings.name, "m1");
        assert_eq!(written.settings.data_dir, before.data_dir);
    }
}

#[test]
fn what_takes_our_settings_away_again_is_found_before() {
    let mut host = debian();
    host.unit.environment.unset = vec!["ETCD_INITIAL_CLUSTER_TOKEN".to_owned()];
    let written = host.write().unwrap();
    assert!(
        written.files[0]
            .content
            .contains("ExecStart=/usr/bin/etcd $DAEMON_ARGS --name=m1"),
        "flags still win"
    );
    let script = Host::new(r#"/bin/sh -c "ETCD_NAME=m1 ETCD_INITIAL_CLUSTER=m1=http://old:2380 /usr/bin/etcd""#);
    assert_eq!(
        script.write().unwrap().settings.initial_cluster,
        cluster().initial_cluster
    );
    let flow = Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", "{name: m1, data-dir: /d}\n");
    assert!(matches!(flow.write(), Err(Error::File { .. })));
    let control = NewCluster {
        token: "a\nExecStart=/bin/sh".to_owned(),
        ..cluster()
    };
    assert!(matches!(
        debian().write_for(&Given::default(), &control),
        Err(Error::Value { .. })
    ));
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
            words::expanded(&command(words, Vec::new()), &variables),
            expected,
            "{words}"
        );
    }
    let verbatim = command("a $A", vec![ExecFlag::NoVariables]);
    assert_eq!(words::expanded(&verbatim, &variables), ["a", "$A"]);
}

fn value() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~äß€]{1,20}").unwrap()
}

proptest! {
    #[test]
    fn etcd_starts_with_exactly_what_was_written(
        name in value(), token in value(), members in value(), kind in 0..5usize,
    ) {
        let host = match kind {
            0 => debian(),
            1 => Host::new("/usr/bin/etcd --name m1 --initial-cluster=old --initial-cluster-token t --data-dir /d $X"),
            2 => Host::new(FEDORA).environment_file("/etc/etcd/etcd.conf", "ETCD_DATA_DIR=/d\n"),
            3 => Host::new(r#"/bin/sh -c "/usr/bin/etcd --initial-cluster-token t --name=m1 --initial-cluster old""#),
            _ => Host::new("/usr/bin/etcd --config-file=/e.yml").file("/e.yml", "name: m1\nwal-dir: /w\n"),
        };
        let cluster = NewCluster { name, token, initial_cluster: members, ..cluster() };
        let written = host.write_for(&Given::default(), &cluster).unwrap();
        let found = host.with(&written).discover().unwrap();
        prop_assert_eq!(&found, &written.settings);
        prop_assert_eq!(found.name, cluster.name);
        prop_assert_eq!(found.initial_cluster_token, cluster.token);
        prop_assert_eq!(found.initial_cluster, cluster.initial_cluster);
        prop_assert_eq!(found.initial_cluster_state, ClusterState::Existing);
        prop_assert_eq!(found.data_dir, host.discover().unwrap().data_dir);
    }

    #[test]
    fn nothing_in_a_file_makes_the_readers_panic(content in "\\PC*", lines in "[A-Z_=\"'\\\\ $#\n{}:a-]{0,80}") {
        for text in [&content, &lines] {
            environment::parse(Path::new("/e"), text).ok();
            yaml::values(Path::new("/e"), text).ok();
            shell::parse(text, &Variables::new()).ok();
            Host::new("/usr/bin/etcd $A").environment_file("/e", &format!("A='{text}'")).discover().ok();
        }
    }
}
