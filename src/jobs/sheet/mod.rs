//! The recovery sheet: one page with what is needed where nothing is left but a store, the identity and this page.
//!
//! Made of the configuration alone; no store and no member is asked. A value of the configuration that is a secret is never
//! read: only where it is kept is told.
//!
//! Invariant: what is to be typed works as it is printed, on a host without a configuration. Keys and the token are asked
//! for, so that they are in no history of a shell; each such question is the last line of its block, so that a block can be
//! pasted.
//! Invariant: whose documents count in the configuration, counts in what is typed, and nobody else's.

mod page;
mod reach;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::config::{Config, Sharing};
use crate::etcd_settings::shell_word;
use crate::pipeline::{PLUGINS, Recipient};
use crate::signing::{Role, SignerKey};
use page::Block;
use reach::{CA, Reach, SFTP_KEY, keys_file, reach};

/// What the sheet says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// When.
    pub at: Timestamp,
    /// By which version.
    pub version: &'a str,
    /// On which host.
    pub host: &'a str,
}

/// A sheet, ready to be printed.
pub struct Sheet {
    title: String,
    blocks: Vec<Block>,
}

impl Sheet {
    /// As text of 80 columns.
    pub fn text(&self) -> String {
        page::text(&self.blocks)
    }

    /// As one HTML file.
    pub fn html(&self) -> String {
        page::html(&self.title, &self.blocks)
    }
}

/// Members of which a restore does not know the peer URLs from this sheet.
pub fn members_without_peer_urls(config: &Config) -> Vec<String> {
    let members = config.members.iter();
    let members = members.filter(|(_, member)| member.peer_urls.is_empty());
    members.map(|(name, _)| name.to_string()).collect()
}

/// The sheet of a configuration.
pub fn sheet(config: &Config, made: Made<'_>) -> Sheet {
    let mut blocks = Vec::new();
    let cluster = &config.cluster.name;
    let title = format!("Recovery sheet of etcd cluster {cluster}");
    blocks.push(Block::Title(title.clone()));
    blocks.push(Block::Text(format!(
        "Made on {} UTC by lifeboat {} on {}. With this page, an identity (2) and a store (3) the cluster comes back on new \
         hosts. No secret is on it. Print it again when members, stores or recipients have changed.",
        made.at.strftime("%F %H:%M"),
        made.version,
        made.host
    )));
    members(config, &mut blocks);
    identities(config, &mut blocks);
    signers(config, &mut blocks);
    stores(config, &mut blocks);
    commands(config, &mut blocks);
    Sheet { title, blocks }
}

fn row(label: impl Into<String>, value: impl Into<String>) -> Block {
    Block::Row(label.into(), value.into())
}

fn say(text: &str) -> Block {
    Block::Text(text.to_owned())
}

fn typed<const N: usize>(commands: [String; N]) -> Block {
    Block::Typed(commands.into())
}

fn members(config: &Config, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading("1. The members".to_owned()));
    for (name, member) in &config.members {
        let urls = |urls: &[crate::config::MemberUrl]| {
            let urls: Vec<&str> = urls.iter().map(crate::config::MemberUrl::as_str).collect();
            urls.join(" ")
        };
        let peers = match member.peer_urls.is_empty() {
            true => "?".to_owned(),
            false => urls(&member.peer_urls),
        };
        blocks.push(row(
            name.as_str(),
            format!("peers {peers}, clients {}", urls(&member.client_urls)),
        ));
    }
    let host = &config.host;
    let settings = [
        host.unit.as_ref().map(|unit| ("etcd's unit", unit.to_string())),
        host.data_dir
            .as_ref()
            .map(|dir| ("its data", dir.display().to_string())),
        host.wal_dir.as_ref().map(|dir| ("its log", dir.display().to_string())),
    ];
    blocks.extend(settings.into_iter().flatten().map(|(label, value)| row(label, value)));
}

fn identities(config: &Config, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading("2. What opens the backups".to_owned()));
    blocks.push(say("The identity of any one of these recipients, as a file:"));
    for (index, recipient) in config.encryption.recipients.iter().enumerate() {
        blocks.push(row(format!("{}", index + 1), shortened(&recipient.to_string())));
    }
    for program in plugins(config) {
        let folder = config.encryption.plugins.display();
        blocks.push(row(
            "Opened with",
            format!("the program {program}, on the hosts in {folder}"),
        ));
    }
    if let Some(secret) = &config.encryption.identity {
        blocks.push(row("On the hosts", secret.to_string()));
    }
    blocks.push(match &config.encryption.identity_note {
        Some(note) => row("Kept", note.clone()),
        None => Block::Blank("Kept".to_owned()),
    });
}

/// The names of the programs that hold keys, each once.
fn plugins(config: &Config) -> BTreeSet<&str> {
    let programs = config.encryption.recipients.iter().filter_map(Recipient::plugin);
    programs.filter_map(|program| program.file_name()?.to_str()).collect()
}

/// Those who may sign, where somebody is named: what each is called in what is typed, and its key.
fn trusted(config: &Config) -> Vec<(String, SignerKey)> {
    let trust = &config.signing.trust;
    let keys = trust.roots.iter().chain(&trust.signers).copied();
    keys.zip(1..)
        .map(|(key, number)| (format!("SIGNER_{number}"), key))
        .collect()
}

fn signers(config: &Config, blocks: &mut Vec<Block>) {
    let trusted = trusted(config);
    if trusted.is_empty() {
        return;
    }
    blocks.push(say(
        "Who may sign. The commands of (4) name these keys, so that nothing counts that others have written:",
    ));
    blocks.extend(trusted.into_iter().map(|(name, key)| {
        let what = match key.role() {
            Role::Root => "root key",
            Role::Signer => "signer",
        };
        row(format!("{name}, {what} {}", key.fingerprint()), key.to_string())
    }));
}

/// A key that fills no page: those for after quantum computers have thousands of characters.
fn shortened(key: &str) -> String {
    const LONGEST: usize = 420;
    let count = key.chars().count();
    if count <= LONGEST {
        return key.to_owned();
    }
    let begin: String = key.chars().take(60).collect();
    let end: String = key.chars().skip(count - 20).collect();
    format!("{begin} … {end} ({count} characters)")
}

fn stores(config: &Config, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading("3. Where the backups are".to_owned()));
    if config.destinations.is_empty() {
        blocks.push(say("No destination is configured: there are no backups."));
    }
    for (name, destination) in &config.destinations {
        let options = &destination.options;
        let is_own = destination.sharing == Sharing::HostLocal;
        let mut what = destination.url.to_string();
        let more = [
            options.endpoint.as_ref().map(|endpoint| format!("at {endpoint}")),
            options.region.as_ref().map(|region| format!("region {region}")),
            is_own.then(|| "on each host for itself, and lost with it".to_owned()),
        ];
        for more in more.into_iter().flatten() {
            what.push_str(", ");
            what.push_str(&more);
        }
        blocks.push(row(name.to_string(), what));
        if let Some(ca) = &options.ca {
            blocks.push(row(
                format!("Its authority's certificate ({CA}), on the hosts"),
                ca.to_string(),
            ));
        }
        if is_own {
            continue;
        }
        let sftp = &destination.sftp;
        let file = destination.url.bucket_kind().and_then(keys_file);
        let keys = [
            (&options.credentials, file),
            (&sftp.key, Some(SFTP_KEY)),
            (&sftp.passphrase, None),
            (&sftp.password, None),
        ];
        for (secret, file) in keys {
            let Some(secret) = secret else { continue };
            let file = file.map_or(String::new(), |file| format!(" ({file})"));
            blocks.push(row(format!("Its keys{file}, on the hosts"), secret.to_string()));
        }
        let label = match destination.url.is_on_the_network() {
            true => "Its keys, elsewhere",
            false => "How it is mounted",
        };
        blocks.push(match &destination.credentials_note {
            Some(note) => row(label, note.clone()),
            None => Block::Blank(label.to_owned()),
        });
    }
}

fn commands(config: &Config, blocks: &mut Vec<Block>) {
    let cluster = &config.cluster.name;
    let is_alone = config.members.len() == 1;
    blocks.push(Block::Heading("4. What to type".to_owned()));
    let reaches = config.destinations.iter();
    let reaches = reaches.map(|(name, destination)| (name, destination, reach(destination)));
    let (shared, own): (Vec<_>, Vec<_>) =
        reaches.partition(|(_, destination, _)| destination.sharing == Sharing::Shared);
    let files: BTreeSet<&str> = shared
        .iter()
        .chain(&own)
        .flat_map(|(.., reach)| &reach.files)
        .copied()
        .collect();
    let files = match files.is_empty() {
        true => String::new(),
        false => format!(
            " and, where its store needs them, {}",
            files.into_iter().collect::<Vec<_>>().join(", ")
        ),
    };
    blocks.push(Block::Text(format!(
        "On each new host as root, in bash, in a folder with the identity as backup-key.txt{files}. etcd is installed and set \
         up as it was, with the names and peer URLs of (1), and does not run."
    )));
    blocks.push(say("lifeboat, with apt or with dnf:"));
    blocks.push(typed(["apt install ./etcd-lifeboat_*.deb".to_owned()]));
    blocks.push(typed(["dnf install ./etcd-lifeboat-*.rpm".to_owned()]));
    let programs = plugins(config);
    if !programs.is_empty() {
        blocks.push(say(
            "For an identity of a plugin, its program, from wherever it was installed to:",
        ));
        let mut commands = vec![format!("install -d {PLUGINS}")];
        let links = programs
            .iter()
            .map(|program| format!("ln -sf \"$(command -v {program})\" {PLUGINS}/"));
        commands.extend(links);
        blocks.push(Block::Typed(commands));
    }
    for (name, destination, Reach { blocks: typed, files }) in shared.into_iter().chain(own) {
        let with = match files.is_empty() {
            true => String::new(),
            false => format!(", with {}", files.join(" and ")),
        };
        blocks.push(Block::Text(match destination.sharing {
            Sharing::Shared => format!("The store {name}{with}:"),
            Sharing::HostLocal => {
                format!(
                    "Or the store {name}, if a disk is left: that of one host, carried to the same place on all others:"
                )
            }
        }));
        blocks.extend(typed.into_iter().map(Block::Typed));
    }
    let mut from = format!("--from \"$FROM\" --cluster {cluster}");
    let trusted = trusted(config);
    if !trusted.is_empty() {
        blocks.push(say("Who may sign (2):"));
    }
    for (name, key) in trusted {
        from.push_str(&format!(" --trusted \"${name}\""));
        // In two parts, as a line has no room for all of it.
        let key = key.to_string();
        let (kind, rest) = key.split_at(key.find('1').map_or(0, |at| at + 1));
        blocks.push(typed([format!("{name}={kind}"), format!("{name}+={rest}")]));
    }
    blocks.push(say("What is there:"));
    blocks.push(typed([format!("lifeboat list {from}")]));
    blocks.push(Block::Text(match is_alone {
        true => "Restore `latest`, or an ID of that list:".to_owned(),
        false => {
            "Restore `latest`, or an ID of that list: on each host the same, in any order. The first ones wait for the \
                  others, and no member starts before all are there:"
                .to_owned()
        }
    }));
    blocks.push(typed([
        format!("printf '%s\\n' {} >members.txt", initial_members(config).join(" ")),
        format!("lifeboat restore latest {from} --members members.txt --identity backup-key.txt"),
    ]));
    blocks.push(say(
        "Then the configuration comes back to /etc/lifeboat, and on one host, or on each with backups of its own:",
    ));
    blocks.push(typed(["lifeboat backup --wait 5m".to_owned()]));
    without_systemd(config, &from, blocks);
    blocks.push(say(
        "Tokens: `restore` finds the cluster's token by itself. One that is given must never have been used before, not even \
         for this cluster: members of two clusters with one token take each other for their own.",
    ));
    blocks.push(Block::Text(format!(
        "Without lifeboat: a backup is {cluster}/CLUSTER-ID/ID/full.db.zst.age in the store; etcdutl snapshot restore takes \
         what comes out of"
    )));
    blocks.push(typed([
        "age -d -i backup-key.txt full.db.zst.age | zstd -d >snapshot.db".to_owned(),
    ]));
}

fn without_systemd(config: &Config, from: &str, blocks: &mut Vec<Block>) {
    let data = config.host.data_dir.as_ref();
    let data = data.map_or("/var/lib/etcd/default".into(), |dir| dir.display().to_string());
    blocks.push(Block::Text(match config.host.data_dir.is_some() {
        true => "Where etcd runs without systemd, instead of `restore`:".to_owned(),
        false => "Where etcd runs without systemd, instead of `restore`, with etcd's own data directory:".to_owned(),
    }));
    let asked = "read -rp 'name of this member: ' NAME && read -rp 'new token, the same on all hosts: ' TOKEN";
    blocks.push(typed([asked.to_owned()]));
    let mut rebuild = format!(
        "lifeboat rebuild latest {from} --identity backup-key.txt --data-dir {} --name \"$NAME\" --initial-cluster \
         \"$MEMBERS\" --initial-cluster-token \"$TOKEN\" --initial-advertise-peer-urls \"$PEER\"",
        shell_word(&data)
    );
    if let Some(dir) = &config.host.wal_dir {
        rebuild.push_str(&format!(" --wal-dir {}", shell_word(&dir.display().to_string())));
    }
    blocks.push(typed([
        "MEMBERS=$(paste -sd, members.txt)".to_owned(),
        "PEER=$(sed -n \"s/^$NAME=//p\" members.txt | paste -sd,)".to_owned(),
        rebuild,
    ]));
}

/// `name=URL` of each member.
fn initial_members(config: &Config) -> Vec<String> {
    let members = config.members.iter().flat_map(|(name, member)| {
        let urls: Vec<String> = match member.peer_urls.is_empty() {
            true => vec!["?".to_owned()],
            false => member.peer_urls.iter().map(ToString::to_string).collect(),
        };
        let name = name.to_string();
        urls.into_iter().map(move |url| format!("{name}={url}"))
    });
    members.map(|member| shell_word(&member).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::named_store::options_around;
    use super::reach::environment;
    use super::*;
    use crate::config;
    use crate::secret::Secret;
    use crate::store::{BucketKind, BucketOptions};

    const CONFIGURATION: &str = "[cluster]\nname = 'prod'\n\
        [members.m1]\nclient_urls = ['https://10.0.0.1:2379']\npeer_urls = ['https://10.0.0.1:2380']\n\
        [members.m2]\nclient_urls = ['https://10.0.0.2:2379']\n\
        [encryption]\nrecipients = ['age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m']\n\
        [destinations.local]\nurl = 'file:///var/backups/lifeboat'\n\
        [destinations.offsite]\nurl = 's3://example-backups/etcd'\nendpoint = 'https://s3.example.com:9000'\n\
        region = 'eu-central-1'\npath_style = false\nca = { file = '/etc/lifeboat/ca.crt' }\n\
        credentials = { credential = 's3-keys' }\n";

    fn made(more: &str) -> (Config, Sheet) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, format!("{CONFIGURATION}{more}")).unwrap();
        let config = config::load(&path).unwrap().config;
        let made = Made {
            at: "2026-11-20T10:15:30Z".parse().unwrap(),
            version: "1.2.3",
            host: "etcd-1",
        };
        let sheet = sheet(&config, made);
        (config, sheet)
    }

    #[test]
    fn a_page_fits_80_columns_and_names_where_secrets_are_kept() {
        let (config, sheet) = made("");
        let text = sheet.text();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for needed in [
            "lifeboat 1.2.3 on etcd-1",
            "credential `s3-keys`",
            "Kept: ____",
            "Its keys, elsewhere: ____",
            "m2=?",
        ] {
            assert!(text.contains(needed), "no {needed} in\n{text}");
        }
        assert_eq!(members_without_peer_urls(&config), ["m2"]);
        let html = sheet.html();
        assert!(
            !html.contains("<script") && !html.contains("http-equiv") && !html.contains("src="),
            "{html}"
        );
    }

    #[test]
    fn the_operators_words_stand_where_else_a_line_is_to_be_filled_in() {
        let (mut config, _) = made("credentials_note = 'the password store'\n");
        config.encryption.identity_note = Some("the safe".to_owned());
        let mut blocks = Vec::new();
        identities(&config, &mut blocks);
        stores(&config, &mut blocks);
        let text = page::text(&blocks);
        assert!(
            text.contains("Kept: the safe") && text.contains("elsewhere: the password store"),
            "{text}"
        );
        assert!(!text.contains("___"), "{text}");
    }

    #[test]
    fn who_may_sign_is_named_by_key_and_fingerprint() {
        const KEY: &str = "lifeboat-signer13jxyrs06haqvrvpxzs2nu2nhpnpsqucnv6slkcwkdxxxnkjh3esqudqgk9";
        let (_, without) = made("");
        assert!(!without.text().contains("Who may sign"));
        let (config, sheet) = made(&format!("[signing]\ntrusted = ['{KEY}']\n"));
        let signer = config.signing.trust.signers.first().unwrap();
        let text = sheet.text().split_whitespace().collect::<Vec<_>>().join("");
        assert!(
            text.contains(&format!("SIGNER_1,signer{}:{KEY}", signer.fingerprint()).replace(' ', "")),
            "{text}"
        );
        let whole = sheet.text();
        assert!(whole.lines().all(|line| line.chars().count() <= 80), "{whole}");
        for command in ["lifeboat list", "lifeboat restore", "lifeboat rebuild"] {
            let (_, after) = whole.split_once(&format!("      {command}")).unwrap();
            let after = after.split("\n\n").next().unwrap();
            assert!(after.contains("--trusted \"$SIGNER_1\""), "{command} in\n{whole}");
        }
    }

    #[test]
    fn what_is_typed_has_a_store_reached_as_the_configuration_does() {
        let (config, _) = made("");
        let options = &config.destinations["offsite"].options;
        let around: BTreeMap<&str, String> = environment(BucketKind::S3, options).into_iter().collect();
        let read = options_around(Some(BucketKind::S3), &|name| around.get(name).cloned());
        let expected = BucketOptions {
            credentials: None,
            ca: Some(Secret::File("ca.crt".into())),
            ..options.clone()
        };
        assert_eq!(read, expected);
    }

    /// A store of each kind, each with all that can be asked for.
    const ALL_KINDS: &str = "[destinations.gs]\nurl = 'gs://bucket'\ncredentials = { credential = 'gs' }\n\
        [destinations.azure]\nurl = 'azblob://bucket'\nendpoint = 'https://a.example.com'\nca = { file = '/az-ca' }\n\
        credentials = { credential = 'azure' }\n\
        [destinations.oss]\nurl = 'oss://bucket'\nendpoint = 'https://o.example.com'\ncredentials = { credential = 'oss' }\n\
        [destinations.swift]\nurl = 'swift://bucket'\ncredentials = { credential = 'openrc' }\n\
        [destinations.vault]\nurl = 'sftp://u@vault.example.com/etcd'\nknown_hosts = { file = '/known' }\n\
        key = { credential = 'k' }\npassphrase = { credential = 'p' }\npassword = { credential = 'w' }\n\
        [destinations.box]\nurl = 'sftp://u@box.example.com/etcd'\npassword = { credential = 'w' }\n\
        host_key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN'\n";

    #[test]
    fn a_question_is_the_last_command_of_its_block() {
        let (_, sheet) = made(ALL_KINDS);
        let typed = sheet.blocks.iter().filter_map(|block| match block {
            Block::Typed(commands) => Some(commands),
            _ => None,
        });
        let mut questions = 0;
        for commands in typed {
            let asks = |command: &String| command.contains("read -r");
            questions += commands.iter().filter(|command| asks(command)).count();
            let (_, before) = commands.split_last().unwrap();
            assert!(!before.iter().any(asks), "{commands:?}");
        }
        // S3, Azure, OSS, three of one server and one of the other, and the token.
        assert_eq!(questions, 8);
    }

    #[test]
    fn what_is_typed_needs_no_file_that_nobody_is_told_to_bring() {
        let (config, sheet) = made(ALL_KINDS);
        let text = sheet.text().split_whitespace().collect::<Vec<_>>().join(" ");
        let told = "backup-key.txt and, where its store needs them, ca.crt, gcs-key.json, openrc, sftp-key. etcd is";
        assert!(text.contains(told), "{text}");
        for (name, with) in [
            ("azure", ", with ca.crt"),
            ("gs", ", with gcs-key.json"),
            ("swift", ", with openrc"),
            ("vault", ", with sftp-key"),
            ("box", ""),
        ] {
            assert!(text.contains(&format!("The store {name}{with}:")), "{name} in\n{text}");
        }
        for (name, destination) in &config.destinations {
            let Reach { blocks, files } = reach(destination);
            let typed = blocks.concat().join("\n");
            for file in [CA, SFTP_KEY, "gcs-key.json", "openrc"] {
                let is_used = typed.contains(&format!("={file}")) || typed.contains(&format!("/{file} "));
                assert_eq!(is_used, files.contains(&file), "{name}: {file} in {typed}");
            }
        }
        // What an own disk has needs none.
        let (_, without) = made("");
        assert!(!without.text().contains("sftp-key"));
    }

    #[test]
    fn the_program_of_a_key_is_named_and_put_where_it_is_looked_for() {
        let key = |name: &str| {
            let name = bech32::Hrp::parse(&format!("age1{name}")).unwrap();
            bech32::encode::<bech32::Bech32>(name, &[7; 4]).unwrap()
        };
        let (mut config, _) = made("");
        for name in ["yubikey", "tpm", "yubikey"] {
            config.encryption.recipients.push(key(name).parse().unwrap());
        }
        let made = Made {
            at: "2026-11-20T10:15:30Z".parse().unwrap(),
            version: "1.2.3",
            host: "etcd-1",
        };
        let text = sheet(&config, made).text();
        for program in ["age-plugin-tpm", "age-plugin-yubikey"] {
            let row = format!("Opened with: the program {program}, on the hosts in");
            assert_eq!(text.matches(&row).count(), 1, "{text}");
            let link = format!("ln -sf \"$(command -v {program})\" /usr/lib/lifeboat/plugins/");
            assert!(text.contains(&link), "{text}");
        }
    }
}
