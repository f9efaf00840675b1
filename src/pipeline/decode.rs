//! A stored object in; the plain bytes out.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::keys::NotOpened;
use super::plugin::joined;
use super::{BLOCK_BYTES, Buffer, Buffers, Identities, PluginFault};
use crate::model::ByteSize;

/// Blocks that may wait to be taken.
const QUEUE_BLOCKS: usize = 4;

/// How much [`decode_each`] shows at once, at most.
const PIECE_BYTES: usize = 128 << 10;

/// How much is decrypted at once: two of the chunks that age encrypts, and what zstd asks for.
const READ_AT_ONCE: usize = 128 << 10;

/// The longest age header that is read: room for hundreds of recipients, none for a file that is all header.
const HEADER_BYTES: u64 = 64 << 10;

/// How every zstd frame that has content begins.
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Whether a frame that begins with these bytes is one that zstd skips. Some programs put one first.
pub(crate) fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// How far back a zstd frame may refer: so much memory its reader needs, at most, on top of what is the same for all.
///
/// Others than our own are made by hand, with `zstd --long`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(u32);

impl Window {
    /// What a stored object needs at most, at level 19: 8 MiB.
    pub const STORED: Window = Window(23);
    /// What `zstd --long` makes, and `zstd -d` takes without being told: 128 MiB.
    pub const DEFAULT: Window = Window(27);
    /// The most that a frame can ask for on a 64-bit machine: 2 GiB.
    pub const LARGEST: Window = Window(31);

    /// The window whose length has this binary logarithm, from [`Window::DEFAULT`] to [`Window::LARGEST`].
    pub fn log(log: u32) -> Option<Window> {
        Some(Window(log)).filter(|window| (Self::DEFAULT..=Self::LARGEST).contains(window))
    }

    /// Its length.
    pub fn bytes(self) -> u64 {
        1 << self.0
    }
}

/// What opens an encrypted object.
#[derive(Clone, Copy)]
pub struct Unlock<'a> {
    /// The keys, one of which must fit.
    pub identities: &'a Identities,
    /// The largest window that is granted.
    pub window: Window,
}

impl<'a> Unlock<'a> {
    /// The keys, and the memory that a stored object needs.
    pub fn stored(identities: &'a Identities) -> Self {
        let window = Window::STORED;
        Unlock { identities, window }
    }
}

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
    /// The zstd frame in it needs more memory than is granted.
    #[error("its zstd frame needs more memory than the {} {}: it was made with a longer window",
        ByteSize(.granted.bytes()), if *.granted == Window::STORED { "of any backup that lifeboat makes" } else { "granted" })]
    Window {
        /// What is granted.
        granted: Window,
    },
    /// Plugins that might have opened it failed, and nothing else opens it.
    #[error("{}", joined(.0))]
    Plugins(Vec<PluginFault>),
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

/// Opens `stored` with whichever of the identities fits. What is not compressed comes out as it is: an age file that
/// somebody made by hand may hold anything.
///
/// Fails at once when none fits or the header is damaged; damage further on shows in [`Decoded::next_block`].
pub fn decode<R: Read + Send + 'static>(stored: R, unlock: Unlock<'_>) -> Result<Decoded, DecodeError> {
    let mut plain = opened(stored, unlock)?;
    let (sender, blocks) = crossbeam_channel::bounded(QUEUE_BLOCKS);
    let (spare, spares) = crossbeam_channel::bounded(QUEUE_BLOCKS);
    std::thread::spawn(move || {
        loop {
            let block = read_block(&mut plain, spares.try_recv().unwrap_or_default());
            let block = block.map_err(|error| explained(error, unlock.window)).transpose();
            let Some(block) = block else { return };
            let last = block.is_err();
            if sender.send(block).is_err() || last {
                return;
            }
        }
    });
    Ok(Decoded { blocks, spare })
}

/// The same on the thread that asks, for objects that are read beside others: `each` is shown the plain bytes, a piece at a
/// time, and may break off.
///
/// Fails where none of the identities fits, or where any byte is not what was stored: what `each` was shown counts for
/// nothing then.
pub fn decode_each<R: Read + Send>(
    stored: R,
    unlock: Unlock<'_>,
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, DecodeError> {
    let mut plain = opened(stored, unlock)?;
    // So small that it is still in the processor's cache when it is looked at.
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match plain.read(&mut piece) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Ok(read) => {
                if each(piece.get(..read).unwrap_or_default()).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(explained(error, unlock.window)),
        }
    }
}

/// The same in one piece, for an object that is in memory and at most `most` bytes long when it is
/// opened; none where it is longer. Nothing is copied on the way out of zstd, and the memory is one of `buffers`.
///
/// Fails where none of the identities fits, or where any byte is not what was stored.
pub fn decode_whole(
    stored: &[u8],
    unlock: Unlock<'_>,
    most: usize,
    buffers: &Buffers,
) -> Result<Option<Buffer>, DecodeError> {
    let (mut opened, is_zstd) = decrypted(stored, unlock)?;
    // No more than there is, as decryption adds nothing; and one byte more than may be shows that there are more.
    let mut inside = buffers.with_room(stored.len());
    if !is_zstd {
        let read = opened.take(most as u64 + 1).read_to_end(inside.bytes());
        read.map_err(broken)?;
        return Ok(Some(inside).filter(|inside| inside.len() <= most));
    }
    opened.read_to_end(inside.bytes()).map_err(broken)?;
    let mut zstd = zstd::bulk::Decompressor::new().map_err(broken)?;
    let mut plain = buffers.with_room(most);
    match zstd.decompress_to_buffer(&inside, plain.bytes()) {
        // There may have been more room than was asked for.
        Ok(_) => Ok(Some(plain).filter(|plain| plain.len() <= most)),
        Err(error) if error.to_string() == "Destination buffer is too small" => Ok(None),
        Err(error) => Err(explained(error, unlock.window)),
    }
}

/// The plain bytes, for whoever reads them.
fn opened<'r, R: Read + Send + 'r>(stored: R, unlock: Unlock<'_>) -> Result<Box<dyn Read + Send + 'r>, DecodeError> {
    let (opened, is_zstd) = decrypted(stored, unlock)?;
    match is_zstd {
        false => Ok(Box::new(opened)),
        true => {
            let mut zstd = zstd::Decoder::with_buffer(opened).map_err(broken)?;
            zstd.window_log_max(unlock.window.0).map_err(broken)?;
            Ok(Box::new(zstd))
        }
    }
}

/// What is encrypted in `stored`, and whether that is compressed.
fn decrypted<'r, R: Read + Send + 'r>(
    stored: R,
    unlock: Unlock<'_>,
) -> Result<(impl BufRead + Send + 'r, bool), DecodeError> {
    let allowance = Arc::new(AtomicU64::new(HEADER_BYTES));
    let stored = BufReader::with_capacity(
        64 << 10,
        Limited {
            inner: stored,
            allowance: allowance.clone(),
        },
    );
    let age = age::Decryptor::new_buffered(stored).map_err(refused)?;
    let mut opened = unlock.identities.open(age).map_err(|error| match error {
        NotOpened::Plugins(faults) => DecodeError::Plugins(faults),
        NotOpened::Age(error) => refused(error),
    })?;
    allowance.store(u64::MAX, Ordering::Relaxed);
    let mut head = Vec::with_capacity(ZSTD_MAGIC.len());
    let read = (&mut opened).take(ZSTD_MAGIC.len() as u64).read_to_end(&mut head);
    read.map_err(broken)?;
    let is_zstd = head == ZSTD_MAGIC || is_skippable_frame(&head);
    let opened = Cursor::new(head).chain(opened);
    Ok((BufReader::with_capacity(READ_AT_ONCE, opened), is_zstd))
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

fn read_block(from: &mut impl Read, mut block: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    fill(from, &mut block)?;
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

/// The same of what zstd says: that it needs more memory is no damage.
fn explained(error: io::Error, granted: Window) -> DecodeError {
    const ASKS_FOR_MORE: &str = "Frame requires too much memory for decoding";
    match error.to_string() == ASKS_FOR_MORE {
        true => DecodeError::Window { granted },
        false => broken(error),
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

    use super::super::{Encoder, Encoding, LAG_BUDGET, Observer};
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
            let mut encoder = Encoder::start(
                encoding.head().unwrap(),
                content.len() as u64,
                Nobody,
                vec![(Vec::new(), LAG_BUDGET)],
            );
            encoder.push(content).await.unwrap();
            let mut encoded = encoder.finish().await.unwrap();
            let stored = encoded.branches.remove(0).join().unwrap();
            assert_eq!(stored.len() as u64, encoded.stored_bytes);
            stored
        })
    }

    fn read_all(stored: Vec<u8>, identities: &Identities) -> Result<Vec<u8>, DecodeError> {
        read_within(stored, identities, Window::DEFAULT)
    }

    fn read_within(stored: Vec<u8>, identities: &Identities, window: Window) -> Result<Vec<u8>, DecodeError> {
        let mut decoded = decode(Cursor::new(stored), Unlock { identities, window })?;
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

    /// `content` as somebody who has age and zstd would store it.
    fn by_hand(identity: &age::x25519::Identity, content: &[u8], window_log: Option<u32>) -> Vec<u8> {
        let recipient: &dyn age::Recipient = &identity.to_public();
        let age = age::Encryptor::with_recipients([recipient].into_iter()).unwrap();
        let mut age = age.wrap_output(Vec::new()).unwrap();
        match window_log {
            None => age.write_all(content).unwrap(),
            Some(log) => {
                let mut zstd = zstd::Encoder::new(age, 1).unwrap();
                zstd.window_log(log).unwrap();
                zstd.write_all(content).unwrap();
                age = zstd.finish().unwrap();
            }
        }
        age.finish().unwrap()
    }

    #[test]
    fn an_object_gets_the_window_that_is_granted_and_no_larger_one() {
        let identity = age::x25519::Identity::generate();
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        let read_with_window = |log| {
            let stored = by_hand(
                &identity,
                b"small, but whoever reads it does not know that yet",
                Some(log),
            );
            read_all(stored, &identities)
        };
        assert!(read_with_window(27).is_ok());
        let error = read_with_window(28).unwrap_err();
        let says = "its zstd frame needs more memory than the 128 MiB granted: it was made with a longer window";
        assert_eq!(error.to_string(), says);
        assert_eq!(Window::log(23), None);
        assert_eq!(Window::log(26), None);
        assert_eq!(Window::log(31), Some(Window::LARGEST));
        assert_eq!(Window::log(32), None);
    }

    #[test]
    fn a_backup_of_any_level_needs_the_window_of_a_stored_object_and_what_needs_more_is_none() {
        let (mut encoding, identities) = keys();
        encoding.level = 19;
        // Longer than the window.
        let content = vec![7; 12 << 20];
        let stored = encode(&encoding, &content);
        assert!(read_within(stored.clone(), &identities, Window::STORED).unwrap() == content);
        assert!(
            read_within(stored, &identities, Window(22)).is_err(),
            "it is no larger than needed"
        );

        let identity = age::x25519::Identity::generate();
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        let error = read_within(by_hand(&identity, b"abc", Some(24)), &identities, Window::STORED).unwrap_err();
        let says = "its zstd frame needs more memory than the 8.00 MiB of any backup that lifeboat makes: it was made with a \
                    longer window";
        assert_eq!(error.to_string(), says);
    }

    #[test]
    fn a_frame_that_is_to_be_skipped_may_come_first() {
        let identity = age::x25519::Identity::generate();
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        let mut content = b"\x5a\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        content.extend(zstd::encode_all(&b"what it holds"[..], 1).unwrap());
        let stored = by_hand(&identity, &content, None);
        assert_eq!(read_all(stored, &identities).unwrap(), b"what it holds");
    }

    #[test]
    fn what_is_encrypted_but_not_compressed_comes_out_as_it_is() {
        let identity = age::x25519::Identity::generate();
        let identities = Identities::parse(identity.to_string().expose_secret().as_bytes(), "key").unwrap();
        for content in [&b""[..], b"abc", b"abcd", &[7; 3 * BLOCK_BYTES]] {
            let stored = by_hand(&identity, content, None);
            assert_eq!(read_all(stored, &identities).unwrap(), content);
        }
    }

    #[test]
    fn an_object_in_one_piece_is_what_it_is_block_by_block_and_no_longer_than_it_may_be() {
        let (encoding, identities) = keys();
        let unlock = Unlock::stored(&identities);
        for content in [vec![], vec![7; 300_000], (0..=255).cycle().take(9_999).collect()] {
            let stored = encode(&encoding, &content);
            let buffers = Buffers::default();
            let whole = |most| {
                let opened = decode_whole(&stored, unlock, most, &buffers).unwrap();
                opened.map(|plain| plain.to_vec())
            };
            assert_eq!(whole(content.len()).as_ref(), Some(&content));
            assert_eq!(whole(content.len() + 1).as_ref(), Some(&content));
            if let Some(most) = content.len().checked_sub(1) {
                assert_eq!(whole(most), None, "a byte too many");
                assert_eq!(whole(0), None);
            }
        }
        assert!(matches!(
            decode_whole(
                &encode(&encoding, b"x"),
                Unlock::stored(&keys().1),
                1,
                &Buffers::default()
            ),
            Err(DecodeError::WrongKey)
        ));
    }

    #[test]
    fn blocks_go_round_instead_of_being_made_anew() {
        let (encoding, identities) = keys();
        let stored = encode(&encoding, &vec![7; 64 * BLOCK_BYTES]);
        let mut decoded = decode(Cursor::new(stored), Unlock::stored(&identities)).unwrap();
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
            // In one piece it is found as well.
            let whole = decode_whole(&stored, Unlock::stored(identities), 1 << 20, &Buffers::default());
            prop_assert!(
                matches!(whole, Err(DecodeError::Damaged { .. } | DecodeError::WrongKey)),
                "{:?}",
                whole.map(|content| content.map(|content| content.len()))
            );
            match read_all(stored, identities) {
                Err(DecodeError::Damaged { .. } | DecodeError::WrongKey) => {}
                other => prop_assert!(false, "{:?}", other.map(|content| content.len())),
            }
        }
    }
}
