//! What a file is that is no snapshot, by its first bytes, and how to get a snapshot out of it.
//!
//! People keep snapshots as archives and compressed files, and take a file beside the right one. Whoever is told what it
//! is need not guess.

use std::fmt;

use crate::datadir::wal;

/// A kind of file that is known by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Compressed by gzip; it may hold a tar archive.
    Gzip,
    /// Compressed by xz.
    Xz,
    /// Compressed by bzip2.
    Bzip2,
    /// Compressed by zstd, and not encrypted.
    Zstd,
    /// Compressed by lz4.
    Lz4,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
    /// A 7-Zip archive.
    SevenZip,
    /// An age file in its text form.
    ArmoredAge,
    /// A segment of etcd's write-ahead log.
    WriteAheadLog,
    /// A snapshot of etcd's log, as it lies beside the database: it holds no keys.
    RaftSnapshot,
    /// A JSON document, such as a backup's manifest.
    Json,
    /// A page of the web, such as an error of a proxy.
    Html,
}

impl FileKind {
    /// The kind of a file that begins with the bytes of `first`, if it is one of these.
    pub fn of(first: &[u8]) -> Option<FileKind> {
        const MAGICS: [(&[u8], FileKind); 8] = [
            (b"\x1f\x8b", FileKind::Gzip),
            (b"\xfd7zXZ\0", FileKind::Xz),
            (b"BZh", FileKind::Bzip2),
            (b"\x28\xb5\x2f\xfd", FileKind::Zstd),
            (b"\x04\x22\x4d\x18", FileKind::Lz4),
            (b"PK\x03\x04", FileKind::Zip),
            (b"7z\xbc\xaf\x27\x1c", FileKind::SevenZip),
            (b"-----BEGIN AGE ENCRYPTED FILE-----", FileKind::ArmoredAge),
        ];
        let by_magic = MAGICS.iter().find(|(magic, _)| first.starts_with(magic));
        if let Some((_, kind)) = by_magic {
            return Some(*kind);
        }
        if first.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) {
            return Some(FileKind::Tar);
        }
        if wal::identity(first).is_some() {
            return Some(FileKind::WriteAheadLog);
        }
        if is_raft_snapshot(first) {
            return Some(FileKind::RaftSnapshot);
        }
        let text = first.trim_ascii_start();
        match text.first()? {
            b'{' => Some(FileKind::Json),
            b'<' => Some(FileKind::Html),
            _ => None,
        }
    }

    /// The command that gets the snapshot out of `file`, where one does.
    pub fn command(self, file: &str) -> Option<String> {
        let is_tar = file.ends_with(".tgz") || file.contains(".tar.");
        let unpack = match self {
            FileKind::Gzip => "gzip -dc",
            FileKind::Xz => "xz -dc",
            FileKind::Bzip2 => "bzip2 -dc",
            FileKind::Zstd => "zstd -dc --long=31",
            FileKind::Lz4 => "lz4 -dc",
            FileKind::Tar => return Some(format!("tar -xf {file}")),
            FileKind::Zip => return Some(format!("unzip {file}")),
            FileKind::SevenZip => return Some(format!("7z x {file}")),
            FileKind::ArmoredAge => return Some(format!("age -d -i KEY {file} | zstd -d > snapshot.db")),
            FileKind::WriteAheadLog | FileKind::RaftSnapshot | FileKind::Json | FileKind::Html => return None,
        };
        Some(match is_tar {
            true => format!("{unpack} {file} | tar -xf -"),
            false => format!("{unpack} {file} > snapshot.db"),
        })
    }
}

/// Where the magic of a tar archive stands.
const TAR_MAGIC_AT: usize = 257;

/// `snappb.Snapshot`: a checksum as field 1, the data as field 2.
fn is_raft_snapshot(first: &[u8]) -> bool {
    let Some((0x08, rest)) = first.split_first().map(|(tag, rest)| (*tag, rest)) else {
        return false;
    };
    let checksum = rest.iter().take(5).take_while(|byte| **byte >= 0x80).count();
    rest.get(checksum + 1) == Some(&0x12)
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Gzip => "a file compressed with gzip",
            FileKind::Xz => "a file compressed with xz",
            FileKind::Bzip2 => "a file compressed with bzip2",
            FileKind::Zstd => "a file compressed with zstd",
            FileKind::Lz4 => "a file compressed with lz4",
            FileKind::Tar => "a tar archive",
            FileKind::Zip => "a zip archive",
            FileKind::SevenZip => "a 7-Zip archive",
            FileKind::ArmoredAge => "an age file in text form",
            FileKind::WriteAheadLog => "a segment of etcd's write-ahead log",
            FileKind::RaftSnapshot => "a snapshot of etcd's log (.snap), which holds no keys",
            FileKind::Json => "a JSON document, such as a backup's manifest",
            FileKind::Html => "a web page",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let mut tar = vec![b'x'; TAR_MAGIC_AT];
        tar.extend(b"ustar\x0000");
        for (first, kind) in [
            (&b"\x1f\x8b\x08\0"[..], FileKind::Gzip),
            (b"PK\x03\x04\x14\0", FileKind::Zip),
            (b"\xfd7zXZ\0\0\x04", FileKind::Xz),
            (b"\x28\xb5\x2f\xfd\x24", FileKind::Zstd),
            (b"BZh91AY", FileKind::Bzip2),
            (&tar, FileKind::Tar),
            (b"{\"format\":1,", FileKind::Json),
            (b"\n <!DOCTYPE html>", FileKind::Html),
        ] {
            assert_eq!(FileKind::of(first), Some(kind), "{first:?}");
        }
        for other in [&b""[..], b"hello", &[0; 4096], &[7; 4096]] {
            assert_eq!(FileKind::of(other), None);
        }
    }

    #[test]
    fn what_lies_beside_etcds_database_is_known() {
        let log = include_bytes!("../../tests/vectors/fixtures/official-restore-3.6/wal-first-4096");
        assert_eq!(FileKind::of(log), Some(FileKind::WriteAheadLog));
        let snapshot =
            include_bytes!("../../tests/vectors/fixtures/official-restore-3.6/0000000000000001-0000000000000003.snap");
        assert_eq!(FileKind::of(snapshot), Some(FileKind::RaftSnapshot));
        let database = include_bytes!("../../tests/vectors/fixtures/official-restore-3.6/db");
        assert_eq!(FileKind::of(database), None);
    }

    #[test]
    fn the_command_unpacks_what_is_in_it() {
        let command = |kind: FileKind, file| kind.command(file).unwrap();
        assert_eq!(command(FileKind::Gzip, "s.db.gz"), "gzip -dc s.db.gz > snapshot.db");
        assert_eq!(command(FileKind::Gzip, "s.tar.gz"), "gzip -dc s.tar.gz | tar -xf -");
        assert_eq!(command(FileKind::Gzip, "s.tgz"), "gzip -dc s.tgz | tar -xf -");
        assert_eq!(command(FileKind::Zip, "s.zip"), "unzip s.zip");
        assert_eq!(FileKind::Json.command("full.json"), None);
    }
}
