//! What was appended, held to what members have reported of it: how far it is good, and what is said where it is not.

use super::super::Error;
use super::{Appended, Applied, Broken, follows_nothing};
use crate::bbolt;
use crate::keyspace::{Agreement, CompactionMarks, KeyValue, RevisionKey, agreement_at, told};
use crate::model::{HashKv, Revision};

impl Appended {
    /// Why what was appended is not to be used, once it can be read as `file`: up to which revision it can, reports of members
    /// tell.
    pub(in crate::rebuild) fn refused(&self, broken: &Broken, file: &bbolt::File<'_>) -> Result<Error, bbolt::Error> {
        let what = match broken.what.clone() {
            Some(what) => what,
            None => self.first_broken(broken.at, file)?,
        };
        let before: Vec<HashKv> = self.comparable(file).filter(|hash| hash.revision < broken.at).collect();
        let proven = last_equal(file, &before)?;
        Ok(Error::BrokenChanges {
            delta: broken.delta.clone(),
            what,
            at: broken.at,
            good: proven.map_or(broken.good, |proven| proven.max(broken.good)),
        })
    }

    /// Which change it is that does not follow what the database has.
    fn first_broken(&self, revision: Revision, file: &bbolt::File<'_>) -> Result<String, bbolt::Error> {
        let start = RevisionKey::first_put(revision).encode();
        for entry in file.bucket(b"key")?.iter().flat_map(|log| log.iter_from(&start)) {
            let (key, value) = entry?;
            let (Ok(at), Ok(record)) = (RevisionKey::decode(key), KeyValue::decode(value)) else {
                continue;
            };
            if at.main() > revision {
                break;
            }
            if self
                .touched
                .as_ref()
                .is_some_and(|touched| touched.is_broken(at, &record))
            {
                return Ok(follows_nothing(&told(at, &record), revision));
            }
        }
        Ok(follows_nothing("a change", revision))
    }

    /// The report of a member of the revision that the database has now.
    pub(in crate::rebuild) fn at_end(&self, file: &bbolt::File<'_>) -> Option<HashKv> {
        self.comparable(file)
            .filter(|hash| hash.revision == self.applied.to)
            .last()
    }

    /// Compares the database with the last report of a member that says anything of it; `at_end` is how that of its last
    /// revision has turned out.
    ///
    /// Fails where HashKV is another.
    pub(in crate::rebuild) fn compared(
        mut self,
        mut at_end: Option<Agreement>,
        file: &bbolt::File<'_>,
    ) -> Result<Result<Applied, Error>, bbolt::Error> {
        let mut reports: Vec<HashKv> = self.comparable(file).collect();
        while let Some(report) = reports.pop() {
            let known = at_end.take().filter(|_| report.revision == self.applied.to);
            match known.map_or_else(|| agreement_at(file, report), Ok)? {
                Agreement::Equal => {
                    self.applied.checkpoints.matched = Some(report.revision);
                    self.applied.checkpoints.report = Some(report);
                    break;
                }
                Agreement::Different => return self.differs(report, file).map(Err),
                // No key lives. What is before may tell more.
                Agreement::Unknown => {}
            }
        }
        let matched = self.applied.checkpoints.matched;
        let later = self.checkpoints.iter().filter(|report| Some(report.revision) > matched);
        self.applied.checkpoints.not_compared = later.count() as u64;
        Ok(Ok(self.applied))
    }

    /// What it comes to that a member has reported another HashKV.
    fn differs(&self, report: HashKv, file: &bbolt::File<'_>) -> Result<Error, bbolt::Error> {
        let (at, reported) = (report.revision, report.hash);
        // No change that was appended is at fault.
        if at <= self.applied.from {
            return Ok(Error::BaseDiffers { at, reported });
        }
        let broken = Broken {
            delta: None,
            what: Some(format!(
                "HashKV at revision {at} is not the {reported} that a member has reported: a change is missing, or is another"
            )),
            at,
            good: self.applied.from,
        };
        self.refused(&broken, file)
    }

    /// The reports that the database can be compared with: what it was compacted by is not younger than theirs.
    fn comparable(&self, file: &bbolt::File<'_>) -> impl Iterator<Item = HashKv> {
        let compacted = CompactionMarks::read(file).compact_revision();
        let reports = self.checkpoints.iter().copied();
        reports.filter(move |hash| (compacted..=hash.revision.get()).contains(&hash.compact_revision))
    }
}

/// The last of some reports, in their order, that are HashKV of the database; it is taken for granted that all of those before
/// it are, too.
fn last_equal(file: &bbolt::File<'_>, reports: &[HashKv]) -> Result<Option<Revision>, bbolt::Error> {
    let (mut good, mut bad) = (0, reports.len());
    while good < bad {
        let middle = good + (bad - good) / 2;
        match reports
            .get(middle)
            .map(|report| agreement_at(file, *report))
            .transpose()?
        {
            Some(Agreement::Equal) => good = middle + 1,
            Some(Agreement::Different | Agreement::Unknown) | None => bad = middle,
        }
    }
    Ok(good
        .checked_sub(1)
        .and_then(|last| reports.get(last))
        .map(|last| last.revision))
}
