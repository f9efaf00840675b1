//! Configurations and command lines that are wrong.

use super::*;

#[test]
fn configurations_that_are_wrong() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let good = fs::read_to_string(host.config()).expect("it was written");
    let with = |line: &str| format!("{good}{line}\n");
    host.lifeboat(["list"]).expect_code(0);
    let cases = [
        ("not TOML", "[cluster\n".to_owned(), "config.toml:1"),
        ("unknown key", with("[backup]\nidle_timout = \"1s\""), "idle_timeout"),
        (
            "no members",
            good.replace("[members.m1]", "[members.m1]\nenabled = false"),
            "every member",
        ),
        (
            "bad recipient",
            good.replace(host.recipient(), "age1nonsense"),
            "age1nonsense",
        ),
        (
            "no destination",
            good.replace("[destinations.local]", "[destinations.local]\nenabled = false"),
            "destination",
        ),
        ("relative store", good.replace("file:///", "file://"), "url"),
    ];
    for (what, text, names) in cases {
        assert_ne!(text, good, "{what}");
        fs::write(host.config(), text).expect("it can be written");
        host.lifeboat(["backup"]).expect_code(78).says(&[names, "next: "]);
        if what != "no destination" {
            host.lifeboat(["check"]).expect_code(78).says(&[names]);
            // Who only looks sees what the last good configuration named, and that it is not this one.
            let list = host
                .lifeboat(["list"])
                .expect_code(1)
                .says(&[names, "last valid configuration"]);
            assert!(list.stdout.contains("no backups"), "{}", list.stdout);
        }
    }
    fs::remove_file(host.config()).expect("it is there");
    let config = host.config();
    host.lifeboat(["backup"])
        .expect_code(78)
        .says(&[text(&config), "does not exist", "config.example.toml"]);
    // A secret that is not there is found before anything is asked.
    fs::write(
        host.config(),
        with("[cluster.auth]\nuser = \"root\"\npassword = { file = \"/nowhere/password\" }"),
    )
    .expect("it can be written");
    for command in ["backup", "check"] {
        host.lifeboat([command])
            .expect_code(78)
            .says(&["cluster.auth.password", "/nowhere/password"]);
    }
    let sample = good.replace(
        host.recipient(),
        "age12wkpf3rfyfvysfe8dwyxkfx890dxthcrkmez3wnrjhld85846q3s6swwr4",
    );
    fs::write(host.config(), sample).expect("it can be written");
    host.lifeboat(["backup"])
        .expect_code(78)
        .says(&["sample", "lifeboat keygen"]);
    assert_eq!(tree(&host.store()), [""; 0], "nothing was written");
}

#[test]
fn commands_that_are_wrong() {
    let Some(stored) = Stored::new() else { return };
    let host = &stored.host;
    host.lifeboat(["backup", "--member", "m9"])
        .expect_code(2)
        .says(&["m9", "m1"]);
    host.lifeboat(["backup", "--to", "nowhere"])
        .expect_code(2)
        .says(&["nowhere", "local"]);
    host.lifeboat(["backup", "--schedule", "nightly"])
        .expect_code(2)
        .says(&["nightly", "--to"]);
    host.lifeboat(["list", "--destination", "nowhere"])
        .expect_code(2)
        .says(&["nowhere", "local"]);
    host.lifeboat(["backup", "--wait", "soon"])
        .expect_code(2)
        .says(&["soon", "10m"]);
    for args in [
        &[][..],
        &["unknown"],
        &["backup", "--unknown"],
        &["export", "latest"],
        &["rebuild", "latest"],
    ] {
        host.lifeboat(args).expect_code(2).says(&["Usage"]);
    }
    let good = host.rebuild_args("latest", &stored.target, 0);
    let wrong = |flag: &str, value: &str, says: &[&str]| {
        let mut args = good.clone();
        let at = args.iter().position(|arg| arg == flag).expect("it is given");
        args[at + 1] = value.to_owned();
        host.lifeboat(args).expect_code(2).says(says);
    };
    wrong("--name", "m9", &["m9"]);
    wrong("--initial-cluster", "m1", &["m1"]);
    wrong("--initial-cluster", "m1=nonsense", &["nonsense"]);
    wrong(
        "--initial-advertise-peer-urls",
        "http://127.0.0.1:1",
        &["http://127.0.0.1:1"],
    );
    let alone = ["--bump-revision", "5"].map(str::to_owned);
    host.lifeboat([good.clone(), alone.to_vec()].concat())
        .expect_code(2)
        .says(&["--mark-compacted"]);
    assert_eq!(tree(stored.target.directory()), [""; 0]);

    fs::write(host.path("snapshot.db"), "nothing like a database").expect("it can be written");
    let file = stored.path("snapshot.db");
    stored.refused(&file, &[], 5, &[&file, "next: "]);
    stored.refused("/nowhere/snapshot.db", &[], 4, &["/nowhere/snapshot.db", "next: "]);
    let identity = stored.path("identity.txt");
    let again = ["export", "latest", &file, "--identity", &identity];
    host.lifeboat(again).expect_code(7).says(&[&file, "next: "]);
    assert_eq!(
        fs::read(&file).expect("it is there"),
        b"nothing like a database",
        "nothing is overwritten"
    );
    let nowhere = host.lifeboat(["list", "--from", "/nowhere"]).expect_code(4);
    assert!(
        !nowhere.stderr.contains("mkdir"),
        "who reads makes nothing: {}",
        nowhere.stderr
    );
    nowhere.says(&["no directory `/nowhere`", "next: "]);
    let store = host.store();
    host.lifeboat(["list", "--from", text(&store), "--cluster", "other"])
        .expect_code(4)
        .says(&["next: ", CLUSTER]);
    let folder = host.path("");
    host.lifeboat(["list", "--config", text(&folder)])
        .expect_code(78)
        .says(&["that is a directory"]);
    // What has a default is not shown as if it had to be given.
    host.lifeboat(["pin"])
        .expect_code(2)
        .says(&["Usage: lifeboat pin [OPTIONS] <ID>"]);
    let wrong = host.lifeboat(["list", "--unknown", "--json"]).expect_code(2).json();
    assert_eq!(wrong["error"]["code"], 2, "{wrong}");
    host.lifeboat([""; 0])
        .expect_code(2)
        .says(&["Options of every command", "accept-lineage"]);
    let elsewhere = stored.path("state");
    host.lifeboat(["list", "--from", &elsewhere])
        .expect_code(4)
        .says(&[&elsewhere, "next: "]);
}
