//! What leases were granted: a question that may come long after the login.

use super::{CALL_TIMEOUT, Error, Member, call};

impl Member {
    /// The time to live that a lease was granted, in seconds; none where it is gone.
    pub async fn granted_ttl(&mut self, lease: i64) -> Result<Option<u64>, Error> {
        let mut client = self.client.lease_client();
        let answer = call(
            &self.url,
            "LeaseTimeToLive",
            CALL_TIMEOUT,
            client.time_to_live(lease, None),
        )
        .await;
        match answer {
            // Of one that is gone the time that is left is -1.
            Ok(answer) if answer.ttl() < 0 => Ok(None),
            Ok(answer) => Ok(u64::try_from(answer.granted_ttl()).ok().filter(|ttl| *ttl > 0)),
            Err(Error::Call { reason, .. }) if reason.contains("lease not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Logs in once more, for this connection and those beside it: what a token was granted may be old. Nothing without a login.
    pub async fn log_in_again(&mut self) -> Result<(), Error> {
        call(&self.url, "Authenticate", CALL_TIMEOUT, self.client.refresh_token()).await
    }
}
