//! Who signed a document of a store, and whose documents count there.
//!
//! A signed document is the document with two more keys at its end, put in by [`SigningKey::sign`]:
//!
//! ```text
//! {"format":1,…,"signer":"lifeboat-signer1…","signature":"BASE64"}
//! ```
//!
//! Signed are what the document is, the name it has in the store, and the bytes of the file before `,"signature"`, so that
//! nothing can be taken for a document of another kind, nor be moved to another name or cluster. The bytes are cut out of
//! the file; nothing is ever serialised again.
//!
//! Leaves to `state` and `secret` where keys are kept, and to `catalog` what follows for backups.
//!
//! Invariant: a document counts by the bytes that were signed and by nothing else: where signers are named, none of a
//! stranger is parsed before its signature is checked.

mod key;
mod message;
mod signers_file;
mod trusted_signers;

pub use key::{Fingerprint, KeyError, Role, SignerKey, SigningKey};
pub use message::{DocumentKind, Found, signer_of};
pub use signers_file::{Roll, RollError, Signer};
pub use trusted_signers::{Authority, Distrust, Trust, Unsigned};
