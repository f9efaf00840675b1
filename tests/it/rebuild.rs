//! Rebuilds that real servers start on.

use std::path::Path;

use super::support::client::wait_for;
use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::tools::Version;

const SNAPSHOT: &str = "tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap";
const REVISION: i64 = 346;

#[test]
fn every_line_starts_with_the_printed_flags_on_data_and_a_log_directory_of_its_own() {
    let host = Host::without_cluster();
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    for version in Version::ALL {
        let wal_dir = host.path(&format!("log-{}", version.number())).display().to_string();
        let flags = ["--wal-dir", &wal_dir, "--initial-cluster-state", "existing"];
        let options = Options {
            flags: flags.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let Some(mut etcd) = Etcd::plan(version, options) else {
            return;
        };
        let mut args = host.rebuild_args(&snapshot.display().to_string(), &etcd, 0);
        args.extend(["--wal-dir", &wal_dir, "--json"].map(str::to_owned));
        let printed = host.lifeboat(&args).expect_code(0).json();
        assert_eq!(printed["flags"]["--initial-cluster-state"], "existing");
        assert_eq!(printed["flags"]["--wal-dir"], wal_dir.as_str());
        etcd.boot();
        assert_eq!(etcd.client().revision().unwrap(), REVISION);
        host.lifeboat(&args).expect_code(7);
    }
}

#[test]
fn a_log_directory_in_the_data_directory_is_refused_unless_it_is_etcds_own_place() {
    let host = Host::without_cluster();
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    let (data_dir, snapshot) = (host.path("data"), snapshot.display().to_string());
    let rebuild = |wal_dir: &str| {
        let data_dir = data_dir.display().to_string();
        let wal_dir = format!("{data_dir}{wal_dir}");
        host.lifeboat(["rebuild", &snapshot, "--data-dir", &data_dir, "--wal-dir", &wal_dir])
    };
    for wal_dir in ["", "/wal", "/..", "/member"] {
        let refused = rebuild(wal_dir).expect_code(2);
        assert!(refused.stderr.contains("next: "), "{}", refused.stderr);
        assert!(!data_dir.exists());
    }
    let said = rebuild("/member/wal").expect_code(0).stdout;
    // To be pasted as it is, and done in this order.
    let flag = format!("  --data-dir {} \\\n", data_dir.display());
    assert!(said.contains(&flag), "{said}");
    let steps = [
        "next:",
        "start etcd",
        "lifeboat backup --config ",
        "--wait 5m && lifeboat accept-lineage --config ",
    ];
    let places: Vec<_> = steps.iter().map(|step| said.find(step)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
    assert!(
        data_dir
            .join("member/wal/0000000000000000-0000000000000000.wal")
            .is_file()
    );
}

#[test]
fn live_keys_that_just_fit_the_quota_still_do_once_revisions_have_jumped() {
    const VALUE: usize = 1 << 20;
    /// For what a restore writes, and etcd once it runs.
    const ROOM: u64 = 256 << 10;
    for version in [Version::V3_4, Version::V3_6] {
        let Some(etcd) = Etcd::start(version, Options::default()) else {
            return;
        };
        let client = etcd.client();
        for number in 0..7_u8 {
            client.put(&format!("/large/{number}"), vec![number; VALUE], 0).unwrap();
        }
        let host = Host::new(&etcd);
        let id = host.backup();
        let (source, plain) = (host.path("plain.db"), host.path("plain.db").display().to_string());
        let identity = host.identity().display().to_string();
        host.lifeboat(["export", &id, &plain, "--compact", "--identity", &identity])
            .expect_code(0);
        let before = source.metadata().unwrap().len();
        let quota = before + ROOM;
        let mut target = Etcd::plan(version, Options::default()).unwrap();
        target.set_flags(&["--quota-backend-bytes", &quota.to_string()]);
        let mut args = host.rebuild_args(&plain, &target, 0);
        args.extend(["--bump-revision", "1000000", "--mark-compacted", "--json"].map(str::to_owned));
        let made = host.lifeboat(args).expect_code(0).json();
        let grown = made["database_bytes"].as_u64().unwrap() - before;
        assert!(grown <= 16 * 4096, "{version:?}: it grew by {grown} bytes");
        target.boot();
        let served = target.client();
        let put = |number: u8| served.put("/small", vec![number], 0).unwrap();
        put(1);
        let mut raw = served.raw();
        wait_for(raw.defragment()).unwrap();
        put(2);
        for number in 0..7_u8 {
            let value = served.get(&format!("/large/{number}")).unwrap();
            assert_eq!(value, Some(vec![number; VALUE]), "{version:?}: {number}");
        }
        target.stop();
        let database = target.members[0].data_dir.display().to_string();
        let found = host.lifeboat(["--json", "inspect", &database]).json();
        assert_eq!(found["ok"], true, "{version:?}: {found}");
    }
}
