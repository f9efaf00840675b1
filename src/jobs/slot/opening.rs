//! A slot's backup that may open a history: in shared stores one host is at such a one at a time, whichever slot it is of.

use super::super::backup::read_and_sweep;
use super::super::first_backup::{self, Turn, may_open_history};
use super::super::host;
use super::{Attempt, Stop, raised};
use crate::destinations::Destinations;
use crate::etcd::{Access, Ahead, survey};
use crate::slots::{Claimant, HeldClaim, was_taken_by};

impl Attempt<'_> {
    /// Claims it where it may be one, and looks once more at what there is then: whoever had it before may have come to its end. Where
    /// another host is at it, the slot waits.
    pub(super) fn claim_opening(
        &mut self,
        destinations: &mut Destinations,
        claimant: &Claimant,
        access: &Access,
    ) -> Result<Vec<HeldClaim>, Stop> {
        let mut held = Vec::new();
        if !self.to_write().any(|open| self.config.is_shared(&open.name)) {
            return Ok(held);
        }
        let members = host::endpoints(self.config);
        let surveyed = self.runtime.block_on(async {
            tokio::select! {
                surveyed = survey(&members, access, Ahead::Little) => Ok(surveyed),
                () = raised(self.order.stop.clone()) => Err(Stop::Asked),
            }
        })?;
        let answers = surveyed.into_iter().filter_map(|member| member.candidate.answer.ok());
        let answers: Vec<_> = answers.collect();
        let catalog = &destinations.catalog;
        self.settle(|attempt, name, store| {
            if !attempt.config.is_shared(name) || !may_open_history(catalog, name, &answers) {
                return Ok(None);
            }
            let is_gone = |chain: &_| attempt.gone.contains(chain);
            Ok(match first_backup::claim(store, claimant, is_gone, host::now())? {
                Turn::Held(claim) => {
                    held.push(claim);
                    None
                }
                Turn::Others(by) => Some(was_taken_by(&by, host::now())),
            })
        });
        if !held.is_empty() {
            let pulse = &self.order.pulse;
            *destinations = read_and_sweep(self.listener, self.config, &self.state, &self.destinations, &|| {
                pulse.beat()
            });
        }
        Ok(held)
    }
}
