//! What a member that was killed leaves behind: its log tells what its database lacks, and both together are what the real
//! etcd makes of them when it starts.

use serde_json::{Value, json};

use super::support::etcd::{Etcd, Options};
use super::support::host::{Host, copy_tree};
use super::support::load::Load;
use super::support::tools::Version;

/// A server whose database lags far behind its log.
fn lagging() -> Options {
    Options {
        flags: ["--backend-batch-interval=10m", "--backend-batch-limit=1000000"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    }
}

fn inspected(host: &Host, path: &str, code: i32) -> Value {
    host.lifeboat(["--json", "inspect", path]).expect_code(code).json()
}

#[test]
fn what_only_the_log_of_a_killed_member_holds_is_told() {
    for version in Version::ALL {
        let Some(mut etcd) = Etcd::start(version, lagging()) else {
            return;
        };
        let client = etcd.client();
        let mut load = Load::new(11);
        load.run(&client, 300);
        let last = client.revision().expect("it runs");
        etcd.kill(0);
        let host = Host::new(&etcd);
        let left = host.path("left");
        copy_tree(&etcd.members[0].data_dir, &left);
        let left = left.display().to_string();
        let seen = inspected(&host, &left, 0);
        let log = &seen["log"];
        assert_eq!(log["end"], "whole", "etcd {}", version.number());
        assert!(log["entries"].as_u64() > Some(10), "{log}");
        assert_eq!(log["uncommitted_entries"], json!(0));
        assert_eq!(log["to_revision"], json!(last), "etcd {}: {log}", version.number());
        assert_eq!(
            log["from_revision"].as_i64(),
            seen["revision"].as_i64().map(|last| last.max(1) + 1)
        );
        let text = host.lifeboat(["inspect", &left]).expect_code(0).stdout;
        assert!(text.contains("are in the log alone"), "{text}");
    }
}
