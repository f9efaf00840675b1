//! Data that is sound, and still not as it should be: etcd serves it, and whoever proves it says so, in the same words.

use serde_json::{Value, json};

use super::support::etcd::{Etcd, Options, changed_in_database};
use super::support::host::Host;
use super::support::tools::Version;

/// A member that serves a life that does not hold together, and a key on a lease without an entry.
fn odd() -> Option<Etcd> {
    let mut etcd = Etcd::start(Version::V3_5, Options::default())?;
    let client = etcd.client();
    client.put("/of-this-test", "one", 0).expect("it runs");
    client.put("/of-this-test", "the-second", 0).expect("it runs");
    client.grant(0x1234, 3600).expect("it runs");
    client.put("/leased", "on-a-lease", 0x1234).expect("it runs");
    etcd.stop();
    let data_dir = etcd.members[0].data_dir.clone();
    // The version of a record stands before its value, its lease behind it.
    changed_in_database(&data_dir, b"\x20\x02\x2a\x0athe-second", b"\x20\x07\x2a\x0athe-second");
    changed_in_database(&data_dir, b"on-a-lease\x30\xb4\x24", b"on-a-lease\x30\xb5\x24");
    etcd.boot();
    Some(etcd)
}

fn texts(value: &Value) -> Vec<&str> {
    let texts = value.as_array().expect("a list").iter();
    texts.map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn what_is_no_damage_is_told_by_all_that_prove_it() {
    let Some(etcd) = odd() else { return };
    let host = Host::new(&etcd);
    let id = host.backup();
    let identity = host.identity().display().to_string();
    let with_key = |args: &[&str]| {
        host.lifeboat([args, &["--identity", &identity]].concat())
            .expect_code(0)
    };

    let seen = with_key(&["--json", "inspect", &id]).json();
    let odd = texts(&seen["warnings"]);
    let [life, leases] = odd[..] else {
        panic!("{odd:?}");
    };
    assert!(
        life.starts_with("key `/of-this-test`: version 7 of a life since revision "),
        "{life}"
    );
    assert!(
        leases.starts_with("1 lease without an entry, with 1 live key: "),
        "{leases}"
    );
    assert_eq!((&seen["ok"], &seen["faults"]), (&json!(true), &json!([])));

    let verified = with_key(&["--json", "verify", &id]).json();
    let checked = &verified["checked"][0];
    assert_eq!(
        (&checked["ok"], &checked["proof"]),
        (&json!(true), &json!("hash_kv")),
        "{verified}"
    );
    assert_eq!(checked["warnings"], seen["warnings"]);
    let text = with_key(&["verify", &id]).stdout;
    // Not without the key: its content is not seen.
    let unopened = host.lifeboat(["--json", "verify", &id]).expect_code(0).json();
    assert_eq!(unopened["checked"][0]["warnings"], json!([]));

    let target = Etcd::plan(Version::V3_5, Options::default()).expect("it was there before");
    let mut args = host.rebuild_args(&id, &target, 0);
    args.push("--json".to_owned());
    let rebuilt = host.lifeboat(&args).expect_code(0).says(&[life]);
    let warned = rebuilt.json()["warnings"].clone();
    let warned = texts(&warned);
    for odd in &odd {
        assert!(text.contains(&format!("      warning: {odd}\n")), "{text}");
    }
    // It gives the lease an entry, and says that instead.
    for told in [
        life,
        "keys use lease 0000000000001235, which had no entry: it was added with a lifetime of 1 h",
    ] {
        assert!(warned.contains(&told), "no `{told}` in {warned:#?}");
    }
    assert!(!warned.contains(&leases), "{warned:#?}");
}
