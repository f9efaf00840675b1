//! Numbers of bytes, as they are written and read.

use std::fmt;
use std::str::FromStr;

use super::Invalid;

/// A number of bytes. Text needs a unit (`64 MiB`, `1.5 GB`, `10 B`), and is printed with three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = BYTE_UNITS[..4]
            .iter()
            .find(|(_, size)| self.0 >= *size)
            .unwrap_or(&BYTE_UNITS[8]);
        if *size == 1 {
            return f.pad(&format!("{} B", self.0));
        }
        let value = self.0 as f64 / *size as f64;
        let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.decimals$} {unit}"))
    }
}

impl FromStr for ByteSize {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: &str = "a size with a unit (such as \"64 MiB\" or \"1.5 GB\")";
        let invalid = || Invalid::new(text, EXPECTED);
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let (number, unit) = trimmed.split_at(split);
        let (_, size) = BYTE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
            .ok_or_else(invalid)?;
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let bytes = number * *size as f64;
        if !(0.0..9.0e18).contains(&bytes) {
            return Err(invalid());
        }
        Ok(ByteSize(bytes.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("64 MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("1.5GB".parse(), Ok(ByteSize(1_500_000_000)));
        assert!("64".parse::<ByteSize>().is_err());
        assert!("MiB".parse::<ByteSize>().is_err());
        assert_eq!(ByteSize(0).to_string(), "0 B");
        assert_eq!(ByteSize(1_364_000_000).to_string(), "1.27 GiB");
        assert_eq!(ByteSize(33_000_000).to_string(), "31.5 MiB");
    }
}
