//! What comes from outside is read whatever it is: each target gets the samples of its corpus, changed at random, and may
//! neither panic, nor take more memory than its bound, nor more time.
//!
//! One list of targets, one mutator. `cargo test` gives each target less than a second, `make fuzz MINUTES=60` as long as one likes;
//! the same seed gives the same inputs. An input that is not borne is kept in the target directory and named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "tests play everybody else on a host, too")]

mod bounds;
mod deltas;
mod mutator;
mod targets;

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bounds::Allocator;
use mutator::Mutator;
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// What one execution may take. Long, as machines are slow at times; what is slow thrice is.
const MOST_TIME: Duration = Duration::from_millis(1_500);
/// What hangs is ended with the whole test.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long each target runs where nobody says otherwise.
const SHARE: Duration = Duration::from_millis(750);

type Hook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync>;

/// Those that nobody has told yet.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Memory is counted for the whole process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn whatever_comes_is_borne() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("LIFEBOAT_SEED").unwrap_or(1);
    let share = number("LIFEBOAT_MINUTES").map_or(SHARE, |minutes| Duration::from_secs(60 * minutes));
    let only = std::env::var("LIFEBOAT_TARGET").ok().filter(|name| !name.is_empty());
    let own = keep_panics();
    let watch = Watch::begin();
    let mut failed = Vec::new();
    for target in TARGETS
        .iter()
        .filter(|target| only.as_deref().is_none_or(|name| name == target.name))
    {
        let told = fuzz(target, seed, share, &watch);
        eprintln!("{told}");
        failed.extend(told.failure.map(|failure| format!("{}: {failure}", target.name)));
    }
    panic::set_hook(own);
    assert!(failed.is_empty(), "seed {seed}:\n{}", failed.join("\n"));
}

/// What came of one target.
struct Told {
    name: &'static str,
    samples: usize,
    executions: u64,
    /// The most memory that one took beyond its input.
    memory: usize,
    slowest: Duration,
    failure: Option<String>,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, samples, executions) = (self.name, self.samples, self.executions);
        let (memory, slowest) = (self.memory >> 10, self.slowest.as_millis());
        write!(f, "| {name} | {samples} | {executions} | {memory} KiB | {slowest} ms |")
    }
}

fn fuzz(target: &Target, seed: u64, share: Duration, watch: &Watch) -> Told {
    let corpus = (target.corpus)();
    assert!(!corpus.is_empty(), "{} has no samples", target.name);
    let mut told = Told {
        name: target.name,
        samples: corpus.len(),
        executions: 0,
        memory: 0,
        slowest: Duration::ZERO,
        failure: None,
    };
    let mut mutator = Mutator::new(seed, target.words);
    let begun = Instant::now();
    // As they are, all samples have to be borne too.
    let mut as_they_are = corpus.iter();
    while told.failure.is_none() && (begun.elapsed() < share || as_they_are.len() > 0) {
        let input = match as_they_are.next() {
            Some(sample) => sample.clone(),
            None => {
                let mut input = mutator.changed(&corpus);
                (target.mend)(&mut input, &mut mutator);
                input
            }
        };
        watch.execution_begins();
        told.failure = execute(target, &input, &mut told.memory, &mut told.slowest)
            .map(|failure| format!("{failure}; the input is {}", kept(target, &input).display()));
        watch.execution_ends();
        told.executions += 1;
    }
    told
}

/// What panics is told once, with what it was given; in a thread of its own, too. Gives what was there before.
fn keep_panics() -> Hook {
    let own = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push(format!("{said} ({place})"));
    }));
    own
}

/// Runs a target on an input; what is wrong, if anything is.
fn execute(target: &Target, input: &[u8], memory: &mut usize, slowest: &mut Duration) -> Option<String> {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let (ended, peak) = bounds::peak(|| panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
        shortest = shortest.min(begun.elapsed());
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        if ended.is_err() || !panics.is_empty() {
            return Some(format!("it panics: {}", panics.join("; ")));
        }
        *memory = peak.max(*memory);
        let most = (target.memory)(input.len());
        if peak > most {
            return Some(format!("it takes {peak} bytes of memory, {most} are allowed"));
        }
        if shortest <= MOST_TIME {
            *slowest = shortest.max(*slowest);
            return None;
        }
    }
    Some(format!("it takes {shortest:?}"))
}

/// Keeps an input that was not borne.
fn kept(target: &Target, input: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}-{:08x}", target.name, crc32c::crc32c(input)));
    std::fs::write(&path, input).unwrap();
    path
}

/// Ends the test where an execution hangs: nothing else could.
struct Watch {
    /// Milliseconds since the beginning at which the present execution began; 0 between two.
    since: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    begun: Instant,
}

impl Watch {
    fn begin() -> Watch {
        let watch = Watch {
            since: Arc::default(),
            done: Arc::default(),
            begun: Instant::now(),
        };
        let (since, done, begun) = (Arc::clone(&watch.since), Arc::clone(&watch.done), watch.begun);
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(200));
                let since = since.load(Ordering::Relaxed);
                if since > 0 && begun.elapsed() > Duration::from_millis(since) + PATIENCE {
                    eprintln!("an execution hangs: run again with LIFEBOAT_TARGET to see which");
                    std::process::abort();
                }
            }
        });
        watch
    }

    fn execution_begins(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now.max(1), Ordering::Relaxed);
    }

    fn execution_ends(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_target_that_does_not_bear_its_input_is_found() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = keep_panics();
    let target = |run: fn(&[u8])| Target {
        name: "of this test",
        corpus: || vec![b"sample".to_vec()],
        run,
        memory: |_| 1 << 20,
        mend: targets::as_it_is,
        words: &[],
    };
    let failure = |run| execute(&target(run), b"input", &mut 0, &mut Duration::default());
    assert_eq!(failure(|_| ()), None);
    let said = failure(|input| assert!(input.is_empty(), "of this kind")).unwrap();
    assert!(said.contains("panics: of this kind"), "{said}");
    let said = failure(|_| drop(thread::spawn(|| panic!("in a thread")).join())).unwrap();
    assert!(said.contains("panics: in a thread"), "{said}");
    let said = failure(|_| drop(std::hint::black_box(vec![1_u8; 2 << 20]))).unwrap();
    assert!(said.contains("of memory"), "{said}");
    let said = failure(|_| thread::sleep(MOST_TIME + Duration::from_millis(1))).unwrap();
    assert!(said.contains("it takes"), "{said}");
    panic::set_hook(own);
}
