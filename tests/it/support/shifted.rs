//! A clock of a host that is wrong by a fixed time.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::preload;

/// Stands before what tells the time that people read; what never steps is as it is.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    const char *seconds = getenv("CLOCK_SHIFT");
    return seconds ? atol(seconds) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &time)) return -1;
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"#;

/// A library that programs are started with.
pub struct Shifted {
    shim: PathBuf,
}

impl Shifted {
    /// Makes one in a folder that is not there yet, or says that the test is skipped and gives `None`.
    pub fn new(folder: &Path) -> Option<Shifted> {
        let shim = preload::shim(folder, SOURCE, "a library that stands before clock_gettime(2)")?;
        Some(Shifted { shim })
    }

    /// Has the clock of a program be so many seconds ahead.
    pub fn ahead_by(&self, command: &mut Command, seconds: i64) {
        preload::into(command, &self.shim);
        command.env("CLOCK_SHIFT", seconds.to_string());
    }
}
