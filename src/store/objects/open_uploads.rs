//! Uploads in parts that were begun and neither completed nor given up, of a bucket that speaks S3.

use jiff::Timestamp;

use super::s3_requests::{Marker, Reply, Requests};
use super::{Objects, wait};
use crate::layout::{Listed, ListedObject};
use crate::store::Error;
use crate::store::probe::Answer;

/// So many pages are asked for; each has up to 1000. The next sweep goes on.
const MOST_PAGES: usize = 100;

const DOING: &str = "list the open uploads of";

impl Objects {
    /// Those below the prefix; none where the server does not tell.
    pub(super) fn open_uploads(
        &self,
        requests: &Requests,
        sign: &dyn Fn(),
    ) -> Result<Option<Vec<ListedObject>>, Error> {
        let (mut uploads, mut after) = (Vec::new(), Some(Marker::default()));
        for _ in 0..MOST_PAGES {
            let Some(marker) = after else { break };
            let told = wait(requests.open_uploads(&marker)).map_err(self.failed(DOING, ""))?;
            sign();
            let page = match told {
                Ok(page) => page,
                Err(reply) if does_not_tell(&reply) => return Ok(None),
                Err(reply) => return Err(self.refused(DOING, "", &reply)),
            };
            uploads.extend(page.uploads);
            after = page.next;
        }
        let listed = uploads.iter().filter_map(|upload| {
            let path = requests.path_of(&upload.key)?;
            Some(ListedObject {
                name: Listed::Partial {
                    path: format!("{path}{UPLOAD}{}", upload.upload_id),
                    of: path.parse().ok()?,
                },
                bytes: 0,
                // A time that cannot be told counts as just now.
                modified: upload.initiated.parse().unwrap_or(Timestamp::MAX),
            })
        });
        Ok(Some(listed.collect()))
    }

    /// Whether the server lists them, by one page.
    pub(super) fn tells_of_uploads(&self, requests: &Requests) -> Result<Answer, Error> {
        match wait(requests.open_uploads(&Marker::default())).map_err(self.failed(DOING, ""))? {
            Ok(_) => Ok(Answer::Yes),
            Err(reply) if does_not_tell(&reply) => Ok(Answer::No),
            Err(reply) => Err(self.refused(DOING, "", &reply)),
        }
    }

    /// Gives up what [`Objects::open_uploads`] has named.
    pub(super) fn give_up(&self, path: &str) -> Result<(), Error> {
        let (Some(requests), Some((name, upload))) = (&self.requests, path.split_once(UPLOAD)) else {
            return Ok(());
        };
        let reply = wait(requests.abort(name, upload)).map_err(self.failed("give up", path))?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(self.refused("give up", path, &reply)),
        }
    }
}

/// What stands between a name and the upload of it, where one is listed.
const UPLOAD: &str = "?uploadId=";

/// Whether a server knows no such request, or does not answer it to this user.
fn does_not_tell(reply: &Reply) -> bool {
    matches!(reply.status.as_u16(), 403 | 405 | 501)
}
