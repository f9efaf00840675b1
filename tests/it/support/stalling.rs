//! A file system that answers until somebody reads, as one of a server that is overwhelmed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::preload;

/// Stands before `read(2)`: on files whose path holds two given words it does not come back.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *buffer, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    const char *folder = getenv("STALL_IN"), *name = getenv("STALL_AT");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = folder && name ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0) {
        path[length] = 0;
        while (strstr(path, folder) && strstr(path, name)) sleep(1);
    }
    return real(fd, buffer, count);
}
"#;

/// A library that programs are started with.
pub struct Stalling {
    shim: PathBuf,
}

impl Stalling {
    /// Makes one in a folder that is not there yet, or says that the test is skipped and gives `None`.
    pub fn new(folder: &Path) -> Option<Stalling> {
        let shim = preload::shim(folder, SOURCE, "a library that stands before read(2)")?;
        Some(Stalling { shim })
    }

    /// Has the program's reads of files in `folder` whose path holds `name` never come back.
    pub fn read_of(&self, command: &mut Command, folder: &Path, name: &str) {
        preload::into(command, &self.shim);
        command.env("STALL_IN", folder).env("STALL_AT", name);
    }
}
