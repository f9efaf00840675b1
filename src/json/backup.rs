//! `backup`.

use serde::Serialize;

use crate::backup::{Outcome, Written};
use crate::error_chain::with_causes;
use crate::layout::{Proof, Synthetic};
use crate::model::{ChainId, HashKv, Revision};

/// The backup that was taken.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    id: &'a ChainId,
    chain: &'a ChainId,
    revision: Revision,
    bytes: u64,
    stored_bytes: u64,
    seconds: f64,
    new_lineage: bool,
    synthetic: Option<SyntheticDocument<'a>>,
    proof: Proof,
    proof_reason: Option<&'a str>,
    faults: &'a [String],
    destinations: Vec<DestinationDocument<'a>>,
    warnings: &'a [String],
}

/// What it was made of.
#[derive(Debug, Serialize)]
struct SyntheticDocument<'a> {
    chain: &'a ChainId,
    base_revision: Revision,
    deltas: u64,
    hash_kv: HashKv,
    checkpoints: u64,
    matched_revision: Option<Revision>,
}

#[derive(Debug, Serialize)]
struct DestinationDocument<'a> {
    name: &'a str,
    ok: bool,
    error: Option<String>,
}

impl Document<'_> {
    /// The document of one backup.
    pub fn of(outcome: &Outcome) -> Document<'_> {
        let manifest = &outcome.manifest;
        Document {
            schema: 1,
            id: &manifest.chain,
            chain: &manifest.chain,
            revision: manifest.to_revision,
            bytes: manifest.plain.bytes,
            stored_bytes: manifest.stored.bytes,
            seconds: outcome.took.as_secs_f64(),
            new_lineage: outcome.opening.is_some(),
            synthetic: manifest.synthetic.as_ref().map(SyntheticDocument::of),
            proof: manifest.proof.unwrap_or(Proof::Stored),
            proof_reason: manifest.proof_reason.as_deref(),
            faults: &manifest.faults,
            destinations: outcome.destinations.iter().map(DestinationDocument::of).collect(),
            warnings: &outcome.warnings,
        }
    }
}

impl SyntheticDocument<'_> {
    fn of(of: &Synthetic) -> SyntheticDocument<'_> {
        SyntheticDocument {
            chain: &of.chain,
            base_revision: of.base_revision,
            deltas: of.deltas,
            hash_kv: of.computed,
            checkpoints: of.checkpoints,
            matched_revision: of.matched.map(|matched| matched.revision),
        }
    }
}

impl DestinationDocument<'_> {
    fn of(written: &Written) -> DestinationDocument<'_> {
        let error = written.result.as_ref().err();
        DestinationDocument {
            name: &written.destination,
            ok: error.is_none(),
            error: error.map(|error| with_causes(error)),
        }
    }
}
