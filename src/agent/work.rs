//! What the loop leaves to others.

use crate::config::Config;
use crate::health::Look;
use crate::jobs::capture::CaptureOrder;
use crate::jobs::{Ended, Order, Trouble};

/// What the agent is to do when a slot has come.
pub trait Work: Send + Sync + 'static {
    /// Does the work of a slot where it is due. Blocks; ends soon once `order.stop` is raised.
    fn carry_out(&self, order: &Order) -> Result<Ended, Trouble>;

    /// What there is in the destinations, and what is wrong with it. Blocks.
    fn look(&self, config: &Config) -> Look;

    /// Captures changes beside all else. Blocks; ends soon once `order.stop` is raised.
    fn capture(&self, order: &CaptureOrder);
}
