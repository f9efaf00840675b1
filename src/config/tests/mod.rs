//! Every refusal to the letter, and text that nobody would write; what is of one table has a file of its own.

mod destinations;
mod encryption;
mod every_key;
mod example;
mod host;
mod schedules;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::load::{listed, parse};
use super::*;

/// The least that is valid.
const LEAST: &str = r#"[cluster]
name = "prod"
[members.m1]
client_urls = ["http://127.0.0.1:2379"]
[encryption]
recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m"]
[destinations.local]
url = "file:///var/backups"
"#;

fn parse_texts(texts: &[&str]) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let name = |index| PathBuf::from(["config.toml", "10-a.toml", "20-b.toml"][index]);
    let files = texts.iter().enumerate();
    parse(
        files
            .map(|(index, text)| (name(index), text.as_bytes().to_vec()))
            .collect(),
    )
}

fn valid(texts: &[&str]) -> Config {
    match parse_texts(texts) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{}", listed(&problems)),
    }
}

/// The problems of `LEAST` with `drop_in` over it.
fn problems(drop_in: &str) -> String {
    listed(&parse_texts(&[LEAST, drop_in]).expect_err(drop_in))
}

fn warnings(drop_in: &str) -> String {
    listed(&parse_texts(&[LEAST, drop_in]).expect(drop_in).1)
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = valid(&[LEAST]);
    assert_eq!(config.cluster.name.as_str(), "prod");
    assert_eq!(config.cluster.tls, Tls::default());
    assert_eq!(config.cluster.auth, None);
    assert_eq!(config.compression, Compression::default());
    assert_eq!(config.compression.level, 3);
    assert!((1..=4).contains(&config.compression.threads));
    assert_eq!(config.backup, Backup::default());
    assert_eq!(config.backup.idle_timeout, Duration::from_secs(30));
    assert_eq!(config.destinations["local"].url, StoreUrl::File("/var/backups".into()));
    assert!(config.switched_off.is_empty());
}

#[test]
fn later_keys_win_tables_merge_and_lists_are_replaced() {
    let first = "
        [compression]\nlevel = 5\nthreads = 2
        [members.m1]\npeer_urls = ['http://a:1', 'http://b:1']
        [members.m2]\nclient_urls = ['http://two:1']";
    let second = "compression.level = 7\nmembers.m1.peer_urls = ['http://c:1']";
    let config = valid(&[LEAST, first, second]);
    assert_eq!(config.compression, Compression { level: 7, threads: 2 });
    let urls: Vec<&str> = config.members["m1"].peer_urls.iter().map(MemberUrl::as_str).collect();
    assert_eq!(urls, ["http://c:1"]);
    assert_eq!(config.members["m1"].client_urls.len(), 1);
    let names: Vec<&str> = config.members.keys().map(MemberName::as_str).collect();
    assert_eq!(names, ["m1", "m2"]);
    assert_eq!(valid(&[LEAST, second, first]).compression.level, 5);
}

#[test]
fn a_secret_is_one_value_and_replaced_whole() {
    let first = "cluster.auth = { user = 'a', password = { file = '/a' } }";
    let second = "[cluster.auth.password]\nenv = 'B'";
    let auth = valid(&[LEAST, first, second]).cluster.auth.unwrap();
    assert_eq!(auth.password, Secret::Env("B".to_owned()));
}

#[test]
fn a_drop_in_switches_off_what_it_names() {
    let config = valid(&[
        LEAST,
        "destinations.local.enabled = false\n[members.m2]\nenabled = false",
        "[destinations.second]\nurl = 'file:///srv'",
    ]);
    let names: Vec<&str> = config.destinations.keys().map(DestinationName::as_str).collect();
    assert_eq!(names, ["second"]);
    let off: Vec<&String> = config.switched_off.iter().collect();
    assert_eq!(off, ["destinations.local", "members.m2"]);
    let config = valid(&[
        LEAST,
        "destinations.local.enabled = false",
        "destinations.local.enabled = true",
    ]);
    assert_eq!(config.destinations.len(), 1);
}

#[test]
fn durations_have_units() {
    for (text, seconds) in [
        ("1s", 1),
        ("90s", 90),
        ("1h", 3600),
        ("2m 30s", 150),
        ("2m30s", 150),
        (" 5 m ", 300),
    ] {
        let config = valid(&[LEAST, &format!("backup.idle_timeout = '{text}'")]);
        assert_eq!(config.backup.idle_timeout, Duration::from_secs(seconds), "{text}");
    }
    for text in ["", "30", "-30s", "0s", "999ms", "3601s", "1d", "30 parsecs", "s"] {
        let found = problems(&format!("backup.idle_timeout = '{text}'"));
        let expected =
            format!("`backup.idle_timeout`: \"{text}\" is not a duration with a unit, from \"1s\" to \"1h\"");
        assert!(found.contains(&expected), "{found}");
    }
}

#[test]
fn doubtful_configurations_are_warned_about() {
    for (drop_in, expected) in [
        ("", ""),
        (
            "destinations.local.enabled = false",
            "no destination is configured: a backup has nowhere to go; add `[destinations.NAME]` with `url`",
        ),
        (
            "[cluster.tls]\nca = { file = '/ca' }",
            "10-a.toml:1:10: `cluster.tls` has no effect: no member has an `https://` client URL\n  |\n1 | [cluster.tls]\n  |          ^^^",
        ),
        (
            "[members.m2]\nclient_urls = ['http://10.0.0.2:2379']\n[cluster.auth]\nuser = 'root'\npassword = { env = 'P' }",
            "10-a.toml:3:10: `cluster.auth`: the password goes to http://10.0.0.2:2379 unencrypted; use `https://`",
        ),
        ("[cluster.auth]\nuser = 'root'\npassword = { env = 'P' }", ""),
        (
            "encryption.identity = { file = '/key' }",
            "10-a.toml:1:12: `encryption.identity`: this host can read its backups; that is meant only for restores without anybody at hand\n  |\n1 | encryption.identity …\n  |            ^^^^^^^^",
        ),
    ] {
        assert_eq!(warnings(drop_in), expected, "{drop_in}");
    }
}

#[test]
fn no_secret_is_in_debug_or_in_a_message() {
    let secret = "hunter2";
    let identity = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ";
    for text in [
        "[cluster.auth]\nuser = 'root'\npassword = 'hunter2'",
        "cluster.auth = { user = 'root', password = 'hunter2' }",
        "cluster.auth = { user = 'root', pasword = 'hunter2' }",
        "[cluster.auth]\nuser = 'root'\npw = 'hunter2'",
        "[cluster.auth]\nuser = 'root'\npassword = { file = 'hunter2' }",
        "[cluster.auth]\nuser = 'root'\npassword = { env = 'hunter2 ' }",
        "[cluster.auth]\nuser = 'root'\npassword = { credential = 'hunter2/' }",
        "[cluster.auth]\nuser = 'root'\npassword = { value = 'hunter2' }",
        "[cluster.auth]\nuser = 'root'\npassword = { value = 'hunter2', fil = 3 }",
        "[cluster.auth]\nuser = 'root'\npassword = 'hunter2",
        "[cluster.auth]\nuser = 'root'\npassword = \"\"\"\nhunter2\n",
        "[cluster.auth]\nuser = 'root'\npassword = hunter2",
        "[cluster]\nauth.password = \"\"\"\nhunter2\"\"\"\nx",
        "members.m1.client_urls = ['http://root:hunter2@h:1']",
        "destinations.x.url = 's3://key:hunter2@bucket'",
        "destinations.x.url = 'ftp://key:hunter2@bucket'",
        "encryption.identity = 'hunter2'",
        "cluster.tls.key = '''\n-----BEGIN PRIVATE KEY-----\nhunter2\n'''",
        "encryption.recipients = ['-----BEGIN OPENSSH PRIVATE KEY----- hunter2']",
    ] {
        let problems = parse_texts(&[LEAST, text]).expect_err(text);
        let all = format!("{} {problems:?}", listed(&problems));
        assert!(!all.contains(secret), "{all}");
    }
    for text in [
        format!("encryption.recipients = ['{identity}']"),
        format!("encryption.recipients = ['{}']", identity.to_lowercase()),
        format!("encryption.identity = '{identity}'"),
        format!("encryption.identity = {{ file = '{identity}' }}"),
        format!("cluster.name = '{identity}'"),
        format!("host.member = '{identity}'"),
        format!("backup.hash_kv = '{identity}'"),
        format!("encryption.recipients = [{identity}]"),
        format!("encryption.recipients_file = '{identity}'"),
    ] {
        let problems = parse_texts(&[LEAST, &text]).expect_err(&text);
        let all = format!("{} {problems:?}", listed(&problems));
        assert!(!all.to_ascii_uppercase().contains("AGE-SECRET-KEY-1Q"), "{all}");
    }
}

/// Lines that are nearly right, to reach deeper than noise does.
fn lines() -> impl Strategy<Value = String> {
    let keys = known_keys::KEYS.iter().map(|key| key.path.replace('*', "m1"));
    let sections = keys
        .clone()
        .filter_map(|key| key.rsplit_once('.').map(|(section, _)| format!("[{section}]\n")));
    let names = keys
        .clone()
        .filter_map(|key| key.rsplit_once('.').map(|(_, name)| name.to_owned()));
    let odd = ["\"\"", "\"a.b\"", "'tls.ca'", "ü", "metrics", "x.y.z", "members"].map(str::to_owned);
    let keys: Vec<String> = keys.chain(names).chain(odd).collect();
    let sections: Vec<String> = sections.chain(["[[members]]\n".to_owned(), "[x".to_owned()]).collect();
    let values = prop::sample::select(vec![
        "\"\"",
        "'x'",
        "3",
        "-1",
        "99999999999999999999",
        "1e400",
        "nan",
        "true",
        "[]",
        "['a', 3]",
        "{}",
        "{ file = '/a' }",
        "{ env = 3 }",
        "{ x = { y = [] } }",
        "1979-05-27",
        "\"\\u001b[2J\"",
        "'ü'",
        "\"\"\"\na\nb\"\"\"",
        "'http://h:1'",
        "['http://h:1']",
        "'file:///a'",
        "'30s'",
        "0x7fff_ffff_ffff_ffff",
        "'",
        "{",
        "[\n1,\n",
    ]);
    prop_oneof![
        1 => prop::sample::select(sections),
        4 => (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}\n")),
        1 => "\\PC{0,12}\n",
    ]
}

proptest! {
    #[test]
    fn any_text_parses_or_errs(texts in prop::collection::vec(prop::collection::vec(lines(), 0..8), 1..3)) {
        let texts: Vec<String> = texts.into_iter().map(|lines| lines.concat()).collect();
        let files = texts.into_iter().map(|text| (PathBuf::from("a.toml"), text.into_bytes())).collect();
        if let Err(problems) = parse(files) {
            prop_assert!(!problems.is_empty());
            let text = listed(&problems);
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{}", text);
        }
    }

    #[test]
    fn any_bytes_parse_or_err(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(problems) = parse(vec![(PathBuf::from("a.toml"), bytes)]) {
            prop_assert!(!problems.is_empty());
        }
    }
}

#[test]
fn the_last_good_configuration_is_recalled_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, LEAST).unwrap();
    std::fs::create_dir(folder.path().join("config.d")).unwrap();
    std::fs::write(folder.path().join("config.d/10-a.toml"), "compression.level = 7\n").unwrap();
    let loaded = load(&path).unwrap();
    let record = loaded.to_record().unwrap();
    assert_eq!(recall(&record), Some(loaded.config));
    assert_eq!(recall(b"{}"), None);
    let later = String::from_utf8(record)
        .unwrap()
        .replace("\"format\":1", "\"format\":2");
    assert_eq!(recall(later.as_bytes()), None);
    let wrong = later
        .replace("\"format\":2", "\"format\":1")
        .replace("level = 7", "level = 70");
    assert_eq!(recall(wrong.as_bytes()), None);
}

#[test]
fn a_heartbeat_is_a_url_or_the_place_of_one_and_is_never_shown() {
    let heartbeat = |text: &str| valid(&[LEAST, &format!("notify.heartbeat = {text}")]).notify.heartbeat;
    let kept = heartbeat("{ env = 'HEARTBEAT' }");
    assert_eq!(kept, Some(HeartbeatUrl::Kept(Secret::Env("HEARTBEAT".to_owned()))));
    let written = heartbeat("'https://example.com/s3cret'");
    assert_ne!(written, heartbeat("'https://example.com/other'"));
    assert_eq!(written, heartbeat("'https://example.com/s3cret'"));
    assert!(!format!("{written:?}").contains("s3cret"));
    for wrong in [
        "'s3cret'",
        "'ftp://example.com/s3cret'",
        "[['s3cret']]",
        "{ url = 's3cret' }",
        "7",
    ] {
        let found = problems(&format!("[notify]\nheartbeat = {wrong}"));
        assert!(found.contains("`notify.heartbeat"), "{found}");
        assert!(!found.contains("s3cret"), "{found}");
    }
}

#[test]
fn a_hook_is_a_program_by_its_path_and_its_arguments() {
    let hook = valid(&[LEAST, "notify.on_failure = ['/bin/page', '', '$HOME']"])
        .notify
        .on_failure;
    let arguments = vec![String::new(), "$HOME".to_owned()];
    let path = "/bin/page".into();
    assert_eq!(hook, Some(OnFailure { path, arguments }));
    let relative = problems("notify.on_failure = ['page dba']");
    assert!(
        relative.contains("`notify.on_failure[0]` is not a path that starts with `/`"),
        "{relative}"
    );
    let empty = problems("notify.on_failure = []");
    assert!(empty.contains("`notify.on_failure` is empty"), "{empty}");
}

#[test]
fn metrics_are_served_to_this_host_alone() {
    let listen = |text: &str| valid(&[LEAST, &format!("metrics.listen = '{text}'")]).metrics.listen;
    assert_eq!(listen("[::1]:9379"), Some(Listen::Port("[::1]:9379".parse().unwrap())));
    assert_eq!(
        listen("/run/lifeboat/metrics"),
        Some(Listen::Socket("/run/lifeboat/metrics".into()))
    );
    for (wrong, why) in [
        ("0.0.0.0:9379", "not an address of the loopback"),
        ("10.0.0.1:9379", "not an address of the loopback"),
        (":9379", "is not an address"),
        ("localhost", "is not an address"),
    ] {
        let found = problems(&format!("metrics.listen = '{wrong}'"));
        assert!(found.contains(why), "{found}");
    }
    for wrong in ["lifeboat.prom", "/var/lib/node/lifeboat", ""] {
        let found = problems(&format!("metrics.textfile = '{wrong}'"));
        assert!(found.contains("ends in `.prom`"), "{found}");
    }
}
