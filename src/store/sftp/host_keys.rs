//! Which key a server has to show: as it was written down, by hand or in a file of known hosts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russh::keys::{Algorithm, PublicKey};
use sha1::{Digest as _, Sha1};

/// The keys that a server may show, one of which it has to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pinned {
    keys: Vec<PublicKey>,
}

impl Pinned {
    /// One that was written down as OpenSSH writes it: its kind, its bytes, perhaps a comment.
    pub fn add_line(&mut self, line: &str) -> Result<(), String> {
        let key = PublicKey::from_openssh(line.trim());
        self.keys
            .push(key.map_err(|_| format!("`host_key` is no public key as `ssh-keyscan` prints it: {line}"))?);
        Ok(())
    }

    /// Those that a file of known hosts has of this server; lines that are of another kind are passed over.
    pub fn add_known_hosts(&mut self, text: &str, host: &str, port: u16) {
        let name = known_name(host, port);
        let lines = text.lines().map(str::trim);
        let mut revoked = Vec::new();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let (mark, line) = match line.strip_prefix('@') {
                Some(marked) => marked.split_once(' ').unwrap_or((marked, "")),
                None => ("", line),
            };
            let Some((names, key)) = line.trim_start().split_once(' ') else {
                continue;
            };
            let Ok(key) = PublicKey::from_openssh(key.trim()) else {
                continue;
            };
            match mark {
                "" if is_of(names, &name) => self.keys.push(key),
                "revoked" => revoked.push(key),
                // Authorities sign the keys of hosts; what they signed is not asked for.
                _ => {}
            }
        }
        self.keys.retain(|key| !revoked.iter().any(|other| is_same(other, key)));
    }

    /// Whether it is one of them.
    pub fn has(&self, shown: &PublicKey) -> bool {
        self.keys.iter().any(|key| is_same(key, shown))
    }

    /// Whether nothing was written down.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The kinds of keys to ask the server for: those that are known, or, to say what it has, all that can be read.
    pub fn kinds(&self) -> Vec<Algorithm> {
        let can_be_read = |kind: &Algorithm| matches!(kind, Algorithm::Ed25519 | Algorithm::Ecdsa { .. });
        let mut kinds: Vec<Algorithm> = self.keys.iter().map(PublicKey::algorithm).filter(can_be_read).collect();
        if self.keys.is_empty() {
            let all = russh::Preferred::DEFAULT.key;
            kinds.extend(all.iter().filter(|kind| can_be_read(kind)).cloned());
        }
        kinds
    }
}

/// Whatever their comments say.
fn is_same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

/// How a file of known hosts calls it.
fn known_name(host: &str, port: u16) -> String {
    match port {
        22 => host.to_owned(),
        port => format!("[{host}]:{port}"),
    }
}

/// Whether a list of names in a file of known hosts has this one.
fn is_of(names: &str, name: &str) -> bool {
    let is = |pattern: &str| match pattern.strip_prefix("|1|") {
        Some(hashed) => is_hash_of(hashed, name),
        None => matches(pattern, name),
    };
    let mut patterns = names.split(',');
    let excluded = names
        .split(',')
        .filter_map(|pattern| pattern.strip_prefix('!'))
        .any(|pattern| matches(pattern, name));
    !excluded && patterns.any(|pattern| !pattern.starts_with('!') && is(pattern))
}

/// `*` stands for any letters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    // The places in the name that the pattern read so far can end at.
    let name = name.as_bytes();
    let mut ends = vec![false; name.len() + 1];
    if let Some(first) = ends.first_mut() {
        *first = true;
    }
    for letter in pattern.bytes() {
        let mut next = vec![false; ends.len()];
        let mut any = false;
        for (at, slot) in next.iter_mut().enumerate() {
            any |= ends.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1);
            let follows = before.and_then(|before| ends.get(before)).copied().unwrap_or_default();
            let same = before
                .and_then(|before| name.get(before))
                .is_some_and(|b| letter == b'?' || b.eq_ignore_ascii_case(&letter));
            *slot = match letter {
                b'*' => any,
                _ => follows && same,
            };
        }
        ends = next;
    }
    ends.last().copied().unwrap_or_default()
}

/// `SALT|HASH`, both in base64: HMAC-SHA1 of the name under the salt.
fn is_hash_of(hashed: &str, name: &str) -> bool {
    let decoded = |text: &str| BASE64.decode(text).ok();
    let Some((salt, hash)) = hashed.split_once('|') else {
        return false;
    };
    match (decoded(salt), decoded(hash)) {
        (Some(salt), Some(hash)) => hmac_sha1(&salt, name.as_bytes()).as_slice() == hash,
        _ => false,
    }
}

/// RFC 2104.
fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut padded = match key.len() > BLOCK {
        true => Sha1::digest(key).to_vec(),
        false => key.to_vec(),
    };
    padded.resize(BLOCK, 0);
    let with = |pad: u8| -> Vec<u8> { padded.iter().map(|byte| byte ^ pad).collect() };
    let inner = Sha1::new().chain_update(with(0x36)).chain_update(text).finalize();
    let outer = Sha1::new().chain_update(with(0x5c)).chain_update(inner);
    outer.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn key(line: &str) -> PublicKey {
        PublicKey::from_openssh(line).unwrap()
    }

    fn known(text: &str, host: &str, port: u16) -> Pinned {
        let mut pinned = Pinned::default();
        pinned.add_known_hosts(text, host, port);
        pinned
    }

    #[test]
    fn a_key_is_that_which_was_written_down() {
        let mut pinned = Pinned::default();
        pinned.add_line(&format!(" {KEY} root@backup\n")).unwrap();
        assert!(pinned.has(&key(KEY)) && !pinned.has(&key(OTHER)));
        assert_eq!(pinned.kinds(), [Algorithm::Ed25519]);
        assert!(pinned.add_line("SHA256:abc").is_err());
    }

    #[test]
    fn known_hosts_are_read_as_ssh_reads_them() {
        for (line, host, port, is_known) in [
            (format!("backup.example.com {KEY}"), "backup.example.com", 22, true),
            (format!("backup.example.com {KEY}"), "backup.example.com", 2222, false),
            (format!("[backup]:2222 {KEY}"), "backup", 2222, true),
            (format!("other,backup {KEY} comment"), "backup", 22, true),
            (format!("*.example.com {KEY}"), "a.example.com", 22, true),
            (
                format!("*.example.com,!a.example.com {KEY}"),
                "a.example.com",
                22,
                false,
            ),
            (format!("backup? {KEY}"), "backup1", 22, true),
            (format!("# backup {KEY}"), "backup", 22, false),
            (format!("@cert-authority backup {KEY}"), "backup", 22, false),
            (format!("backup {KEY}\n@revoked * {KEY}"), "backup", 22, false),
            ("backup".to_owned(), "backup", 22, false),
            // `ssh-keygen -H` of `backup.example.com`.
            (
                format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {KEY}"),
                "192.168.1.61",
                22,
                true,
            ),
            (
                format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {KEY}"),
                "192.168.1.62",
                22,
                false,
            ),
        ] {
            assert_eq!(
                known(&line, host, port).has(&key(KEY)),
                is_known,
                "{line} for {host}:{port}"
            );
        }
    }
}
