//! Keys that a program holds: backups are made for them and opened by them, with the program from the pinned folder alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::host::Host;
use super::support::{shared, tools};

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

#[test]
fn a_backup_is_made_for_and_opened_by_a_program_of_the_pinned_folder_and_of_no_other() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (recipient, file) = key(&host, "plain");
    let plugins = host.path("plugins");
    host.reconfigure(
        "[destinations.local]",
        &format!("plugins = {plugins:?}\n[destinations.local]"),
    );
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
    host.reconfigure(
        "[destinations.local]",
        &format!("plugins = {plugins:?}\n[destinations.local]"),
    );
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
    let (recipient, file) = key(&host, "pin");
    let plugins = host.path("plugins");
    install(&plugins);
    host.reconfigure(
        "[destinations.local]",
        &format!("plugins = {plugins:?}\n[destinations.local]"),
    );
    host.reconfigure(&format!("\"{}\"", host.recipient()), &format!("\"{recipient}\""));
    let id = host.backup();
    let out = host.path("plain.db").display().to_string();
    host.lifeboat(["export", &id, &out, "--identity", &file])
        .expect_code(8)
        .says(&["age-plugin-sample", "the PIN is wrong, or nobody gave it"]);
    // script(1) is the terminal.
    let export = host.command(["export", &id, &out, "--identity", &file]);
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
        return;
    };
    std::thread::sleep(std::time::Duration::from_secs(3));
    std::io::Write::write_all(&mut started.stdin.take().unwrap(), b"1234\n").unwrap();
    let ended = started.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("PIN of the sample:"), "{said}");
    assert!(fs::metadata(&out).is_ok_and(|file| file.len() > 0));
}
