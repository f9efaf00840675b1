//! Opening files by name: the only place where the crate does.
//!
//! Where somebody else may write too, a name can stand for anything: a link that leads elsewhere, a pipe that makes who
//! opens it wait for ever, a device that does something when it is opened. So it is said each time whose name it is:
//!
//! - [`open_plain`]: the folder may be another user's (etcd's data, the agent's state, a store). No link is followed,
//!   nothing is waited for, and what is not a plain file is refused.
//! - [`open_linked`]: the operator's own, such as a configuration or a certificate. He may use links, and tools that manage
//!   configurations do; but a program that runs for months does not wait for a pipe.
//! - [`open_given`]: named on this command line. Whoever names a pipe means it, such as `--identity <(…)`.
//!
//! Source: `O_NOFOLLOW` and `O_NONBLOCK` in open(2); fifo(7).

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// What has been opened already, by whoever started this program.
const OWN_DESCRIPTORS: [&str; 3] = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];

const FOLDER: &str = "a folder";

/// What there is in the place of a plain file; inside the [`io::Error`] that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}, not a plain file")]
pub struct NotPlain(&'static str);

impl NotPlain {
    /// What an error refused, if it is one of these.
    pub fn of(error: &io::Error) -> Option<NotPlain> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// In words, such as "a pipe".
    pub fn found(self) -> &'static str {
        self.0
    }
}

/// Opens the plain file at `path` for reading, in a folder that others may write to.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
pub fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    plain(opened.map_err(without_following)?)
}

/// Opens the operator's own file at `path` for reading: links may lead to it.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
pub fn open_linked(path: &Path) -> io::Result<File> {
    if OWN_DESCRIPTORS.iter().any(|own| path.starts_with(own)) {
        return open_given(path);
    }
    let flags = OFlag::O_NONBLOCK.bits();
    plain(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// Opens what was named on the command line for reading, whatever it is.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
pub fn open_given(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens the file at `path` for a lock, in a folder that others may write to; makes it, with exactly the permissions of
/// `mode`, where it is missing.
#[expect(clippy::disallowed_methods, reason = "one of the homes of opening by name")]
pub fn open_lock(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.mode(mode).custom_flags(flags.bits()).open(path);
    plain(opened.map_err(without_following)?)
}

/// All of the plain file at `path`, in a folder that others may write to; fails where it is larger than `most` bytes.
pub fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_up_to(open_plain(path)?, most)
}

/// All of the operator's own file at `path`; fails where it is larger than `most` bytes.
pub fn read_linked(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_up_to(open_linked(path)?, most)
}

/// All of what was named on the command line; fails where it is larger than `most` bytes.
pub fn read_given(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_up_to(open_given(path)?, most)
}

/// What the kernel tells under a name in `/proc` or `/sys`.
#[expect(clippy::disallowed_methods, reason = "names that nobody but the kernel makes")]
pub fn read_kernel(path: impl AsRef<Path>) -> io::Result<String> {
    std::fs::read_to_string(path)
}

fn read_up_to(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {}", shown(most)),
        )),
        false => Ok(content),
    }
}

/// A limit, which is a round number.
fn shown(bytes: u64) -> String {
    match bytes {
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn plain(file: File) -> io::Result<File> {
    let found = file.metadata()?.file_type();
    match found.is_file() {
        true => Ok(file),
        false => Err(not_plain(kind(found))),
    }
}

/// What open(2) says where it was not to follow or to wait.
fn without_following(error: io::Error) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => not_plain("a symbolic link"),
        Some(Errno::ENXIO) => not_plain("a socket or a pipe"),
        Some(_) | None => error,
    }
}

fn not_plain(what: &'static str) -> io::Error {
    let kind = match what {
        FOLDER => io::ErrorKind::IsADirectory,
        _ => io::ErrorKind::InvalidInput,
    };
    io::Error::new(kind, NotPlain(what))
}

fn kind(found: FileType) -> &'static str {
    match found {
        found if found.is_dir() => FOLDER,
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        found if found.is_block_device() || found.is_char_device() => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            let place = Place(tempfile::tempdir().unwrap());
            fs::write(place.at("file"), b"content").unwrap();
            fs::create_dir(place.at("folder")).unwrap();
            symlink(place.at("file"), place.at("link")).unwrap();
            symlink(place.at("pipe"), place.at("link-to-pipe")).unwrap();
            mkfifo(&place.at("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }

    #[track_caller]
    fn refused(answer: io::Result<Vec<u8>>) -> String {
        answer.unwrap_err().to_string()
    }

    #[test]
    fn where_others_write_only_a_plain_file_is_opened_and_nothing_is_waited_for() {
        let place = Place::new();
        let _socket = UnixListener::bind(place.at("socket")).unwrap();
        assert_eq!(read_plain(&place.at("file"), 7).unwrap(), b"content");
        for (name, what) in [
            ("pipe", "a pipe"),
            ("folder", "a folder"),
            ("socket", "a socket"),
            ("link", "a symbolic link"),
            ("link-to-pipe", "a symbolic link"),
        ] {
            let said = refused(read_plain(&place.at(name), 7));
            assert!(said.contains(what) && said.contains("plain file"), "{name}: {said}");
            assert!(open_lock(&place.at(name), 0o600).is_err(), "{name}");
        }
        let absent = read_plain(&place.at("absent"), 7).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_link_of_the_operators_leads_to_a_plain_file_and_not_to_a_pipe() {
        let place = Place::new();
        for name in ["file", "link"] {
            assert_eq!(read_linked(&place.at(name), 7).unwrap(), b"content");
        }
        for name in ["pipe", "link-to-pipe"] {
            let said = refused(read_linked(&place.at(name), 7));
            assert!(said.contains("a pipe, not a plain file"), "{name}: {said}");
        }
    }

    #[test]
    fn what_this_program_was_started_with_may_be_a_pipe() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"secret").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        assert_eq!(read_linked(&path, 6).unwrap(), b"secret");
        let place = Place::new();
        let pipe = place.at("pipe");
        let written = std::thread::spawn(move || fs::write(pipe, b"named"));
        assert_eq!(read_given(&place.at("pipe"), 6).unwrap(), b"named");
        written.join().unwrap().unwrap();
    }

    #[test]
    fn no_more_is_read_than_was_allowed() {
        let place = Place::new();
        for read in [read_plain, read_linked, read_given] {
            assert_eq!(read(&place.at("file"), 7).unwrap(), b"content");
            let large = read(&place.at("file"), 6).unwrap_err();
            assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn a_lock_is_made_where_it_is_missing_and_keeps_what_is_in_it() {
        let place = Place::new();
        open_lock(&place.at("lock"), 0o600).unwrap();
        open_lock(&place.at("file"), 0o600).unwrap();
        assert_eq!(fs::read(place.at("file")).unwrap(), b"content");
    }
}
