//! What lies in a store is not what was put there, or the key does not fit.

use super::*;

#[test]
fn keys_that_do_not_fit() {
    let Some(stored) = Stored::new() else { return };
    let (host, id) = (&stored.host, stored.id.as_str());
    let other = stored.path("other.txt");
    host.lifeboat(["keygen", "--identity", &other]).expect_code(0);
    let next = ["none of the given identities", host.recipient(), "next: "];
    stored.refused(id, &["--identity", &other], 8, &next);
    host.lifeboat(["check", "--identity", &other])
        .expect_code(8)
        .says(&next);
    stored.refused("latest", &["no identity"], 8, &["no identity", "--identity FILE"]);
    fs::write(host.path("nonsense.txt"), "nothing like a key").expect("the host's directory can be written");
    let nonsense = stored.path("nonsense.txt");
    stored.refused(id, &["--identity", &nonsense], 8, &[&nonsense, "lifeboat keygen"]);
    let missing = stored.path("missing.txt");
    stored.refused(id, &["--identity", &missing], 1, &[&missing, "next: "]);
    // The backup is as good as ever.
    let identity = stored.path("identity.txt");
    host.lifeboat(["check", "--identity", &identity]).expect_code(0);
}

#[test]
fn of_several_keys_whichever_fits_opens_it() {
    let Some(stored) = Stored::new() else { return };
    let host = &stored.host;
    let others = ["other-1.txt", "other-2.txt"].map(|name| stored.path(name));
    for other in &others {
        host.lifeboat(["keygen", "--identity", other]).expect_code(0);
    }
    let own = stored.path("identity.txt");
    let keys = ["--identity", &others[0], "--identity", &own, "--identity", &others[1]];
    for command in [
        &["check"][..],
        &["verify"],
        &["export", "latest", &stored.path("out.db")],
    ] {
        host.lifeboat(command.iter().chain(&keys)).expect_code(0);
    }
    let none = ["verify", "--identity", &others[0], "--identity", &others[1]];
    host.lifeboat(none)
        .expect_code(8)
        .says(&["none of the given identities"]);
}

#[test]
fn files_of_other_kinds_are_named_with_the_command_that_unpacks_them() {
    let Some(stored) = Stored::new() else { return };
    let (Some(age), Some(zstd)) = (tools::debian("age"), tools::debian("zstd")) else {
        return;
    };
    let host = &stored.host;
    let snapshot = stored.path("snapshot.db");
    let own = stored.path("identity.txt");
    host.lifeboat(["export", &stored.id, &snapshot, "--identity", &own])
        .expect_code(0);
    let run = |script: &str| {
        let mut shell = std::process::Command::new("bash");
        shell.current_dir(host.path("")).arg("-euc").arg(script);
        shell.env("AGE", &age).env("ZSTD", &zstd).env("TO", host.recipient());
        assert!(shell.status().expect("there is a shell").success(), "{script}");
    };
    for (file, made, kind, command) in [
        (
            "s.db.gz",
            "gzip -c snapshot.db > s.db.gz",
            "compressed with gzip",
            "gzip -dc FILE > snapshot.db",
        ),
        (
            "s.tar.gz",
            "tar -czf s.tar.gz snapshot.db",
            "compressed with gzip",
            "gzip -dc FILE | tar -xf -",
        ),
        ("s.tar", "tar -cf s.tar snapshot.db", "a tar archive", "tar -xf FILE"),
        (
            "s.db.zst",
            "$ZSTD -q snapshot.db -o s.db.zst",
            "compressed with zstd",
            "zstd -dc --long=31 FILE > snapshot.db",
        ),
        (
            "s.gz.age",
            "gzip -c snapshot.db | $AGE -r $TO -o s.gz.age",
            "is encrypted and holds a file compressed with gzip",
            "age -d -i KEY FILE | gzip -dc - > snapshot.db",
        ),
        (
            "s.tar.gz.age",
            "tar -czf - snapshot.db | $AGE -r $TO -o s.tar.gz.age",
            "is encrypted and holds a file compressed with gzip",
            "age -d -i KEY FILE | gzip -dc - | tar -xf -",
        ),
        (
            "it's one.tar.xz",
            "tar -cJf \"it's one.tar.xz\" snapshot.db",
            "compressed with xz",
            "xz -dc FILE | tar -xf -",
        ),
        (
            "s.txt",
            "$ZSTD -qc snapshot.db | $AGE -a -r $TO -o s.txt",
            "an age file in text form",
            "age -d -i KEY FILE | zstd -dcf --long=31 > snapshot.db",
        ),
        (
            "plain.txt",
            "$AGE -a -r $TO -o plain.txt snapshot.db",
            "an age file in text form",
            "age -d -i KEY FILE | zstd -dcf --long=31 > snapshot.db",
        ),
        (
            "s.pzst",
            "{ printf 'P*M\\x18\\x04\\0\\0\\0\\x83\\x1e\\x01\\0'; $ZSTD -qc snapshot.db; } > s.pzst",
            "compressed with zstd",
            "zstd -dc --long=31 FILE > snapshot.db",
        ),
    ] {
        run(made);
        let path = stored.path(file);
        let word = match file.contains('\'') {
            true => format!("'{}'", path.replace('\'', r"'\''")),
            false => path.clone(),
        };
        let command = command.replace("FILE", &word);
        let told = format!("`{command}`");
        stored.refused(&path, &[], 2, &[&path, kind, "not an etcd snapshot", &told]);
        // What is told is typed as it stands.
        let command = command.replace("-i KEY", &format!("-i {own}"));
        let command = command.replace("zstd", "$ZSTD").replace("age -d", "$AGE -d");
        run(&format!("mkdir unpacked; cd unpacked; {command}"));
        let unpacked = host.path("unpacked/snapshot.db");
        assert!(fs::read(unpacked).ok() == fs::read(&snapshot).ok(), "{command}");
        fs::remove_dir_all(host.path("unpacked")).expect("it was made above");
    }
    fs::write(host.path("page.db"), "<html><body>403 Forbidden</body></html>").expect("the directory can be written");
    stored.refused(&stored.path("page.db"), &[], 2, &["a web page", "lifeboat list"]);
    stored.refused(&stored.path("nothing/.."), &[], 4, &["No such file"]);
    stored.refused(text(&host.store()), &[], 2, &["is a directory"]);

    // What a person makes by hand is read: encrypted only, and with the windows of `zstd --long`.
    run("$AGE -r $TO -o plain.age snapshot.db");
    run("cat snapshot.db | $ZSTD -q --long=27 | $AGE -r $TO -o long.age");
    run("cat snapshot.db | $ZSTD -q -1 --long=28 | $AGE -r $TO -o longer.age");
    run("$AGE -r $TO -o skips.age s.pzst");
    for (file, more) in [
        ("plain.age", &[][..]),
        ("long.age", &[]),
        ("skips.age", &[]),
        ("longer.age", &["--long", "28"]),
    ] {
        let (source, out) = (stored.path(file), stored.path(&format!("{file}.out")));
        let export = ["export", &source, &out, "--identity", &own];
        host.lifeboat(export.iter().chain(more)).expect_code(0);
        assert_eq!(fs::read(out).ok(), fs::read(&snapshot).ok(), "{file}");
    }
    stored.refused(&stored.path("longer.age"), &[], 7, &["128 MiB", "--long 31"]);
}

#[test]
fn damaged_objects() {
    let Some(stored) = Stored::new() else { return };
    let length = fs::metadata(stored.object()).expect("it is there").len();
    for at in [0, 150, length / 4, length / 2, length - 1] {
        let store = stored.damaged(&format!("flipped-{at}"), &|object| flip(object, at));
        stored.refused(&stored.id, &["--from", text(&store)], 5, &[&stored.id, "lifeboat list"]);
        stored.refused(text(&object_in(&store)), &[], 5, &[text(&object_in(&store)), "next: "]);
    }
    // In the part for its recipients: a file alone cannot be told from one for others, a stored object can.
    let store = stored.damaged("for-others", &|object| readdress(object));
    stored.refused(
        &stored.id,
        &["--from", text(&store)],
        5,
        &[&stored.id, "not those stored", "lifeboat list"],
    );
    stored.refused(text(&object_in(&store)), &[], 8, &[text(&object_in(&store)), "next: "]);
    for (name, left) in [("cut", length - 1), ("half", length / 2), ("header", 100), ("empty", 0)] {
        let store = stored.damaged(name, &|object| cut(object, left));
        listed_as_bad(&stored, &store);
        stored.refused(&stored.id, &["--from", text(&store)], 5, &[&stored.id, "lifeboat list"]);
        stored.refused(text(&object_in(&store)), &[], 5, &[text(&object_in(&store)), "next: "]);
    }
    let store = stored.damaged("missing", &|object| fs::remove_file(object).expect("it was there"));
    listed_as_bad(&stored, &store);
    stored.refused(
        &stored.id,
        &["--from", text(&store)],
        5,
        &[&stored.id, "missing", "lifeboat list"],
    );
    let gone = store.join("full.db.zst.age");
    stored.refused(text(&gone), &[], 4, &[text(&gone), "next: "]);
}

#[test]
fn an_object_that_unpacks_to_more_than_its_own_database_says_fills_no_disk() {
    let Some(stored) = Stored::new() else { return };
    let identity = stored.path("identity.txt");
    let export = ["export", &stored.id, &stored.path("snapshot"), "--identity", &identity];
    stored.host.lifeboat(export).expect_code(0);
    let snapshot = fs::read(stored.host.path("snapshot")).expect("it was exported");
    let disk = stored.host.path("disk");
    fs::create_dir(&disk).expect("the host's directory can be written");
    let Some(_small) = Tmpfs::mount(&disk, 200) else { return };
    let bomb = stored.host.path("bomb.db.zst.age");
    let recipient: age::x25519::Recipient = stored.host.recipient().parse().expect("it is one");
    let recipient: &dyn age::Recipient = &recipient;
    let file = fs::File::create(&bomb).expect("the host's directory can be written");
    let age = age::Encryptor::with_recipients([recipient].into_iter()).expect("there is one");
    let age = age.wrap_output(file).expect("the file can be written");
    let mut zstd = zstd::Encoder::new(age, 1).expect("it is a level");
    zstd.write_all(&snapshot).expect("the file can be written");
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        zstd.write_all(&zeros).expect("the file can be written");
    }
    let age = zstd.finish().expect("the file can be written");
    age.finish().expect("the file can be written");

    let (said, data) = (
        ["they are longer than", "its own header says"],
        stored.path("disk/data"),
    );
    let exported = stored.path("disk/exported");
    let export = ["export", text(&bomb), &exported, "--identity", &identity];
    stored.host.lifeboat(export).expect_code(5).says(&said);
    let mut rebuild = stored.host.rebuild_args(text(&bomb), &stored.target, 0);
    let at = rebuild.iter().position(|arg| arg == "--data-dir").expect("it is given");
    rebuild[at + 1] = data;
    stored.host.lifeboat(rebuild).expect_code(5).says(&said);
    assert_eq!(tree(&disk), Vec::<String>::new());
}

/// What a listing can tell without reading the object: `list` shows it, and `latest` does not take it.
#[track_caller]
fn listed_as_bad(stored: &Stored, store: &Path) {
    let list = stored
        .host
        .lifeboat(["--json", "list", "--from", text(store)])
        .expect_code(0)
        .json();
    assert_eq!(list["backups"][0]["proof"], "none", "{list}");
    assert_eq!(list["backups"][0]["faults"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["latest"], serde_json::Value::Null);
    let list = stored.host.lifeboat(["list", "--from", text(store)]).expect_code(0);
    assert!(list.stdout.contains("BAD"), "{}", list.stdout);
    stored.refused(
        "latest",
        &["--from", text(store)],
        5,
        &["no backup", "is good", "next: "],
    );
}

#[test]
fn a_good_copy_stands_in_for_a_damaged_one() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let id = host.backup();
    let (near, good) = (object_in(&host.store()), host.path("good"));
    let bytes = fs::read(&near).expect("it is there");
    assert!(
        fs::read(object_in(&far)).expect("it is there") == bytes,
        "both destinations have the same bytes"
    );
    let identity = host.identity();
    let export = |to: &str| host.lifeboat(["export", "latest", text(&host.path(to)), "--identity", text(&identity)]);
    export("good").expect_code(0);
    let length = bytes.len() as u64;
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 6] = [
        ("magic", &|| flip(&near, 0)),
        ("header", &|| readdress(&near)),
        ("middle", &|| flip(&near, length / 2)),
        ("end", &|| flip(&near, length - 1)),
        ("cut", &|| cut(&near, length / 2)),
        ("missing", &|| fs::remove_file(&near).expect("it is there")),
    ];
    // `far` comes before `local`: it is the first copy that is damaged.
    for (name, damage) in damages {
        damage();
        copy_over(&near, &object_in(&far), name == "missing");
        fs::write(&near, &bytes).expect("the store can be written");
        let to = format!("exported-{name}");
        let exported = export(&to).expect_code(0);
        if !["cut", "missing"].contains(&name) {
            exported.says(&["far", &id, "trying the next copy"]);
        }
        let same = fs::read(host.path(&to)).expect("it was exported") == fs::read(&good).expect("it was exported");
        assert!(same, "{name}: the export from the other copy differs");
        let mut target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
        target.token = name.to_owned();
        host.lifeboat(host.rebuild_args("latest", &target, 0)).expect_code(0);
    }
    let list = host.lifeboat(["list"]).expect_code(0);
    assert!(list.stdout.contains("a copy is bad"), "{}", list.stdout);
}

fn copy_over(from: &Path, to: &Path, missing: bool) {
    if missing {
        fs::remove_file(to).expect("it is there");
    } else {
        fs::copy(from, to).expect("the store can be written");
    }
}

#[test]
fn damaged_manifests() {
    let Some(stored) = Stored::new() else { return };
    let host = &stored.host;
    let older = stored.id.as_str();
    let newer = host.backup();
    let manifest = |store: &Path, id: &str| {
        let mut files = crate::support::host::files_below(store).into_iter();
        let found = files.find(|path| text(path).contains(id) && text(path).ends_with(".json"));
        store.join(found.expect("it has a manifest"))
    };
    let original = fs::read_to_string(manifest(&host.store(), &newer)).expect("it is there");
    let cases = [
        ("cut", original[..original.len() / 2].to_owned(), "cannot be parsed"),
        ("not-json", "nothing".to_owned(), "cannot be parsed"),
        ("empty", String::new(), "cannot be parsed"),
        (
            "newer",
            original.replace("\"format\":2,", "\"format\":3,"),
            "newer lifeboat",
        ),
        ("another", original.replace(&newer, older), "should be"),
        ("large", format!("{original}{}", " ".repeat(1 << 20)), "not at most"),
    ];
    for (name, content, fault) in cases {
        let store = host.path(name);
        copy_tree(&host.store(), &store);
        let from = ["--from", text(&store)];
        fs::write(manifest(&store, &newer), content).expect("the test's directory can be written");
        let list = host.lifeboat([["list"].as_slice(), &from].concat()).expect_code(0);
        let list = list.says(&["warning", &newer, "damaged", fault]);
        assert!(list.stdout.contains(older), "{}", list.stdout);
        let list = host
            .lifeboat([["--json", "list"].as_slice(), &from].concat())
            .expect_code(0)
            .json();
        assert!(
            list["damaged"][0]
                .as_str()
                .is_some_and(|damaged| damaged.contains(&newer)),
            "{list}"
        );
        assert_eq!(
            (list["backups"].as_array().map(Vec::len), list["latest"].as_str()),
            (Some(1), Some(older))
        );
        stored.refused(&newer, &from, 5, &[&newer, fault, "lifeboat list"]);
        host.lifeboat([["show", &newer].as_slice(), &from].concat())
            .expect_code(5)
            .says(&[fault]);
        // The older one is taken, and that a newer one is lost is said.
        let (to, identity) = (stored.path(&format!("{name}.db")), stored.path("identity.txt"));
        let export = ["export", "latest", &to, "--identity", &identity];
        host.lifeboat([export.as_slice(), &from].concat())
            .expect_code(0)
            .says(&[&newer, "damaged"]);

        fs::write(manifest(&store, older), "nothing").expect("the test's directory can be written");
        stored.refused("latest", &from, 5, &["none of the 2 manifests", "next: "]);
    }

    // A backup goes on beside a damaged manifest, and says that it is there.
    fs::write(manifest(&host.store(), &newer), "nothing").expect("the store can be written");
    let next = host
        .lifeboat(["backup"])
        .expect_code(0)
        .says(&["warning", &newer, "damaged"]);
    let shown = host.manifest(next.stdout.trim());
    assert_eq!(shown["lineage"], host.manifest(older)["lineage"], "the history goes on");
}
