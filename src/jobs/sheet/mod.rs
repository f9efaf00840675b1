//! The recovery sheet: one page with what is needed where nothing is left but a store, the identity and this page.
//!
//! Made of the configuration alone; no store and no member is asked. A value of the configuration that is a secret is never
//! read: only where it is kept is told.
//!
//! Invariant: what is to be typed works as it is printed, on a host without a configuration. Keys and the token are asked
//! for, so that they are in no history of a shell; each such question is the last line of its block, so that a block can be
//! pasted.

mod page;

use jiff::Timestamp;

use crate::config::{Config, Destination, Secret, Sharing, StoreUrl};
use crate::settings::shell_word;
use crate::store::{BucketKind, BucketOptions, SftpOptions};
use page::Block;

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
    if let Some(secret) = &config.encryption.identity {
        blocks.push(row("On the hosts", secret.to_string()));
    }
    blocks.push(match &config.encryption.identity_note {
        Some(note) => row("Kept", note.clone()),
        None => Block::Blank("Kept".to_owned()),
    });
}

/// Who may sign, where somebody is named.
fn signers(config: &Config, blocks: &mut Vec<Block>) {
    let trust = &config.signing.trust;
    if trust.roots.is_empty() && trust.signers.is_empty() {
        return;
    }
    blocks.push(say(
        "Who may sign; compare with what `lifeboat show` says below `signed by`:",
    ));
    let roots = trust.roots.iter().map(|key| ("Root key", key));
    let signers = trust.signers.iter().map(|key| ("Signer", key));
    blocks.extend(
        roots
            .chain(signers)
            .map(|(what, key)| row(format!("{what} {}", key.fingerprint()), key.to_string())),
    );
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
            blocks.push(row("Its authority's certificate, on the hosts", ca.to_string()));
        }
        if is_own {
            continue;
        }
        let sftp = &destination.sftp;
        let keys = [&options.credentials, &sftp.key, &sftp.passphrase, &sftp.password];
        for secret in keys.into_iter().flatten() {
            blocks.push(row("Its keys, on the hosts", secret.to_string()));
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
    blocks.push(say(
        "On each new host as root, in bash, in a folder with the identity as backup-key.txt. etcd is installed and set up as \
         it was, with the names and peer URLs of (1), and does not run.",
    ));
    blocks.push(say("lifeboat, with apt or with dnf:"));
    blocks.push(typed(["apt install ./etcd-lifeboat_*.deb".to_owned()]));
    blocks.push(typed(["dnf install ./etcd-lifeboat-*.rpm".to_owned()]));
    let shared = config.destinations.iter();
    let (shared, own): (Vec<_>, Vec<_>) = shared.partition(|(_, destination)| destination.sharing == Sharing::Shared);
    for (name, destination) in shared.into_iter().chain(own) {
        blocks.push(Block::Text(match destination.sharing {
            Sharing::Shared => format!("The store {name}:"),
            Sharing::HostLocal => {
                format!(
                    "Or the store {name}, if a disk is left: that of one host, carried to the same place on all others:"
                )
            }
        }));
        blocks.extend(reached(destination));
    }
    let from = format!("--from \"$FROM\" --cluster {cluster}");
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

/// How a shell comes to reach the destination.
fn reached(destination: &Destination) -> Vec<Block> {
    let from = match &destination.url {
        StoreUrl::File(path) => path.display().to_string(),
        StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => destination.url.to_string(),
    };
    let mut commands = vec![format!("FROM={}", shell_word(&from))];
    let Some(kind) = destination.url.bucket_kind() else {
        if matches!(destination.url, StoreUrl::Server { .. }) {
            commands.extend(let_in_by_ssh(&destination.sftp));
        }
        return vec![Block::Typed(commands)];
    };
    let around = environment(kind, &destination.options);
    commands.extend(
        around
            .into_iter()
            .map(|(name, value)| format!("export {name}={}", shell_word(&value))),
    );
    if destination.options.ca.is_some() && kind != BucketKind::S3 {
        commands.push("cp ca.crt /usr/local/share/ca-certificates/lifeboat.crt && update-ca-certificates".to_owned());
    }
    let mut blocks = vec![Block::Typed(commands)];
    blocks.push(Block::Typed(vec![keys_asked(kind).to_owned()]));
    blocks
}

/// The same of a server that is reached by SSH.
fn let_in_by_ssh(options: &SftpOptions) -> Vec<String> {
    let mut commands = vec![match &options.host_key {
        Some(key) => format!("export LIFEBOAT_SFTP_HOST_KEY={}", shell_word(key)),
        None => {
            "read -rp 'public key of the server: ' LIFEBOAT_SFTP_HOST_KEY && export LIFEBOAT_SFTP_HOST_KEY".to_owned()
        }
    }];
    let asked = |what: &str, name: &str| format!("read -rsp '{what}: ' {name} && export {name}");
    if options.key.is_some() {
        commands.push("export LIFEBOAT_SFTP_KEY=sftp-key".to_owned());
    }
    if options.passphrase.is_some() {
        commands.push(asked("passphrase of sftp-key", "LIFEBOAT_SFTP_PASSPHRASE"));
    }
    if options.password.is_some() {
        commands.push(asked("password", "LIFEBOAT_SFTP_PASSWORD"));
    }
    commands
}

/// What a program without a configuration reads from its environment; `jobs::named_store` reads the same.
fn environment(kind: BucketKind, options: &BucketOptions) -> Vec<(&'static str, String)> {
    let endpoint = options.endpoint.clone();
    let region = options.region.clone();
    let path_style = options.path_style.map(|is_on| is_on.to_string());
    let given = match kind {
        BucketKind::S3 => vec![
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", region),
            ("LIFEBOAT_PATH_STYLE", path_style),
            ("AWS_CA_BUNDLE", options.ca.as_ref().map(ca_path)),
        ],
        BucketKind::Gcs => vec![("STORAGE_EMULATOR_HOST", endpoint)],
        BucketKind::Azblob => vec![("AZURE_STORAGE_ENDPOINT", endpoint)],
        BucketKind::Oss => vec![("OSS_ENDPOINT", endpoint), ("LIFEBOAT_PATH_STYLE", path_style)],
        BucketKind::Swift => vec![
            ("OS_REGION_NAME", region),
            ("OS_CACERT", options.ca.as_ref().map(ca_path)),
        ],
    };
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Where a certificate is on a new host: where it was, if that was a file.
fn ca_path(secret: &Secret) -> String {
    match secret {
        Secret::File(path) => path.display().to_string(),
        Secret::Credential(_) | Secret::Env(_) => "ca.crt".to_owned(),
    }
}

/// Asks for the keys of a store.
fn keys_asked(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::S3 => {
            "read -rp 'access key ID: ' AWS_ACCESS_KEY_ID && read -rsp 'secret key: ' AWS_SECRET_ACCESS_KEY && \
             export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
        }
        BucketKind::Gcs => "export GOOGLE_APPLICATION_CREDENTIALS=gcs-key.json",
        BucketKind::Azblob => {
            "read -rsp 'connection string: ' AZURE_STORAGE_CONNECTION_STRING && export AZURE_STORAGE_CONNECTION_STRING"
        }
        BucketKind::Swift => "set -a && . ./openrc && set +a",
        BucketKind::Oss => {
            "read -rp 'access key ID: ' OSS_ACCESS_KEY_ID && read -rsp 'secret key: ' OSS_ACCESS_KEY_SECRET && \
             export OSS_ACCESS_KEY_ID OSS_ACCESS_KEY_SECRET"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::named_store::options_around;
    use super::*;
    use crate::config;

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
            text.contains(&format!("Signer{}:{KEY}", signer.fingerprint()).replace(' ', "")),
            "{text}"
        );
    }

    #[test]
    fn what_is_typed_has_a_store_reached_as_the_configuration_does() {
        let (config, _) = made("");
        let options = &config.destinations["offsite"].options;
        let around: BTreeMap<&str, String> = environment(BucketKind::S3, options).into_iter().collect();
        let read = options_around(Some(BucketKind::S3), &|name| around.get(name).cloned());
        let expected = BucketOptions {
            credentials: None,
            ..options.clone()
        };
        assert_eq!(read, expected);
    }
}
