//! The example file against the table of keys.

use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

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
