//! What reads configurations, calendars, and the settings of etcd.

use super::*;

pub fn configurations() -> Vec<Vec<u8>> {
    let all = ["config.example.toml"].map(|name| fs::read(project(name)).unwrap());
    let small = format!(
        "[cluster]\nname = \"prod\"\n[members.m1]\nclient_urls = [\"http://127.0.0.1:2379\"]\npeer_urls = [\"http://127.0.0.1:2380\"]\n\
         [encryption]\nrecipients = [\"{}\"]\n[schedules.hourly]\nkind = \"full\"\nwhen = \"hourly\"\n[destinations.local]\n\
         url = \"file:///var/backups/lifeboat\"\nretention = {{ keep_last = 24, keep_daily = 7 }}\n",
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    );
    let [example] = all;
    vec![example, small.into_bytes()]
}

pub fn configuration(input: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let path = FOLDER.path().join("config.toml");
    fs::write(&path, input).unwrap();
    match config::load(&path) {
        Ok(_) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.next_step();
        }
    }
}

pub fn calendars() -> Vec<Vec<u8>> {
    [
        "*-*-* 02:30:00",
        "Mon..Fri *-*~3/1 9..17:00/15 Europe/Berlin",
        "hourly",
        "*-02-29 0/5:*:*.5 UTC",
        "2026-11,12-* 12:00 CET",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub fn calendar(input: &[u8]) {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::from_env);
    let text = String::from_utf8_lossy(input);
    let Ok(expression) = OnCalendar::parse(&text, &TimeZone::UTC, &ZONES) else {
        return;
    };
    drop(expression.to_string());
    let mut at: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
    for _ in 0..3 {
        expression.next_after(at);
        match expression.slot_after(at) {
            Some(next) => {
                assert!(next > at, "a slot comes after the one before it");
                at = next;
            }
            None => break,
        }
    }
}

pub fn told(input: &[u8]) {
    match Told::parse(input) {
        Some(told) => {
            assert_eq!(Told::parse(&told.to_bytes()).as_ref(), Some(&told));
            if let Some(founders) = &told.founders {
                told.terms.token(founders);
            }
            assert!(told.terms.agree(&told.terms));
        }
        None => assert_ne!(input, TOLD.as_bytes(), "the sample is understood"),
    }
}

fn unit(words: Vec<String>, files: &[&str]) -> Unit {
    let file = |path: &&str| EnvironmentFile {
        path: PathBuf::from(path),
        is_optional: false,
    };
    Unit {
        name: "etcd.service".parse::<UnitName>().unwrap(),
        files: vec![PathBuf::from("/usr/lib/systemd/system/etcd.service")],
        exec_start: vec![Command {
            program: PathBuf::from(words.first().map_or("", String::as_str)),
            words,
            flags: Vec::new(),
        }],
        environment: Environment {
            files: files.iter().map(file).collect(),
            ..Environment::default()
        },
        working_directory: Some(PathBuf::from("/")),
        root: None,
        user: Some("etcd".to_owned()),
    }
}

/// The settings of a unit whose files all hold the same.
fn discover(unit: &Unit, content: &[u8]) {
    let read = |_: &Path| Ok(content.to_vec());
    if let Err(error) = etcd_settings::discover(unit, &Given::default(), &read) {
        assert!(!error.to_string().is_empty());
        error.next_step();
    }
    etcd_settings::shadowed(unit, &Given::default(), &read).ok();
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}

pub fn yamls() -> Vec<Vec<u8>> {
    vec![
        b"name: m1\ndata-dir: /var/lib/etcd\nlisten-peer-urls: http://10.0.0.1:2380\ninitial-cluster: m1=http://10.0.0.1:2380\n\
          client-transport-security:\n  cert-file: /c\n  key-file: /k\n  client-cert-auth: true\nquota-backend-bytes: 8589934592\n"
            .to_vec(),
        b"# a comment\n'data-dir': \"/d\\x41\"\nx: &a [1, 2]\ny: *a\nz: |\n  text\n...\n".to_vec(),
    ]
}

pub fn yaml(input: &[u8]) {
    discover(
        &unit(words(&["/usr/bin/etcd", "--config-file", "/etc/etcd.yml"]), &[]),
        input,
    );
}

pub fn environments() -> Vec<Vec<u8>> {
    vec![
        b"ETCD_NAME=m1\nETCD_DATA_DIR=\"/var/lib/etcd\"\n# a comment\nETCD_INITIAL_CLUSTER='m1=http://a:2380'\nX=a\\\nb\n".to_vec(),
        b"ETCD_LISTEN_PEER_URLS=http://a:2380 \nETCD_QUOTA_BACKEND_BYTES=1\n; another\n".to_vec(),
    ]
}

pub fn environment(input: &[u8]) {
    discover(&unit(words(&["/usr/bin/etcd"]), &["/etc/default/etcd"]), input);
}

pub fn arguments() -> Vec<Vec<u8>> {
    vec![
        b"/usr/bin/etcd\n--name=m1\n--data-dir\n/var/lib/etcd\n--initial-cluster=m1=http://a:2380\n-auto-tls".to_vec(),
        b"/bin/sh\n-c\nexec /usr/bin/etcd --name \"$NAME\" --data-dir=/d ${ARGS}".to_vec(),
    ]
}

/// Each line is a word of `ExecStart=`, or a variable that is set.
pub fn argument(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    discover(&unit(lines.clone(), &[]), input);
    let mut with_variables = unit(words(&["/usr/bin/etcd", "$ARGS", "${NAME}"]), &[]);
    with_variables.environment.set = lines.clone();
    with_variables.environment.unset = lines;
    discover(&with_variables, input);
}

pub fn initial_cluster(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(cluster) = text.parse::<InitialCluster>() else {
        return;
    };
    let names: BTreeMap<_, _> = cluster.iter().collect();
    assert!(!names.is_empty());
    if let Ok(membership) = Membership::new(&cluster, "token") {
        assert_eq!(membership.members().len(), names.len());
    }
}
