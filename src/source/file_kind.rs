//! What a file is that is no snapshot, by its first bytes, and how to get a snapshot out of it.
//!
//! People keep snapshots as archives and compressed files, and take a file beside the right one. Whoever is told what it
//! is need not guess.

use std::fmt;

use crate::datadir::wal;
use crate::etcd_settings::shell_word;
use crate::pipeline::is_skippable_frame;

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
        match after_skippable_frames(first) {
            rest if rest.len() == first.len() => FileKind::by_magic(first),
            rest => match FileKind::by_magic(rest) {
                Some(FileKind::Lz4) => Some(FileKind::Lz4),
                _ => Some(FileKind::Zstd),
            },
        }
    }

    fn by_magic(first: &[u8]) -> Option<FileKind> {
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

    /// The command of a shell that gets the snapshot out of `file`, where one does. A file that is `encrypted` holds this
    /// kind.
    pub fn command(self, file: &str, encrypted: bool) -> Option<String> {
        let word = match file.starts_with('-') {
            true => shell_word(&format!("./{file}")).into_owned(),
            false => shell_word(file).into_owned(),
        };
        // What was decrypted is read from a pipe, but for archives that have their directory at their end.
        let decrypt = encrypted.then(|| format!("age -d -i KEY {word}"));
        let piped = |unpack: &str| match &decrypt {
            Some(decrypt) => format!("{decrypt} | {unpack} -"),
            None => format!("{unpack} {word}"),
        };
        let from_file = |unpack: &str, unencrypted: &str| match &decrypt {
            Some(decrypt) => format!("{decrypt} > {unencrypted} && {unpack} {unencrypted}"),
            None => format!("{unpack} {word}"),
        };
        let unpack = match self {
            FileKind::Gzip => "gzip -dc",
            FileKind::Xz => "xz -dc",
            FileKind::Bzip2 => "bzip2 -dc",
            FileKind::Zstd => "zstd -dc --long=31",
            FileKind::Lz4 => "lz4 -dc",
            FileKind::Tar => return Some(piped("tar -xf")),
            FileKind::Zip => return Some(from_file("unzip", "snapshot.zip")),
            FileKind::SevenZip => return Some(from_file("7z x", "snapshot.7z")),
            // With `-f`, zstd passes on what is not compressed.
            FileKind::ArmoredAge => {
                let inner = piped("age -d -i KEY");
                return Some(format!("{inner} | zstd -dcf --long=31 > snapshot.db"));
            }
            FileKind::WriteAheadLog | FileKind::RaftSnapshot | FileKind::Json | FileKind::Html => return None,
        };
        let unpack = piped(unpack);
        Some(match holds_tar(file) {
            true => format!("{unpack} | tar -xf -"),
            false => format!("{unpack} > snapshot.db"),
        })
    }
}

/// Whether what is compressed in `file` is a tar archive, by its name.
fn holds_tar(file: &str) -> bool {
    const SHORT: [&str; 6] = [".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".tlz4"];
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.strip_suffix(".age").unwrap_or(name);
    name.contains(".tar.") || SHORT.iter().any(|ending| name.ends_with(ending))
}

/// What follows the frames that zstd and lz4 skip, such as `pzstd` and seekable zstd write. Nothing, where the last is not
/// all there.
///
/// Source: RFC 8878, 3.1.2.
fn after_skippable_frames(first: &[u8]) -> &[u8] {
    let mut rest = first;
    while let Some((header, content)) = rest.split_first_chunk::<8>()
        && is_skippable_frame(header)
    {
        let [.., a, b, c, d] = *header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        rest = content.get(length..).unwrap_or_default();
    }
    rest
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
    fn frames_that_are_to_be_skipped_are_looked_behind() {
        let skippable = |nibble: u8, content: &[u8]| {
            let mut frame = vec![0x50 | nibble, 0x2a, 0x4d, 0x18];
            frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
            frame.extend(content);
            frame
        };
        let zstd = [&skippable(0, b"\x83\x1e\x01\0")[..], b"\x28\xb5\x2f\xfd\x24"].concat();
        assert_eq!(FileKind::of(&zstd), Some(FileKind::Zstd));
        let two = [&skippable(15, b"")[..], &skippable(3, b"\x1f\x8b"), b"\x04\x22\x4d\x18"].concat();
        assert_eq!(FileKind::of(&two), Some(FileKind::Lz4));
        // Not all of it is in the first bytes.
        assert_eq!(FileKind::of(&skippable(0, &[7; 100])[..50]), Some(FileKind::Zstd));
        assert_eq!(FileKind::of(b"\x60\x2a\x4d\x18\0\0\0\0"), None);
    }

    #[test]
    fn the_command_unpacks_what_is_in_it() {
        let command = |kind: FileKind, file| kind.command(file, false).unwrap();
        assert_eq!(command(FileKind::Gzip, "s.db.gz"), "gzip -dc s.db.gz > snapshot.db");
        assert_eq!(command(FileKind::Gzip, "s.tar.gz"), "gzip -dc s.tar.gz | tar -xf -");
        assert_eq!(command(FileKind::Gzip, "s.tgz"), "gzip -dc s.tgz | tar -xf -");
        assert_eq!(command(FileKind::Xz, "s.txz"), "xz -dc s.txz | tar -xf -");
        assert_eq!(
            command(FileKind::Gzip, "a.tar.d/s.gz"),
            "gzip -dc a.tar.d/s.gz > snapshot.db"
        );
        assert_eq!(command(FileKind::Zip, "s.zip"), "unzip s.zip");
        assert_eq!(command(FileKind::Tar, "my/it's.tar"), r"tar -xf 'my/it'\''s.tar'");
        assert_eq!(command(FileKind::Gzip, "-x/s.gz"), "gzip -dc ./-x/s.gz > snapshot.db");
        let armored = "age -d -i KEY s.age | zstd -dcf --long=31 > snapshot.db";
        assert_eq!(command(FileKind::ArmoredAge, "s.age"), armored);
        assert_eq!(FileKind::Json.command("full.json", false), None);
    }

    #[test]
    fn what_is_encrypted_is_decrypted_first() {
        let command = |kind: FileKind, file| kind.command(file, true).unwrap();
        for (kind, file, expected) in [
            (
                FileKind::Gzip,
                "s.gz.age",
                "age -d -i KEY s.gz.age | gzip -dc - > snapshot.db",
            ),
            (
                FileKind::Gzip,
                "s.tar.gz.age",
                "age -d -i KEY s.tar.gz.age | gzip -dc - | tar -xf -",
            ),
            (
                FileKind::Gzip,
                "my s.tgz.age",
                "age -d -i KEY 'my s.tgz.age' | gzip -dc - | tar -xf -",
            ),
            (FileKind::Tar, "s.tar.age", "age -d -i KEY s.tar.age | tar -xf -"),
            (
                FileKind::Zip,
                "s.zip.age",
                "age -d -i KEY s.zip.age > snapshot.zip && unzip snapshot.zip",
            ),
            (
                FileKind::SevenZip,
                "s.age",
                "age -d -i KEY s.age > snapshot.7z && 7z x snapshot.7z",
            ),
            (
                FileKind::ArmoredAge,
                "s.age.age",
                "age -d -i KEY s.age.age | age -d -i KEY - | zstd -dcf --long=31 > snapshot.db",
            ),
        ] {
            assert_eq!(command(kind, file), expected);
        }
        assert_eq!(FileKind::Html.command("s.age", true), None);
    }
}
