//! What a store that speaks S3 says of the bytes that it took, and whether they are those that were sent.
//!
//! By its ETag, which is the MD5 of the bytes, or of the MD5s of all parts; or, where it is neither (some encrypt with keys of
//! their own), by the CRC-32C that it tells of an object when it is asked: of all bytes, or of the CRC-32Cs of all parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

/// What was sent, part by part.
pub(super) struct Sent {
    part_size: usize,
    in_part: usize,
    part: Md5,
    part_crc: u32,
    /// Those of the parts that are full.
    parts: Vec<[u8; 16]>,
    part_crcs: Vec<u32>,
    crc: u32,
}

impl Sent {
    /// Nothing yet; it will be sent in parts of so many bytes.
    pub fn new(part_size: usize) -> Sent {
        Sent {
            part_size: part_size.max(1),
            in_part: 0,
            part: Md5::new(),
            part_crc: 0,
            parts: Vec::new(),
            part_crcs: Vec::new(),
            crc: 0,
        }
    }

    /// Takes more in.
    pub fn take(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.in_part == self.part_size {
                self.end_part();
            }
            let (now, later) = rest.split_at(rest.len().min(self.part_size - self.in_part));
            self.part.update(now);
            self.part_crc = crc32c::crc32c_append(self.part_crc, now);
            self.in_part += now.len();
            rest = later;
        }
    }

    fn end_part(&mut self) {
        self.parts.push(std::mem::take(&mut self.part).finalize().into());
        self.part_crcs.push(std::mem::take(&mut self.part_crc));
        self.in_part = 0;
    }

    /// All of it was sent.
    pub fn end(mut self) -> Whole {
        // Of nothing there is one part, which is empty.
        self.end_part();
        Whole {
            parts: self.parts,
            part_crcs: self.part_crcs,
            crc: self.crc,
        }
    }
}

/// All that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    parts: Vec<[u8; 16]>,
    part_crcs: Vec<u32>,
    crc: u32,
}

impl Whole {
    /// Whether an ETag is that of these bytes. Another one may be none of any bytes.
    pub fn has_etag(&self, etag: &str) -> bool {
        let told = etag.trim_matches('"').to_ascii_lowercase();
        let of_parts = Md5::digest(self.parts.concat());
        let in_parts = format!("{}-{}", hex(&of_parts), self.parts.len());
        match self.parts.as_slice() {
            [whole] => told == hex(whole) || told == in_parts,
            _ => told == in_parts,
        }
    }

    /// Whether a CRC-32C that a store tells is that of these bytes.
    pub fn has_crc32c(&self, told: &str) -> bool {
        let bytes: Vec<u8> = self.part_crcs.iter().flat_map(|crc| crc.to_be_bytes()).collect();
        let of_parts = BASE64.encode(crc32c::crc32c(&bytes).to_be_bytes());
        told == BASE64.encode(self.crc.to_be_bytes())
            || told == of_parts
            || told == format!("{of_parts}-{}", self.part_crcs.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(part_size: usize, blocks: &[&[u8]]) -> Whole {
        let mut sent = Sent::new(part_size);
        blocks.iter().for_each(|block| sent.take(block));
        sent.end()
    }

    #[test]
    fn parts_are_where_they_are_sent_however_the_bytes_come() {
        let content = b"0123456789abcdef01";
        for part_size in [1, 4, 6, 9, 18, 100] {
            let whole = sent(part_size, &[content]);
            assert_eq!(whole.parts.len(), content.len().div_ceil(part_size));
            for cut in [1, 4, 9, 17] {
                let (one, other) = content.split_at(cut);
                assert_eq!(sent(part_size, &[one, other]), whole);
            }
        }
    }

    #[test]
    fn what_stores_tell_of_bytes_is_known() {
        // `md5sum`, and what `aws s3api` shows of an upload in two parts.
        let one = sent(100, &[b"hello"]);
        assert!(one.has_etag("\"5d41402abc4b2a76b9719d911017c592\""));
        assert!(one.has_etag("5D41402ABC4B2A76B9719D911017C592"));
        assert!(one.has_crc32c("mnG7TA=="));
        assert!(sent(5, &[]).has_etag("d41d8cd98f00b204e9800998ecf8427e"), "nothing");
        let two = sent(5, &[b"hello", b"world"]);
        let of_parts = [Md5::digest(b"hello"), Md5::digest(b"world")].concat();
        let etag = format!("\"{}-2\"", hex(&Md5::digest(of_parts)));
        assert!(two.has_etag(&etag));
        let crcs: Vec<u8> = [b"hello", b"world"]
            .iter()
            .flat_map(|part| crc32c::crc32c(*part).to_be_bytes())
            .collect();
        let composite = BASE64.encode(crc32c::crc32c(&crcs).to_be_bytes());
        assert!(two.has_crc32c(&format!("{composite}-2")));
        assert!(two.has_crc32c(&BASE64.encode(crc32c::crc32c(b"helloworld").to_be_bytes())));
        for other in [
            "",
            "\"0\"",
            "5d41402abc4b2a76b9719d911017c592",
            &format!("{}-3", &etag[1..33]),
        ] {
            assert!(!two.has_etag(other) && !two.has_crc32c(other), "{other}");
        }
    }
}
