//! What runs left that did not end, and what a sweep removes of it.

use super::*;

const DEAD: &str = "20261120T000000Z-0000dead";
const LIVE: &str = "20261120T000000Z-00001111";
pub(super) const NOBODYS: &str = "20261120T000000Z-00002222";
const COMPLETE: &str = "20261120T000000Z-0000dea1";
const MIXED: &str = "20261120T000000Z-0000dea2";
const EMPTY: &str = "20261120T000000Z-0000dea3";

pub(super) fn full_of(chain: &str) -> String {
    format!("ab/{chain}/full.db.zst.age")
}

fn partial_of(chain: &str) -> String {
    format!("ab/{chain}/.full.db.zst.age.0123456789abcdef.partial")
}

fn pin_of(chain: &str) -> String {
    format!("ab/{chain}/pin.json")
}

fn check_of(chain: &str) -> String {
    format!("ab/{chain}/checks/20261121T000000Z-a.json")
}

/// A store after several runs were killed at different moments.
fn after_kills() -> (tempfile::TempDir, Store, Begun) {
    let (root, store) = store();
    for chain in [DEAD, LIVE, NOBODYS, COMPLETE, MIXED] {
        leave(&store, &full_of(chain));
        leave(&store, &partial_of(chain));
        leave(&store, &pin_of(chain));
    }
    leave(&store, &manifest_of(COMPLETE).to_string());
    // One was written while retention removed the chain.
    leave(&store, &check_of(COMPLETE));
    leave(&store, &check_of(NOBODYS));
    leave(
        &store,
        &format!("ab/{MIXED}/00000000000000000007-00000000000000000009.json"),
    );
    leave(&store, "lineages/.00000001.json.0123456789abcdef.partial");
    leave(&store, "foreign/.x.0123456789abcdef.partial");
    fs::create_dir(store.folder().join(format!("ab/{EMPTY}"))).unwrap();
    let ids = |chains: &[&str]| chains.iter().map(|chain| chain.parse().unwrap()).collect();
    let begun = Begun {
        live: ids(&[LIVE]),
        dead: ids(&[DEAD, COMPLETE, MIXED, EMPTY]),
        host: "h1".to_owned(),
    };
    (root, store, begun)
}

pub(super) fn paths(swept: &[Swept]) -> Vec<String> {
    let mut paths: Vec<_> = swept.iter().map(|swept| swept.path.clone()).collect();
    paths.sort();
    paths
}

#[test]
fn a_sweep_removes_at_once_what_runs_of_this_host_left() {
    let (_root, store, begun) = after_kills();
    let swept = store.sweep(&begun).unwrap();
    assert_eq!(
        paths(&swept),
        [format!("ab/{EMPTY}"), partial_of(DEAD), full_of(DEAD), pin_of(DEAD)]
    );
    let left = tree(&store.folder());
    assert!(
        !left.iter().any(|path| path.contains(DEAD) || path.contains(EMPTY)),
        "{left:?}"
    );
    for kept in [LIVE, NOBODYS, COMPLETE, MIXED] {
        assert!(
            left.contains(&full_of(kept)) && left.contains(&partial_of(kept)),
            "{kept}"
        );
    }
}

#[test]
fn what_a_sweep_cannot_remove_is_its_error_and_keeps_none_of_the_rest() {
    let (_root, store, begun) = after_kills();
    let stuck = store.folder().join(partial_of(DEAD));
    let change = |flag: &str| {
        let done = std::process::Command::new("chattr").arg(flag).arg(&stuck).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !change("+i") {
        eprintln!("skipped: chattr +i needs root and a file system that can");
        return;
    }
    let swept = store.sweep(&begun);
    let left = tree(&store.folder());
    assert!(change("-i"));
    assert!(
        matches!(&swept, Err(error) if error.to_string().contains(DEAD)),
        "{swept:?}"
    );
    assert!(
        left.contains(&partial_of(DEAD)) && !left.contains(&full_of(DEAD)),
        "{left:?}"
    );
    assert!(!left.contains(&pin_of(DEAD)), "{left:?}");
    assert_eq!(paths(&store.sweep(&begun).unwrap()), [partial_of(DEAD)], "the next one");
}

#[test]
fn a_sweep_removes_after_a_day_what_nobody_answers_for() {
    let (_root, store, begun) = after_kills();
    let now = store.now().unwrap();
    let nearly = now + SignedDuration::from_hours(24) - SignedDuration::from_mins(5);
    assert_eq!(
        store.inner().sweep_at(&begun, nearly, &|| {}).unwrap().len(),
        4,
        "those of the dead run only"
    );
    let swept = store.inner().sweep_at(
        &begun,
        now + SignedDuration::from_hours(24) + SignedDuration::from_mins(5),
        &|| {},
    );
    assert_eq!(
        paths(&swept.unwrap()),
        [
            partial_of(NOBODYS),
            check_of(NOBODYS),
            full_of(NOBODYS),
            pin_of(NOBODYS),
            partial_of(COMPLETE),
            "lineages/.00000001.json.0123456789abcdef.partial".to_owned(),
        ]
    );
    let left = tree(&store.folder());
    for kept in [
        full_of(LIVE),
        partial_of(LIVE),
        full_of(COMPLETE),
        manifest_of(COMPLETE).to_string(),
        check_of(COMPLETE),
        pin_of(COMPLETE),
        full_of(MIXED),
        partial_of(MIXED),
        "foreign/.x.0123456789abcdef.partial".to_owned(),
        "store.json".to_owned(),
    ] {
        assert!(left.contains(&kept), "{kept}");
    }
    assert!(
        !left.iter().any(|path| path == "lineages" || path.contains(NOBODYS)),
        "{left:?}"
    );
}

#[test]
fn an_object_whose_manifest_is_just_being_written_is_not_old() {
    let (_root, store) = store();
    leave(&store, &full_of(NOBODYS));
    let path = store.folder().join(full_of(NOBODYS));
    let day_before = std::time::SystemTime::from(store.now().unwrap() - SignedDuration::from_hours(48));
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(day_before)
        .unwrap();
    leave(
        &store,
        &format!("ab/{NOBODYS}/.full-00000000000000000007.json.0123456789abcdef.partial"),
    );
    assert_eq!(store.sweep(&Begun::default()).unwrap(), []);
    fs::remove_file(store.folder().join(format!(
        "ab/{NOBODYS}/.full-00000000000000000007.json.0123456789abcdef.partial"
    )))
    .unwrap();
    assert_eq!(paths(&store.sweep(&Begun::default()).unwrap()), [full_of(NOBODYS)]);
}
