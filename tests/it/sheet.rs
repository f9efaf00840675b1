//! The recovery sheet: what it has somebody type is typed, on a host that has nothing but the sheet, the identity and the
//! keys of a store.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::etcd::{Etcd, Options};
use super::support::host::{Host, tells_a_secret};
use super::support::moto::{Moto, SECRET};
use super::support::recovery_sheet::{blocks, only};
use super::support::shared;
use super::support::sshd::{self, Sshd};
use super::support::tools::Version;
use super::swift;

const BUCKET: &str = "backups";

/// A new host: a folder with the identity as the sheet calls it, and the program.
fn new_host(host: &Host, name: &str) -> PathBuf {
    let folder = host.path(name);
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::copy(host.identity(), folder.join("backup-key.txt")).unwrap();
    symlink(env!("CARGO_BIN_EXE_lifeboat"), folder.join("bin/lifeboat")).unwrap();
    folder
}

/// A shell that has been given nothing but these lines.
fn shell(folder: &Path, options: &str, lines: &str) -> Command {
    let mut shell = Command::new("bash");
    shell
        .args([options, lines])
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()));
    shell
}

/// Types the lines into a shell that has been given nothing else; `answers` is what its questions are answered.
#[track_caller]
fn type_into(folder: &Path, lines: &str, answers: &str) -> String {
    let mut shell = shell(folder, "-euc", lines)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let ended = shell.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{lines}\n{out}\n{err}");
    out.into_owned()
}

#[test]
fn what_the_sheet_has_somebody_type_brings_the_cluster_back() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let mut target = Etcd::plan(Version::V3_6, Options::default()).unwrap();
    let host = Host::new(&etcd);
    let keys = format!("aws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n");
    fs::write(host.path("s3-keys"), keys).unwrap();
    // The new member has other addresses than the old one, which the tests leave running.
    let member = &target.members[0];
    let more = format!(
        "[host]\ndata_dir = {:?}\n[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"{}\"\n\
         region = \"us-east-1\"\ncredentials = {{ file = {:?} }}\n",
        member.data_dir,
        moto.endpoint(),
        host.path("s3-keys")
    );
    host.configure(&etcd, &more);
    etcd.client().put("/key", "value", 0).unwrap();
    let id = host.backup();
    host.reconfigure(&etcd.members[0].peer_url, &member.peer_url);
    let sheet = host.lifeboat(["recovery-sheet"]).expect_code(0).stdout;
    assert!(!tells_a_secret(&sheet) && !sheet.contains(SECRET), "{sheet}");
    let blocks = blocks(&sheet);
    let list = only(&blocks, "lifeboat list");
    let rebuild = only(&blocks, "lifeboat rebuild");
    let (members, _restore) = only(&blocks, "lifeboat restore").split_once('\n').unwrap();
    let asks = only(&blocks, "NAME &&");
    let answers = format!("{}\nnever-used-{}\n", member.name, std::process::id());

    // From the bucket, with its keys from wherever they were kept; they and the token are asked for.
    let reach = [
        only(&blocks, &format!("FROM=s3://{BUCKET}")),
        only(&blocks, "AWS_ACCESS_KEY_ID &&"),
    ]
    .join("\n");
    let folder = new_host(&host, "new-host");
    let keys = format!("anybody\n{SECRET}\n");
    let listed = type_into(&folder, &format!("{reach}\n{list}"), &keys);
    assert!(listed.contains(&id), "{listed}");
    let all = [&*reach, members, asks, rebuild].join("\n");
    type_into(&folder, &all, &(keys + &answers));
    target.boot();
    assert_eq!(target.client().get("/key").unwrap().unwrap(), b"value");
    drop(target);

    // From the directory that one host has left.
    let reach = only(&blocks, &format!("FROM={}", host.store().display()));
    let folder = new_host(&host, "other-host");
    let listed = type_into(&folder, &format!("{reach}\n{list}"), "");
    assert!(listed.contains(&id), "{listed}");

    // On paper it is the same.
    let page = host.path("sheet.html");
    host.lifeboat(["recovery-sheet", "--html", page.to_str().unwrap()])
        .expect_code(0);
    let page = fs::read_to_string(page).unwrap();
    let plain = page
        .replace("&quot;", "\"")
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&amp;", "&");
    for (_, block) in &blocks {
        assert!(plain.contains(block.as_str()), "{block} is not in\n{page}");
    }
}

/// What the sheet has somebody type so that this store is reached.
#[track_caller]
fn reaching(blocks: &[(String, String)], name: &str) -> String {
    // What is said last above them.
    let is_of_it = |said: &str| {
        let last = said.rsplit_once("The store ").map_or("", |(_, last)| last);
        last.split([',', ':']).next() == Some(name) && last.find(':') == Some(last.len() - 1)
    };
    let typed = blocks.iter().filter(|(said, _)| is_of_it(said));
    let typed: Vec<&str> = typed.map(|(_, block)| block.as_str()).collect();
    assert!(!typed.is_empty(), "no store {name} in {blocks:#?}");
    typed.join("\n")
}

/// Types what the sheet has for a list and for a rebuilt data directory, from this store alone; `answers` are those to what
/// it asks for the store, `files` what else lies in the folder.
#[track_caller]
fn brings_back(host: &Host, etcd: &Etcd, store: &str, files: &[(&str, &Path)], answers: &str) {
    let sheet = host.lifeboat(["recovery-sheet"]).expect_code(0).stdout;
    assert!(!tells_a_secret(&sheet) && !sheet.contains(SECRET), "{sheet}");
    let blocks = blocks(&sheet);
    let folder = new_host(host, &format!("new-host-{}", jiff::Timestamp::now().as_nanosecond()));
    for (name, file) in files {
        fs::copy(file, folder.join(name)).unwrap();
    }
    let reach = reaching(&blocks, store);
    let listed = type_into(
        &folder,
        &format!("{reach}\n{}", only(&blocks, "lifeboat list")),
        answers,
    );
    let newest = host.lifeboat(["--json", "show", "latest"]).expect_code(0).json();
    let id = newest["backup"]["id"].as_str().unwrap();
    assert!(listed.contains(id), "{listed}");
    let data = folder.join("data");
    let rebuild = only(&blocks, "lifeboat rebuild").replace("/var/lib/etcd/default", data.to_str().unwrap());
    let (members, _restore) = only(&blocks, "lifeboat restore").split_once('\n').unwrap();
    let all = [&*reach, members, only(&blocks, "NAME &&"), &rebuild].join("\n");
    let answers = format!("{answers}{}\nnever-used\n", etcd.members[0].name);
    let said = type_into(&folder, &all, &answers);
    assert!(said.contains(id) && data.join("member/snap/db").exists(), "{said}");
}

#[test]
fn what_the_sheet_has_somebody_type_reaches_a_server_by_ssh() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let host = Host::new(etcd);
    let file = |name: &str, content: &str| {
        fs::write(host.path(name), content).unwrap();
        format!("{{ file = {:?} }}", host.path(name))
    };
    let key = |name: &str| format!("{{ file = {:?} }}", sshd.path(name));
    let passphrase = file("passphrase", sshd::SECRET);
    let known = file("known", &format!("[127.0.0.1]:{} {}\n", sshd.port(), sshd.host_key()));
    let by = |how: &str| {
        let table = format!("[destinations.away]\nurl = \"{}\"\n{how}", sshd.url());
        host.configure(etcd, &table);
    };
    let host_key = format!("host_key = \"{}\"\n", sshd.host_key());
    let answered = |answers: &[&str]| answers.iter().map(|answer| format!("{answer}\n")).collect::<String>();

    by(&format!("{host_key}key = {}\n", key("client")));
    host.backup();
    brings_back(&host, etcd, "away", &[("sftp-key", &sshd.path("client"))], "");
    // The key of the server is asked for where it is in a file of the hosts', and so is the passphrase.
    by(&format!(
        "known_hosts = {known}\nkey = {}\npassphrase = {passphrase}\n",
        key("locked")
    ));
    let answers = answered(&[&sshd.host_key(), sshd::SECRET]);
    brings_back(&host, etcd, "away", &[("sftp-key", &sshd.path("locked"))], &answers);
    if sshd.takes_passwords() {
        by(&format!("{host_key}password = {passphrase}\n"));
        brings_back(&host, etcd, "away", &[], &answered(&[sshd::SECRET]));
    }
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_swift_are_reached_by_what_the_sheet_has_somebody_type() {
    let Some(etcd) = shared::unchanging() else { return };
    let (tempauth, keystone, credential) = swift::servers();
    let container = swift::anew("sheet");
    swift::Client::new(&tempauth).ask("PUT", &container, &[]);
    let host = Host::new(etcd);
    let openrc = host.path("openrc");
    let by = |name: &str, content: &str, more: &str| {
        fs::write(&openrc, content).unwrap();
        let table = format!(
            "[destinations.{name}]\nurl = \"swift://{container}/etcd\"\ncredentials = {{ file = {openrc:?} }}\n{more}"
        );
        host.configure(etcd, &table);
        host.backup();
        brings_back(&host, etcd, name, &[("openrc", &openrc)], "");
    };
    let user = "export ST_USER=test:tester\nexport ST_KEY=testing\n";
    by("away", &format!("export ST_AUTH={tempauth}\n{user}"), "");
    // The configuration names the server, and the file none or one that is gone.
    let named = format!("endpoint = \"{tempauth}\"\n");
    by("away", user, &named);
    let gone = format!("export ST_AUTH=http://127.0.0.1:1/auth/v1.0\n{user}");
    by("away", &gone, &named);
    // And the region, where the file has another one.
    swift::Client::of_keystone(&keystone).ask("PUT", &container, &[]);
    let credential = fs::read_to_string(credential).unwrap();
    by(
        "elsewhere",
        &format!("OS_REGION_NAME=elsewhere\n{credential}"),
        &format!("endpoint = \"{keystone}\"\nregion = \"here\"\n"),
    );
}

/// A new host has no configuration that says who may sign: the sheet does.
#[test]
fn what_the_sheet_has_somebody_type_takes_nothing_of_a_stranger() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let own = host.backup();
    // Somebody who may write to the store, and has a key of his own.
    let elsewhere = host.path("state-of-a-stranger");
    fs::create_dir(&elsewhere).unwrap();
    let mut strangers = host.command(["--json", "backup"]);
    let taken = strangers.env("STATE_DIRECTORY", &elsewhere).output().unwrap();
    let taken: serde_json::Value = serde_json::from_slice(&taken.stdout).unwrap();
    let strange = taken["id"].as_str().unwrap();
    let shown = host.lifeboat(["--json", "show", &own]).expect_code(0).json();
    let signer = shown["backup"]["signer"].as_str().unwrap();
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{text}[signing]\ntrusted = [\"{signer}\"]\n")).unwrap();
    let sheet = host.lifeboat(["recovery-sheet"]).expect_code(0).stdout;
    let blocks = blocks(&sheet);
    let typed = [
        only(&blocks, &format!("FROM={}", host.store().display())),
        only(&blocks, "SIGNER_1="),
        only(&blocks, "lifeboat list"),
    ];
    let folder = new_host(&host, "new-host");
    let listed = type_into(&folder, &typed.join("\n"), "");
    assert!(listed.contains(&own) && !listed.contains(strange), "{listed}");
    // Whoever passes over that block is refused.
    let without = [typed[0], typed[2]].join("\n");
    let refused = shell(&folder, "-c", &without).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("--trusted"), "{said}");
    let rebuilt = folder.join("data").display().to_string();
    let rebuild = only(&blocks, "lifeboat rebuild").replace("/var/lib/etcd/default", &rebuilt);
    let (members, _restore) = only(&blocks, "lifeboat restore").split_once('\n').unwrap();
    let name = &etcd.members[0].name;
    let all = [
        typed[0],
        typed[1],
        members,
        &format!("NAME={name} TOKEN=never-used"),
        &rebuild,
    ]
    .join("\n");
    let said = type_into(&folder, &all, "");
    assert!(said.contains(&own) && !said.contains(strange), "{said}");
}
