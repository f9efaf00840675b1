//! The recovery sheet: one page with what is needed where nothing is left but a store, the identity and this page.
//!
//! Made of the configuration alone; no store and no member is asked. A value of the configuration that is a secret is never
//! read: only where it is kept is told.
//!
//! `chapters` says what is on it, `store_commands` how a store is reached; `render` lays it out.
//!
//! Invariant: what is to be typed works as it is printed, on a host without a configuration. Keys and the token are asked
//! for, so that they are in no history of a shell; each such question is the last line of its block, so that a block can be
//! pasted.
//! Invariant: whose documents count in the configuration, counts in what is typed, and nobody else's.

mod chapters;
mod render;
mod store_commands;

use jiff::Timestamp;

use crate::config::Config;
use render::Block;

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
        render::text(&self.blocks)
    }

    /// As one HTML file.
    pub fn html(&self) -> String {
        render::html(&self.title, &self.blocks)
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
    chapters::members(config, &mut blocks);
    chapters::identities(config, &mut blocks);
    chapters::signers(config, &mut blocks);
    chapters::stores(config, &mut blocks);
    chapters::commands(config, &mut blocks);
    Sheet { title, blocks }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::named_store::options_around;
    use super::chapters::{identities, stores};
    use super::store_commands::{CA, Reach, SFTP_KEY, environment, reach};
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
        let text = render::text(&blocks);
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
    fn the_server_of_a_swift_is_named_after_its_file_is_read() {
        let (config, _) = made(
            "[destinations.swift]\nurl = 'swift://bucket'\nendpoint = 'https://k.example.com/v3'\nregion = 'here'\n\
             credentials = { credential = 'openrc' }\n",
        );
        let typed = reach(&config.destinations["swift"]).blocks.concat();
        let expected = [
            "FROM=swift://bucket",
            "set -a && . ./openrc && set +a",
            "export OS_AUTH_URL=https://k.example.com/v3",
            "export ST_AUTH=https://k.example.com/v3",
            "export OS_REGION_NAME=here",
        ];
        assert_eq!(typed, expected);
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
