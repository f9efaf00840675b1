//! Access control lists, as `setfacl` makes them and the kernel hands them out.
//!
//! ```text
//! 2 as a little-endian u32, then for each entry: tag u16, permissions u16, id u32
//! ```
//!
//! Source: `acl(5)` and `posix_acl_xattr.h` of Linux.

use super::judge::Ids;

const VERSION: u32 = 2;
const ENTRY: usize = 8;

/// An access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    bits: u32,
    id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

impl Acl {
    /// The list in the attribute `system.posix_acl_access`; none if it is of another form.
    pub fn parse(bytes: &[u8]) -> Option<Acl> {
        let (version, entries) = bytes.split_at_checked(4)?;
        if u32::from_le_bytes(version.try_into().ok()?) != VERSION || entries.len() % ENTRY != 0 {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let (tag, bits) = (bytes.get(..2)?, bytes.get(2..4)?);
            let tag = match u16::from_le_bytes(tag.try_into().ok()?) {
                0x01 => Tag::Owner,
                0x02 => Tag::User,
                0x04 => Tag::OwningGroup,
                0x08 => Tag::Group,
                0x10 => Tag::Mask,
                0x20 => Tag::Other,
                _ => return None,
            };
            Some(Entry {
                tag,
                bits: u32::from(u16::from_le_bytes(bits.try_into().ok()?)),
                id: u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?),
            })
        };
        entries.chunks(ENTRY).map(entry).collect::<Option<_>>().map(Acl)
    }

    /// Whether a user that is not the owner may do what `wanted` says; `mode` says what others may.
    pub(super) fn lets(&self, ids: &Ids, owning_group: u32, wanted: u32, mode: u32) -> bool {
        let mask = self.0.iter().find(|entry| entry.tag == Tag::Mask);
        let mask = mask.map_or(0o7, |mask| mask.bits);
        let masked = |bits: u32| bits & mask & wanted == wanted;
        let own = self
            .0
            .iter()
            .find(|entry| entry.tag == Tag::User && entry.id == ids.user);
        if let Some(own) = own {
            return masked(own.bits);
        }
        let mut of_groups = self.0.iter().filter(|entry| match entry.tag {
            Tag::OwningGroup => ids.groups.contains(&owning_group),
            Tag::Group => ids.groups.contains(&entry.id),
            Tag::Owner | Tag::User | Tag::Mask | Tag::Other => false,
        });
        match of_groups.clone().next() {
            Some(_) => of_groups.any(|entry| masked(entry.bits)),
            None => mode & wanted == wanted,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A list as the kernel hands it out.
    pub fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_own_entry_counts_then_the_groups_then_the_rest() {
        let ids = |user: u32, groups: &[u32]| Ids {
            user,
            groups: groups.to_vec(),
        };
        // What `setfacl -m u:990:rx,g:33:r,m:r` makes of 0751.
        let none = u32::MAX;
        let list = [
            (1, 7, none),
            (2, 5, 990),
            (4, 5, none),
            (8, 4, 33),
            (16, 4, none),
            (32, 1, none),
        ];
        let acl = Acl::parse(&bytes(&list)).unwrap();
        for (ids, wanted, expected) in [
            (ids(990, &[0]), 4, true),
            (ids(990, &[0]), 5, false),
            (ids(1, &[33]), 4, true),
            (ids(1, &[33]), 1, false),
            (ids(1, &[0]), 4, true),
            (ids(1, &[1]), 4, false),
            (ids(1, &[1]), 1, true),
        ] {
            assert_eq!(acl.lets(&ids, 0, wanted, 0o751), expected, "{ids:?} {wanted}");
        }
    }

    #[test]
    fn what_is_no_list_is_none() {
        for bytes in [
            &[][..],
            &[2, 0, 0],
            &[3, 0, 0, 0],
            &[2, 0, 0, 0, 1],
            &[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
        assert!(Acl::parse(&[2, 0, 0, 0]).is_some());
    }
}
