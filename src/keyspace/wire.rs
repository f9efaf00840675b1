//! The protocol buffer wire format, as far as etcd's records need it: a reader that borrows and a writer of fields.
//!
//! Which fields a message has, and whether a zero is written or left out, is left to each message's own module:
//! proto3 messages (mvccpb, leasepb) leave zeros out, etcd's proto2 messages (raftpb, walpb) write them.
//!
//! Invariant: reading never allocates and never panics, whatever the bytes.
//!
//! Source of the format: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are not a protocol buffer message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a varint has more than 64 bits")]
    Overlong,
    /// A tag that no writer of today makes: field number 0, too large a number, or a group.
    #[error("tag {0} names no field")]
    BadTag(u64),
    /// A known field in another encoding than its type has.
    #[error("field {0} has the wrong wire type")]
    WrongType(u32),
}

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field of a message: its number and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The field's bytes; an error if it is of another type.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(WireError::WrongType(self.number)),
        }
    }

    /// The field as an unsigned number; an error if it is of another type.
    pub(crate) fn uint64(self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(WireError::WrongType(self.number)),
        }
    }

    /// The field as a signed number (two's complement, not zigzag); an error if it is of another type.
    pub(crate) fn int64(self) -> Result<i64, WireError> {
        self.uint64().map(u64::cast_signed)
    }
}

/// The fields of a message in the order they are written. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte holds the 64th bit and nothing else.
            if index == 9 && byte > 1 {
                return Err(WireError::Overlong);
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(WireError::Truncated)
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::BadTag(tag))?;
        if number == 0 {
            return Err(WireError::BadTag(tag));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(fixed(self.take(8)?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(fixed(self.take(4)?) as u32),
            _ => return Err(WireError::BadTag(tag)),
        };
        Ok(Field { number, value })
    }
}

fn fixed(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Writes one number field, zero or not.
pub(crate) fn put_uint64(message: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(message, u64::from(number) << 3);
    put_varint(message, value);
}

/// Writes one signed number field, zero or not. A negative number takes ten bytes.
pub(crate) fn put_int64(message: &mut Vec<u8>, number: u32, value: i64) {
    put_uint64(message, number, value.cast_unsigned());
}

/// Writes one field of bytes, empty or not.
pub(crate) fn put_bytes(message: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(message, u64::from(number) << 3 | 2);
    put_varint(message, value.len() as u64);
    message.extend_from_slice(value);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_read_back_as_written() {
        let mut message = Vec::new();
        put_uint64(&mut message, 1, 0);
        put_int64(&mut message, 2, -1);
        put_bytes(&mut message, 20, b"");
        put_uint64(&mut message, 3, u64::MAX);
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(fields[0].uint64(), Ok(0));
        assert_eq!(fields[1].int64(), Ok(-1));
        assert_eq!(fields[2].bytes(), Ok(&b""[..]));
        assert_eq!(fields[2].number, 20);
        assert_eq!(fields[3].uint64(), Ok(u64::MAX));
        assert_eq!(fields[3].bytes(), Err(WireError::WrongType(3)));
    }

    #[test]
    fn broken_messages_say_why() {
        let first_error = |bytes: &[u8]| Fields::of(bytes).find_map(Result::err);
        let cases: [(&[u8], WireError); 9] = [
            (&[0x08], WireError::Truncated),
            (&[0x08, 0x80], WireError::Truncated),
            (&[0x0a, 2, 1], WireError::Truncated),
            (
                &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                WireError::Truncated,
            ),
            (&[0x09, 1, 2, 3], WireError::Truncated),
            (&[0x0d, 1, 2, 3], WireError::Truncated),
            (
                &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                WireError::Overlong,
            ),
            (&[0x00, 1], WireError::BadTag(0)),
            (&[0x0b], WireError::BadTag(11)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(first_error(bytes), Some(expected), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }

        #[test]
        fn any_number_reads_back(number in 1u32..=(1 << 29) - 1, value: u64) {
            let mut message = Vec::new();
            put_uint64(&mut message, number, value);
            let fields: Vec<_> = Fields::of(&message).collect();
            prop_assert_eq!(fields, vec![Ok(Field { number, value: Value::Varint(value) })]);
        }
    }
}
