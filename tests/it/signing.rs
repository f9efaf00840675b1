//! Whose backups count: every forgery of `docs/reliability.md` with what comes of it, by the commands.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat::layout::{Acceptance, Check, Claim, HostName, ObjectName, Pin, Proof, SlotPath, claim};
use lifeboat::signing::{Authority, Role, SignerKey, SigningKey, Trust};
use lifeboat::store::{Access, Store};
use serde_json::Value;

use super::support::host::{CLUSTER, Host, Output, copy_tree, files_below};
use super::support::shared;

/// A host with two backups, whose signer is named; and somebody who may write to the store and has a key of his own.
struct Scene {
    host: Host,
    /// The backups, the one begun first at the head, and the path of each in the store.
    ids: [String; 2],
    chains: [PathBuf; 2],
    own: SigningKey,
    forger: SigningKey,
    /// The store as it was.
    good: PathBuf,
    /// What the host remembered of it.
    seen: String,
}

impl Scene {
    fn new() -> Option<Scene> {
        let etcd = shared::unchanging()?;
        let host = Host::new(etcd);
        let ids = [host.backup(), host.backup()];
        let file = host.path("state").join(CLUSTER).join("signing.key");
        let own = SigningKey::parse(Role::Signer, &fs::read_to_string(file).unwrap(), "it")
            .ok()
            .unwrap();
        trust(&host, &[own.public()]);
        let objects = files_below(&host.store());
        let chains = ids.clone().map(|id| {
            let mut objects = objects.iter().filter(|path| path.ends_with("full.db.zst.age"));
            let object = objects.find(|path| path.display().to_string().contains(&id)).unwrap();
            object.parent().unwrap().to_owned()
        });
        let good = host.path("good");
        copy_tree(&host.store(), &good);
        let forger = SigningKey::of_seed(Role::Signer, [66; 32]);
        let seen = fs::read_to_string(host.path("state").join(CLUSTER).join("tips.json")).unwrap();
        assert!(seen.contains(&ids[1]), "the host that wrote it has seen it: {seen}");
        let scene = Scene {
            host,
            ids,
            chains,
            own,
            forger,
            good,
            seen,
        };
        scene.is_unharmed();
        Some(scene)
    }

    /// Puts the store back, and what this host remembers of it.
    fn again(&self) {
        fs::remove_dir_all(self.host.store()).unwrap();
        copy_tree(&self.good, &self.host.store());
        fs::write(self.tips(), &self.seen).unwrap();
    }

    fn file(&self, chain: usize, name: &str) -> PathBuf {
        self.host.store().join(&self.chains[chain]).join(name)
    }

    fn manifest_path(&self, chain: usize) -> PathBuf {
        let folder = fs::read_dir(self.host.store().join(&self.chains[chain])).unwrap();
        let mut paths = folder.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("full-"))
            .unwrap()
    }

    fn manifest_text(&self, chain: usize) -> String {
        fs::read_to_string(self.manifest_path(chain)).unwrap()
    }

    /// The name that a path has in the cluster's store.
    fn name_of(&self, path: &Path) -> ObjectName {
        let path = path.strip_prefix(self.host.store().join(CLUSTER)).unwrap();
        path.to_str().unwrap().parse().unwrap()
    }

    fn path_of(&self, name: &ObjectName) -> PathBuf {
        self.host.store().join(CLUSTER).join(name.to_string())
    }

    /// Puts a document there, signed by `key`.
    fn put(&self, name: &ObjectName, key: &SigningKey, unsigned: &[u8]) {
        let path = self.path_of(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, key.sign(&CLUSTER.parse().unwrap(), name, unsigned)).unwrap();
    }

    fn list(&self) -> Value {
        self.host.lifeboat(["--json", "list", "--all"]).json()
    }

    fn latest(&self) -> String {
        self.list()["latest"].as_str().unwrap_or_default().to_owned()
    }

    fn strangers(&self) -> Vec<String> {
        let listed = self.list();
        let strangers = listed["strangers"].as_array().unwrap().iter();
        strangers
            .map(|stranger| stranger["error"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn is_unharmed(&self) {
        assert_eq!((self.latest(), self.strangers()), (self.ids[1].clone(), Vec::new()));
    }

    /// Nothing but the genuine counts, and what was put there is told with these words.
    #[track_caller]
    fn is_passed_over(&self, words: &str) {
        let strangers = self.strangers();
        assert!(
            !strangers.is_empty() && strangers.iter().all(|told| told.contains(words)),
            "{strangers:?}"
        );
        let status = self.host.lifeboat(["--json", "status"]).expect_code(1).json();
        let mut problems = status["problems"].as_array().unwrap().iter();
        assert!(
            problems.any(|problem| problem["event"] == "strangers-found"),
            "{status}"
        );
        assert_eq!(self.latest(), self.ids[1]);
    }

    /// The older manifest and the newest, each spoiled: this host knows that there was a newer one, and without a memory that
    /// is told at least.
    #[track_caller]
    fn either_manifest_is_passed_over(&self, words: &str, spoil: impl Fn(usize)) {
        spoil(0);
        self.is_passed_over(words);
        self.is_refused(&self.ids[0], words);
        self.again();
        spoil(1);
        assert!(self.strangers().iter().all(|told| told.contains(words)));
        let status = self.is_rolled_back();
        assert!(events(&status).contains(&"strangers-found"), "{status}");
        self.is_refused(&self.ids[1], words);
        fs::remove_file(self.tips()).unwrap();
        let told = self.export("latest", &[]).expect_code(0);
        told.says(&["skipped a manifest that may be newer", &self.ids[1], words]);
        assert_eq!(self.latest(), self.ids[0]);
        self.again();
    }

    /// What this host has seen is gone: nothing is the newest.
    #[track_caller]
    fn is_rolled_back(&self) -> Value {
        let status = self.host.lifeboat(["--json", "status"]).expect_code(1).json();
        assert!(events(&status).contains(&"destination-rolled-back"), "{status}");
        let refused = self.export("latest", &[]).expect_code(5);
        refused.says(&["rolled back", &self.ids[1]]);
        status
    }

    fn export(&self, id: &str, more: &[&str]) -> Output {
        let (identity, out) = (self.host.identity(), self.host.path("out.db"));
        fs::remove_file(&out).ok();
        let args = [
            "export",
            id,
            out.to_str().unwrap(),
            "--identity",
            identity.to_str().unwrap(),
        ];
        self.host.lifeboat(args.iter().chain(more))
    }

    /// What this host remembers of the store.
    fn tips(&self) -> PathBuf {
        self.host.path("state").join(CLUSTER).join("tips.json")
    }

    /// A backup that is not used, by whichever command names it.
    #[track_caller]
    fn is_refused(&self, id: &str, words: &str) {
        let identity = self.host.identity().display().to_string();
        let out = self.host.path("refused.db").display().to_string();
        for args in [
            &["export", id, &out, "--identity", &identity][..],
            &["verify", id],
            &["show", id],
            &["pin", id],
        ] {
            self.host.lifeboat(args).expect_code(5).says(&[words]);
        }
    }

    /// A backup whose bytes are wrong.
    #[track_caller]
    fn is_wrong(&self, id: &str) {
        let identity = self.host.identity().display().to_string();
        let out = self.host.path("wrong.db").display().to_string();
        self.host
            .lifeboat(["export", id, &out, "--identity", &identity])
            .expect_code(5);
        assert!(!Path::new(&out).exists());
        self.host.lifeboat(["verify", id]).expect_code(5);
    }

    /// What `id` is not, though a forger may have it so: pinned, or bad.
    fn shown(&self, id: &str, field: &str) -> Value {
        self.host.lifeboat(["--json", "show", id]).expect_code(0).json()["backup"][field].clone()
    }

    fn store(&self) -> Store {
        let access = Access::Write { now: Timestamp::now() };
        let cluster = CLUSTER.parse().unwrap();
        let store = Store::open(&self.host.store().as_path().into(), &cluster, None, access).unwrap();
        store.under(Arc::new(
            Authority::anybody(&cluster).trusting(Trust::of([self.own.public()])),
        ))
    }
}

fn trust(host: &Host, keys: &[SignerKey]) {
    let text = fs::read_to_string(host.config()).unwrap();
    let before = text.split("[signing]").next().unwrap();
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    fs::write(
        host.config(),
        format!("{before}[signing]\ntrusted = [{}]\n", keys.join(", ")),
    )
    .unwrap();
}

/// The chain of a backup that does not exist, later than all others.
fn later(id: &str) -> String {
    format!("2099{}", &id[4..])
}

/// A forgery, by the name that it has in `docs/reliability.md`, done and judged.
type Forgery = (&'static str, fn(&Scene));

const FORGERIES: &[Forgery] = &[
    ("object swapped", |scene| {
        fs::copy(scene.file(0, "full.db.zst.age"), scene.file(1, "full.db.zst.age")).unwrap();
        scene.is_wrong(&scene.ids[1]);
    }),
    ("object truncated", |scene| {
        let object = fs::OpenOptions::new()
            .write(true)
            .open(scene.file(1, "full.db.zst.age"))
            .unwrap();
        object.set_len(object.metadata().unwrap().len() - 1).unwrap();
        scene.is_wrong(&scene.ids[1]);
        assert_eq!(scene.latest(), scene.ids[0]);
    }),
    ("object re-encrypted", |scene| {
        // Whoever knows the recipients can encrypt to them.
        let to: age::x25519::Recipient = scene.host.recipient().parse().unwrap();
        let to: [&dyn age::Recipient; 1] = [&to];
        let encryptor = age::Encryptor::with_recipients(to.into_iter()).unwrap();
        let mut writer = encryptor.wrap_output(Vec::new()).unwrap();
        writer.write_all(b"another database").unwrap();
        fs::write(scene.file(1, "full.db.zst.age"), writer.finish().unwrap()).unwrap();
        scene.is_wrong(&scene.ids[1]);
    }),
    ("manifest altered", |scene| {
        scene.either_manifest_is_passed_over("altered, moved or forged", |chain| {
            let text = scene
                .manifest_text(chain)
                .replace("\"origin\":\"manual\"", "\"origin\":\"schedule\"");
            fs::write(scene.manifest_path(chain), text).unwrap();
        });
    }),
    ("manifest truncated", |scene| {
        scene.either_manifest_is_passed_over("altered, moved or forged", |chain| {
            let text = scene.manifest_text(chain);
            fs::write(scene.manifest_path(chain), &text[..text.len() - 20]).unwrap();
        });
    }),
    ("manifest replayed under another name", |scene| {
        let copy = scene
            .host
            .store()
            .join(scene.chains[1].with_file_name(later(&scene.ids[1])));
        copy_tree(&scene.host.store().join(&scene.chains[1]), &copy);
        scene.is_passed_over("altered, moved or forged");
        scene.is_refused(&later(&scene.ids[1]), "altered, moved or forged");
    }),
    ("manifest relabelled and signed by a stranger", |scene| {
        let later = later(&scene.ids[1]);
        let copy = scene.host.store().join(scene.chains[1].with_file_name(&later));
        copy_tree(&scene.host.store().join(&scene.chains[1]), &copy);
        let name = scene.name_of(&copy.join(scene.manifest_path(1).file_name().unwrap()));
        let text = scene.manifest_text(1).replace(&scene.ids[1], &later);
        scene.put(&name, &scene.forger, unsigned(&text).as_bytes());
        let fingerprint = scene.forger.public().fingerprint().to_string();
        scene.is_passed_over(&fingerprint);
        scene.is_refused(&later, &fingerprint);
    }),
    ("manifest signed by a stranger in a trusted name", |scene| {
        scene.either_manifest_is_passed_over("altered, moved or forged", |chain| {
            let name = scene.name_of(&scene.manifest_path(chain));
            scene.put(&name, &scene.forger, unsigned(&scene.manifest_text(chain)).as_bytes());
            let forged = fs::read_to_string(scene.path_of(&name)).unwrap();
            let claims = forged.replace(&scene.forger.public().to_string(), &scene.own.public().to_string());
            fs::write(scene.path_of(&name), claims).unwrap();
        });
    }),
    ("manifest without a signature", |scene| {
        let unsign = |chain: usize| {
            let text = scene.manifest_text(chain).replace("{\"format\":2,", "{\"format\":1,");
            let signed_by_nobody = unsigned(&text).trim_end_matches('}').to_owned() + ",\"signature\":null}\n";
            fs::write(scene.manifest_path(chain), signed_by_nobody).unwrap();
        };
        scene.either_manifest_is_passed_over("nobody signed it", unsign);
        unsign(0);
        scene.is_refused(&scene.ids[0], "--allow-unsigned");
        scene.export("latest", &["--allow-unsigned"]).expect_code(2);
        scene.export(&scene.ids[0], &["--allow-unsigned"]).expect_code(0);
    }),
    ("second manifest spliced into a chain", |scene| {
        let text = scene
            .manifest_text(1)
            .replace("\"to_revision\":", "\"to_revision\":1000000000000000");
        let genuine = scene.manifest_path(1);
        let digits = genuine
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace("full-00", "full-01");
        let name = scene.name_of(&genuine.with_file_name(digits));
        scene.put(&name, &scene.forger, unsigned(&text).as_bytes());
        scene.is_passed_over(&scene.forger.public().fingerprint().to_string());
        scene.host.lifeboat(["verify", &scene.ids[1]]).expect_code(0);
    }),
    ("rubbish in the place of a manifest", |scene| {
        let rubbish = scene
            .host
            .store()
            .join(scene.chains[0].with_file_name("20000101T000000Z-00000000"));
        fs::create_dir_all(&rubbish).unwrap();
        fs::write(rubbish.join(format!("full-{:020}.json", 99)), b"rubbish").unwrap();
        scene.is_passed_over("nobody signed it");
    }),
    ("acceptance forged", |scene| {
        let word = Acceptance {
            format: 1,
            accepted: "ab-00000000".parse().unwrap(),
            known: Vec::new(),
            accepted_at: Timestamp::now(),
            host: "forger".to_owned(),
            note: None,
        };
        for number in [1, u32::MAX] {
            scene.put(&ObjectName::Acceptance(number), &scene.forger, &word.to_bytes());
        }
        scene.is_passed_over(&scene.forger.public().fingerprint().to_string());
        // The operator's own word is not kept from him.
        scene.host.lifeboat(["accept-lineage"]).expect_code(0);
        assert_eq!(scene.latest(), scene.ids[1]);
        let own = scene.path_of(&ObjectName::Acceptance(2));
        assert!(
            fs::read_to_string(own)
                .unwrap()
                .contains(&scene.own.public().to_string())
        );
    }),
    ("check forged: a good backup is called bad", |scene| {
        forge_check(scene, 1, false);
        scene.is_passed_over(&scene.forger.public().fingerprint().to_string());
        assert_eq!(scene.shown(&scene.ids[1], "faults"), serde_json::json!([]));
        // A genuine result can be written all the same, and counts.
        scene.host.lifeboat(["verify", &scene.ids[1]]).expect_code(0);
        assert_ne!(scene.shown(&scene.ids[1], "checked_at"), Value::Null);
    }),
    ("check forged: a bad backup is called good", |scene| {
        fs::copy(scene.file(0, "full.db.zst.age"), scene.file(1, "full.db.zst.age")).unwrap();
        let object = fs::OpenOptions::new()
            .append(true)
            .open(scene.file(1, "full.db.zst.age"))
            .unwrap();
        let genuine = fs::metadata(scene.good.join(&scene.chains[1]).join("full.db.zst.age")).unwrap();
        object.set_len(genuine.len()).unwrap();
        scene.host.lifeboat(["verify", &scene.ids[1]]).expect_code(5);
        forge_check(scene, 1, true);
        assert_eq!(
            (scene.latest(), scene.shown(&scene.ids[1], "proof")),
            (scene.ids[0].clone(), "none".into())
        );
    }),
    ("check replayed for another backup", |scene| {
        scene.host.lifeboat(["verify", &scene.ids[0]]).expect_code(0);
        let checks = scene.file(0, "checks");
        copy_tree(&checks, &scene.file(1, "checks"));
        scene.is_passed_over("altered, moved or forged");
        assert_eq!(scene.shown(&scene.ids[1], "checked_at"), Value::Null);
    }),
    ("pin forged", |scene| {
        let path = scene.name_of(&scene.manifest_path(0)).chain().unwrap().clone();
        let pin = Pin::new(Timestamp::now(), &HostName::nearest("forger"), None);
        let pin_name = ObjectName::Pin(path);
        scene.put(&pin_name, &scene.forger, &pin.to_bytes());
        scene.is_passed_over(&scene.forger.public().fingerprint().to_string());
        assert_eq!(scene.shown(&scene.ids[0], "pinned"), false);
        // Retention passes it by, and it goes with what it was to hold.
        let keep_one = "[destinations.local.retention]\nkeep_last = 1\n";
        let configured = fs::read_to_string(scene.host.config()).unwrap();
        fs::write(scene.host.config(), format!("{configured}{keep_one}")).unwrap();
        scene.host.lifeboat(["prune"]).expect_code(0);
        assert!(!scene.file(0, "").exists());
        fs::write(scene.host.config(), configured).unwrap();
        scene.again();
        scene.put(&pin_name, &scene.forger, &pin.to_bytes());
        // A genuine one takes its place.
        scene.host.lifeboat(["pin", &scene.ids[0]]).expect_code(0);
        assert_eq!(scene.shown(&scene.ids[0], "pinned"), true);
        scene.is_unharmed();
    }),
    ("claim forged", |scene| {
        let slot = SlotPath::new("hourly".parse().unwrap(), "2026-11-20T10:00:00Z".parse().unwrap());
        let chain = scene.ids[1].parse().unwrap();
        for (number, state) in [
            (1, claim::State::Done),
            (2, claim::State::Taking),
            (u32::MAX, claim::State::Taking),
        ] {
            let claim = Claim::new(&HostName::nearest("forger"), "1a2b", &chain, state, Timestamp::now());
            scene.put(
                &ObjectName::Claim(slot.clone(), number),
                &scene.forger,
                &claim.to_bytes(),
            );
        }
        // The slot is free, by the first number that nobody has taken.
        assert_eq!(scene.store().newest_claim(&slot).unwrap(), (None, 3));
    }),
    ("documents of another cluster", |scene| {
        scene.either_manifest_is_passed_over("altered, moved or forged", |chain| {
            let name = scene.name_of(&scene.manifest_path(chain));
            let text = unsigned(&scene.manifest_text(chain));
            // As the same host would have signed it for a cluster named otherwise.
            let other = scene.own.sign(&"staging".parse().unwrap(), &name, text.as_bytes());
            fs::write(scene.manifest_path(chain), other).unwrap();
        });
    }),
    ("store rolled back", |scene| {
        fs::remove_dir_all(scene.file(1, "")).unwrap();
        scene.is_rolled_back();
        scene.host.lifeboat(["check", "--online"]).says(&["rolled back"]);
        // Named, it can be had: there may be nothing else.
        scene.export(&scene.ids[0], &[]).expect_code(0);
        assert_eq!(scene.list()["rolled_back"][0]["seen"], scene.ids[1]);
        // Until the operator says that it is meant.
        let accept = || {
            scene
                .host
                .lifeboat(["check", "--accept-rollback", "local"])
                .expect_code(0)
        };
        assert!(accept().stdout.contains(&scene.ids[1]));
        assert!(accept().stdout.contains("no less"));
        scene.export("latest", &[]).expect_code(0);
        let unknown = scene.host.lifeboat(["check", "--accept-rollback", "nowhere"]);
        unknown.expect_code(2);
    }),
    ("store emptied", |scene| {
        for chain in [0, 1] {
            fs::remove_dir_all(scene.file(chain, "")).unwrap();
        }
        let status = scene.is_rolled_back();
        assert!(!events(&status).contains(&"no-backup"), "{status}");
        let told = scene.host.lifeboat(["check", "--online"]).expect_code(1);
        assert!(!told.stderr.contains("there is no backup"), "{}", told.stderr);
    }),
    ("newest spoiled, then removed", |scene| {
        let configured = fs::read_to_string(scene.host.config()).unwrap();
        scene
            .host
            .reconfigure("[signing]", "[destinations.far]\nurl = \"file:///\"\n[signing]");
        scene
            .host
            .reconfigure("file:///\"", &format!("file://{}\"", scene.host.path("far").display()));
        fs::create_dir_all(scene.host.path("far")).unwrap();
        let object = fs::OpenOptions::new()
            .write(true)
            .open(scene.file(1, "full.db.zst.age"))
            .unwrap();
        object.set_len(1).unwrap();
        // Whoever looks now sees that it is bad, and remembers it all the same.
        let copied = ["copy", "--from", "local", "--to", "far", &scene.ids[0]];
        scene.host.lifeboat(copied).expect_code(0);
        fs::remove_dir_all(scene.file(1, "")).unwrap();
        scene.is_rolled_back();
        fs::write(scene.host.config(), configured).unwrap();
    }),
];

/// What a signed document says.
fn unsigned(text: &str) -> String {
    text.split(",\n\"signer\"").next().unwrap().to_owned() + "}"
}

fn events(status: &Value) -> Vec<&str> {
    let problems = status["problems"].as_array().unwrap().iter();
    problems.map(|problem| problem["event"].as_str().unwrap()).collect()
}

fn forge_check(scene: &Scene, chain: usize, ok: bool) {
    let name = scene.name_of(&scene.manifest_path(chain));
    let ObjectName::FullManifest(path, revision) = name else {
        panic!("{name} is no manifest");
    };
    let at: Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
    let check = Check {
        format: 1,
        chain: path.chain.clone(),
        revision,
        checked_at: at,
        host: "forger".to_owned(),
        ok,
        proof: if ok { Proof::HashKv } else { Proof::None },
        faults: Vec::new(),
    };
    let name = ObjectName::Check(path, at, HostName::nearest("forger"));
    scene.put(&name, &scene.forger, &check.to_bytes());
}

#[test]
fn a_root_names_the_signers_and_an_older_list_brings_nobody_back() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    let path = |name: &str| host.path(name).display().to_string();
    let root = host
        .lifeboat(["keygen", "--root", &path("root.txt")])
        .expect_code(0)
        .stdout;
    let shown = host.lifeboat(["--json", "show", &id]).json();
    let own = shown["backup"]["signer"].as_str().unwrap().to_owned();
    trust(&host, &[root.trim().parse().unwrap()]);
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(status["problems"][0]["event"], "signer-untrusted", "{status}");

    let other = SigningKey::of_seed(Role::Signer, [7; 32]).public().to_string();
    let list = |number: &str, key: &str| {
        let (file, root) = (path(&format!("list-{number}.json")), path("root.txt"));
        let signed = [
            "keygen",
            "--sign-signers",
            &file,
            "--root-key",
            &root,
            "--cluster",
            CLUSTER,
        ];
        let rest = ["--number", number, "--signer", key];
        host.lifeboat(signed.into_iter().chain(rest)).expect_code(0);
        file
    };
    let (first, second) = (list("1", &own), list("2", &other));
    let signed = [
        "--root-key",
        &path("root.txt"),
        "--cluster",
        CLUSTER,
        "--number",
        "3",
        "--signer",
        &own,
    ];
    host.lifeboat(["keygen", "--sign-signers", &first].iter().chain(&signed))
        .expect_code(7)
        .says(&["exists", "a list that is out there is not changed"]);
    let published = host.lifeboat(["check", "--publish-signers", &first]).expect_code(0);
    assert!(
        published.stdout.contains("list 1 names 1 signer\n"),
        "{}",
        published.stdout
    );
    host.lifeboat(["status"]).expect_code(0);
    host.lifeboat(["check", "--publish-signers", &second]).expect_code(0);
    let untrusted = || {
        host.lifeboat(["--json", "status"]).json()["problems"]
            .to_string()
            .contains("signer-untrusted")
    };
    assert!(untrusted());
    let publish = |list: &str| host.lifeboat(["check", "--publish-signers", list]);
    publish(&first).expect_code(7);
    // Another list under the same number would count in some places and not in others.
    let there = host.store().join(CLUSTER).join("signers.json");
    let published = fs::read(&there).unwrap();
    fs::rename(&second, path("second.json")).unwrap();
    let same_number = list("2", &own);
    publish(&same_number).expect_code(7).says(&["--number"]);
    publish(&path("second.json")).expect_code(0);
    // What a store has lost, this host remembers.
    fs::remove_file(&there).unwrap();
    publish(&first).expect_code(7).says(&["this host has seen"]);
    // A destination that is away is told, and keeps it from none of the others.
    host.reconfigure(
        "[signing]",
        "[destinations.away]\nurl = \"file:///no/such/place\"\n[signing]",
    );
    publish(&path("second.json")).expect_code(3).says(&["away"]);
    assert_eq!(fs::read(&there).unwrap(), published);
    host.reconfigure("[destinations.away]\nurl = \"file:///no/such/place\"\n", "");
    // Whoever may write to the store puts the older one back.
    fs::copy(&first, host.store().join(CLUSTER).join("signers.json")).unwrap();
    assert!(untrusted(), "this host remembers the newer one");
    // In a store that is named as well.
    let store = host.store().display().to_string();
    let listed = host
        .lifeboat(["--json", "list", "--from", &store])
        .expect_code(0)
        .json();
    assert_eq!(
        (&listed["latest"], listed["backups"].as_array().unwrap().len()),
        (&Value::Null, 0)
    );
    let by_stranger = fs::read_to_string(&first)
        .unwrap()
        .replace("\"number\":1", "\"number\":9");
    fs::write(host.store().join(CLUSTER).join("signers.json"), by_stranger).unwrap();
    assert!(untrusted(), "no root has signed that");
    // A memory that is there and cannot be read is none of those that were never made.
    let seen = host.path("state").join(CLUSTER).join("signers.json");
    let kept = fs::read(&seen).unwrap();
    fs::write(&seen, "rotten").unwrap();
    let told = host.lifeboat(["list"]);
    told.says(&["signers.json"]);
    host.lifeboat(["show", "latest"]).expect_code(1);
    fs::write(&seen, kept).unwrap();
    let tips = host.path("state").join(CLUSTER).join("tips.json");
    fs::write(&tips, "rotten").unwrap();
    host.lifeboat(["show", "latest"])
        .expect_code(0)
        .says(&["memory cannot be read", "tips.json"]);
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert!(events(&status).contains(&"state-unwritable"), "{status}");
}

#[test]
fn every_forgery_comes_to_what_the_page_says() {
    let page = include_str!("../../docs/reliability.md");
    let (_, section) = page.split_once("## Forgery").expect("it has the section");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let told: BTreeSet<&str> = rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    let tried: BTreeSet<&str> = FORGERIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(told, tried);
    let Some(scene) = Scene::new() else { return };
    for (name, forge) in FORGERIES {
        println!("{name}");
        scene.again();
        forge(&scene);
    }
}

#[test]
fn a_store_that_is_named_counts_by_the_configuration_and_a_broken_one_is_not_as_good_as_none() {
    let Some(scene) = Scene::new() else { return };
    let host = &scene.host;
    let store = host.store().display().to_string();
    let from = |more: &[&str]| {
        let args = ["--json", "list", "--from", &store];
        host.lifeboat(args.iter().chain(more))
    };
    let latest = |out: Output| out.expect_code(0).json()["latest"].clone();
    assert_eq!(latest(from(&[])), scene.ids[1]);
    // By a key that has signed none of them, there are some and none is to be had.
    let stranger = scene.forger.public().to_string();
    let (identity, out) = (host.identity(), host.path("out.db"));
    let export = ["export", "latest", out.to_str().unwrap(), "--from", &store];
    let by_stranger = ["--trusted", &stranger, "--identity", identity.to_str().unwrap()];
    host.lifeboat(export.iter().chain(&by_stranger))
        .expect_code(5)
        .says(&["none of the 2 backups is signed by a trusted signer", "--trusted"]);

    trust(host, &[scene.forger.public()]);
    assert_eq!(latest(from(&[])), Value::Null);
    let configured = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), configured + "nonsense = 1\n").unwrap();
    let broken = from(&[]);
    assert_eq!(latest(broken.clone()), Value::Null);
    broken.says(&["last good configuration"]);
    // Nor does it keep a restore from a store that is named.
    host.lifeboat(["restore", "latest", "--dry-run"])
        .expect_code(78)
        .says(&["nonsense", "by the last good one", "--from DIR"]);
    let restore = host.lifeboat(["restore", "latest", "--dry-run", "--from", &store]);
    assert_ne!(restore.code, 78, "{}", restore.stderr);
    restore.says(&["this uses the last valid one", "nonsense"]);
    fs::remove_dir_all(host.path("state").join("_configurations")).unwrap();
    from(&[]).expect_code(78).says(&["nonsense"]);
    assert_eq!(
        latest(from(&["--trusted", &scene.own.public().to_string()])),
        scene.ids[1]
    );
    let without = host.without_configuration(&[], ["--json", "list", "--from", &store]);
    assert_eq!(latest(without.clone()), scene.ids[1]);
    without.says(&["nobody is named", "--trusted KEY"]);
}
