//! The bytes that are signed, and the signature in a document.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{SignerKey, SigningKey};
use crate::layout::ObjectName;
use crate::model::ClusterName;

/// What a signature is a word on. No document can be taken for one of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// What makes an object a backup.
    Manifest,
    /// The result of a check.
    Check,
    /// A mark that excludes a backup from retention.
    Pin,
    /// The operator's word on which history is meant.
    Acceptance,
    /// A host's word on a slot.
    Claim,
    /// The list of those who may sign.
    Signers,
    /// Who writes the deltas of a chain.
    Epoch,
    /// The header of a delta.
    Delta,
    /// The header of a pack.
    Pack,
    /// The word that nothing was written.
    Mark,
    /// The end of a chain.
    Gap,
}

impl DocumentKind {
    /// What is stored under that name; none if that is no signed document.
    pub fn of(name: &ObjectName) -> Option<DocumentKind> {
        match name {
            ObjectName::FullManifest(..) => Some(DocumentKind::Manifest),
            ObjectName::Check(..) => Some(DocumentKind::Check),
            ObjectName::Pin(_) => Some(DocumentKind::Pin),
            ObjectName::Acceptance(_) => Some(DocumentKind::Acceptance),
            ObjectName::Claim(..) => Some(DocumentKind::Claim),
            ObjectName::Signers => Some(DocumentKind::Signers),
            ObjectName::Epoch(..) => Some(DocumentKind::Epoch),
            ObjectName::Delta(..) => Some(DocumentKind::Delta),
            ObjectName::Pack(..) => Some(DocumentKind::Pack),
            ObjectName::Mark(..) => Some(DocumentKind::Mark),
            ObjectName::Gap(..) => Some(DocumentKind::Gap),
            ObjectName::StoreMarker | ObjectName::Full(_) | ObjectName::Canary(_) => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            DocumentKind::Manifest => "manifest",
            DocumentKind::Check => "check",
            DocumentKind::Pin => "pin",
            DocumentKind::Acceptance => "acceptance",
            DocumentKind::Claim => "claim",
            DocumentKind::Signers => "signers",
            DocumentKind::Epoch => "epoch",
            DocumentKind::Delta => "delta",
            DocumentKind::Pack => "pack",
            DocumentKind::Mark => "mark",
            DocumentKind::Gap => "gap",
        }
    }
}

/// What a document says of who signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Unsigned,
    /// These bytes, under this name, were signed with this key.
    Signed(SignerKey),
    /// There is a signature, and it is not of these bytes under this name. The key is the one it names, if that is one.
    Broken(Option<SignerKey>),
}

/// Before `,"signature"` stands what is signed.
const SIGNATURE: &str = ",\"signature\"";
const SIGNER: &str = "\"signer\":\"";

/// Who signed the document that is stored in the cluster's folder under that name.
pub fn signer_of(cluster: &ClusterName, name: &ObjectName, bytes: &[u8]) -> Found {
    let Some(kind) = DocumentKind::of(name) else {
        return Found::Unsigned;
    };
    let Some((signed, rest)) = cut(bytes) else {
        return Found::Unsigned;
    };
    // Null, or of another form than ours: no signature that anybody could check.
    if !rest.starts_with(b":\"") {
        return Found::Unsigned;
    }
    let claimed = signer_in(signed);
    match (claimed, signature_in(rest)) {
        (Some(signer), Some(signature)) if signer.has_signed(&message(kind, cluster, name, signed), &signature) => {
            Found::Signed(signer)
        }
        _ => Found::Broken(claimed),
    }
}

impl SigningKey {
    /// The document with its signature, for the cluster's folder and that name. It has none yet, or an empty one. What is no
    /// signed document stays as it is.
    pub fn sign(&self, cluster: &ClusterName, name: &ObjectName, document: &[u8]) -> Vec<u8> {
        let Some(kind) = DocumentKind::of(name) else {
            return document.to_vec();
        };
        let body = document.trim_ascii_end();
        let body = body
            .strip_suffix(b",\"signature\":null}")
            .unwrap_or_else(|| body.strip_suffix(b"}").unwrap_or(body));
        let mut signed = Vec::with_capacity(body.len() + 256);
        // A manifest has a line for each key, and says by its format that its signature counts.
        let separator = match (kind, body.strip_prefix(b"{\"format\":1,")) {
            (DocumentKind::Manifest, Some(rest)) => {
                signed.extend_from_slice(b"{\"format\":2,");
                signed.extend_from_slice(rest);
                ",\n"
            }
            _ => {
                signed.extend_from_slice(body);
                ","
            }
        };
        signed.extend_from_slice(format!("{separator}{SIGNER}{}\"", self.public()).as_bytes());
        let signature = STANDARD.encode(self.signature(&message(kind, cluster, name, &signed)));
        signed.extend_from_slice(format!("{SIGNATURE}:\"{signature}\"}}\n").as_bytes());
        signed
    }
}

/// What is signed: no part of it can hold a line feed but the last, so that it can be cut in one way only.
fn message(kind: DocumentKind, cluster: &ClusterName, name: &ObjectName, signed: &[u8]) -> Vec<u8> {
    let head = format!("etcd-lifeboat signature 1\n{}\n{cluster}/{name}\n", kind.word());
    [head.as_bytes(), signed].concat()
}

/// The document before its signature, and what follows.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes
        .windows(SIGNATURE.len())
        .rposition(|window| window == SIGNATURE.as_bytes())?;
    let (signed, rest) = bytes.split_at(at);
    Some((signed, rest.get(SIGNATURE.len()..)?))
}

/// The key that is named last before the signature.
fn signer_in(signed: &[u8]) -> Option<SignerKey> {
    let text = signed.strip_suffix(b"\"")?;
    let at = text
        .windows(SIGNER.len())
        .rposition(|window| window == SIGNER.as_bytes())?;
    let key = text.get(at + SIGNER.len()..)?;
    std::str::from_utf8(key).ok()?.parse().ok()
}

fn signature_in(rest: &[u8]) -> Option<Vec<u8>> {
    let text = rest.strip_prefix(b":\"")?.strip_suffix(b"\"}\n")?;
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::manifest::tests::manifest;
    use crate::layout::{Acceptance, Check, Claim, HostName, Manifest, Pin, Proof, claim};
    use crate::signing::Role;

    const CHAIN: &str = "20261120T101530Z-9f3c4a1b";

    fn key() -> SigningKey {
        SigningKey::of_seed(Role::Signer, [1; 32])
    }

    fn prod() -> ClusterName {
        "prod".parse().unwrap()
    }

    /// One document of each kind, as it is made, and its name.
    fn documents() -> Vec<(&'static str, ObjectName, Vec<u8>)> {
        let backup = manifest(0xcdf8, CHAIN, 4711);
        let at: jiff::Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let host = HostName::nearest("etcd-1");
        let check = Check {
            format: 1,
            chain: backup.chain.clone(),
            revision: backup.to_revision,
            checked_at: at,
            host: host.to_string(),
            ok: true,
            proof: Proof::Content,
            faults: Vec::new(),
        };
        let acceptance = Acceptance {
            format: 1,
            accepted: backup.lineage.clone(),
            known: vec![backup.lineage.clone()],
            accepted_at: at,
            host: host.to_string(),
            note: None,
        };
        let slot = crate::layout::SlotPath::new("hourly".parse().unwrap(), at);
        let taking = Claim::new(&host, "1a2b", &backup.chain, claim::State::Taking, at);
        let path = backup.chain_path();
        vec![
            ("manifest-2", backup.name(), backup.to_bytes()),
            (
                "check-1",
                ObjectName::Check(path.clone(), at, host.clone()),
                check.to_bytes(),
            ),
            (
                "pin-1",
                ObjectName::Pin(path),
                Pin::new(at, &host, Some("kept".to_owned())).to_bytes(),
            ),
            ("acceptance-1", ObjectName::Acceptance(1), acceptance.to_bytes()),
            ("claim-1", ObjectName::Claim(slot, 1), taking.to_bytes()),
        ]
    }

    fn vector(name: &str) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/signing/{name}.json"))
    }

    #[test]
    fn signed_documents_are_these_bytes_for_ever() {
        for (file, name, document) in documents() {
            let signed = key().sign(&prod(), &name, &document);
            let kept = std::fs::read(vector(file)).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&signed),
                String::from_utf8_lossy(&kept),
                "{name}"
            );
            assert_eq!(signer_of(&prod(), &name, &kept), Found::Signed(key().public()));
            serde_json::from_slice::<serde_json::Value>(&kept).unwrap();
        }
    }

    #[test]
    fn a_signed_manifest_is_read_as_before_but_for_its_format() {
        let backup = manifest(0xcdf8, CHAIN, 4711);
        let signed = key().sign(&prod(), &backup.name(), &backup.to_bytes());
        let read = Manifest::read(&backup.chain_path(), backup.to_revision, &signed).unwrap();
        assert_eq!(read.format, crate::layout::SIGNED_FORMAT);
        assert_eq!(Manifest { format: 1, ..read }, backup);
    }

    #[test]
    fn no_document_is_good_for_another_name_kind_or_cluster() {
        let documents = documents();
        for (_, name, document) in &documents {
            let signed = key().sign(&prod(), name, document);
            for (_, other, _) in &documents {
                let found = signer_of(&prod(), other, &signed);
                assert_eq!(
                    found == Found::Signed(key().public()),
                    other == name,
                    "{name} as {other}"
                );
            }
            let elsewhere = signer_of(&"staging".parse().unwrap(), name, &signed);
            assert_eq!(elsewhere, Found::Broken(Some(key().public())));
        }
    }

    #[test]
    fn each_changed_byte_breaks_the_signature() {
        for (_, name, document) in documents() {
            let signed = key().sign(&prod(), &name, &document);
            for at in 0..signed.len() {
                let mut changed = signed.clone();
                changed[at] ^= 1;
                let found = signer_of(&prod(), &name, &changed);
                assert!(!matches!(found, Found::Signed(_)), "{name}: byte {at}");
            }
            for length in 0..signed.len() {
                let found = signer_of(&prod(), &name, &signed[..length]);
                assert!(!matches!(found, Found::Signed(_)), "{name}: cut at {length}");
            }
        }
    }

    #[test]
    fn what_has_no_signature_or_one_of_another_form_is_unsigned() {
        let backup = manifest(0xcdf8, CHAIN, 4711);
        let text = String::from_utf8(backup.to_bytes()).unwrap();
        let later = text.replace("\"signature\":null", "\"signature\":{\"key\":\"k\"}");
        for document in [text.as_str(), &later, "{}", ""] {
            assert_eq!(signer_of(&prod(), &backup.name(), document.as_bytes()), Found::Unsigned);
        }
        let rotten = text.replace("\"signature\":null", "\"signature\":\"AAAA\"");
        assert_eq!(
            signer_of(&prod(), &backup.name(), rotten.as_bytes()),
            Found::Broken(None)
        );
    }
}
