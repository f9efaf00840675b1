//! `etcd-load`: writes to an etcd and says what is in it, for the demo and the measurements. No part of the product.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use etcd_client::{Client, ConnectOptions, Error, GetOptions, Txn, TxnOp};
use tokio::task::JoinHandle;

/// Puts that travel in one transaction, bounded by etcd's 128 operations and 1.5 MiB.
const PUTS_PER_TXN: u64 = 32;
/// Requests that are under way at once.
const IN_FLIGHT: usize = 32;
/// How long a server may take to come up, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Write to an etcd, and say what is in it
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put objects as Kubernetes would, many at a time
    Fill {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        keys: u64,
        #[arg(long)]
        value_bytes: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Change one object after the other; every 20th is deleted
    Churn {
        #[command(flatten)]
        target: Target,
        /// How many changes
        #[arg(long)]
        changes: u64,
        /// As many as `fill` made
        #[arg(long)]
        keys: u64,
        #[arg(long)]
        value_bytes: usize,
        #[arg(long, default_value_t = 2)]
        seed: u64,
    },
    /// Put objects at a steady rate; print the revision of each and when etcd had it, in seconds of the epoch
    Pace {
        #[command(flatten)]
        target: Target,
        /// Puts a second
        #[arg(long)]
        rate: u32,
        #[arg(long)]
        seconds: u32,
        #[arg(long)]
        value_bytes: usize,
    },
    /// Print revision, HashKV, compacted revision and number of keys
    Hash {
        #[command(flatten)]
        target: Target,
        /// The revision to hash; 0 is the present one
        #[arg(long, default_value_t = 0)]
        revision: i64,
    },
    /// Put 0.5 KiB after 0.5 KiB and print how long a put takes
    Probe {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        seconds: u64,
    },
}

#[derive(Args)]
struct Target {
    /// A client URL of etcd
    #[arg(long)]
    endpoint: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Fill {
            target,
            keys,
            value_bytes,
            seed,
        } => fill(target.connect().await?, keys, value_bytes, seed).await,
        Command::Churn {
            target,
            changes,
            keys,
            value_bytes,
            seed,
        } => churn(target.connect().await?, changes, keys, value_bytes, seed).await,
        Command::Pace {
            target,
            rate,
            seconds,
            value_bytes,
        } => pace(target.connect().await?, rate, rate * seconds, value_bytes).await,
        Command::Hash { target, revision } => hash(target.connect().await?, revision).await,
        Command::Probe { target, seconds } => probe(target.connect().await?, Duration::from_secs(seconds)).await,
    }
}

impl Target {
    /// Connects, and waits while the server is still coming up.
    async fn connect(&self) -> Result<Client, Error> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let options = ConnectOptions::new()
                .with_connect_timeout(Duration::from_secs(2))
                .with_timeout(PATIENCE);
            let mut client = Client::connect([&self.endpoint], Some(options)).await?;
            // A linearizable read, so that there is a leader too.
            match client.get("/", Some(GetOptions::new().with_count_only())).await {
                Ok(_) => return Ok(client),
                Err(error) if Instant::now() > give_up => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn fill(client: Client, keys: u64, value_bytes: usize, seed: u64) -> Result<(), Error> {
    let mut random = Random(seed);
    let mut requests = InFlight::default();
    for first in (0..keys).step_by(usize::try_from(PUTS_PER_TXN).expect("a small number")) {
        let puts: Vec<TxnOp> = (first..keys.min(first + PUTS_PER_TXN))
            .map(|number| TxnOp::put(key(number), object(number, value_bytes, &mut random), None))
            .collect();
        let mut client = client.kv_client();
        requests
            .add(async move { client.txn(Txn::new().and_then(puts)).await.map(drop) })
            .await?;
    }
    requests.finish().await
}

async fn churn(client: Client, changes: u64, keys: u64, value_bytes: usize, seed: u64) -> Result<(), Error> {
    let mut random = Random(seed);
    let mut requests = InFlight::default();
    for change in 0..changes {
        let number = random.next() % keys;
        let mut client = client.kv_client();
        if change % 20 == 19 {
            requests
                .add(async move { client.delete(key(number), None).await.map(drop) })
                .await?;
        } else {
            let value = object(number, value_bytes, &mut random);
            requests
                .add(async move { client.put(key(number), value, None).await.map(drop) })
                .await?;
        }
    }
    requests.finish().await
}

async fn pace(client: Client, rate: u32, puts: u32, value_bytes: usize) -> Result<(), Error> {
    let mut random = Random(4);
    let mut requests = InFlight::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    for number in 0..u64::from(puts) {
        beat.tick().await;
        let value = object(number, value_bytes, &mut random);
        let (mut client, sender) = (client.kv_client(), sender.clone());
        requests
            .add(async move {
                let answer = client.put(key(number % 10_000), value, None).await?;
                let revision = answer.header().map_or(0, |header| header.revision());
                // Nobody has hung up before all have come.
                sender.send((revision, now())).ok();
                Ok(())
            })
            .await?;
    }
    requests.finish().await?;
    drop(sender);
    let mut text = String::new();
    for (revision, at) in receiver {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        writeln!(text, "{revision} {seconds:.4}").expect("a string can be written to");
    }
    print!("{text}");
    Ok(())
}

async fn hash(mut client: Client, revision: i64) -> Result<(), Error> {
    let options = GetOptions::new()
        .with_from_key()
        .with_count_only()
        .with_revision(revision);
    let counted = client.get([0], Some(options)).await?;
    let current = counted.header().map_or(0, |header| header.revision());
    let revision = if revision == 0 { current } else { revision };
    let answer = client.hash_kv(revision).await?;
    println!(
        "revision={revision} hash={} compact_revision={} keys={}",
        answer.hash(),
        answer.compact_version(),
        counted.count()
    );
    Ok(())
}

async fn probe(mut client: Client, duration: Duration) -> Result<(), Error> {
    let mut random = Random(3);
    let mut took = Vec::new();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let number = random.next() % 100;
        let value = object(number, 512, &mut random);
        let begin = Instant::now();
        client.put(format!("/probe/{number:02}"), value, None).await?;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    let quantile = |percent: usize| {
        let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
    };
    let (puts, p50, p99, max) = (took.len(), quantile(50), quantile(99), quantile(100));
    println!("puts={puts} p50_ms={p50:.2} p99_ms={p99:.2} max_ms={max:.2}");
    Ok(())
}

/// The key of an object, spread over kinds and namespaces.
fn key(number: u64) -> String {
    const KINDS: [&str; 4] = ["pods", "configmaps", "secrets", "events"];
    let kind = KINDS[usize::try_from(number % 4).expect("a small number")];
    format!("/registry/{kind}/team-{:02}/object-{number:08}", number % 37)
}

/// An object of `bytes` bytes that compresses about as well as those of a cluster: names repeat, ids and digests do not.
fn object(number: u64, bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut text = format!(
        "{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"object-{number:08}\",\
         \"namespace\":\"team-{:02}\",\"uid\":\"{:016x}{:016x}\"}},\"spec\":{{\"containers\":[",
        number % 37,
        random.next(),
        random.next()
    );
    while text.len() < bytes {
        let (digest, port) = (random.next(), random.next() % 10_000);
        write!(
            text,
            "{{\"name\":\"part-{:02}\",\"image\":\"registry.example/team/app@sha256:{digest:016x}{:016x}\",\
             \"imagePullPolicy\":\"IfNotPresent\",\"terminationMessagePath\":\"/dev/termination-log\",\
             \"ports\":[{{\"containerPort\":{port},\"protocol\":\"TCP\"}}],\"resources\":{{}}}},",
            port % 40,
            random.next()
        )
        .expect("a string can be written to");
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// Requests under way; the oldest is waited for when there are too many.
#[derive(Default)]
struct InFlight(VecDeque<JoinHandle<Result<(), Error>>>);

impl InFlight {
    async fn add(&mut self, request: impl Future<Output = Result<(), Error>> + Send + 'static) -> Result<(), Error> {
        if self.0.len() == IN_FLIGHT {
            self.wait_for_oldest().await?;
        }
        self.0.push_back(tokio::spawn(request));
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Error> {
        while !self.0.is_empty() {
            self.wait_for_oldest().await?;
        }
        Ok(())
    }

    async fn wait_for_oldest(&mut self) -> Result<(), Error> {
        match self.0.pop_front() {
            Some(oldest) => oldest.await.expect("a request does not panic"),
            None => Ok(()),
        }
    }
}

/// The SplitMix64 sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody hands a clock to a tool of the tests")]
fn now() -> SystemTime {
    SystemTime::now()
}
