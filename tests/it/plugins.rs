//! Keys that a program holds: backups are made for them and opened by them, with the program from the pinned folder alone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lifeboat::layout::Manifest;
use lifeboat::pipeline::{Encoding, Identities};
use lifeboat::rewrap;
use lifeboat::store::{Access, Limits, Location, Store};

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::shared;
use super::support::tools::{self, Version};

const PROGRAM: &str = env!("CARGO_BIN_EXE_age-plugin-sample");

/// A recipient and the file of its identity.
fn key(host: &Host, mode: &str) -> (String, String) {
    let made = Command::new(PROGRAM).arg(mode).output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let (recipient, identity) = text.split_once('\n').unwrap();
    let file = host.path(&format!("{mode}.txt"));
    fs::write(&file, format!("# {recipient}\n{identity}")).unwrap();
    (recipient.to_owned(), file.display().to_string())
}

fn install(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let program = folder.join("age-plugin-sample");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Has the host look for programs in this folder alone.
fn pin_folder(host: &Host, plugins: &Path) {
    host.reconfigure(
        "[destinations.local]",
        &format!("plugins = {plugins:?}\n[destinations.local]"),
    );
}

/// Has a host make its backups for this key alone, whose program is there; the folder of that.
fn seal_for(host: &Host, recipient: &str) -> PathBuf {
    let plugins = host.path("plugins");
    install(&plugins);
    pin_folder(host, &plugins);
    host.reconfigure(&format!("\"{}\"", host.recipient()), &format!("\"{recipient}\""));
    plugins
}

#[test]
fn a_backup_is_made_for_and_opened_by_a_program_of_the_pinned_folder_and_of_no_other() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, file) = key(&host, "plain");
    let plugins = host.path("plugins");
    pin_folder(&host, &plugins);
    host.reconfigure(&format!("\"{}\"", host.recipient()), &format!("\"{recipient}\""));
    // One of PATH is none.
    let elsewhere = host.path("elsewhere");
    install(&elsewhere);
    let path = format!("{}:{}", elsewhere.display(), std::env::var("PATH").unwrap());
    let mut command = host.command(["check"]);
    let missing = command.env("PATH", path).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(
        said.contains("age-plugin-sample") && said.contains("it is not there: install it"),
        "{said}"
    );
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&["age-plugin-sample", "it is not there"]);

    let program = install(&plugins);
    host.lifeboat(["check"]).expect_code(0);
    let id = host.backup();
    assert_eq!(host.manifest(&id)["recipients"], serde_json::json!([recipient]));
    let verified = host
        .lifeboat(["--json", "verify", &id, "--identity", &file])
        .expect_code(0);
    assert_eq!(verified.json()["checked"][0]["proof"], "hash_kv");
    let own = host.identity().display().to_string();
    host.lifeboat(["export", &id, "-", "--identity", &own]).expect_code(8);
    // The other way round: from a key in a file to that of a program.
    host.reconfigure(&recipient, host.recipient());
    let keys = ["--identity", &own, "--identity", &file];
    let made = host
        .lifeboat([&["--json", "rewrap"], &keys[..]].concat())
        .expect_code(0)
        .json();
    let made = made["rewrapped"][0]["new"].as_str().unwrap();
    host.lifeboat([
        "export",
        made,
        host.path("plain.db").to_str().unwrap(),
        "--identity",
        &own,
    ])
    .expect_code(0);
    // A program that others may change is not run.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    host.reconfigure(host.recipient(), &recipient);
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&["others could have changed", "chown root:"]);
}

#[test]
fn a_post_quantum_key_is_that_of_a_plugin_and_age_itself_opens_what_was_made_for_it() {
    let Some(etcd) = shared::unchanging() else { return };
    let (Some(program), Some(zstd)) = (tools::debian("age-plugin-pq"), tools::debian("zstd")) else {
        return;
    };
    let program = program.canonicalize().unwrap();
    let beside = |name: &str| program.with_file_name(name);
    let host = Host::new(etcd);
    let output = |command: &mut Command| {
        let ended = command.output().unwrap();
        assert!(
            ended.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
        ended.stdout
    };
    let native = host.path("native.txt");
    output(Command::new(beside("age-keygen")).args(["-pq", "-o"]).arg(&native));
    let recipient = output(Command::new(beside("age-keygen")).arg("-y").arg(&native));
    let recipient = String::from_utf8(recipient).unwrap().trim().to_owned();
    let file = host.path("pq.txt").display().to_string();
    output(Command::new(&program).args(["-identity", "-o", &file]).arg(&native));
    let plugins = host.path("plugins");
    install(&plugins);
    fs::copy(&program, plugins.join("age-plugin-pq")).unwrap();
    fs::set_permissions(plugins.join("age-plugin-pq"), fs::Permissions::from_mode(0o755)).unwrap();
    pin_folder(&host, &plugins);
    // It goes together with no other kind.
    let other = host.recipient().to_owned();
    host.reconfigure(&format!("\"{other}\""), &format!("\"{other}\", \"{recipient}\""));
    let mixed = host.lifeboat(["check"]).expect_code(1).says(&["encryption.recipients"]);
    assert!(!mixed.stderr.contains("age-plugin-pq:"), "{}", mixed.stderr);
    host.reconfigure(&format!("\"{other}\", \"{recipient}\""), &format!("\"{recipient}\""));
    host.lifeboat(["check"]).expect_code(0);
    let id = host.backup();
    let plain = host.path("plain.db").display().to_string();
    host.lifeboat(["export", &id, &plain, "--identity", &file])
        .expect_code(0);
    let native = native.display().to_string();
    host.lifeboat(["export", &id, "-", "--identity", &native])
        .expect_code(8)
        .says(&["age-plugin-pq -identity"]);
    let object = host
        .stored_files()
        .into_iter()
        .find(|file| file.to_string_lossy().ends_with(".age"));
    let object = host.store().join(object.unwrap());
    let packed = host.path("packed.zst").display().to_string();
    output(
        Command::new(beside("age"))
            .args(["-d", "-i", &native, "-o", &packed])
            .arg(object),
    );
    assert!(output(Command::new(zstd).args(["-dc", &packed])) == fs::read(plain).unwrap());
}

#[test]
fn a_program_that_asks_is_answered_at_a_terminal_and_nowhere_else() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, pin) = key(&host, "pin");
    let (_, confirm) = key(&host, "confirm");
    seal_for(&host, &recipient);
    let id = host.backup();
    for (file, why, answer, asked) in [
        (
            &pin,
            "the PIN is wrong, or nobody gave it",
            "1234\n",
            "PIN of the sample:",
        ),
        (
            &confirm,
            "nobody has confirmed it",
            "yes\n",
            "Type `yes` for `open it`, anything else for `leave it`:",
        ),
    ] {
        let out = host.path(&format!("plain-{}.db", answer.trim())).display().to_string();
        host.lifeboat(["export", &id, &out, "--identity", file])
            .expect_code(8)
            .says(&["age-plugin-sample", why]);
        let Some(refused) = at_a_terminal(&host, &["export", &id, &out, "--identity", file], "no\n") else {
            return;
        };
        assert!(!refused.0 && refused.1.contains(why), "{}", refused.1);
        let Some((is_done, said)) = at_a_terminal(&host, &["export", &id, &out, "--identity", file], answer) else {
            return;
        };
        assert!(is_done && said.contains(asked), "{said}");
        assert!(fs::metadata(&out).is_ok_and(|file| file.len() > 0));
    }
}

/// Whether it was done, and what was to be seen; nothing where there is no terminal to be had.
fn at_a_terminal(host: &Host, args: &[&str], answer: &str) -> Option<(bool, String)> {
    // script(1) is the terminal.
    let export = host.command(args);
    let words: Vec<String> = std::iter::once(export.get_program())
        .chain(export.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    for (name, value) in export.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    let started = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut started) = started else {
        println!("skipped: there is no script(1)");
        return None;
    };
    std::thread::sleep(Duration::from_secs(3));
    started.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let ended = started.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    Some((ended.status.success(), said))
}

/// A program that fails keeps nobody from opening what another key opens.
#[test]
fn of_several_keys_one_that_opens_is_enough_whichever_the_others_are() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, pin) = key(&host, "pin");
    let (_, plain) = key(&host, "plain");
    let plugins = host.path("plugins");
    let program = install(&plugins);
    pin_folder(&host, &plugins);
    let (own, file) = (host.recipient().to_owned(), host.identity().display().to_string());
    host.reconfigure(&format!("\"{own}\""), &format!("\"{own}\", \"{recipient}\""));
    let id = host.backup();
    let verify = |keys: &[&str]| {
        let keys = keys.iter().flat_map(|key| ["--identity", key]);
        host.lifeboat(["verify", &id].into_iter().chain(keys))
    };
    // Nobody is there to give a PIN.
    verify(&[&pin]).expect_code(8).says(&["nobody gave it"]);
    verify(&[&pin, &plain]).expect_code(0);
    verify(&[&pin, &file]).expect_code(0);
    fs::remove_file(program).unwrap();
    verify(&[&pin, &plain, &file]).expect_code(0);
    let said = verify(&[&pin, &plain]).expect_code(8).stderr;
    assert_eq!(said.matches("it is not there: install it").count(), 2, "{said}");
}

#[test]
fn a_program_that_is_not_there_is_named_and_no_key_is_called_wrong_for_it() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, file) = key(&host, "plain");
    let (own, own_file) = (host.recipient().to_owned(), host.identity().display().to_string());
    let plugins = seal_for(&host, &recipient);
    let program = plugins.join("age-plugin-sample");
    host.backup();
    host.lifeboat(["check", "--identity", &own_file]).expect_code(8).says(&[
        "none of the given identities opens it",
        "those of plugins need their programs (age-plugin-sample)",
    ]);
    let missing = ["age-plugin-sample", "it is not there: install it"];
    let is_told = |args: &[&str], code: i32| {
        let said = host.lifeboat(args).expect_code(code).says(&missing).stderr;
        for wrong in ["none of the given identities", "does not open new backups"] {
            assert!(!said.contains(wrong), "{args:?}: {said}");
        }
        said
    };
    fs::remove_file(&program).unwrap();
    // For its own key, of what was made for it.
    is_told(&["check", "--identity", &file], 8);
    is_told(&["verify", "--all", "--identity", &file], 8);
    is_told(&["rewrap", "--identity", &file], 7);
    // For one in a file, of what is made for both from now on.
    install(&plugins);
    host.reconfigure(&format!("\"{recipient}\""), &format!("\"{own}\", \"{recipient}\""));
    host.backup();
    fs::remove_file(&program).unwrap();
    let said = is_told(&["check", "--identity", &own_file], 1);
    assert!(said.contains("opens new backups is not known: "), "{said}");
    is_told(&["rewrap", "--identity", &own_file], 7);
}

/// The time that a key takes to open the old object is not the store's, which waits for the new one.
#[test]
fn a_key_that_takes_its_time_makes_no_backup_anew_too_late() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, slow) = key(&host, "slow");
    let plugins = seal_for(&host, &recipient);
    let id = host.backup();
    let old: Manifest = serde_json::from_value(host.manifest(&id)).unwrap();
    let limits = Limits {
        answer: Duration::from_secs(2),
        listing: Duration::from_secs(2),
    };
    let cluster = old.cluster.name.clone();
    let store = Store::open_within(&Location::Folder(host.store()), &cluster, None, Access::Read, limits).unwrap();
    let identities = Identities::parse_with(&fs::read(slow).unwrap(), "slow", &plugins).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let made = rewrap::make(
        &rewrap::Job {
            old: &old,
            family: &[old.chain_path()],
            from: &store,
            to: &store,
            chain: "20261120T101530Z-9f3c4a1b".parse().unwrap(),
            encoding: &Encoding {
                level: 3,
                threads: 1,
                recipients: vec![host.recipient().parse().unwrap()],
                stall_limit: rewrap::STALL_LIMIT,
            },
            identities: &identities,
            writer: old.writer.clone(),
            runtime: runtime.handle(),
            now: jiff::Timestamp::now,
            stop: &AtomicBool::new(false),
        },
        &|_| {},
    );
    let (new, _) = made.unwrap();
    assert_eq!(new.plain, old.plain);
}

/// A plugin is asked before etcd is: its snapshot is not held open meanwhile.
#[test]
fn a_program_that_fails_costs_etcd_no_snapshot() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let (recipient, _) = key(&host, "plain");
    let snapshots = || {
        let mut stream = TcpStream::connect(etcd.members[0].client_url.trim_start_matches("http://")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        let is_it = |line: &&str| line.starts_with("grpc_server_started_total") && line.contains("\"Snapshot\"");
        metrics.lines().find(is_it).expect("etcd counts calls").to_owned()
    };
    let before = snapshots();
    host.reconfigure(
        &format!("\"{}\"", host.recipient()),
        &format!("\"{}\", \"{recipient}\"", host.recipient()),
    );
    host.reconfigure(
        "[destinations.local]",
        &format!("plugins = {:?}\n[destinations.local]", host.path("plugins")),
    );
    host.lifeboat(["backup"]).expect_code(1).says(&["it is not there"]);
    assert_eq!(snapshots(), before);
    install(&host.path("plugins"));
    host.backup();
    assert_ne!(snapshots(), before);
}
