//! Figures instead of cases: for how long etcd is down, next to the same done by hand with `etcdutl`.
//!
//! `make bench` runs them one after the other, with the released binary, and prints the lines of a table in Markdown.
//! Both sides are watched alike, from outside: what counts is when `/health` answers, which reads through the quorum.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{IDENTITY, STORE, install, lifeboat};
use crate::preparation::Suite;
use crate::support::host::copy_tree;

/// All of them.
pub const FIGURES: &[Case] = &[
    Case {
        name: "figures::how_long_etcd_of_one_host_is_down",
        suites: &[Suite::Trixie],
        run: how_long_etcd_of_one_host_is_down,
    },
    Case {
        name: "figures::how_long_three_hosts_that_lost_everything_take",
        suites: &[Suite::Trixie],
        run: how_long_three_hosts_that_lost_everything_take,
    },
];

/// The program to measure, if it is not the one that was built with this.
pub const BINARY: &str = "LIFEBOAT_LAB_BINARY";
/// How often each side is measured, alternately.
const ROUNDS: u32 = 3;
/// The plain snapshot that the work by hand begins with: no key, no compression.
const SNAPSHOT: &str = "/root/snapshot.db";
/// How revisions go on above all that clients have seen, which lifeboat sees to at every restore.
const RAISED: &str = " --bump-revision 1000000000 --mark-compacted";
const POLL: Duration = Duration::from_millis(5);

fn how_long_etcd_of_one_host_is_down(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    let id = filled_and_backed_up(&cluster);
    let [mut ours, mut by_hand, mut whole, mut floor] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let token = format!("restored-{round}");
        let begin = Instant::now();
        ours.push(downtime(host, || {
            let options = ["--yes", "--cluster-token", &token, "--identity", IDENTITY];
            lifeboat(host, ["restore", &id].into_iter().chain(options)).expect_code(0);
            whole.push(begin.elapsed());
        }));
        lifeboat(host, ["release", "--yes"]).expect_code(0);
        by_hand.push(downtime(host, || {
            host.shell(&format!(
                "systemctl stop etcd && mv {DATA_DIR} {DATA_DIR}.old && {} && systemctl start etcd",
                laid_out_by_hand(&cluster, host, &token, "")
            ));
        }));
        fs::remove_dir_all(host.path(&format!("{DATA_DIR}.old"))).expect("root can remove it");
        floor.push(downtime(host, || drop(host.run(["systemctl", "restart", "etcd"]))));
    }
    table(
        "one host: how long etcd is down",
        &[
            (
                "by hand: stopped, `etcdutl snapshot restore` of a plain snapshot, started",
                &by_hand,
            ),
            ("`lifeboat restore` of the stored backup", &ours),
            ("the same, from the command to its end", &whole),
            ("the floor: `systemctl restart etcd`", &floor),
        ],
    );
}

fn how_long_three_hosts_that_lost_everything_take(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 3);
    let id = filled_and_backed_up(&cluster);
    let first = &cluster.hosts[0];
    for host in &cluster.hosts[1..] {
        copy_tree(&first.path(STORE), &host.path("/root/copy"));
        host.copy_in(&first.path(IDENTITY), IDENTITY);
        host.copy_in(&first.path(SNAPSHOT), SNAPSHOT);
    }
    first.shell(&format!("cp -a {STORE} /root/copy"));
    let [mut ours, mut by_hand, mut not_raised] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let token = format!("restored-{round}");
        lose_everything(&cluster);
        ours.push(until_all_serve(&cluster, |host| {
            let options = ["--yes", "--wait", "--cluster-token", &token, "--identity", IDENTITY];
            let from = ["restore", &id, "--from", "/root/copy"];
            lifeboat(host, from.into_iter().chain(options)).expect_code(0);
        }));
        for host in &cluster.hosts {
            lifeboat(host, ["release", "--yes"]);
        }
        for (times, more) in [(&mut by_hand, RAISED), (&mut not_raised, "")] {
            lose_everything(&cluster);
            times.push(until_all_serve(&cluster, |host| {
                host.shell(&format!(
                    "{} && systemctl start etcd",
                    laid_out_by_hand(&cluster, host, &token, more)
                ));
            }));
        }
    }
    table(
        "three hosts that lost their data: from the first command until all serve",
        &[
            (
                "by hand: `etcdutl snapshot restore` of a plain snapshot, revisions raised as etcd's documentation \
                 says, etcd started, on all at once",
                &by_hand,
            ),
            ("the same, revisions not raised", &not_raised),
            ("`lifeboat restore --wait` of the stored backup, on all at once", &ours),
        ],
    );
}

/// 200 000 objects of 4 KiB and 100 000 changes of 1 KiB, as in the rest of the benchmark; the backup's id.
fn filled_and_backed_up(cluster: &Cluster) -> String {
    let host = &cluster.hosts[0];
    install(cluster, "");
    let url = format!("http://{}:2379", host.address);
    load(&["fill", "--endpoint", &url, "--keys", "200000", "--value-bytes", "4096"]);
    let sizes = ["--changes", "100000", "--keys", "200000", "--value-bytes", "1024"];
    load(&[["churn", "--endpoint", &url].as_slice(), &sizes].concat());
    host.run([
        "sh",
        "-c",
        &format!("ETCDCTL_API=3 etcdctl --endpoints {url} snapshot save {SNAPSHOT}"),
    ]);
    let bytes = fs::metadata(host.path(SNAPSHOT)).expect("it was just made").len();
    eprintln!("figures: a snapshot of {bytes} bytes");
    lifeboat(host, ["backup", "--pace", "off"])
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
}

/// What an operator types between stopping etcd and starting it.
fn laid_out_by_hand(cluster: &Cluster, host: &Host, token: &str, more: &str) -> String {
    let peers: Vec<String> = cluster
        .hosts
        .iter()
        .map(|host| format!("{}=http://{}:2380", host.name, host.address))
        .collect();
    format!(
        "etcdutl snapshot restore {SNAPSHOT} --data-dir {DATA_DIR} --name {} --initial-cluster {} \
         --initial-cluster-token by-hand-{token}{more} --initial-advertise-peer-urls http://{}:2380 && chown -R etcd: {DATA_DIR}",
        host.name,
        peers.join(","),
        host.address
    )
}

fn lose_everything(cluster: &Cluster) {
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
        host.run(["sync"]);
    }
}

/// For how long a host's etcd did not serve while something was done: the longest time without an answer.
fn downtime(host: &Host, work: impl FnOnce()) -> Duration {
    host.run(["sync"]);
    let ended = AtomicBool::new(false);
    let address = host.address;
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            loop {
                let is_last = ended.load(Ordering::Relaxed);
                if serves(address) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    if is_last {
                        return longest;
                    }
                }
                thread::sleep(POLL);
            }
        });
        work();
        ended.store(true, Ordering::Relaxed);
        watching.join().expect("it only looks")
    })
}

/// How long it takes from the moment at which the same is begun on all hosts until all of them serve.
fn until_all_serve(cluster: &Cluster, work: impl Fn(&Host) + Sync) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for host in &cluster.hosts {
            scope.spawn(|| work(host));
        }
        until("all to serve", || {
            holds(cluster.hosts.iter().all(|host| serves(host.address)), "not yet")
        });
        begin.elapsed()
    })
}

fn serves(address: Ipv4Addr) -> bool {
    let ask = || {
        let patience = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 2379)), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer.contains("200 OK") && answer.contains("\"true\""))
    };
    ask().unwrap_or(false)
}

fn load(args: &[&str]) {
    let program = binary().with_file_name("etcd-load");
    let output = Command::new(&program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The program that hosts get.
pub fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_lifeboat")).to_owned())
}

/// Prints a table: of each line the median, and that of the rounds' ratios to the first.
fn table(title: &str, lines: &[(&str, &[Duration])]) {
    println!("\n| {title} | time | ratio |\n|---|---|---|");
    let Some((_, peer)) = lines.first() else { return };
    for (index, (what, times)) in lines.iter().enumerate() {
        let seconds = times.iter().map(Duration::as_secs_f64).collect();
        let ratios = times
            .iter()
            .zip(*peer)
            .map(|(own, other)| own.as_secs_f64() / other.as_secs_f64());
        let ratio = match index {
            0 => String::new(),
            _ => format!("{:.2} × by hand", median(ratios.collect())),
        };
        println!("| {what} | {:.2} s | {ratio} |", median(seconds));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
