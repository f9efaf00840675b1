//! A program that dies, as by `kill -9`, or stands still, just before it changes a name on the file system for the nth time, or
//! makes something durable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::preload;

/// Stands before the calls by which names appear, change and go.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static atomic_int steps;
static void step(void) {
    const char *at = getenv("KILL_AT");
    if (!at || ++steps != atoi(at)) return;
    const char *pause = getenv("PAUSE_WHILE_THERE");
    if (!pause) kill(getpid(), SIGKILL);
    close(open(pause, O_CREAT | O_WRONLY, 0600));
    while (access(pause, F_OK) == 0) usleep(10000);
}
#define BEFORE(name, types, values) \
    int name types { \
        static int (*real) types; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        step(); \
        return real values; \
    }
BEFORE(link, (const char *a, const char *b), (a, b))
BEFORE(linkat, (int a, const char *b, int c, const char *d, int e), (a, b, c, d, e))
BEFORE(rename, (const char *a, const char *b), (a, b))
BEFORE(renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
BEFORE(renameat2, (int a, const char *b, int c, const char *d, unsigned e), (a, b, c, d, e))
BEFORE(unlink, (const char *a), (a))
BEFORE(unlinkat, (int a, const char *b, int c), (a, b, c))
BEFORE(rmdir, (const char *a), (a))
BEFORE(fsync, (int a), (a))
BEFORE(fdatasync, (int a), (a))
"#;

/// Every how many steps a program is killed where its steps are tried one after the other: `LIFEBOAT_STRIDE`, 1 for each.
pub fn stride() -> usize {
    let text = std::env::var("LIFEBOAT_STRIDE").ok();
    text.map_or(5, |text| text.parse().expect("LIFEBOAT_STRIDE is a number"))
}

/// A library that programs are started with.
pub struct Killing {
    shim: PathBuf,
}

impl Killing {
    /// Makes one in a folder that is not there yet, or says that the test is skipped and gives `None`.
    pub fn new(folder: &Path) -> Option<Killing> {
        let shim = preload::shim(folder, SOURCE, "a library that stands before unlink(2)")?;
        Some(Killing { shim })
    }

    /// Has the program die just before the step of that number, counted from 1.
    pub fn at(&self, command: &mut Command, step: usize) {
        preload::into(command, &self.shim);
        command.env("KILL_AT", step.to_string());
    }

    /// Has the program stand still just before that step, while `meanwhile` is done. Says whether it came there, and gives
    /// what the program left.
    pub fn pausing_at(&self, command: &mut Command, step: usize, meanwhile: impl FnOnce()) -> (bool, Output) {
        let mark = self.shim.with_extension("paused");
        self.at(command, step);
        command.env("PAUSE_WHILE_THERE", &mark).stdin(Stdio::null());
        let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut started = started.expect("the program can be started");
        let has_paused = loop {
            if mark.exists() {
                break true;
            }
            if started.try_wait().expect("it is a child").is_some() {
                break false;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if has_paused {
            meanwhile();
            fs::remove_file(&mark).expect("it is this test's");
        }
        (has_paused, started.wait_with_output().expect("it is a child"))
    }
}
