//! A file system that takes long for each write, as one at the other end of a bad line.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::preload;

/// Stands before `write(2)`: large ones to files below a given folder take 5 s, until a given file is there.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t write(int fd, const void *buffer, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    const char *folder = getenv("SLOW_IN"), *until = getenv("SLOW_UNTIL");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = folder && until && count > 65536 ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0) {
        path[length] = 0;
        if (strstr(path, folder) && access(until, F_OK)) sleep(5);
    }
    return real(fd, buffer, count);
}
"#;

/// A library that programs are started with.
pub struct Slow {
    shim: PathBuf,
}

impl Slow {
    /// Makes one in a folder that is not there yet, or says that the test is skipped and gives `None`.
    pub fn new(folder: &Path) -> Option<Slow> {
        let shim = preload::shim(folder, SOURCE, "a library that stands before write(2)")?;
        Some(Slow { shim })
    }

    /// Has the program's writes below `folder` take long until the file `until` is there.
    pub fn write_to(&self, command: &mut Command, folder: &Path, until: &Path) {
        preload::into(command, &self.shim);
        command.env("SLOW_IN", folder).env("SLOW_UNTIL", until);
    }
}
