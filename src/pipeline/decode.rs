//! A stored object in; the plain bytes out.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::{BLOCK_BYTES, Identities};

/// Blocks that may wait to be taken.
const QUEUE_BLOCKS: usize = 4;

/// The longest age header that is read: room for hundreds of recipients, none for a file that is all header.
const HEADER_BYTES: u64 = 64 << 10;

/// The binary logarithm of the largest window that is granted: what zstd's levels up to 19 need, and not the 128 MiB
/// that an object may ask for otherwise.
const WINDOW_LOG_MAX: u32 = 23;

/// Why an object does not open or breaks off.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// None of the identities is one of the recipients.
    #[error("none of the given identities opens it")]
    WrongKey,
    /// The bytes are not what was stored.
    #[error("the {stage} are damaged: {reason}")]
    Damaged {
        /// The layer that noticed.
        stage: &'static str,
        /// What it said.
        reason: String,
    },
    /// The bytes could not be read at all.
    #[error("reading: {0}")]
    Read(#[source] io::Error),
}

/// The plain bytes of an object, made on a thread of its own and handed over in blocks.
#[must_use]
pub struct Decoded {
    blocks: Receiver<Result<Vec<u8>, DecodeError>>,
    spare: Sender<Vec<u8>>,
}

impl Decoded {
    /// Puts the next bytes, at most [`BLOCK_BYTES`], in place of what `block` holds; `false`, and an empty block, at the
    /// end, when the whole object was read and authenticated.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<bool, DecodeError> {
        let Ok(next) = self.blocks.recv() else {
            block.clear();
            return Ok(false);
        };
        let used = std::mem::replace(block, next?);
        // The memory goes round; when there is enough of it on its way, this is freed.
        self.spare.try_send(used).ok();
        Ok(true)
    }
}

/// Opens `stored` with whichever of `identities` fits.
///
/// Fails at once when none fits or the header is damaged; damage further on shows in [`Decoded::next_block`].
pub fn decode<R: Read + Send + 'static>(stored: R, identities: &Identities) -> Result<Decoded, DecodeError> {
    let allowance = Arc::new(AtomicU64::new(HEADER_BYTES));
    let stored = BufReader::with_capacity(
        64 << 10,
        Limited {
            inner: stored,
            allowance: allowance.clone(),
        },
    );
    let age = age::Decryptor::new_buffered(stored).map_err(refused)?;
    let plain = age.decrypt(identities.as_age()).map_err(refused)?;
    allowance.store(u64::MAX, Ordering::Relaxed);
    let mut zstd = zstd::Decoder::new(plain).map_err(broken)?;
    zstd.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
    let (sender, blocks) = crossbeam_channel::bounded(QUEUE_BLOCKS);
    let (spare, spares) = crossbeam_channel::bounded(QUEUE_BLOCKS);
    std::thread::spawn(move || {
        loop {
            let block = read_block(&mut zstd, spares.try_recv().unwrap_or_default()).transpose();
            let Some(block) = block else { return };
            let last = block.is_err();
            if sender.send(block).is_err() || last {
                return;
            }
        }
    });
    Ok(Decoded { blocks, spare })
}

/// Reads the next [`BLOCK_BYTES`] into `block`, in place of what it holds; fewer, or none, only at the end.
pub(crate) fn fill(from: &mut impl Read, block: &mut Vec<u8>) -> io::Result<()> {
    // A block that was full before need not be zeroed again.
    block.resize(BLOCK_BYTES, 0);
    let mut filled = 0;
    while filled < block.len() {
        match from.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    block.truncate(filled);
    Ok(())
}

fn read_block(from: &mut impl Read, mut block: Vec<u8>) -> Result<Option<Vec<u8>>, DecodeError> {
    fill(from, &mut block).map_err(broken)?;
    Ok(Some(block).filter(|block| !block.is_empty()))
}

fn refused(error: age::DecryptError) -> DecodeError {
    match error {
        age::DecryptError::NoMatchingKeys => DecodeError::WrongKey,
        age::DecryptError::Io(error) => broken(error),
        other => DecodeError::Damaged {
            stage: "first bytes",
            reason: other.to_string().lines().next().unwrap_or_default().to_lowercase(),
        },
    }
}

/// An error of the operating system means that reading failed; any other that the bytes are wrong.
fn broken(error: io::Error) -> DecodeError {
    if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::TimedOut {
        return DecodeError::Read(error);
    }
    DecodeError::Damaged {
        stage: "stored bytes",
        reason: match error.kind() {
            io::ErrorKind::UnexpectedEof => "they end too early".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// Ends a stream at the header's allowance, which is lifted once the header has been read.
struct Limited<R> {
    inner: R,
    allowance: Arc<AtomicU64>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.load(Ordering::Relaxed);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if left != u64::MAX {
            self.allowance.store(left - read as u64, Ordering::Relaxed);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use age::secrecy::ExposeSecret;
    use proptest::prelude::*;

    use super::super::{Encoder, Encoding, Observer};
    use super::*;

    struct Nobody;
    impl Observer for Nobody {
        fn observe(&mut self, _bytes: &[u8]) {}
    }

    fn keys() -> (Encoding, Identities) {
        let identity = age::x25519::Identity::generate();
        let encoding = Encoding {
            level: 3,
            threads: 2,
            recipients: vec![identity.to_public().to_string().parse().unwrap()],
            stall_limit: Duration::from_secs(60),
        };
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        (encoding, identities)
    }

    fn encode(encoding: &Encoding, content: &[u8]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut encoder = Encoder::start(encoding, content.len() as u64, Nobody, vec![Vec::new()]).unwrap();
            encoder.push(content).await.unwrap();
            let mut encoded = encoder.finish().await.unwrap();
            let stored = encoded.branches.remove(0).unwrap();
            assert_eq!(stored.len() as u64, encoded.stored_bytes);
            stored
        })
    }

    fn read_all(stored: Vec<u8>, identities: &Identities) -> Result<Vec<u8>, DecodeError> {
        let mut decoded = decode(io::Cursor::new(stored), identities)?;
        let (mut content, mut block) = (Vec::new(), Vec::new());
        while decoded.next_block(&mut block)? {
            content.extend_from_slice(&block);
        }
        Ok(content)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (encoding, identities) = keys();
        for bytes in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 5 * BLOCK_BYTES + 17] {
            let content: Vec<u8> = (0..bytes).map(|i| (i % 251 * (i / 9973)) as u8).collect();
            assert_eq!(read_all(encode(&encoding, &content), &identities).unwrap(), content);
        }
    }

    #[test]
    fn another_key_does_not_open_it() {
        let (encoding, _) = keys();
        let (_, others) = keys();
        let error = read_all(encode(&encoding, b"secret"), &others).unwrap_err();
        assert!(matches!(error, DecodeError::WrongKey), "{error}");
    }

    #[test]
    fn a_file_that_is_all_header_is_refused_early() {
        let (_, identities) = keys();
        let mut stored = b"age-encryption.org/v1\n".to_vec();
        while stored.len() < 3 * HEADER_BYTES as usize {
            stored.extend(b"-> X25519 aaaa\naaaa\n");
        }
        let error = read_all(stored, &identities).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { .. }), "{error}");
    }

    #[test]
    fn an_object_gets_no_larger_window_than_our_levels_need() {
        let identity = age::x25519::Identity::generate();
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        let read_with_window = |window_log| {
            let recipient: &dyn age::Recipient = &identity.to_public();
            let age = age::Encryptor::with_recipients([recipient].into_iter()).unwrap();
            let mut zstd = zstd::Encoder::new(age.wrap_output(Vec::new()).unwrap(), 1).unwrap();
            zstd.window_log(window_log).unwrap();
            zstd.write_all(b"small, but whoever reads it does not know that yet")
                .unwrap();
            read_all(zstd.finish().unwrap().finish().unwrap(), &identities)
        };
        assert!(read_with_window(WINDOW_LOG_MAX).is_ok());
        let error = read_with_window(WINDOW_LOG_MAX + 1).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { .. }), "{error}");
    }

    #[test]
    fn blocks_go_round_instead_of_being_made_anew() {
        let (encoding, identities) = keys();
        let stored = encode(&encoding, &vec![7; 64 * BLOCK_BYTES]);
        let mut decoded = decode(io::Cursor::new(stored), &identities).unwrap();
        // A block is known by its capacity, which nobody else gives one.
        const MARK: usize = 3 * BLOCK_BYTES;
        let (mut block, mut came_back) = (Vec::with_capacity(MARK), 0);
        while decoded.next_block(&mut block).unwrap() {
            came_back += usize::from(block.capacity() >= MARK);
        }
        assert!(came_back > 1, "it came back {came_back} times");
    }

    /// One object for all cases: what is tested is the reading.
    fn sample() -> &'static (Vec<u8>, Identities) {
        static SAMPLE: std::sync::OnceLock<(Vec<u8>, Identities)> = std::sync::OnceLock::new();
        SAMPLE.get_or_init(|| {
            let (encoding, identities) = keys();
            let content: Vec<u8> = (0..50_000u32)
                .flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes())
                .collect();
            (encode(&encoding, &content), identities)
        })
    }

    proptest! {
        #[test]
        fn damage_is_always_found(flip in 0usize..4096, bit in 0u8..8, cut in prop::option::of(0usize..4096)) {
            let (stored, identities) = sample();
            let mut stored = stored.clone();
            match cut {
                Some(cut) => stored.truncate(stored.len() - 1 - cut * stored.len() / 5000),
                None => {
                    let at = flip * stored.len() / 4096;
                    stored[at] ^= 1 << bit;
                }
            }
            match read_all(stored, identities) {
                Err(DecodeError::Damaged { .. } | DecodeError::WrongKey) => {}
                other => prop_assert!(false, "{:?}", other.map(|content| content.len())),
            }
        }
    }
}
