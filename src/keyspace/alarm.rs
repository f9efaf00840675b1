//! Bucket `alarm`: alarms that are raised. The record is the key; the value is empty.
//!
//! Source of the format: etcd `api/etcdserverpb/rpc.proto` (`AlarmMember`) and `server/storage/schema/alarm.go` of 3.5.

use std::fmt;

use super::wire::{Fields, WireError};
use crate::model::MemberId;

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// The space quota is used up; the cluster takes no more writes.
    NoSpace,
    /// A member found its data different from the others'.
    Corrupt,
    /// A kind that this version does not know, by its number.
    Other(u64),
}

impl AlarmKind {
    /// The kind of that number.
    pub(super) fn of(number: u64) -> AlarmKind {
        match number {
            1 => AlarmKind::NoSpace,
            2 => AlarmKind::Corrupt,
            other => AlarmKind::Other(other),
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AlarmKind::NoSpace => f.write_str("NOSPACE"),
            AlarmKind::Corrupt => f.write_str("CORRUPT"),
            AlarmKind::Other(number) => write!(f, "alarm {number}"),
        }
    }
}

/// One raised alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// The member that raised it.
    pub member: MemberId,
    /// What it is about.
    pub kind: AlarmKind,
}

impl Alarm {
    /// Reads the key of an entry; unknown fields are passed over.
    pub fn decode(key: &[u8]) -> Result<Self, WireError> {
        let (mut member, mut kind) = (0, 0);
        for field in Fields::of(key) {
            let field = field?;
            match field.number {
                1 => member = field.uint64()?,
                2 => kind = field.uint64()?,
                _ => {}
            }
        }
        Ok(Alarm {
            member: MemberId(member),
            kind: AlarmKind::of(kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_read_from_its_key() {
        let alarm = Alarm::decode(&[0x08, 0x05, 0x10, 0x01]).unwrap();
        assert_eq!(
            alarm,
            Alarm {
                member: MemberId(5),
                kind: AlarmKind::NoSpace
            }
        );
        assert_eq!(alarm.kind.to_string(), "NOSPACE");
        assert_eq!(Alarm::decode(&[0x10, 0x09]).unwrap().kind, AlarmKind::Other(9));
        assert!(Alarm::decode(&[0x10]).is_err());
    }
}
