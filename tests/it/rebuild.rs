//! Rebuilds that real servers start on.

use std::path::Path;

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
