//! `docs/json.md`, held to what the commands print: no field that it does not describe, none that it describes and that is
//! not there, each of the type that it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::tools::Version;

/// Commands that change a host and need root and systemd: the lab runs them.
const IN_THE_LAB: [&str; 3] = ["restore", "rollback", "release"];

#[test]
fn what_is_printed_is_what_is_described() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.grant(0x1234, 3600).expect("it runs");
    client.put("/a", "b", 0x1234).expect("it runs");
    client.put("/gone", "c", 0).expect("it runs");
    client.delete("/gone").expect("it runs");
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        "[schedules.hourly]\nkind = \"full\"\nwhen = \"hourly\"\n[notify]\non_failure = [\"/bin/true\"]\n",
    );
    let identity = host.identity().display().to_string();
    let path = |name: &str| host.path(name).display().to_string();
    let (exported, key) = (path("exported.db"), path("another.txt"));
    let page = Page::read();
    let mut seen = BTreeSet::new();
    let mut check = |section: &str, code: i32, args: &[&str]| -> Value {
        let printed = host.lifeboat([&["--json"], args].concat()).expect_code(code).json();
        page.check(section, &printed, &mut seen);
        printed
    };

    let taken = check("backup", 0, &["backup"]);
    let id = taken["id"].as_str().expect("it is a text").to_owned();
    check("backup", 0, &["backup", "--note", "one more"]);
    let listed = check("list", 0, &["list", "--all"]);
    let shown = check("show", 0, &["show", &id]);
    fs::write(host.store().join("test/notes.txt"), "of somebody else").expect("it is there");
    check("verify", 0, &["verify", "--all", "--identity", &identity]);
    check("prune", 0, &["prune", "--dry-run"]);
    check("pin", 0, &["pin", &id]);
    check("unpin", 0, &["unpin", &id]);
    check("accept-lineage", 0, &["accept-lineage"]);
    check("inspect", 0, &["inspect", &id, "--identity", &identity]);
    let left = path("left");
    super::support::host::copy_tree(&etcd.members[0].data_dir, Path::new(&left));
    check("inspect", 0, &["inspect", &left]);
    let target = Etcd::plan(Version::V3_5, Options::default()).expect("it was there before");
    let rebuild = host.rebuild_args(&left, &target, 0);
    let rebuild = rebuild.iter().map(String::as_str).chain(["--from-data-dir"]);
    check("rebuild", 0, &rebuild.collect::<Vec<_>>());
    check("export", 0, &["export", &id, &exported, "--identity", &identity]);
    let small = path("small.db");
    check("compact", 0, &["compact", &id, &small, "--identity", &identity]);
    check("check", 0, &["check", "--online"]);
    check("keygen", 0, &["keygen", "--identity", &key]);
    check("recovery-sheet", 0, &["recovery-sheet"]);
    let (root, list) = (path("root-key.txt"), path("signers.json"));
    check("keygen --signing", 0, &["keygen", "--root", &root]);
    let other = lifeboat::signing::SigningKey::of_seed(lifeboat::signing::Role::Signer, [7; 32]);
    let other = other.public().to_string();
    let signed = [
        "--root-key",
        &root,
        "--cluster",
        "test",
        "--number",
        "1",
        "--signer",
        &other,
    ];
    let signed = [&["keygen", "--sign-signers", &list][..], &signed].concat();
    check("keygen --sign-signers", 0, &signed);
    check(
        "keygen --signing",
        0,
        &["keygen", "--signing", &path("signing-key.txt")],
    );
    check("metrics", 0, &["metrics"]);
    check("notify", 0, &["notify", "--test"]);
    check("Failures", 4, &["show", "20001231T"]);
    let target = Etcd::plan(Version::V3_5, Options::default()).expect("it was there before");
    let rebuild = host.rebuild_args(&id, &target, 0);
    let rebuilt = check("rebuild", 0, &rebuild.iter().map(String::as_str).collect::<Vec<_>>());
    // Keys are those that are alive, whoever counts them.
    for counted in [
        &listed["backups"][0]["keys"],
        &shown["manifest"]["keys"],
        &rebuilt["live_keys"],
    ] {
        assert_eq!(counted, &Value::from(1), "of two puts and a deletion");
    }
    // An agent that does not run is a problem.
    check("status", 1, &["status"]);
    // Another destination, which has nothing yet.
    fs::create_dir(host.path("far")).expect("it is not there yet");
    let text = fs::read_to_string(host.config()).expect("it was written");
    let more = format!("[destinations.far]\nurl = \"file://{}\"\n", path("far"));
    fs::write(host.config(), text + &more).expect("it can be written");
    let copied = check("copy", 0, &["copy", "--from", "local", "--to", "far"]);
    assert_eq!(copied["copied"].as_array().map(Vec::len), Some(2));
    let sole = fs::read_to_string(&key).expect("it was made");
    let recipient = sole
        .split_whitespace()
        .find(|word| word.starts_with("age1"))
        .expect("it is named");
    let both = format!("\"{}\", \"{recipient}\"", host.recipient());
    host.reconfigure(&format!("\"{}\"", host.recipient()), &both);
    check("rewrap", 0, &["rewrap", "--identity", &identity]);

    for (section, fields) in &page.sections {
        let is_of_lab = IN_THE_LAB.contains(&section.as_str()) || section == "waiting";
        // Records of what went wrong, which nothing did here.
        let rare = ["unreadable", "not_copied", "owed", "stranger", "rolled_back", "raised"];
        // Of points, which are tested by themselves.
        let own = [
            "applied",
            "hole",
            "gap",
            "headless",
            "headless_point",
            "checked_deltas",
            "delta_fault",
            "synthetic",
            "follow",
        ];
        let is_rare = rare.contains(&section.as_str()) || own.contains(&section.as_str());
        for field in fields.keys().filter(|_| !is_of_lab && !is_rare) {
            let name = format!("{section}.{field}");
            let is_rare = fields[field].is_conditional && !seen.contains(&name);
            assert!(
                is_rare || seen.contains(&name),
                "docs/json.md describes `{name}`, which is never printed"
            );
        }
    }
}

#[test]
fn every_command_is_described() {
    let page = Page::read();
    let host = Host::without_cluster();
    let help = host.lifeboat(["--help"]).expect_code(0).stdout;
    let commands = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    // The agent prints none, and help is for people.
    for command in commands.filter(|command| !["agent", "help"].contains(command)) {
        assert!(
            page.sections.contains_key(command),
            "docs/json.md does not describe `{command}`"
        );
    }
}

#[test]
fn a_field_that_is_not_described_is_found() {
    let page = Page::of(
        "### a\n| `x` | number | one |\n| `y` | time or null | two |\n| `z` | list of b | three |\n### b\n| `t` | text | four |\n",
    );
    let refused = |document: Value| {
        let checked = std::panic::catch_unwind(|| page.check("a", &document, &mut BTreeSet::new()));
        checked.is_err()
    };
    let good = serde_json::json!({"x": 1, "y": "2026-11-20T10:15:30Z", "z": [{"t": "a"}]});
    assert!(!refused(good.clone()));
    for (field, value) in [
        ("x", serde_json::json!("1")),
        ("y", serde_json::json!("a while ago")),
        ("z", serde_json::json!([{"t": "a", "more": 1}])),
        ("z", serde_json::json!([{}])),
        ("w", serde_json::json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(refused(bad.clone()), "{bad}");
    }
}

struct Field {
    types: String,
    /// Whether it is only there under a condition.
    is_conditional: bool,
}

pub(super) struct Page {
    sections: BTreeMap<String, BTreeMap<String, Field>>,
}

impl Page {
    /// The page as it is.
    pub fn read() -> Page {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
        Page::of(&fs::read_to_string(path).expect("the page is there"))
    }

    /// Sections of one name, a command and a record, are told apart: the record's follows and is kept under ` name`.
    fn of(text: &str) -> Page {
        let mut sections: BTreeMap<String, BTreeMap<String, Field>> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                current = heading.to_owned();
                if sections.contains_key(&current) {
                    current.insert(0, ' ');
                }
                sections.entry(current.clone()).or_default();
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<&str> = row.split(" | ").collect();
                let [name, types, meaning] = cells[..] else {
                    panic!("not a row of three cells: {line}");
                };
                let field = Field {
                    types: types.to_owned(),
                    is_conditional: meaning.starts_with("only "),
                };
                let name = name.trim_end_matches('`').to_owned();
                sections
                    .get_mut(&current)
                    .expect("a heading stands above")
                    .insert(name, field);
            }
        }
        Page { sections }
    }

    fn record(&self, name: &str) -> Option<(String, &BTreeMap<String, Field>)> {
        let (as_record, as_given) = (format!(" {name}"), name.to_owned());
        let found = [as_record, as_given]
            .into_iter()
            .find(|key| self.sections.contains_key(key))?;
        let fields = &self.sections[&found];
        Some((found, fields))
    }

    /// Checks what a command printed; `seen` hears of each field.
    pub fn check(&self, section: &str, value: &Value, seen: &mut BTreeSet<String>) {
        let fields = self
            .sections
            .get(section)
            .unwrap_or_else(|| panic!("no section {section}"));
        self.check_fields(section, fields, value, seen);
    }

    fn check_fields(
        &self,
        section: &str,
        fields: &BTreeMap<String, Field>,
        value: &Value,
        seen: &mut BTreeSet<String>,
    ) {
        let object = value
            .as_object()
            .unwrap_or_else(|| panic!("{section} is no object: {value}"));
        for (name, value) in object {
            let Some(field) = fields.get(name) else {
                panic!("docs/json.md does not describe `{name}` of {section}: {value}");
            };
            seen.insert(format!("{section}.{name}"));
            assert!(
                self.fits(&field.types, value, seen),
                "`{name}` of {section} is not {}: {value}",
                field.types
            );
        }
        for (name, field) in fields {
            assert!(
                field.is_conditional || object.contains_key(name),
                "no `{name}` in {section}: {value}"
            );
        }
    }

    fn fits(&self, types: &str, value: &Value, seen: &mut BTreeSet<String>) -> bool {
        if let Some(or_null) = types.strip_suffix(" or null") {
            return value.is_null() || self.fits(or_null, value, seen);
        }
        if let Some(item) = types.strip_prefix("list of ") {
            let items = value.as_array();
            return items.is_some_and(|items| items.iter().all(|value| self.fits(item, value, seen)));
        }
        if let Some(item) = types.strip_prefix("map of ") {
            let items = value.as_object();
            return items.is_some_and(|items| items.values().all(|value| self.fits(item, value, seen)));
        }
        match types {
            "any" => true,
            "text" => value.is_string(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "time" => value
                .as_str()
                .is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()),
            record => {
                let (section, fields) = self.record(record).unwrap_or_else(|| panic!("no record {record}"));
                self.check_fields(&section, fields, value, seen);
                true
            }
        }
    }
}
