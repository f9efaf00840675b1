//! The journal's own protocol: an entry is one datagram of fields, or a sealed memory file where it is too large.
//!
//! Source: systemd's "Native Journal Protocol". Invariant: an entry is sent whole or not at all.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// How long the journal may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the stream that systemd connected with the journal is our standard error still: what systemd wrote into the
/// environment is inherited by programs whose standard error is another one.
pub(super) fn is_standard_error() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let own = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(found) = own.and_then(|own| own.metadata()) else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", found.dev(), found.ino()))
}

/// Adds a field to an entry. The name is of capital letters, digits and underscores.
pub(super) fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// Sends an entry to the journal that listens at `path`.
pub(super) fn send(path: &Path, entry: &[u8]) -> io::Result<()> {
    // A socket of its own for each: the journal may be another one since the last, and lines are few.
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    match socket.send_to(entry, path) {
        Ok(_) => Ok(()),
        Err(error) if is_too_large(&error) => send_file(&socket, path, entry),
        Err(error) => Err(error),
    }
}

fn is_too_large(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::EMSGSIZE | Errno::ENOBUFS))
}

/// The journal takes a memory file only if nobody can change it any more.
fn send_file(socket: &UnixDatagram, path: &Path, entry: &[u8]) -> io::Result<()> {
    let memory = memfd_create("lifeboat-entry", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?;
    let mut memory = File::from(memory);
    memory.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    let files = [memory.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&files)];
    let address = UnixAddr::new(path)?;
    let nothing = [IoSlice::new(&[])];
    sendmsg(
        socket.as_raw_fd(),
        &nothing,
        &control,
        MsgFlags::empty(),
        Some(&address),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn a_large_entry_comes_as_a_sealed_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut entry = Vec::new();
        field(&mut entry, "MESSAGE", &"x".repeat(8 << 20));
        send(&path, &entry).unwrap();

        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let received = recvmsg::<()>(journal.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
        assert_eq!(received.bytes, 0);
        let Some(ControlMessageOwned::ScmRights(files)) = received.cmsgs().unwrap().next() else {
            panic!("a file comes with it")
        };
        let file = File::open(format!("/proc/self/fd/{}", files[0])).unwrap();
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
        assert_ne!(seals & SealFlag::F_SEAL_WRITE.bits(), 0);
        assert!(io::read_to_string(file).unwrap().as_bytes() == entry);
    }

    #[test]
    fn nobody_there_is_an_error_and_a_journal_that_takes_nothing_does_not_hold_us_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(send(&path, b"MESSAGE=x\n").is_err());
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let refused = (0..100_000).map(|_| send(&path, b"MESSAGE=x\n")).find_map(Result::err);
        assert!(refused.is_some());
    }
}
