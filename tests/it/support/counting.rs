//! Counts the folders that a program lists and the files that it opens, from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::preload;

/// Stands before `opendir(3)` and `open(2)`, and writes down the paths.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int (*real_open)(const char *, int, ...);
static void note(const char *what, const char *path) {
    const char *log = getenv("COUNT_IN");
    char line[4200];
    if (!log) return;
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open64");
    int fd = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) { if (write(fd, line, length) < 0) abort(); close(fd); }
}
DIR *opendir(const char *path) {
    static DIR *(*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    note("list", path);
    return real(path);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open64");
    if (strstr(path, "/full-")) note("open", path);
    return real_open(path, flags, mode);
}
"#;

/// A library that a program is started with.
pub struct Counting {
    shim: PathBuf,
    log: PathBuf,
}

impl Counting {
    /// Makes one in a folder that is not there yet, or says that the test is skipped and gives `None`.
    pub fn new(folder: &Path) -> Option<Counting> {
        let shim = preload::shim(folder, SOURCE, "a library that stands before opendir(3)")?;
        Some(Counting {
            shim,
            log: folder.join("log"),
        })
    }

    /// Has the calls of a program counted.
    pub fn watch(&self, command: &mut Command) {
        preload::into(command, &self.shim);
        command.env("COUNT_IN", &self.log);
    }

    /// How often `call` ("list" or "open") was made on `path`.
    pub fn count(&self, call: &str, path: &Path) -> usize {
        let wanted = format!("{call} {}", path.display());
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| *line == wanted).count()
    }
}
