//! The commands as people and programs use them: histories, ids, documents, the places of files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::etcd::{Etcd, Options, Security};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host, files_below, tells_a_secret};
use super::support::shared;
use super::support::tools::Version;

#[test]
fn the_readme_lists_every_command_and_no_other() {
    let host = Host::without_cluster();
    let help = host.lifeboat(["--help"]).expect_code(0).stdout;
    let listed = help.split_once("Commands:\n").expect("it lists them").1;
    let listed = listed.split_once("\n\n").expect("the options follow").0;
    let mut there_are: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    let readme = include_str!("../../README.md");
    let table = readme
        .split_once("| command | what it does |\n")
        .expect("it has the table")
        .1;
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let first_cells = rows.filter_map(|row| row.split('|').nth(1));
    let mut told: Vec<_> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|command| command.split_whitespace().next())
        .collect();
    there_are.sort_unstable();
    told.sort_unstable();
    assert!(there_are.contains(&"restore"), "{help}");
    assert_eq!(told, there_are);
}

#[test]
fn an_etcd_that_comes_back_empty_never_displaces_the_backups_of_a_full_one() {
    let Some(mut etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    for number in 0..20 {
        etcd.client().put(&format!("/{number}"), "full", 0).expect("it runs");
    }
    let host = Host::new(&etcd);
    let full = host.backup();
    etcd.destroy();
    etcd.boot();

    let warned = host.lifeboat(["backup"]).expect_code(0);
    let warned = warned.says(&[
        "etcd came back empty: 0 keys; before 20",
        "Bring them back with `lifeboat restore",
        &full,
        "lifeboat accept-lineage",
    ]);
    let empty = warned.stdout.trim().to_owned();
    let [before, after] = [&full, &empty].map(|id| host.manifest(id));
    assert_eq!(before["cluster"], after["cluster"], "the ids are the same again");
    assert_eq!(before["member"], after["member"]);
    let lineage = |manifest: &Value| text(&manifest["lineage"]).to_owned();
    let (old, new) = (lineage(&before), lineage(&after));
    assert_ne!(old, new);

    // Both are named, with the revision they go up to, and none is chosen.
    let target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
    let both = [&old[..], &new, &full, &empty, "lifeboat accept-lineage"];
    host.lifeboat(host.rebuild_args("latest", &target, 0))
        .expect_code(7)
        .says(&both);
    assert!(!target.members[0].data_dir.exists());
    host.lifeboat(["show", "latest"]).expect_code(7).says(&both);
    host.lifeboat(["check", "--online"])
        .expect_code(1)
        .says(&["`latest` is refused"]);
    let list = host.lifeboat(["list"]).expect_code(0).says(&["`latest` is refused"]);
    assert!(list.stdout.contains(&format!("lineage {old}")) && list.stdout.contains(&format!("lineage {new}")));
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["latest"], Value::Null);
    assert_eq!(list["lineages"].as_array().map(Vec::len), Some(2));
    // An id is an answer.
    host.lifeboat(host.rebuild_args(&full, &target, 0)).expect_code(0);

    // One that is empty is accepted by its name only; with something in it the new one is what is meant.
    host.lifeboat(["accept-lineage"])
        .expect_code(7)
        .says(&["empty", &new, &old]);
    etcd.client().put("/afterwards", "new", 0).expect("it runs");
    let filled = host.lifeboat(["backup"]).expect_code(0).says(&["`latest` refuses"]);
    let filled = filled.stdout.trim().to_owned();
    assert_eq!(lineage(&host.manifest(&filled)), new, "the new history goes on");
    let accepted = host
        .lifeboat(["accept-lineage", "--note", "it was wiped on purpose"])
        .expect_code(0);
    assert!(accepted.stdout.contains(&new), "{}", accepted.stdout);
    assert_eq!(latest(&host), filled, "although the other has a higher revision");
    let again = host.lifeboat(["--json", "accept-lineage"]).expect_code(0).json();
    assert_eq!((&again["accepted"], &again["changed"]), (&json!(new), &json!(false)));
    host.lifeboat(["list"]).expect_code(0);

    // And back: the old history is put in its place again.
    let back = host.lifeboat(["--json", "accept-lineage", &old]).expect_code(0).json();
    has_fields(
        &back,
        &json!({"schema": 1, "accepted": "", "changed": true, "destinations": [""]}),
    );
    assert_eq!((&back["accepted"], &back["changed"]), (&json!(old), &json!(true)));
    assert_eq!(latest(&host), full);
    let next = host
        .lifeboat(["backup"])
        .expect_code(0)
        .says(&[&new, &old, "is this the right etcd?"]);
    assert_eq!(lineage(&host.manifest(next.stdout.trim())), new);
    assert_eq!(latest(&host), full);
    host.lifeboat(["accept-lineage", "nobody"])
        .expect_code(4)
        .says(&["nobody", &old, &new]);

    // One of the two is given up, and it is not the accepted one.
    host.lifeboat(["prune", "--lineage", &old, "--yes"])
        .expect_code(7)
        .says(&["the accepted one"]);
    host.lifeboat(["prune", "--lineage", &new])
        .expect_code(7)
        .says(&["--yes"]);
    let dry = host
        .lifeboat(["--json", "prune", "--lineage", &new, "--dry-run"])
        .expect_code(0)
        .json();
    assert_eq!(dry["remove"].as_array().map(Vec::len), Some(3), "{dry}");
    host.lifeboat(["prune", "--lineage", &new, "--yes"]).expect_code(0);
    let left = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(left["lineages"].as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(latest(&host), full);
}

fn latest(host: &Host) -> String {
    let shown = host.lifeboat(["--json", "show", "latest"]).expect_code(0).json();
    text(&shown["backup"]["id"]).to_owned()
}

#[test]
fn objects_and_manifests_lie_where_the_contract_says() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let taken = host
        .lifeboat(["--json", "backup", "--pin", "--note", "before the upgrade"])
        .expect_code(0)
        .json();
    let (id, revision) = (text(&taken["id"]), taken["revision"].as_i64().expect("it is a number"));
    let (stamp, random) = id.split_once('-').expect("a time and digits");
    assert!(
        stamp.len() == 16 && stamp.ends_with('Z') && stamp.as_bytes()[8] == b'T',
        "{id}"
    );
    assert!(
        random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()),
        "{id}"
    );

    let shown = host.lifeboat(["--json", "show", id]).expect_code(0).json();
    let manifest = &shown["manifest"];
    let cluster = text(&manifest["cluster"]["id"]);
    let chain = format!("{CLUSTER}/{cluster}/{id}");
    let expected = [
        format!("{chain}/full-{revision:020}.json"),
        format!("{chain}/full.db.zst.age"),
        format!("{chain}/pin.json"),
        format!("{CLUSTER}/store.json"),
    ];
    for store in [host.store(), far.clone()] {
        assert_eq!(files_below(&store), expected.clone().map(PathBuf::from));
    }
    // The marks differ, everything else is the same to the byte.
    let [near, other] =
        [host.store(), far].map(|store| expected.clone().map(|path| fs::read(store.join(path)).unwrap()));
    assert!(near[..3] == other[..3], "two destinations of one backup differ");
    assert_ne!(near[3], other[3], "each store has its own id");

    let written: Value = serde_json::from_slice(&near[0]).expect("a manifest is JSON");
    assert_eq!(&written, manifest, "what is shown is what is stored");
    let keys = "format kind lineage cluster chain from_revision to_revision compact_revision member etcd_version \
        storage_version raft_term consistent_index started_at first_byte_at finished_at object plain stored hash_kv \
        hash_kv_reason proof keys recipients origin schedule slot note writer previous signer signature";
    assert_eq!(
        fields(&written),
        keys.split_whitespace().collect::<Vec<_>>(),
        "in this order"
    );
    assert_eq!(fields(&written["cluster"]), ["name", "id"]);
    assert_eq!(fields(&written["compact_revision"]), ["scheduled", "finished"]);
    assert_eq!(fields(&written["member"]), ["id", "name"]);
    assert_eq!(fields(&written["plain"]), ["bytes", "sha256"]);
    assert_eq!(fields(&written["stored"]), ["bytes", "sha256"]);
    assert_eq!(fields(&written["hash_kv"]), ["revision", "compact_revision", "hash"]);
    assert_eq!(fields(&written["writer"]), ["host", "version", "run"]);
    let bytes = String::from_utf8(near[0].clone()).expect("JSON is UTF-8");
    assert!(
        bytes.contains(",\n\"signer\":\"lifeboat-signer1") && bytes.ends_with("\"}\n"),
        "{bytes}"
    );
    assert_eq!(
        (&written["format"], &written["kind"], &written["origin"]),
        (&json!(2), &json!("full"), &json!("manual"))
    );
    assert_eq!(written["object"], format!("{cluster}/{id}/full.db.zst.age"));
    assert_eq!(written["recipients"], json!([host.recipient()]));
    assert_eq!(written["note"], "before the upgrade");
    assert_eq!(
        written["stored"],
        json!({"bytes": near[1].len(), "sha256": sha256(&near[1])})
    );
    assert!(near[1].starts_with(b"age-encryption.org/v1\n"));

    let (plain, identity) = (host.path("plain.db"), host.identity());
    let export = [
        "--json",
        "export",
        id,
        path_text(&plain),
        "--identity",
        path_text(&identity),
    ];
    let exported = host.lifeboat(export).expect_code(0).json();
    has_fields(&exported, &json!({"schema": 1, "file": "", "bytes": 0, "sha256": ""}));
    let content = fs::read(&plain).expect("it was exported");
    assert_eq!(
        written["plain"],
        json!({"bytes": content.len(), "sha256": sha256(&content)})
    );
    assert_eq!(
        (&exported["bytes"], &exported["sha256"]),
        (&written["plain"]["bytes"], &written["plain"]["sha256"])
    );
    assert_eq!(mode(&plain), 0o600, "an export is plaintext");
    assert_eq!(
        mode(&host.store().join(&expected[1])) & 0o007,
        0,
        "names and sizes are told to nobody"
    );
}

#[test]
fn a_backup_that_was_begun_nowhere_is_not_remembered() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    for member in &etcd.members {
        host.reconfigure(&member.client_url, "http://127.0.0.1:1");
    }
    host.lifeboat(["backup"]).expect_code(1);
    let chains = host.path("state").join(CLUSTER).join("chains");
    assert_eq!(fs::read_dir(chains).unwrap().count(), 0, "there is nothing to sweep");
}

#[test]
fn documents_have_the_fields_of_the_contract() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let taken = host.lifeboat(["--json", "backup"]).expect_code(0).json();
    has_fields(
        &taken,
        &json!({"schema": 1, "id": "", "chain": "", "revision": 0, "bytes": 0, "stored_bytes": 0, "seconds": 0.5, "proof": "hash_kv", "proof_reason": null, "faults": [],
            "destinations": [{"name": "local", "ok": true, "error": null}]}),
    );
    assert_eq!(taken["id"], taken["chain"]);
    let backup = json!({"id": "", "kind": "full", "chain": "", "lineage": "", "from_revision": 0, "to_revision": 0,
        "time": "", "bytes": 0, "stored_bytes": 0, "etcd_version": "", "pinned": false, "proof": "hash_kv",
        "destinations": [""]});
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    let window = json!({"chain": "", "from_revision": 0, "to_revision": 0, "from_time": "", "to_time": ""});
    has_fields(&list, &json!({"schema": 1, "backups": [backup], "windows": [window]}));
    let listed = &list["backups"][0];
    for (key, value) in [
        ("kind", "full"),
        ("proof", "hash_kv"),
        ("etcd_version", Version::V3_6.number()),
    ] {
        assert_eq!(listed[key], value);
    }
    for key in ["bytes", "stored_bytes"] {
        assert_eq!(listed[key], taken[key]);
    }
    assert_eq!(
        (&listed["to_revision"], &listed["destinations"]),
        (&taken["revision"], &json!(["local"]))
    );
    let time = text(&listed["time"]);
    assert!(time.len() == 20 && time.ends_with('Z'), "RFC 3339 in UTC: {time}");
    let shown = host
        .lifeboat(["--json", "show", text(&taken["id"])])
        .expect_code(0)
        .json();
    has_fields(&shown, &json!({"schema": 1, "backup": backup, "manifest": {}}));
    assert_eq!(&shown["backup"], listed);

    let target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
    let mut args = host.rebuild_args("latest", &target, 0);
    args.insert(0, "--json".to_owned());
    let rebuilt = host.lifeboat(args).expect_code(0).json();
    let hash = json!({"revision": 0, "compact_revision": 0, "hash": 0});
    has_fields(
        &rebuilt,
        &json!({"schema": 1, "data_dir": "", "member_id": "", "cluster_id": "", "cluster_token": "", "revision": 0,
            "hash_kv": hash, "flags": {}, "warnings": []}),
    );
    let member = &target.members[0];
    let flags = json!({"--data-dir": path_text(&member.data_dir), "--name": member.name,
        "--initial-advertise-peer-urls": member.peer_url, "--initial-cluster": target.initial_cluster(),
        "--initial-cluster-token": target.token, "--initial-cluster-state": "existing"});
    assert_eq!(rebuilt["flags"], flags);
    for id in ["member_id", "cluster_id"] {
        assert!(
            u64::from_str_radix(text(&rebuilt[id]), 16).is_ok(),
            "{id} in hex: {rebuilt}"
        );
    }

    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0).json();
    let row = json!({"name": "m1", "url": "", "id": "", "version": "", "role": "leader", "database_bytes": 0});
    has_fields(
        &checked,
        &json!({"schema": 1, "ok": true, "problems": [], "warnings": [], "members": [row]}),
    );
    let key = host.path("another.txt");
    let made = host
        .lifeboat(["--json", "keygen", "--identity", path_text(&key)])
        .expect_code(0)
        .json();
    has_fields(&made, &json!({"schema": 1, "identity": "", "recipient": ""}));
    // A failure is a document too.
    let failed = host.lifeboat(["--json", "show", "20001231T"]).expect_code(4);
    has_fields(
        &failed.json(),
        &json!({"schema": 1, "error": {"code": 4, "message": "", "next": ""}}),
    );
}

#[test]
fn backups_are_called_by_unique_parts_of_their_ids() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let (first, second) = (host.backup(), host.backup());
    let shown = |id: &str| {
        let shown = host.lifeboat(["--json", "show", id]).expect_code(0).json();
        text(&shown["backup"]["id"]).to_owned()
    };
    for id in [&first, &second] {
        assert_eq!(&shown(id), id);
        assert_eq!(&shown(&id[..24]), id, "all but its last digit");
        assert_eq!(&shown(&id[17..]), id, "its last eight digits");
        let revision = host.manifest(id)["to_revision"].to_string();
        assert_eq!(&shown(&format!("{id}:{revision}")), id);
        let beside = format!("{id}:{}", revision.parse::<i64>().expect("it is a number") + 1);
        host.lifeboat(["show", &beside])
            .expect_code(4)
            .says(&[id, &revision, "lifeboat list"]);
    }
    host.lifeboat(["show", "2"])
        .expect_code(2)
        .says(&[&first, &second, "more of its beginning"]);
    host.lifeboat(["show", "1"])
        .expect_code(4)
        .says(&["`1`", "lifeboat list"]);
    // Of the same revision, the later one is the latest.
    let last = if first > second { &first } else { &second };
    assert_eq!(&latest(&host), last);
}

#[test]
fn a_store_is_read_without_its_configuration() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    let (store, identity) = (host.store(), host.identity());
    let stranger = Host::without_cluster();
    let url = format!("file://{}", store.display());
    let cluster = store.join(CLUSTER);
    for from in [path_text(&store), &url, path_text(&cluster)] {
        let list = stranger
            .lifeboat(["--json", "list", "--from", from])
            .expect_code(0)
            .json();
        assert_eq!(list["backups"][0]["id"], id, "{from}");
    }
    let target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
    let mut args = stranger.rebuild_args("latest", &target, 0);
    let at = args.iter().position(|arg| arg == "--identity").expect("it is given");
    args[at + 1] = path_text(&identity).to_owned();
    args.extend(["--from".to_owned(), path_text(&store).to_owned()]);
    stranger.lifeboat(args).expect_code(0);

    // A second cluster in the same directory: whose backups are meant has to be said.
    host.reconfigure("name = \"test\"", "name = \"other\"");
    let other = host.backup();
    let from = ["--from", path_text(&store)];
    let unclear = stranger.lifeboat([["list"].as_slice(), &from].concat()).expect_code(2);
    unclear.says(&["several clusters", "other, test", "--cluster NAME"]);
    for (name, id) in [("test", &id), ("other", &other)] {
        let list = ["--json", "list", "--cluster", name];
        let list = stranger
            .lifeboat([list.as_slice(), &from].concat())
            .expect_code(0)
            .json();
        assert_eq!(list["backups"].as_array().map(Vec::len), Some(1));
        assert_eq!(&list["backups"][0]["id"], id);
    }
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["backups"][0]["id"], other, "its own and no other");
}

#[test]
fn a_key_is_made_once_and_told_to_nobody() {
    let host = Host::without_cluster();
    let file = host.path("key.txt");
    let keygen = ["keygen", "--identity", path_text(&file)];
    let recipient = host.lifeboat(keygen).expect_code(0).stdout.trim().to_owned();
    assert!(recipient.starts_with("age1"), "{recipient}");
    assert_eq!(mode(&file), 0o600);
    let content = fs::read_to_string(&file).expect("it was written");
    assert!(content.contains(&recipient) && tells_a_secret(&content));
    host.lifeboat(keygen)
        .expect_code(7)
        .says(&[path_text(&file), "never overwritten"]);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), content);
    let nowhere = host.path("nowhere/key.txt");
    host.lifeboat(["keygen", "--identity", path_text(&nowhere)])
        .expect_code(1)
        .says(&[path_text(&nowhere)]);
    assert!(!nowhere.exists());
}

#[test]
fn check_compares_with_what_the_cluster_says() {
    let options = Options {
        members: 2,
        ..Options::default()
    };
    let Some(etcd) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    let host = Host::new(&etcd);
    let good = fs::read_to_string(host.config()).expect("it was written");
    let offline = host.lifeboat(["check"]).expect_code(0);
    assert!(offline.stdout.contains("ok") && offline.stdout.contains(path_text(&host.config())));
    let online = host
        .lifeboat(["check", "--online"])
        .expect_code(0)
        .says(&["there is no backup yet"]);
    for word in ["m1", "m2", "leader", "follower", Version::V3_5.number(), "canary"] {
        assert!(online.stdout.contains(word), "no {word} in\n{}", online.stdout);
    }
    let store = host.store().join(CLUSTER);
    assert!(
        store.join("store.json").is_file() && !store.join("canary").exists(),
        "nothing is left of the trial"
    );
    let online = host.lifeboat(["--json", "check", "--online"]).expect_code(0).json();
    let roles: Vec<_> = online["members"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| &row["role"])
        .collect();
    assert!(
        roles.contains(&&json!("leader")) && roles.contains(&&json!("follower")),
        "{roles:?}"
    );

    // The names are swapped: each section reaches the other member.
    let (one, two) = (&etcd.members[0].client_url, &etcd.members[1].client_url);
    fs::write(
        host.config(),
        good.replace(one, "URL").replace(two, one).replace("URL", two),
    )
    .expect("it can be written");
    let swapped = host.lifeboat(["check", "--online"]).expect_code(1);
    swapped.says(&[
        "`[members.m1]`",
        "is member `m2`",
        "`[members.m2]`",
        "is member `m1`",
        "--name",
    ]);
    // One is missing: that is a warning, with where it is.
    let from = good.find("[members.m2]").expect("it is configured");
    let to = good.find("[encryption]").expect("it is configured");
    fs::write(host.config(), [&good[..from], &good[to..]].concat()).expect("it can be written");
    host.lifeboat(["check", "--online"])
        .expect_code(0)
        .says(&["warning", "m2", "not configured", two]);
    // A peer URL that the cluster does not know: a rebuild by it would make another cluster.
    fs::write(
        host.config(),
        good.replace(&etcd.members[0].peer_url, "http://127.0.0.1:1"),
    )
    .expect("it can be written");
    host.lifeboat(["check", "--online"])
        .expect_code(1)
        .says(&["members.m1.peer_urls", &etcd.members[0].peer_url]);

    fs::write(host.config(), good).expect("it can be written");
    let id = host.backup();
    let identity = host.identity();
    let proven = host
        .lifeboat(["check", "--identity", path_text(&identity)])
        .expect_code(0);
    assert!(
        proven.stdout.contains(&id) && proven.stdout.contains(path_text(&identity)),
        "{}",
        proven.stdout
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    let host = Host::without_cluster();
    let help = host.lifeboat(["--help"]).expect_code(0).stdout;
    assert!(help.contains("Exit codes") && help.contains("78"), "{help}");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    for needed in [
        "backup",
        "list",
        "show",
        "export",
        "rebuild",
        "check",
        "accept-lineage",
        "keygen",
        "metrics",
    ] {
        assert!(commands.contains(&needed), "no {needed} in {commands:?}");
    }
    for command in commands {
        let help = host.lifeboat([command, "--help"]).expect_code(0).stdout;
        assert!(
            help.contains("Example") && help.contains(&format!("lifeboat {command}")),
            "{help}"
        );
    }
    let version = host.lifeboat(["--version"]).expect_code(0).stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn no_secret_is_seen_from_outside() {
    let options = Options {
        security: Security::Password,
        ..Options::default()
    };
    let Some(etcd) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    let host = Host::new(&etcd);
    // Held before its first answer has come, which is after the password was sent.
    let gate = Gate::before(&etcd.members[0].client_url, 64);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let running = host.start(["-v", "backup"]);
    gate.wait_until_held();
    assert!(!tells_a_secret(&running.in_process_list()));
    gate.open();
    running.wait().expect_code(0);
    // What each run printed was looked through when it ended; here is what they wrote.
    let identity = host.identity();
    host.lifeboat(["-v", "check", "--online", "--identity", path_text(&identity)])
        .expect_code(0);
    let own = host.path("state").join(CLUSTER).join("signing.key");
    let mode = fs::metadata(&own).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key by which it signs");
    let secret = [host.identity(), host.path("password"), own];
    let all = files_below(&host.path(""));
    for file in all
        .iter()
        .map(|file| host.path("").join(file))
        .filter(|file| !secret.contains(file))
    {
        let content = fs::read(&file).expect("it is there");
        assert!(
            !tells_a_secret(&String::from_utf8_lossy(&content)),
            "{}",
            file.display()
        );
    }
}

/// Whether a document has all fields of a sample, of the same kinds. It may have more.
#[track_caller]
fn has_fields(document: &Value, sample: &Value) {
    let same_kind = match (document, sample) {
        (_, Value::Null) => true,
        (Value::Object(document), Value::Object(sample)) => {
            for (key, sample) in sample {
                let Some(value) = document.get(key) else {
                    panic!("no `{key}` in {}", Value::Object(document.clone()));
                };
                has_fields(value, sample);
            }
            true
        }
        (Value::Array(items), Value::Array(sample)) => {
            assert!(sample.is_empty() || !items.is_empty(), "nothing in the list");
            items
                .iter()
                .zip(sample.iter().cycle())
                .for_each(|(item, sample)| has_fields(item, sample));
            true
        }
        (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_)) => true,
        _ => false,
    };
    assert!(same_kind, "{document} is of another kind than {sample}");
}

fn fields(document: &Value) -> Vec<&str> {
    let object = document
        .as_object()
        .unwrap_or_else(|| panic!("{document} is no object"));
    object.keys().map(String::as_str).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
