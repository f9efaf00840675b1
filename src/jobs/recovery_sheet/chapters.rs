//! The chapters of the sheet: who the members are, what opens the backups and who may sign, where they are, what to type.

use std::collections::BTreeSet;

use super::render::Block;
use super::store_commands::{CA, Reach, SFTP_KEY, keys_file, reach};
use crate::config::{Config, Sharing};
use crate::etcd_settings::shell_word;
use crate::pipeline::{PLUGINS, Recipient};
use crate::signing::{Role, SignerKey};

fn row(label: impl Into<String>, value: impl Into<String>) -> Block {
    Block::Row(label.into(), value.into())
}

fn say(text: &str) -> Block {
    Block::Text(text.to_owned())
}

fn typed<const N: usize>(commands: [String; N]) -> Block {
    Block::Typed(commands.into())
}

pub(super) fn members(config: &Config, blocks: &mut Vec<Block>) {
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

pub(super) fn identities(config: &Config, blocks: &mut Vec<Block>) {
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

pub(super) fn signers(config: &Config, blocks: &mut Vec<Block>) {
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

pub(super) fn stores(config: &Config, blocks: &mut Vec<Block>) {
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

pub(super) fn commands(config: &Config, blocks: &mut Vec<Block>) {
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
