//! The version grid: a backup of each line of etcd, laid out for each line and served by it, with all that a cluster does
//! afterwards. Mistakes in the shape of a database show only then.
//!
//! A slim cut is in every run: each line to itself and to the newest one. `make grid` runs all of it and writes the table of
//! `docs/compatibility.md`, which it fails to find changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, GetOptions, Permission};

use super::support::client::{Client, Entry, HashKv, wait_for};
use super::support::etcd::{Etcd, Options, PASSWORD};
use super::support::host::Host;
use super::support::load::Load;
use super::support::tools::Version;

const LEASE: i64 = 0x6a1d;
const LEASE_TTL_SECONDS: i64 = 5_432;
const LEASED_KEYS: [&str; 2] = ["/leased/a", "/leased/b"];
/// A user that may do everything below one prefix, and nothing else.
const LIMITED: &str = "limited";
const LIMITED_PASSWORD: &str = "battery staple";
const HIS_KEY: &str = "/his/key";
const BUMP: i64 = 1_000_000;

const PAGE: &str = "docs/compatibility.md";
const BEGIN: &str = "<!-- written by `make grid` -->\n";
const END: &str = "<!-- end of what `make grid` writes -->\n";

/// What is looked at, in the order of the table's columns.
const COLUMNS: [&str; 8] = [
    "served",
    "users",
    "alarm",
    "writes",
    "leases",
    "member",
    "compaction",
    "bump",
];

type Keys = BTreeMap<Vec<u8>, Entry>;

#[test]
fn a_backup_of_3_4_is_served_by_its_line_and_by_the_newest() {
    slim(Version::V3_4);
}

#[test]
fn a_backup_of_3_5_is_served_by_its_line_and_by_the_newest() {
    slim(Version::V3_5);
}

#[test]
fn a_backup_of_3_6_is_served_by_its_line_and_by_the_newest() {
    slim(Version::V3_6);
}

#[test]
fn a_backup_of_3_7_is_served_by_its_line_and_by_none_before() {
    slim(Version::V3_7);
}

#[test]
#[ignore = "takes minutes: make grid"]
fn the_whole_grid_is_as_documented() {
    let mut table = String::from("| backup of | for |");
    for column in COLUMNS {
        write!(table, " {column} |").expect("a string can be written to");
    }
    table.push_str("\n|---|---|");
    table.push_str(&"---|".repeat(COLUMNS.len()));
    table.push('\n');
    for from in Version::ALL {
        let source = Source::of(from).expect("the grid needs every server");
        for to in Version::ALL {
            let cells = match source.is_refused(to) {
                true => COLUMNS.map(|_| "refused"),
                false => source.row(to),
            };
            let line = format!("| {} | {} | {} |\n", from.number(), to.number(), cells.join(" | "));
            eprint!("{line}");
            table.push_str(&line);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).expect("the page can be written");
    assert!(!table.contains("| no |"), "not all of the grid holds:\n{table}");
    assert_eq!(table, written, "{PAGE} said something else; it is written anew");
}

fn slim(from: Version) {
    let Some(source) = Source::of(from) else {
        return;
    };
    for to in [from, Version::V3_7] {
        let row = source.row(to);
        assert_eq!(row, COLUMNS.map(|_| "yes"), "{COLUMNS:?} of {from:?} to {to:?}");
        if from == Version::V3_7 {
            break;
        }
    }
    for to in Version::ALL {
        let older = from == Version::V3_7 && to != Version::V3_7;
        assert_eq!(source.is_refused(to), older, "{from:?} to {to:?}");
    }
}

/// A backup, and what the cluster that it is of said.
struct Source {
    host: Host,
    hash: HashKv,
    keys: Keys,
}

impl Source {
    /// A cluster with history, leases, users, a learner and an alarm, backed up and gone. `None` where it cannot run here.
    fn of(version: Version) -> Option<Source> {
        let mut etcd = Etcd::start(version, options("source", 1))?;
        let client = etcd.client();
        let mut load = Load::new(11);
        load.run(&client, 150);
        client.grant(LEASE, LEASE_TTL_SECONDS).expect("it runs");
        for key in LEASED_KEYS {
            client.put(key, "goes with its lease", LEASE).expect("it runs");
        }
        client.put(HIS_KEY, "his", 0).expect("it runs");
        load.compact(&client);
        load.run(&client, 80);
        etcd.add_learner();
        let mut raw = etcd.client_of(0).raw();
        wait_for(async {
            raw.role_add(LIMITED).await?;
            let below = Permission::read_write("/his/").with_prefix();
            raw.role_grant_permission(LIMITED, below).await?;
            raw.user_add(LIMITED, LIMITED_PASSWORD, None).await?;
            raw.user_grant_role(LIMITED, LIMITED).await
        })
        .expect("users can be made");
        etcd.client_of(0).enable_auth(PASSWORD).expect("it runs");
        etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
        let client = etcd.client_of(0);
        let mut raw = client.raw();
        let member = wait_for(raw.status())
            .expect("it runs")
            .header()
            .expect("it has one")
            .member_id();
        let mut of_member = AlarmOptions::new();
        of_member.with_member(member);
        wait_for(raw.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(of_member))).expect("it can be raised");
        assert!(client.put("/refused", "", 0).is_err(), "an alarm stops writes");

        let host = Host::without_cluster();
        host.configure(&etcd, "");
        let id = host.lifeboat(["backup", "--member", "m1"]).expect_code(0);
        let manifest = host.manifest(id.stdout.trim());
        let source = Source {
            host,
            hash: client.hash_kv(0).expect("it runs"),
            keys: client.get_all().expect("it runs"),
        };
        assert_eq!(manifest["hash_kv"]["hash"], source.hash.hash);
        assert!(source.hash.compact_revision > 0 && !source.keys.is_empty());
        etcd.destroy();
        Some(source)
    }

    /// Whether a directory for that line is refused, in words that name both versions.
    fn is_refused(&self, to: Version) -> bool {
        let etcd = Etcd::plan(to, options("refused", 1)).expect("the grid needs every server");
        let said = self.host.lifeboat(self.arguments(&etcd, &[]));
        if said.code == 0 {
            return false;
        }
        let line = line_of(to);
        let said = said.expect_code(7);
        said.says(&["storage version", &format!("etcd {line}"), "--etcd-version", "next: "]);
        assert!(!etcd.members[0].data_dir.exists(), "what is refused leaves nothing");
        true
    }

    fn arguments(&self, etcd: &Etcd, more: &[&str]) -> Vec<String> {
        let mut arguments = self.host.rebuild_args("latest", etcd, 0);
        let line = line_of(etcd.version);
        let more = ["--json", "--etcd-version", line]
            .into_iter()
            .chain(more.iter().copied());
        arguments.extend(more.map(str::to_owned));
        arguments
    }

    /// Lays the backup out for a line, serves it, and looks at everything.
    fn row(&self, to: Version) -> [&'static str; 8] {
        let mut etcd = Etcd::plan(to, options("rebuilt", 1)).expect("the grid needs every server");
        etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
        let mut cells = Vec::new();
        let mut cell = |look: &mut dyn FnMut()| {
            let held = catch_unwind(AssertUnwindSafe(look)).is_ok();
            cells.push(if held { "yes" } else { "no" });
        };
        cell(&mut || self.is_served(&mut etcd));
        cell(&mut || users_are_who_they_were(&etcd));
        // From here on everybody may do everything.
        cell(&mut || no_alarm_is_left(&mut etcd));
        cell(&mut || writes_are_taken(&etcd));
        cell(&mut || leases_live_on(&etcd.client_of(0)));
        cell(&mut || a_member_joins(&mut etcd));
        cell(&mut || what_is_compacted_and_defragmented_is_the_same(&mut etcd));
        cell(&mut || self.revisions_jump(to));
        cells.try_into().expect("one for each column")
    }

    /// What was backed up is what is served, by the members that were asked for and no others.
    fn is_served(&self, etcd: &mut Etcd) {
        let said = self.host.lifeboat(self.arguments(etcd, &[])).expect_code(0).json();
        assert_eq!(said["hash_kv"]["hash"], self.hash.hash);
        assert!(said["warnings"].to_string().contains("NOSPACE"), "{said}");
        etcd.boot();
        assert_eq!(etcd.hash_kv_of_each(0), [self.hash]);
        assert_eq!(etcd.hash_kv_of_each(self.hash.revision), [self.hash]);
        assert!(
            etcd.client().get_all().expect("it runs") == self.keys,
            "it serves other keys"
        );
        let listed = wait_for(etcd.client().raw().member_list()).expect("it runs");
        let [member] = listed.members() else {
            panic!("members of the old cluster are left: {listed:?}");
        };
        assert_eq!(
            format!("{:x}", member.id()),
            said["member_id"].as_str().unwrap_or_default()
        );
        assert!(!member.is_learner());
    }

    /// A second directory, whose revisions jump: nothing before is there, and all goes on.
    fn revisions_jump(&self, to: Version) {
        let mut etcd = Etcd::plan(to, options("jumped", 1)).expect("the grid needs every server");
        etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
        let bump = BUMP.to_string();
        let more = ["--bump-revision", &bump, "--mark-compacted"];
        let said = self.host.lifeboat(self.arguments(&etcd, &more)).expect_code(0).json();
        etcd.boot();
        let client = etcd.client();
        let jumped = self.hash.revision + BUMP;
        assert_eq!(
            (client.revision().expect("it runs"), &said["revision"]),
            (jumped, &jumped.into())
        );
        assert!(client.get_all().expect("it runs") == self.keys, "it serves other keys");
        let before = client
            .get_all_at(self.hash.revision)
            .expect_err("all history is compacted");
        assert!(before.to_string().contains("compacted"), "{before}");
        assert_eq!(client.put("/after/the/jump", "", 0).expect("it runs"), jumped + 1);
        switch_auth_off(&mut etcd);
        etcd.add_member();
        all_are_the_same(&etcd);
        let there = etcd.client_of(1).get_all().expect("it runs");
        assert_eq!(there.len(), self.keys.len() + 1);
    }
}

/// The right password gets in, a wrong one and none do not, and a role's limits hold.
fn users_are_who_they_were(etcd: &Etcd) {
    let as_user = |user: Option<(&str, &str)>| {
        let mut credentials = etcd.credentials.clone();
        credentials.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Client::connect(&[etcd.members[0].client_url.clone()], &credentials)
    };
    assert!(as_user(Some(("root", "wrong"))).is_err());
    assert!(as_user(Some((LIMITED, "wrong"))).is_err());
    let nobody = as_user(None).expect("without a user nothing is asked yet");
    assert!(nobody.get(HIS_KEY).is_err(), "who names no user stays outside");
    let limited = as_user(Some((LIMITED, LIMITED_PASSWORD))).expect("it is his password");
    assert_eq!(limited.get(HIS_KEY).expect("he may"), Some(b"his".to_vec()));
    for refused in [
        limited.get(LEASED_KEYS[0]).map(drop),
        limited.put("/other", "", 0).map(drop),
    ] {
        let refused = refused.expect_err("his role does not reach so far");
        assert!(refused.to_string().contains("permission denied"), "{refused}");
    }
}

fn no_alarm_is_left(etcd: &mut Etcd) {
    switch_auth_off(etcd);
    let listed = wait_for(etcd.client().raw().alarm(AlarmAction::Get, AlarmType::None, None)).expect("it runs");
    assert!(listed.alarms().is_empty(), "{listed:?}");
}

fn switch_auth_off(etcd: &mut Etcd) {
    wait_for(etcd.client().raw().auth_disable()).expect("root may");
    etcd.credentials.user = None;
}

fn writes_are_taken(etcd: &Etcd) {
    let client = etcd.client();
    let before = client.revision().expect("it runs");
    assert_eq!(client.put("/after", "written", 0).expect("it runs"), before + 1);
    Load::new(12).run(&client, 60);
    assert_eq!(client.get("/after").expect("it runs"), Some(b"written".to_vec()));
}

fn leases_live_on(client: &Client) {
    assert_eq!(client.granted_ttl(LEASE).expect("it is there"), LEASE_TTL_SECONDS);
    client.revoke(LEASE).expect("a restored lease can be revoked");
    for key in LEASED_KEYS {
        assert_eq!(client.get(key).expect("it runs"), None, "it went with its lease");
    }
    assert!(!client.leases().expect("it runs").contains(&LEASE));
}

/// One joins as a learner and has everything, and so it does as a voter.
fn a_member_joins(etcd: &mut Etcd) {
    let (index, id) = etcd.add_learner();
    let listed = wait_for(etcd.client_of(0).raw().member_list()).expect("it runs");
    assert!(
        listed
            .members()
            .iter()
            .any(|member| member.id() == id && member.is_learner())
    );
    let all = GetOptions::new().with_from_key().with_serializable();
    let [first, learner] = [0, index].map(|index| {
        let answer = wait_for(etcd.client_of(index).raw().get(vec![0], Some(all.clone()))).expect("it serves");
        let entries = answer.kvs().iter();
        let entries = entries.map(|kv| (kv.key().to_vec(), kv.value().to_vec(), kv.mod_revision()));
        entries.collect::<Vec<_>>()
    });
    assert!(!first.is_empty() && first == learner, "the learner has other keys");
    etcd.promote(index, id);
    all_are_the_same(etcd);
}

/// Compacted, defragmented and started again, all members serve the same keys, and go on.
fn what_is_compacted_and_defragmented_is_the_same(etcd: &mut Etcd) {
    let client = etcd.client_of(0);
    let keys = client.get_all().expect("it runs");
    client
        .compact(client.revision().expect("it runs"))
        .expect("it is not compacted yet");
    for index in 0..etcd.members.len() {
        wait_for(etcd.client_of(index).raw().defragment()).expect("it runs");
    }
    assert!(client.get_all().expect("it runs") == keys, "a compaction removed keys");
    // Deletes from all over the tree, which has pages join.
    for (name, _) in keys.iter().step_by(2) {
        wait_for(client.raw().delete(name.clone(), None)).expect("it runs");
    }
    client
        .compact(client.revision().expect("it runs"))
        .expect("it is not compacted yet");
    all_are_the_same(etcd);
    etcd.stop();
    etcd.boot();
    all_are_the_same(etcd);
    Load::new(13).run(&etcd.client_of(0), 20);
    all_are_the_same(etcd);
    // Users are there still, on the member that has joined too.
    wait_for(etcd.client_of(0).raw().auth_enable()).expect("root is there");
    etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
    let last = etcd.members.len() - 1;
    assert_eq!(etcd.client_of(last).revision().ok(), etcd.client_of(0).revision().ok());
    etcd.credentials.user = Some(("root".to_owned(), "wrong".to_owned()));
    let endpoints = [etcd.members[last].client_url.clone()];
    assert!(Client::connect(&endpoints, &etcd.credentials).is_err());
}

fn all_are_the_same(etcd: &Etcd) {
    let hashes = etcd.hash_kv_of_each(0);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

fn line_of(version: Version) -> &'static str {
    let number = version.number();
    number.rsplit_once('.').map_or(number, |(line, _)| line)
}

/// A cluster that takes a member at once, not after its members have known each other for five seconds.
fn options(token: &str, members: usize) -> Options {
    Options {
        members,
        token: token.to_owned(),
        flags: vec!["--strict-reconfig-check=false".to_owned()],
        ..Options::default()
    }
}
