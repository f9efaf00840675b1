//! The write-ahead log of a restored member: its first and only segment.
//!
//! ```text
//! crc 0 · metadata (member, cluster) · snapshot (0, 0) · entry per member · hard state · snapshot (N, term 1)
//! ```
//!
//! Each record is framed as `length u64 LE ‖ record ‖ zeros to a multiple of 8`; when there are zeros, the highest byte
//! of the length is 0x80 + their number. A length of 0 ends the log, so a preallocated tail of zeros may follow.
//! Checksums are CRC-32C, rolling over the data of all records.
//!
//! Invariant: members of one cluster differ in the metadata record and in the checksums after it, nowhere else.
//!
//! Source of the format: etcd `server/storage/wal/{encoder,wal}.go` and `walpb/record.proto` of 3.5.

use super::wal_reader::SegmentName;
use super::{Membership, raft};
use crate::keyspace::Member;
use crate::keyspace::wire::{Fields, put_bytes, put_uint64};
use crate::model::{ClusterId, MemberId};

/// The name of the segment in the directory of the log.
pub const FILE_NAME: &str = "0000000000000000-0000000000000000.wal";

/// How many bytes etcd preallocates for a segment; a shorter file is read just as well.
pub const SEGMENT_BYTES: u64 = 64_000_000;

/// Whether etcd would take a file of that name in the directory of the log for one of its own: the number of the segment
/// and the index of its first entry. Sorted, the names are in the order in which they were written.
pub fn is_segment(name: &str) -> bool {
    SegmentName::parse(name).is_some()
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RecordType {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

/// How much of a segment tells whose it is.
pub const HEAD_BYTES: u64 = 4 << 10;

/// Whose log it is, from the beginning of any segment: each begins with a checksum and the metadata. `None` if these are
/// not there, or not whole.
pub fn identity(head: &[u8]) -> Option<(ClusterId, MemberId)> {
    let (mut rest, mut rolling) = (head, 0);
    loop {
        let (word, after) = rest.split_first_chunk::<8>()?;
        let word = u64::from_le_bytes(*word);
        let len = usize::try_from(word & 0x00ff_ffff_ffff_ffff).ok()?;
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        let (record, after) = after.split_at_checked(len)?;
        rest = after.get(padding..)?;
        let (mut record_type, mut crc, mut data) = (0, 0, &[][..]);
        for field in Fields::of(record) {
            let field = field.ok()?;
            match field.number {
                1 => record_type = field.int64().ok()?,
                2 => crc = field.uint64().ok()?,
                3 => data = field.bytes().ok()?,
                _ => {}
            }
        }
        match record_type {
            // A later segment goes on with the checksum of the one before.
            4 => rolling = u32::try_from(crc).ok()?,
            1 if u64::from(crc32c::crc32c_append(rolling, data)) == crc => return ids(data),
            _ => return None,
        }
    }
}

/// `etcdserverpb.Metadata`: the member's id and its cluster's.
pub(super) fn ids(metadata: &[u8]) -> Option<(ClusterId, MemberId)> {
    let (mut member, mut cluster) = (None, None);
    for field in Fields::of(metadata) {
        let field = field.ok()?;
        match field.number {
            1 => member = Some(MemberId(field.uint64().ok()?)),
            2 => cluster = Some(ClusterId(field.uint64().ok()?)),
            _ => {}
        }
    }
    cluster.zip(member)
}

/// The records of the segment of `own`, which is one of the members.
#[must_use]
pub fn first_segment(membership: &Membership, own: &Member) -> Vec<u8> {
    let mut segment = Segment::default();
    segment.push(RecordType::Crc, None);
    let mut metadata = Vec::new();
    put_uint64(&mut metadata, 1, own.id.0);
    put_uint64(&mut metadata, 2, membership.cluster_id().0);
    segment.push(RecordType::Metadata, Some(&metadata));
    segment.push(RecordType::Snapshot, Some(&snapshot(0, 0, None)));
    for (index, member) in (1..).zip(membership.members()) {
        segment.push(RecordType::Entry, Some(&raft::add_member(member, index)));
    }
    segment.push(RecordType::State, Some(&raft::hard_state(membership)));
    let conf_state = raft::conf_state(membership);
    let snapshot = snapshot(raft::last_index(membership), raft::TERM, Some(&conf_state));
    segment.push(RecordType::Snapshot, Some(&snapshot));
    segment.bytes
}

/// `walpb.Snapshot`: up to here the log is covered by a `.snap` file.
fn snapshot(index: u64, term: u64, conf_state: Option<&[u8]>) -> Vec<u8> {
    let mut snapshot = Vec::new();
    put_uint64(&mut snapshot, 1, index);
    put_uint64(&mut snapshot, 2, term);
    if let Some(conf_state) = conf_state {
        put_bytes(&mut snapshot, 3, conf_state);
    }
    snapshot
}

/// Records in the making.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    pub(super) crc: u32,
}

impl Segment {
    pub(super) fn push(&mut self, record_type: RecordType, data: Option<&[u8]>) {
        self.crc = crc32c::crc32c_append(self.crc, data.unwrap_or_default());
        let record = raft::record(record_type as i64, self.crc, data);
        let padding = record.len().wrapping_neg() % 8;
        let mark = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        self.bytes
            .extend_from_slice(&(record.len() as u64 | mark << 56).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadir::InitialCluster;
    use crate::datadir::snap::tests::{fixture, members_of_the_fixtures};

    fn segment() -> Vec<u8> {
        let membership = members_of_the_fixtures();
        first_segment(&membership, membership.member("m2").unwrap())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A record as read back: offset, length, padding, type, rolling checksum, data.
    #[derive(Debug, PartialEq)]
    struct Record {
        offset: usize,
        len: usize,
        padding: usize,
        record_type: u64,
        crc: u32,
        data: Vec<u8>,
    }

    /// Reads a log up to its end, checking frames and checksums on the way.
    fn records(bytes: &[u8]) -> Vec<Record> {
        let (mut records, mut offset, mut rolling) = (Vec::new(), 0, 0);
        while offset + 8 <= bytes.len() {
            let word = u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
            if word == 0 {
                break;
            }
            let len = (word & 0x00ff_ffff_ffff_ffff) as usize;
            let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
            assert_eq!((len + padding) % 8, 0);
            let (mut record_type, mut crc, mut data) = (0, 0, Vec::new());
            for field in Fields::of(&bytes[offset + 8..][..len]) {
                let field = field.unwrap();
                match field.number {
                    1 => record_type = field.uint64().unwrap(),
                    2 => crc = field.uint64().unwrap() as u32,
                    3 => data = field.bytes().unwrap().to_vec(),
                    other => panic!("field {other}"),
                }
            }
            rolling = crc32c::crc32c_append(rolling, &data);
            assert_eq!(crc, rolling, "record at {offset}");
            records.push(Record {
                offset,
                len,
                padding,
                record_type,
                crc,
                data,
            });
            offset += 8 + len + padding;
        }
        records
    }

    /// A message's fields, those that are zero left out: what the official tool of 3.7 does not write.
    fn without_zeros(message: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let fields = Fields::of(message).map(Result::unwrap);
        let text = |field: crate::keyspace::wire::Field<'_>| match field.bytes() {
            Ok(bytes) => bytes.to_vec(),
            Err(_) => field.uint64().unwrap().to_string().into_bytes(),
        };
        fields
            .map(|field| (field.number, text(field)))
            .filter(|(_, value)| value != b"0")
            .collect()
    }

    #[test]
    fn only_names_as_etcd_gives_them_are_segments() {
        for name in [FILE_NAME, "00000000000000ff-00000000000f4240.wal"] {
            assert!(is_segment(name), "{name}");
        }
        for name in [
            "z.wal",
            "0.wal",
            "0.tmp",
            "0000000000000000-0000000000000000.wal.broken",
            "0000000000000000-000000000000000.wal",
            "000000000000000G-0000000000000000.wal",
            "0000000000000000_0000000000000000.wal",
        ] {
            assert!(!is_segment(name), "{name}");
        }
    }

    #[test]
    fn a_log_tells_whose_it_is_and_no_bytes_make_it_panic() {
        let membership = members_of_the_fixtures();
        let own = membership.member("m2").unwrap().id;
        let segment = segment();
        assert_eq!(identity(&segment), Some((membership.cluster_id(), own)));
        assert_eq!(identity(&segment[..60]), Some((membership.cluster_id(), own)));
        // A later segment of a real log begins with the checksum of the one before.
        let mut later = Segment {
            crc: 0x1234_5678,
            ..Segment::default()
        };
        later.push(RecordType::Crc, None);
        let mut metadata = Vec::new();
        put_uint64(&mut metadata, 1, 5);
        put_uint64(&mut metadata, 2, 6);
        later.push(RecordType::Metadata, Some(&metadata));
        assert_eq!(identity(&later.bytes), Some((ClusterId(6), MemberId(5))));
        for cut in 0..56 {
            assert_eq!(identity(&segment[..cut]), None, "cut at {cut}");
        }
        for at in 0..56 {
            let mut broken = segment.clone();
            broken[at] ^= 0x55;
            assert_ne!(identity(&broken), Some((ClusterId(0), MemberId(0))), "at {at}");
        }
        assert_eq!(identity(&[0xff; 64]), None);
    }

    #[test]
    fn records_stand_where_the_official_tool_puts_them() {
        let segment = segment();
        let places: Vec<_> = records(&segment)
            .iter()
            .map(|r| format!("{}/{}/{}/{}/{:08x}", r.offset, r.len, r.padding, r.record_type, r.crc))
            .collect();
        assert_eq!(
            places,
            [
                "0/4/4/4/00000000",
                "16/30/2/1/4f8fbe6b",
                "56/14/2/5/99f09080",
                "80/109/3/2/29761947",
                "200/110/2/2/72287f23",
                "320/112/0/2/e934bdfa",
                "440/24/0/3/c78ba099",
                "472/49/7/5/569c30b4",
            ]
        );
        assert_eq!(segment.len(), 536);
        assert_eq!(
            hex(&segment[..80]),
            "040000000000008408041000000000001e00000000000082080110ebfcbefc041a140884b7f093a0ce87fe0a\
             10dba1bff0e1eca89c3b00000e0000000000008208051080a1c2cf091a04080010000000"
        );
        assert_eq!(
            hex(&segment[80..200]),
            "6d00000000000083080210c7b2d8cb021a63080110011801225b080010001884b7f093a0ce87fe0a224b7b226964223a\
             3739313534313130393532373135373633362c227065657255524c73223a5b22687474703a2f2f3132372e302e302e31\
             3a3233383032225d2c226e616d65223a226d32227d000000"
        );
        assert_eq!(
            hex(&segment[440..]),
            "18000000000000000803\
             1099c1aebc0c1a0e08011084b7f093a0ce87fe0a18033100000000000087080510b4e1f0b4051a27080310011a21\
             0884b7f093a0ce87fe0a08a6d7a8c4e699fba8450883edded4a4b4caa1b401280000000000000000"
        );
    }

    #[test]
    fn the_log_equals_those_of_3_5_and_3_6_to_the_letter() {
        let mut segment = segment();
        segment.resize(4096, 0);
        for line in ["3.5", "3.6"] {
            assert!(fixture(line, "wal-first-4096") == segment, "official log of {line}");
        }
    }

    #[test]
    fn the_log_equals_that_of_3_4_but_for_the_voters_in_its_last_record() {
        let official = records(&fixture("3.4", "wal-first-4096"));
        let mut ours = records(&segment());
        let last = ours.last_mut().unwrap();
        assert!(last.data.starts_with(&official.last().unwrap().data));
        *last = Record {
            offset: 472,
            len: 14,
            padding: 2,
            record_type: 5,
            crc: 0x2672_742c,
            data: last.data[..4].to_vec(),
        };
        assert_eq!(official, ours);
    }

    #[test]
    fn the_log_equals_that_of_3_7_but_for_zeros_it_leaves_out() {
        let official = records(&fixture("3.7", "wal-first-4096"));
        let ours = records(&segment());
        assert_eq!(official.len(), ours.len());
        for (official, ours) in official.iter().zip(&ours) {
            assert_eq!(official.record_type, ours.record_type);
            // The message that leaves zeros out is the last one inside: a conf change, or the voters.
            let inner = match ours.record_type {
                2 => Some(4),
                5 => Some(3),
                _ => None,
            };
            let decoded = |data: &[u8]| -> Vec<_> {
                let outer = without_zeros(data).into_iter();
                outer
                    .map(|(number, value)| match inner {
                        Some(inner) if inner == number => (number, without_zeros(&value)),
                        _ => (number, vec![(0, value)]),
                    })
                    .collect()
            };
            assert_eq!(decoded(&official.data), decoded(&ours.data));
        }
    }

    #[test]
    fn members_differ_in_nothing_but_their_own_id() {
        let membership = members_of_the_fixtures();
        let [a, b] = ["m1", "m3"].map(|name| records(&first_segment(&membership, membership.member(name).unwrap())));
        let data = |records: &[Record]| records.iter().map(|record| record.data.clone()).collect::<Vec<_>>();
        let differing = data(&a).iter().zip(data(&b)).filter(|(a, b)| *a != b).count();
        assert_eq!((a.len(), differing), (8, 1));
        assert_ne!(a[1].data, b[1].data);
    }

    #[test]
    fn a_log_of_any_number_of_members_reads_back() {
        for count in [1u16, 2, 9, 40] {
            let cluster = (1..=count).map(|n| (format!("m{n}"), format!("http://10.0.0.1:{n}").parse().unwrap()));
            let membership = Membership::new(&InitialCluster::new(cluster).unwrap(), "t").unwrap();
            let records = records(&first_segment(&membership, &membership.members()[0]));
            assert_eq!(records.len(), usize::from(count) + 5);
        }
    }
}
