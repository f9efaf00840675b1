//! How the agent notices what happens around it, and how it tells: files that lie elsewhere, journal, hook, heartbeat.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host};
use super::support::running::{Running, until};
use super::support::tools::Version;

const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";

fn status(host: &Host) -> serde_json::Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    serde_json::from_str(&text).expect("it is replaced whole")
}

fn schedules(host: &Host) -> usize {
    status(host)["schedules"].as_array().map_or(0, Vec::len)
}

fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_code(0).stderr
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test stands for a program of somebody else"
)]
fn a_link_that_is_swapped_outside_the_watched_directories_is_followed_and_remembered() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let text = fs::read_to_string(host.config()).unwrap();
    for (version, more) in [("1", ""), ("2", &*OFTEN.replace("often", "other"))] {
        let folder = host.path("elsewhere").join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), format!("{text}{more}")).unwrap();
    }
    let data = host.path("elsewhere/data");
    symlink("1", &data).unwrap();
    fs::remove_file(host.config()).unwrap();
    symlink(data.join("config.toml"), host.config()).unwrap();

    let agent = host.start(["agent"]);
    until("one schedule", || schedules(&host) == 1);
    symlink("2", host.path("elsewhere/new")).unwrap();
    fs::rename(host.path("elsewhere/new"), &data).unwrap();
    until("the other file's two", || schedules(&host) == 2);
    stop(agent);

    fs::write(host.path("elsewhere/2/config.toml"), "nonsense").unwrap();
    let shown = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert_eq!(shown["schedules"].as_array().unwrap().len(), 2, "{shown}");
}
