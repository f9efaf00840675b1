//! The segments that lie there already, listed and swept; `upload` writes them, in sizes whose bounds are those of
//! `part_size` (`config::destinations`). They lie beside the folder of the store, each below the name of an upload of its object.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::requests::{Fault, Question};
use super::upload::remove_all;
use super::{SEGMENTS, Swift, Told, modified};
use crate::layout::{Listed, ListedObject, ObjectName};

/// What an object says of one of its segments.
#[derive(Debug, Deserialize)]
struct Named {
    /// With its container, and a slash before.
    name: String,
}

impl Swift {
    /// The names of the segments of one upload, and when the last was written.
    async fn segments_below(&self, prefix: &str) -> Result<(Vec<String>, Timestamp), Fault> {
        let (mut names, mut last) = (Vec::new(), Timestamp::MIN);
        let mut each = |told: Told| {
            last = last.max(modified(told.last_modified.as_deref()));
            names.extend(told.name);
        };
        self.listed(prefix, false, &|| {}, &mut each).await?;
        Ok((names, last))
    }

    /// The segments that an object is made of; none if it was written by one request, or is not there. What it names beside
    /// those of uploads of it is no segment of ours.
    pub(super) async fn segments_named_by(&self, object: &str) -> Result<Vec<String>, Fault> {
        let path = format!("{}{object}", self.prefix);
        let is_large = match self.requests.ask(&Question::new(Method::HEAD, &path)).await {
            Ok(found) => found
                .header("x-static-large-object")
                .is_some_and(|told| told.eq_ignore_ascii_case("true")),
            Err(Fault::Told(404, _)) => false,
            Err(fault) => return Err(fault),
        };
        if !is_large {
            return Ok(Vec::new());
        }
        let mut question = Question::new(Method::GET, &path);
        question.query.push(("multipart-manifest", "get".to_owned()));
        let named = match self.requests.ask(&question).await {
            Ok(reply) => serde_json::from_slice::<Vec<Named>>(&reply.body),
            Err(Fault::Told(404, _)) => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        let named = named.map_err(|_| Fault::Other("the server does not say which segments it has".to_owned()))?;
        let container = format!("/{}/", self.requests.container);
        let own = segments_of(&self.segments, object);
        let named = named.iter().filter_map(|named| named.name.strip_prefix(&container));
        Ok(named.filter(|name| name.starts_with(&own)).map(str::to_owned).collect())
    }

    /// Removes the segments of an upload that did not end.
    pub(super) async fn give_up(&self, upload: &str) -> Result<(), Fault> {
        let (object, _) = upload.rsplit_once('+').unwrap_or((upload, ""));
        let segments = format!("{}{upload}/", self.segments);
        let named = self.segments_named_by(&object.replace('+', "/")).await?;
        // It has been completed since.
        if named.iter().any(|name| name.starts_with(&segments)) {
            return Ok(());
        }
        let (names, _) = self.segments_below(&segments).await?;
        remove_all(&self.requests, names).await
    }

    /// What is left of uploads that nothing names, beside what was listed.
    pub(super) async fn unnamed(&self, listed: &[ListedObject], sign: &dyn Fn()) -> Result<Vec<ListedObject>, Fault> {
        let mut uploads: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut each = |told: Told| {
            let name = told.subdir.as_deref();
            let upload = name.and_then(|name| Some(name.strip_prefix(&self.segments)?.trim_end_matches('/')));
            if let Some((object, _)) = upload.and_then(|upload| upload.rsplit_once('+')) {
                let of_object = uploads.entry(object.replace('+', "/")).or_default();
                of_object.extend(upload.map(str::to_owned));
            }
        };
        self.listed(&self.segments, true, sign, &mut each).await?;
        let there = listed.iter().filter_map(|object| match &object.name {
            Listed::Ours(name) => Some(name.to_string()),
            _ => None,
        });
        let there: BTreeSet<String> = there.collect();
        let mut unfinished = Vec::new();
        for (object, uploads) in uploads {
            let Ok(of) = object.parse::<ObjectName>() else { continue };
            // It is of one of them.
            if uploads.len() == 1 && there.contains(&object) {
                continue;
            }
            // It may have been completed since it was listed.
            let named = self.segments_named_by(&object).await?;
            for upload in uploads {
                sign();
                let segments = format!("{}{upload}/", self.segments);
                if named.iter().any(|name| name.starts_with(&segments)) {
                    continue;
                }
                let (_, modified) = self.segments_below(&segments).await?;
                unfinished.push(ListedObject {
                    name: Listed::Partial {
                        path: format!("{SEGMENTS}/{upload}"),
                        of: of.clone(),
                    },
                    bytes: 0,
                    modified,
                });
            }
        }
        Ok(unfinished)
    }
}

/// What the names of all segments of an object begin with: the name of the upload follows.
pub(super) fn segments_of(segments: &str, object: &str) -> String {
    format!("{segments}{}+", object.replace('/', "+"))
}

#[cfg(test)]
mod tests {
    use super::super::upload::segments_anew;

    #[test]
    fn the_names_of_segments_lead_back_to_the_object() {
        let object = "ab/20261120T101530Z-9f3c4a1b/full.db.zst.age";
        let segments = segments_anew("etcd/.segments/prod/", object).unwrap();
        let upload = segments.strip_prefix("etcd/.segments/prod/").unwrap();
        assert!(!upload.contains('/'), "{upload}");
        let (found, id) = upload.rsplit_once('+').unwrap();
        assert_eq!((found.replace('+', "/").as_str(), id.len()), (object, 16));
    }
}
