//! Alarms and other complaints of members, as `Status` tells them.
//!
//! Source: `maintenanceServer.Status` of etcd 3.4 to 3.7 puts every alarm of the cluster, whichever member it is of, as the
//! text of its protobuf message: `memberID:7379772070590322537 alarm:CORRUPT`. How many spaces stand in it differs.

use super::choose_member::Candidate;
use crate::keyspace::{Alarm, AlarmKind};
use crate::model::MemberId;

/// The alarm that a text of `Status` tells of.
pub(super) fn parse(text: &str) -> Option<Alarm> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let kind = match field("alarm:")? {
        "NOSPACE" => AlarmKind::NoSpace,
        "CORRUPT" => AlarmKind::Corrupt,
        other => AlarmKind::Other(other.parse().ok()?),
    };
    // A field that is 0 is not printed.
    let member = field("memberID:").map_or(Some(0), |id| id.parse().ok())?;
    Some(Alarm {
        member: MemberId(member),
        kind,
    })
}

/// What the members that answered complain of, each thing once, with the members' names.
pub fn complaints<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Vec<String> {
    let candidates: Vec<&Candidate> = candidates.into_iter().collect();
    let answered = || {
        let named = candidates
            .iter()
            .map(|candidate| (&candidate.name, candidate.answer.as_ref()));
        named.filter_map(|(name, answer)| Some((name, answer.ok()?)))
    };
    let name_of = |id: MemberId| match answered().find(|(_, status)| status.member == id) {
        Some((name, _)) => format!("member {name} is"),
        None if id == MemberId(0) => "some member is".to_owned(),
        None => format!("member {id} (not configured, or without an answer) is"),
    };
    let mut complaints: Vec<String> = Vec::new();
    for (name, status) in answered() {
        let alarms = status.alarms.iter();
        let alarms = alarms.map(|alarm| format!("{} under alarm {}", name_of(alarm.member), meaning(alarm.kind)));
        let errors = status
            .errors
            .iter()
            .map(|error| format!("member {name} reports {}", error.trim()));
        for complaint in alarms.chain(errors) {
            if !complaints.contains(&complaint) {
                complaints.push(complaint);
            }
        }
    }
    complaints
}

fn meaning(kind: AlarmKind) -> String {
    match kind {
        AlarmKind::Corrupt => "CORRUPT: etcd found that its data differs from the others'".to_owned(),
        AlarmKind::NoSpace => "NOSPACE: its database has reached its quota, and etcd takes no writes".to_owned(),
        AlarmKind::Other(_) => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose_member::tests::{member, silent, with};
    use super::*;

    #[test]
    fn an_alarm_is_read_as_every_version_prints_it() {
        let corrupt = |member| Alarm {
            member: MemberId(member),
            kind: AlarmKind::Corrupt,
        };
        assert_eq!(
            parse("memberID:7379772070590322537 alarm:CORRUPT "),
            Some(corrupt(7379772070590322537))
        );
        assert_eq!(parse("memberID:5  alarm:CORRUPT"), Some(corrupt(5)));
        assert_eq!(parse("alarm:CORRUPT "), Some(corrupt(0)));
        assert_eq!(parse("etcdserver: no leader"), None);
    }

    #[test]
    fn a_complaint_is_told_once_with_the_name_of_the_member_it_is_of() {
        let alarm = |id, kind| Alarm {
            member: MemberId(id),
            kind,
        };
        let all = [alarm(2, AlarmKind::Corrupt), alarm(9, AlarmKind::NoSpace)];
        let tells = |candidate| with(candidate, |status| status.alarms = all.to_vec());
        let mut candidates = vec![tells(member("m1", 1, 1)), tells(member("m2", 2, 1)), silent("m3")];
        candidates.push(with(member("m4", 4, 1), |status| {
            status.errors.push("etcdserver: no leader".into())
        }));
        assert_eq!(
            complaints(&candidates),
            [
                "member m2 is under alarm CORRUPT: etcd found that its data differs from the others'",
                "member 9 (not configured, or without an answer) is under alarm NOSPACE: its database has reached its \
                 quota, and etcd takes no writes",
                "member m4 reports etcdserver: no leader",
            ]
        );
    }
}
