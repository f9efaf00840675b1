//! The example file against the table of keys, every refusal to the letter, and text that nobody would write.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::load::{listed, parse};
use super::*;

const EXAMPLE: &str = include_str!("../../config.example.toml");

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

#[test]
fn slots_that_are_too_close_are_doubted() {
    let doubted = warnings("schedules.b = { kind = 'full', every = '1s' }");
    assert!(doubted.contains("`schedules.b.every`: every 1 s"), "{doubted}");
    let doubted = warnings("schedules.b = { kind = 'full', every = '10m', jitter = '20m' }");
    assert!(
        doubted.contains("`schedules.b.jitter` of 20 m is longer than the 10 m from"),
        "{doubted}"
    );
    assert_eq!(
        warnings("schedules.b = { kind = 'full', every = '10m', jitter = '5m' }"),
        ""
    );
}

/// The problems of `LEAST` with `drop_in` over it.
fn problems(drop_in: &str) -> String {
    listed(&parse_texts(&[LEAST, drop_in]).expect_err(drop_in))
}

fn warnings(drop_in: &str) -> String {
    listed(&parse_texts(&[LEAST, drop_in]).expect(drop_in).1)
}

fn is_commented_key(line: &str) -> bool {
    line.strip_prefix('#')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn example_with(is_on: impl Fn(&str) -> bool) -> String {
    let lines = EXAMPLE.lines().map(|line| match is_commented_key(line) && is_on(line) {
        true => &line[1..],
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_valid_but_for_its_recipient() {
    let (config, warnings) = parse_texts(&[EXAMPLE]).unwrap();
    assert!(config.has_sample_recipient());
    assert_eq!(warnings.len(), 1, "{}", listed(&warnings));
    assert_eq!(
        warnings[0].message,
        "`encryption.recipients[0]` is the sample of config.example.toml: nobody can open a backup made for it"
    );
}

#[test]
fn the_example_shows_the_defaults() {
    let defaults_on = example_with(|line| !line.ends_with("# no default"));
    assert_ne!(defaults_on, EXAMPLE);
    // The sample of a bucket counts only where it is on.
    let all = |text: &str| valid(&[&text.replace("\nenabled = false\n", "\n")]);
    assert!(all(EXAMPLE).is_shared("offsite"));
    assert_eq!(all(&defaults_on), all(EXAMPLE));
}

#[test]
fn every_sample_in_the_example_works() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SAMPLE_RECIPIENT).unwrap();
    let all_on = example_with(|_| true).replace("/etc/lifeboat/recipients.txt", file.path().to_str().unwrap());
    // Of the two, a file may hold only one.
    let all_on = all_on.replace("\nwhen = \"hourly\"\n", "\n");
    let all_on = all_on.replace("\nenabled = false\n", "\n");
    let config = valid(&[&all_on]);
    let client = config.cluster.tls.client.unwrap();
    assert_eq!(client.key, Secret::File("/etc/lifeboat/client.key".into()));
    assert_eq!(config.cluster.auth.unwrap().user, "root");
    assert_eq!(
        config.encryption.identity,
        Some(Secret::Credential("identity".to_owned()))
    );
    assert_eq!(config.host.member.unwrap().as_str(), "m1");
    let offsite = &config.destinations["offsite"].options;
    assert_eq!(offsite.credentials, Some(Secret::Credential("s3-keys".to_owned())));
    assert_eq!(offsite.endpoint.as_deref(), Some("https://s3.example.com"));
    let vault = &config.destinations["vault"].sftp;
    assert_eq!(vault.key, Some(Secret::Credential("sftp-key".to_owned())));
    assert!(vault.host_key.as_ref().unwrap().starts_with("ssh-ed25519 AAAA"));
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let mut shown: Vec<String> = Vec::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header
                .trim_end_matches(']')
                .replace(".m1", ".*")
                .replace(".hourly", ".*")
                .replace(".local", ".*")
                .replace(".offsite", ".*")
                .replace(".vault", ".*");
        } else if is_commented_key(line) || line.starts_with(|c: char| c.is_ascii_lowercase()) {
            let (key, _) = line.trim_start_matches('#').split_once(" = ").expect(line);
            let key = format!("{section}.{key}");
            // A second destination has some of the first one's.
            if !shown.contains(&key) {
                shown.push(key);
            }
        }
    }
    let known: Vec<&str> = known_keys::KEYS.iter().map(|key| key.path).collect();
    assert_eq!(shown, known);
}

/// A key in the table that nobody reads would be accepted and ignored.
#[test]
fn every_key_is_read() {
    let with_schedule = &format!(
        "{LEAST}[schedules.b]\nkind = 'full'\nwhen = 'daily'\n[destinations.far]\nurl = 's3://bucket'\n\
                  [destinations.vault]\nurl = 'sftp://u@h/x'\nkey = {{ env = 'K' }}\n"
    );
    let defaults = valid(&[with_schedule]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recipients");
    std::fs::write(&file, SAMPLE_RECIPIENT).unwrap();
    let recipients_file = format!("encryption.recipients_file = {:?}", file);
    let changes = [
        ("cluster.name", "cluster.name = 'other'"),
        ("cluster.tls.ca", "cluster.tls.ca = { env = 'A' }"),
        (
            "cluster.tls.cert",
            "cluster.tls = { cert = { env = 'A' }, key = { env = 'B' } }",
        ),
        (
            "cluster.tls.key",
            "cluster.tls = { cert = { env = 'A' }, key = { env = 'B' } }",
        ),
        ("cluster.tls.server_name", "cluster.tls.server_name = 'etcd'"),
        (
            "cluster.auth.user",
            "cluster.auth = { user = 'a', password = { env = 'B' } }",
        ),
        (
            "cluster.auth.password",
            "cluster.auth = { user = 'a', password = { env = 'B' } }",
        ),
        ("members.*.client_urls", "members.m1.client_urls = ['http://h:1']"),
        ("members.*.peer_urls", "members.m1.peer_urls = ['http://h:1']"),
        ("members.*.enabled", "members.m2.enabled = false"),
        ("host.member", "host.member = 'm1'"),
        ("host.unit", "host.unit = 'other.service'"),
        ("host.data_dir", "host.data_dir = '/data'"),
        ("host.wal_dir", "host.wal_dir = '/wal'"),
        ("host.settings", "host.settings = 'flags'"),
        ("host.etcd_version", "host.etcd_version = '3.5'"),
        (
            "encryption.recipients",
            &format!("encryption.recipients = ['{SAMPLE_RECIPIENT}']"),
        ),
        ("encryption.recipients_file", &recipients_file),
        ("encryption.identity", "encryption.identity = { env = 'A' }"),
        ("encryption.identity_note", "encryption.identity_note = 'in the safe'"),
        ("encryption.plugins", "encryption.plugins = '/opt/plugins'"),
        ("signing.key", "signing.key = { env = 'A' }"),
        (
            "signing.trusted",
            "signing.trusted = ['lifeboat-signer13jxyrs06haqvrvpxzs2nu2nhpnpsqucnv6slkcwkdxxxnkjh3esqudqgk9', 'lifeboat-root1pzejt30yuztxzak52uarykq02tvnugaswtjmdjnn6fkapyf6wlnsewv732']",
        ),
        ("compression.level", "compression.level = 19"),
        ("compression.threads", "compression.threads = 64"),
        ("backup.member", "backup.member = 'm1'"),
        ("backup.hash_kv", "backup.hash_kv = 'never'"),
        ("backup.require", "backup.require = 'content'"),
        ("backup.idle_timeout", "backup.idle_timeout = '1h'"),
        ("backup.finish_within", "backup.finish_within = '1h'"),
        ("backup.pace", "backup.pace = 'off'"),
        ("deltas.enabled", "deltas.enabled = true"),
        ("deltas.every", "deltas.every = '1s'"),
        ("deltas.max_bytes", "deltas.max_bytes = '1 MiB'"),
        ("deltas.destinations", "deltas.destinations = ['local']"),
        ("deltas.spool", "deltas.spool = '2 GiB'"),
        ("deltas.mark_every", "deltas.mark_every = '5m'"),
        ("deltas.pack_after", "deltas.pack_after = '2h'"),
        ("deltas.hash_kv_every", "deltas.hash_kv_every = '24h'"),
        ("restore.health_timeout", "restore.health_timeout = '1h'"),
        ("restore.bump_revision", "restore.bump_revision = 'never'"),
        ("schedules.*.kind", "schedules.a = { kind = 'full', every = '6h' }"),
        ("schedules.*.when", "schedules.a = { kind = 'full', when = 'hourly' }"),
        ("schedules.*.every", "schedules.a = { kind = 'full', every = '6h' }"),
        ("schedules.*.jitter", "schedules.b.jitter = '1h'"),
        ("schedules.*.catch_up", "schedules.b.catch_up = false"),
        ("schedules.*.late_after", "schedules.b.late_after = '2h'"),
        (
            "schedules.*.destinations",
            "schedules.b.destinations = ['local']\ndestinations.two.url = 'file:///two'",
        ),
        ("schedules.*.enabled", "schedules.b.enabled = false"),
        ("destinations.*.url", "destinations.local.url = 'file:///other'"),
        ("destinations.*.shared", "destinations.local.shared = true"),
        (
            "destinations.*.enabled",
            "destinations.local.enabled = false\ndestinations.two.url = 'file:///two'",
        ),
        (
            "destinations.*.retention.keep_last",
            "destinations.local.retention.keep_last = 3",
        ),
        (
            "destinations.*.retention.keep_within",
            "destinations.local.retention.keep_within = '2 days'",
        ),
        (
            "destinations.*.retention.pitr_window",
            "destinations.local.retention.pitr_window = '7 days'",
        ),
        (
            "destinations.*.retention.keep_hourly",
            "destinations.local.retention.keep_hourly = 3",
        ),
        (
            "destinations.*.retention.keep_daily",
            "destinations.local.retention.keep_daily = 3",
        ),
        (
            "destinations.*.retention.keep_weekly",
            "destinations.local.retention.keep_weekly = 3",
        ),
        (
            "destinations.*.retention.keep_monthly",
            "destinations.local.retention.keep_monthly = 3",
        ),
        (
            "destinations.*.retention.keep_yearly",
            "destinations.local.retention.keep_yearly = 3",
        ),
        (
            "destinations.*.retention.max_bytes",
            "destinations.local.retention.max_bytes = '3 GiB'",
        ),
        (
            "destinations.*.retention.min_backups",
            "destinations.local.retention.min_backups = 3",
        ),
        (
            "destinations.*.credentials",
            "destinations.far.credentials = { env = 'A' }",
        ),
        (
            "destinations.*.credentials_note",
            "destinations.far.credentials_note = 'in the safe'",
        ),
        (
            "destinations.*.endpoint",
            "destinations.far.endpoint = 'https://s3.example.com'",
        ),
        ("destinations.*.region", "destinations.far.region = 'eu-central-1'"),
        ("destinations.*.ca", "destinations.far.ca = { env = 'A' }"),
        ("destinations.*.path_style", "destinations.far.path_style = false"),
        ("destinations.*.checksum", "destinations.far.checksum = 'md5'"),
        ("destinations.*.concurrency", "destinations.far.concurrency = 2"),
        ("destinations.*.part_size", "destinations.far.part_size = '9 MiB'"),
        ("destinations.*.read_back", "destinations.far.read_back = 'never'"),
        ("destinations.*.object_lock", "destinations.far.object_lock = '30d'"),
        ("destinations.*.bandwidth", "destinations.far.bandwidth = '20MiB/s'"),
        (
            "destinations.*.host_key",
            "destinations.vault.host_key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN'",
        ),
        (
            "destinations.*.known_hosts",
            "destinations.vault.known_hosts = { file = '/etc/ssh/ssh_known_hosts' }",
        ),
        ("destinations.*.key", "destinations.vault.key = { env = 'A' }"),
        (
            "destinations.*.passphrase",
            "destinations.vault.passphrase = { env = 'A' }",
        ),
        ("destinations.*.password", "destinations.vault.password = { env = 'A' }"),
        ("notify.on_failure", "notify.on_failure = ['/bin/true']"),
        ("notify.heartbeat", "notify.heartbeat = 'https://example.com/'"),
        ("notify.heartbeat_every", "notify.heartbeat_every = '1m'"),
        ("metrics.listen", "metrics.listen = '127.0.0.1:9379'"),
        ("metrics.textfile", "metrics.textfile = '/var/lib/node/lifeboat.prom'"),
    ];
    assert_eq!(
        changes.map(|(path, _)| path).as_slice(),
        known_keys::KEYS.iter().map(|key| key.path).collect::<Vec<_>>()
    );
    for (path, text) in changes {
        assert_ne!(valid(&[with_schedule, text]), defaults, "{path}");
    }
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
fn a_period_in_the_place_of_a_calendar_is_told_where_it_belongs() {
    for when in ["every 1m", "1m"] {
        let told = problems(&format!("schedules.b = {{ kind = 'full', when = '{when}' }}"));
        assert!(told.contains("; a period is written as `every = \"1m\"`"), "{told}");
    }
    let told = problems("schedules.b = { kind = 'full', when = 'Mo 12:00' }");
    assert!(!told.contains("a period"), "{told}");
}

#[test]
fn recipients_come_from_the_list_and_the_file_each_once() {
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkDdCxOzUvoBgsvEPbzuMVojDBASu5LOm9oEmT9By9m";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!("# two\r\n\r\n{ssh} alice@host\r\n{SAMPLE_RECIPIENT}"),
    )
    .unwrap();
    let drop_in = format!(
        "[encryption]\nrecipients = ['{SAMPLE_RECIPIENT}', '{SAMPLE_RECIPIENT}']\nrecipients_file = {:?}",
        file.path()
    );
    let config = valid(&[LEAST, &drop_in]);
    let recipients: Vec<String> = config.encryption.recipients.iter().map(ToString::to_string).collect();
    assert_eq!(recipients, [SAMPLE_RECIPIENT, ssh]);
}

#[test]
fn a_recipient_with_a_wrong_character_is_told_from_something_else() {
    let key = "age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m";
    for mistyped in [key.replace("f00m", "f00n"), key.replace("f00m", "f0")] {
        let told = problems(&format!("encryption.recipients = ['{mistyped}']"));
        let says = "`age1psjnez3xz37g` is not a whole age recipient: a character is mistyped, missing or too many; copy it anew";
        assert!(told.contains(says), "{told}");
    }
    let told = problems("encryption.recipients = ['age1nonsense']");
    assert!(told.contains("is not an age recipient"), "{told}");
}

#[test]
fn a_fault_in_the_recipients_file_is_shown_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let shown = file.path().display();
    let drop_in = format!("encryption.recipients_file = {:?}", file.path());
    std::fs::write(file.path(), "# mine\n age1nonsense\n").unwrap();
    assert_eq!(
        problems(&drop_in),
        format!(
            "{shown}:2:1: `line 2`: `age1nonsense` is not an age recipient (age1…) or an SSH public key (ssh-ed25519 …, ssh-rsa …)\n  |\n2 |  age1nonsense\n  | ^^^^^^^^^^^^^"
        )
    );
    std::fs::write(file.path(), "# nothing\n").unwrap();
    let message = format!("`encryption.recipients_file`: {shown} holds no recipient");
    assert!(problems(&drop_in).contains(&message));
    drop(file);
    assert!(problems(&drop_in).contains("No such file or directory (os error 2)"));
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

fn host(name: &str, addresses: &[&str]) -> ThisHost {
    ThisHost {
        name: name.to_owned(),
        addresses: addresses
            .iter()
            .map(|address| address.parse::<IpAddr>().unwrap())
            .collect(),
    }
}

#[test]
fn the_local_member_is_found_by_the_first_rule_that_decides() {
    let members = "
        [members.m1]\npeer_urls = ['http://127.0.0.1:2380', 'http://10.0.0.1:2380']
        [members.m2]\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.2:2380', 'http://[fd00::2]:2380']
        [members.'m3.example.com']\nclient_urls = ['http://h:1']\npeer_urls = ['http://db3.example.com:2380']
        [members.'m4.a']\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.4:2380']
        [members.'m4.b']\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.5:2380']
        [members.m5]\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.5:2380']\nenabled = false";
    let config = valid(&[LEAST, members]);
    for (name, addresses, member, because) in [
        ("m1", &[][..], "m1", Because::HostName),
        ("M1.example.com", &["10.0.0.2"], "m1", Because::HostName),
        ("m3.example.com", &[], "m3.example.com", Because::HostName),
        ("m3", &[], "m3.example.com", Because::HostName),
        ("m4.b", &[], "m4.b", Because::HostName),
        ("db2", &["127.0.0.1", "10.0.0.2"], "m2", Because::PeerAddress),
        ("db2", &["fd00::2"], "m2", Because::PeerAddress),
        ("db2", &["::ffff:10.0.0.2"], "m2", Because::PeerAddress),
        ("db3", &[], "m3.example.com", Because::PeerAddress),
        ("m4", &["10.0.0.4"], "m4.a", Because::PeerAddress),
        ("m5", &["10.0.0.5"], "m4.b", Because::PeerAddress),
    ] {
        let found = config.local_member(&host(name, addresses));
        assert_eq!(
            found,
            LocalMember::Is(member.parse().unwrap(), because),
            "{name} {addresses:?}"
        );
    }
    for nowhere in [
        host("", &[]),
        host("db9", &["127.0.0.1", "::1"]),
        host("m", &["10.0.0.9"]),
        host("localhost", &[]),
    ] {
        assert_eq!(config.local_member(&nowhere), LocalMember::None);
    }
    let several = config.local_member(&host("m4", &[]));
    assert_eq!(
        several.to_string(),
        "no local member: `m4.a` and `m4.b` all match this host, and `host.member` is not set"
    );
    let several = config.local_member(&host("db", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(
        several,
        LocalMember::Ambiguous(vec!["m1".parse().unwrap(), "m2".parse().unwrap()])
    );
    let configured = valid(&[LEAST, members, "host.member = 'm2'"]).local_member(&host("m1", &["10.0.0.1"]));
    assert_eq!(configured.to_string(), "local member `m2` (by `host.member`)");
}

#[test]
fn an_only_member_at_a_loopback_address_is_this_hosts_whatever_that_is_called() {
    let found = |members: &str| valid(&[LEAST, members]).local_member(&host("h1", &["10.0.0.1"]));
    let only = found("[members.m1]\nclient_urls = ['http://127.0.0.1:2379', 'http://[::1]:2379']");
    assert_eq!(only, LocalMember::Is("m1".parse().unwrap(), Because::OnlyOne));
    assert_eq!(
        only.to_string(),
        "local member `m1` (the only one, at a loopback address)"
    );
    // It may be anywhere.
    assert_eq!(
        found("[members.m1]\nclient_urls = ['http://db1:2379']"),
        LocalMember::None
    );
    assert_eq!(
        found("[members.m1]\nclient_urls = ['http://127.0.0.1:2379', 'http://db1:2379']"),
        LocalMember::None
    );
    // The same file is on several hosts: whose loopback is meant?
    let several = "[members.m1]\nclient_urls = ['http://127.0.0.1:2379']\n\
                   [members.m2]\nclient_urls = ['http://127.0.0.1:2379']";
    assert_eq!(found(several), LocalMember::None);
}

#[test]
fn this_host_has_a_loopback_address() {
    let this = ThisHost::ask().unwrap();
    assert!(this.addresses.iter().any(IpAddr::is_loopback), "{this:?}");
}

#[test]
fn a_schedule_has_its_defaults_and_of_when_and_every_the_later_file_counts() {
    let hourly = "[schedules.hourly]\nkind = 'full'\nwhen = 'hourly'";
    let config = valid(&[LEAST, hourly]);
    let schedule = config.schedules.values().next().unwrap();
    assert_eq!(schedule.when.to_string(), "hourly");
    assert_eq!(
        (schedule.jitter, schedule.late_after),
        (Duration::from_secs(60), Duration::from_secs(3600))
    );
    assert_eq!(schedule.catch_up, crate::schedule::CatchUp::Once);
    assert_eq!(
        schedule
            .destinations
            .iter()
            .map(DestinationName::as_str)
            .collect::<Vec<_>>(),
        ["local"]
    );
    let when = |texts: &[&str]| valid(texts).schedules.values().next().unwrap().when.to_string();
    let every = "schedules.hourly.every = '90m'";
    assert_eq!(when(&[LEAST, hourly, every]), "every 1 h 30 m");
    assert_eq!(when(&[&format!("{every}\n{LEAST}"), hourly]), "hourly");
}

#[test]
fn what_is_wrong_with_a_schedule_or_with_retention_is_said_where_it_stands() {
    let cases = [
        ("schedules.a.kind = 'full'", "`schedules.a.when` is missing"),
        ("schedules.a.when = 'daily'", "`schedules.a.kind` is missing"),
        (
            "schedules.a = { kind = 'drill', when = 'daily' }",
            "schedules of kind \"drill\" are known only to later versions",
        ),
        (
            "schedules.a = { kind = 'full', when = 'sometimes' }",
            "`schedules.a.when`: ",
        ),
        (
            "schedules.a = { kind = 'full', when = '*:*:0/0.5' }",
            "\"*:*:0/0.5\" names more than one moment of a second",
        ),
        (
            "schedules.a = { kind = 'full', every = '500ms' }",
            "`schedules.a.every`: ",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', every = '1h' }",
            "`schedules.a.every`: `when` stands beside it",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', destinations = ['locl'] }",
            "`locl` is not one of `[destinations]` that are switched on; did you mean `local`?",
        ),
        (
            "schedules.a = { kind = 'full', when = 'daily', destinations = [] }",
            "`schedules.a.destinations` is empty",
        ),
        (
            "destinations.local.enabled = false\nschedules.a = { kind = 'full', when = 'daily' }",
            "there is no destination that its backups could go to",
        ),
        ("schedules.A = { kind = 'full', when = 'daily' }", "a schedule's name"),
        (
            "destinations.local.retention.keep_last = -1",
            "-1 is not a whole number from 0",
        ),
        (
            "destinations.local.retention.keep_within = '0s'",
            "is not a duration with a unit",
        ),
        ("destinations.local.retention.max_bytes = '3'", "a size with a unit"),
        ("destinations.local.retention.keep_lst = 3", "did you mean"),
    ];
    for (text, said) in cases {
        let found = problems(text);
        assert!(found.contains(said), "{text}\n{found}");
    }
    valid(&[LEAST, "schedules.a.enabled = false"]);
}

#[test]
fn what_does_not_fit_a_bucket_is_said_where_it_stands() {
    let cases = [
        (
            "url = 's3://k:s@bucket'",
            "`destinations.far.url`: a user, key or password in a URL",
        ),
        ("url = 'swift://box'", "`destinations.far.endpoint` is missing"),
        (
            "url = 's3://bucket'\nendpoint = 's3.example.com'",
            "`destinations.far.endpoint`: \"s3.example.com\" is not",
        ),
        (
            "url = 's3://bucket'\nendpoint = 'https://a?b=c'",
            "`destinations.far.endpoint`: ",
        ),
        (
            "url = 's3://bucket'\nendpoint = 'https://k:geheim@host'",
            "`destinations.far.endpoint`: a user, key",
        ),
        (
            "url = 's3://bucket'\nregion = ''",
            "`destinations.far.region`: \"\" is not a region",
        ),
        (
            "url = 's3://bucket'\nchecksum = 'sha256'",
            "`destinations.far.checksum`: \"sha256\" is not",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 0",
            "0 is not a whole number from 1 to 9",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 10",
            "10 is not a whole number from 1 to 9",
        ),
        (
            "url = 's3://bucket'\npart_size = '4 MiB'",
            "`destinations.far.part_size`: \"4 MiB\" is not a size",
        ),
        (
            "url = 's3://bucket'\npart_size = '19 MiB'",
            "`destinations.far.part_size`: \"19 MiB\" is not a size",
        ),
        (
            "url = 's3://bucket'\npart_size = '16 MiB'",
            "`destinations.far.part_size`: 4 parts of 16.0 MiB at once, and two that wait, take 96.0 MiB of memory",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 9",
            "`destinations.far.concurrency`: 9 parts of 8.00 MiB at once, and two that wait, take 88.0 MiB of memory",
        ),
        (
            "url = 's3://bucket'\ncredentials = 'AKIA'",
            "`destinations.far.credentials` is not where to find it",
        ),
        (
            "url = 's3://bucket'\nshared = false",
            "`destinations.far.shared`: a `s3:` destination is that of all hosts",
        ),
        (
            "url = 's3://bucket'\nread_back = 'sometimes'",
            "`destinations.far.read_back`: \"sometimes\" is not \"always\" or \"never\"",
        ),
        (
            "url = 'gs://bucket'\nread_back = 'never'",
            "`destinations.far.read_back`: only of `s3:` the store's own checksum is known, and this one is gs://bucket",
        ),
        (
            "url = 'file:///srv'\nread_back = 'never'",
            "`destinations.far.read_back`: only of `s3:`",
        ),
        (
            "url = 's3://bucket'\nobject_lock = '12h'",
            "`destinations.far.object_lock`: \"12h\" is not a duration from \"1d\"",
        ),
        (
            "url = 'gs://bucket'\nobject_lock = '30d'",
            "`destinations.far.object_lock` is of destinations in `s3:`",
        ),
        (
            "url = 's3://bucket'\nbandwidth = '20MiB'",
            "`destinations.far.bandwidth`: \"20MiB\" is not a rate",
        ),
        (
            "url = 'file:///srv'\nbandwidth = '63 KiB/s'",
            "`destinations.far.bandwidth`: \"63 KiB/s\" is not a rate",
        ),
        ("url = 'oss://bucket'", "`destinations.far.endpoint` is missing"),
        ("url = 'azblob://box'", "`destinations.far.endpoint` is missing"),
        (
            "url = 'gs://bucket'\nregion = 'x'",
            "`destinations.far.region` is of destinations in `s3:`, `swift:`, and this one is gs://bucket",
        ),
        (
            "url = 'azblob://box'\npath_style = true",
            "`destinations.far.path_style` is of destinations in `s3:`, `oss:`, and this one is azblob://box",
        ),
        (
            "url = 'file:///srv'\nendpoint = 'https://a'",
            "`destinations.far.endpoint` is of destinations in `s3:`, `gs:`, `azblob:`, `oss:`, `swift:`, and this one is file:///srv",
        ),
        (
            "url = 'file:///srv'\ncredentials = { env = 'A' }",
            "`destinations.far.credentials` is of",
        ),
        ("url = 'sftp://u@h/x'", "`destinations.far.key` is missing"),
        (
            "url = 's3://bucket'\npassword = { env = 'A' }",
            "`destinations.far.password` is of destinations in `sftp:`, and this one is s3://bucket",
        ),
        (
            "url = 'sftp://u@h/x'\npassword = { env = 'A' }\nregion = 'x'",
            "`destinations.far.region` is of destinations in `s3:`, `swift:`, and this one is sftp://u@h/x",
        ),
        (
            "url = 'sftp://u@h/x'\nkey = { env = 'A' }\nhost_key = 'ssh-rsa AAAAB3NzaC1yc2E='",
            "`destinations.far.host_key`: \"ssh-rsa AAAAB3NzaC1yc2E=\" is not an ed25519 or ECDSA key",
        ),
        (
            "url = 'sftp://u@h/x'\nkey = { env = 'A' }\nhost_key = 'SHA256:abc'",
            "`destinations.far.host_key`: \"SHA256:abc\" is not an ed25519",
        ),
        (
            "url = 'sftp://u:p@h/x'\nkey = { env = 'A' }",
            "`destinations.far.url`: a user, key or password in a URL is not taken",
        ),
    ];
    for (text, said) in cases {
        let found = problems(&format!("[destinations.far]\n{text}\n"));
        assert!(found.contains(said), "{text}\n{found}");
        assert!(!found.contains("geheim") && !found.contains("AKIA"), "{found}");
    }
    valid(&[LEAST, "destinations.far = { url = 's3://bucket', concurrency = 5 }"]);
    valid(&[LEAST, "destinations.far = { url = 'oss://bucket', enabled = false }"]);
}

#[test]
fn a_bucket_is_shared_and_its_server_part_of_where_it_is() {
    let texts = "
        [destinations.a]\nurl = 's3://bucket/x'\nendpoint = 'https://one.example.com/'
        [destinations.b]\nurl = 's3://bucket/x'\nshared = true";
    let config = valid(&[LEAST, texts]);
    assert!(config.is_shared("a") && config.is_shared("b") && !config.is_shared("local"));
    let urls: Vec<String> = config.addresses().into_iter().map(|address| address.url).collect();
    let at = "s3://bucket/x at https://one.example.com";
    assert_eq!(urls, [at, "s3://bucket/x", "file:///var/backups"]);
    let twice = format!("{texts}\nendpoint = 'https://one.example.com'");
    assert!(problems(&twice).contains("s3://bucket/x is that of `destinations.a`"));
}

#[test]
fn a_server_that_proves_nothing_is_doubted_unless_it_is_here() {
    for (endpoint, is_doubted) in [
        ("http://s3.example.com", true),
        ("http://10.0.0.1:9000", true),
        ("https://s3.example.com:9000/path", false),
        ("http://127.0.0.1:9000", false),
        ("http://localhost", false),
        ("http://[::1]:9000", false),
    ] {
        let doubted = warnings(&format!(
            "destinations.far = {{ url = 's3://bucket', endpoint = '{endpoint}' }}"
        ));
        assert_eq!(doubted.contains("use `https://`"), is_doubted, "{endpoint}: {doubted}");
    }
}

#[test]
fn keys_of_a_bucket_are_secrets_without_which_the_rest_goes_on() {
    let far = "destinations.far = { url = 's3://bucket', credentials = { env = 'LIFEBOAT_NO_SUCH' }, ca = { file = '/no/ca' } }";
    let found = valid(&[LEAST, far]).check_secrets();
    let said: Vec<&str> = found
        .problems
        .iter()
        .map(|unread| unread.problem.message.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "`destinations.far.ca`: read /no/ca: No such file or directory (os error 2)",
            "`destinations.far.credentials`: environment variable LIFEBOAT_NO_SUCH is not set"
        ]
    );
    assert!(found.problems.iter().all(|unread| !unread.is_needed));
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
fn more_recipients_than_a_backup_can_name_are_refused() {
    let keys = |count: usize| {
        let keys = (0..count).map(|_| format!("'{}'", age::x25519::Identity::generate().to_public()));
        format!("encryption.recipients = [{}]", keys.collect::<Vec<_>>().join(","))
    };
    assert_eq!(valid(&[LEAST, &keys(200)]).encryption.recipients.len(), 200);
    let refused = problems(&keys(201));
    assert!(refused.contains("201 recipients are more than the 200"), "{refused}");
}

#[test]
fn recipients_whose_keys_are_too_long_together_are_refused() {
    // As an RSA key of 4096 bits is: 512 bytes of modulus.
    let blob = |n: u8| {
        let mut blob = Vec::new();
        for part in [
            &b"ssh-rsa"[..],
            &[1, 0, 1],
            &[&[0, 0x80 | n][..], &[0xab; 511]].concat(),
        ] {
            blob.extend((part.len() as u32).to_be_bytes());
            blob.extend(part);
        }
        format!("'ssh-rsa {}'", base64(&blob))
    };
    let keys = |count: u8| {
        let keys = (0..count).map(blob);
        format!("encryption.recipients = [{}]", keys.collect::<Vec<_>>().join(","))
    };
    assert_eq!(valid(&[LEAST, &keys(60)]).encryption.recipients.len(), 60);
    let refused = problems(&keys(100));
    assert!(refused.contains("are too long together"), "{refused}");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
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
