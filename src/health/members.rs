//! How the members answered, and what is wrong with them.

use super::{About, Event, Notice};

/// One member, as it answered just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Its name in the configuration.
    pub name: String,
    /// The id of its cluster; none if it did not answer.
    pub cluster_id: Option<String>,
    /// Whether it knows a leader.
    pub knows_leader: bool,
    /// Alarms, and why it cannot be reached.
    pub errors: Vec<String>,
}

impl MemberState {
    fn answers(&self) -> bool {
        self.cluster_id.is_some()
    }

    /// Whether it does not answer and can be done without: most do, and backups need not come from it.
    fn is_spared(&self, members: &[MemberState], wanted: Option<&str>) -> bool {
        let answers = members.iter().filter(|member| member.answers()).count();
        !self.answers() && wanted != Some(self.name.as_str()) && answers > members.len() / 2
    }
}

/// Whether there are members, and none answers.
pub(super) fn all_are_silent(members: &[MemberState]) -> bool {
    !members.is_empty() && members.iter().all(|member| !member.answers())
}

/// What is wrong with the members. `wanted` is the one that backups are taken from and from no other.
pub(super) fn problems(members: &[MemberState], wanted: Option<&str>) -> Vec<Notice> {
    let notice = |member: Option<&str>, message: String| Notice {
        event: Event::MemberUnwell,
        about: About {
            member: member.map(str::to_owned),
            ..About::default()
        },
        message,
    };
    let mut wrong: Vec<Notice> = Vec::new();
    for member in members.iter().filter(|member| !member.is_spared(members, wanted)) {
        let name = &member.name;
        let errors = member.errors.iter();
        wrong.extend(errors.map(|error| notice(Some(name), format!("member {name}: {error}"))));
    }
    let mut clusters: Vec<&str> = members
        .iter()
        .filter_map(|member| member.cluster_id.as_deref())
        .collect();
    clusters.sort_unstable();
    clusters.dedup();
    if clusters.len() > 1 {
        let message = format!("the members are of different clusters: {}", clusters.join(", "));
        wrong.push(notice(None, message));
    }
    let leaderless = members.iter().filter(|member| member.answers() && !member.knows_leader);
    wrong.extend(leaderless.map(|member| {
        let name = &member.name;
        notice(Some(name), format!("member {name} knows no leader"))
    }));
    wrong
}

/// The members that do not answer, and that nothing of ours depends on.
pub(super) fn notes(members: &[MemberState], wanted: Option<&str>) -> Vec<String> {
    let spared = members.iter().filter(|member| member.is_spared(members, wanted));
    let notes = spared.map(|member| {
        let errors = member.errors.join(", ");
        format!(
            "member {}: {errors}; the others serve, and backups are taken from them",
            member.name
        )
    });
    notes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Facts, LaneState, NO_MEMBER, Verdict};

    fn answers(name: &str) -> MemberState {
        MemberState {
            name: name.to_owned(),
            cluster_id: Some("ab".to_owned()),
            knows_leader: true,
            errors: Vec::new(),
        }
    }

    fn silent(name: &str) -> MemberState {
        MemberState {
            cluster_id: None,
            knows_leader: false,
            errors: vec!["no answer within 2 s".to_owned()],
            ..answers(name)
        }
    }

    fn words(members: &[MemberState], wanted: Option<&str>) -> Vec<String> {
        problems(members, wanted)
            .into_iter()
            .map(|notice| notice.message)
            .collect()
    }

    #[test]
    fn why_nobody_answers_is_said_once() {
        let lane = LaneState {
            lane: "own".to_owned(),
            trouble: Some(format!("{NO_MEMBER}: m1: connection refused")),
            trouble_since: Some("2026-11-20T10:15:30Z".parse().unwrap()),
            nobody_answers: true,
            ..LaneState::default()
        };
        assert!(lane.hears_nobody() && !LaneState::default().hears_nobody());
        // The one that is meant is away, and others answer: etcd is not down.
        let of_one = LaneState {
            nobody_answers: false,
            ..lane.clone()
        };
        assert!(!of_one.hears_nobody());
        let now = "2026-11-20T10:17:30Z".parse().unwrap();
        let told = |members: &[MemberState]| {
            let facts = Facts {
                members,
                others: lane.notices(now),
                ..Facts::default()
            };
            let problems = Verdict::of(&facts, now).problems.into_iter();
            problems.map(|problem| problem.message).collect::<Vec<_>>()
        };
        let mut down = silent("m1");
        down.errors = vec!["connection refused".to_owned()];
        let says = told(&[down.clone()]);
        assert_eq!(says.concat().matches("connection refused").count(), 1, "{says:?}");
        assert!(
            says.iter().any(|says| says.ends_with(": no member answers")),
            "{says:?}"
        );
        // One answers again, and what was found before is all there is to say.
        let says = told(&[answers("m1")]);
        assert!(says.concat().contains("connection refused"), "{says:?}");
    }

    #[test]
    fn a_member_without_an_answer_is_wrong_only_where_something_depends_on_it() {
        let told = "member m3: no answer within 2 s";
        let one_of_three = [answers("m1"), answers("m2"), silent("m3")];
        assert_eq!(words(&one_of_three, None), [""; 0]);
        assert!(notes(&one_of_three, None)[0].starts_with(told));
        assert_eq!(words(&one_of_three, Some("m2")), [""; 0]);

        assert_eq!(words(&one_of_three, Some("m3")), [told]);
        assert_eq!(notes(&one_of_three, Some("m3")), [""; 0]);
        let leaderless = MemberState {
            knows_leader: false,
            ..answers("m1")
        };
        assert_eq!(words(&[leaderless, silent("m2"), silent("m3")], None).len(), 3);
        assert_eq!(words(&[answers("m1"), silent("m3")], None), [told]);
        let mut alarmed = one_of_three;
        alarmed[0].errors.push("alarm NOSPACE".to_owned());
        assert_eq!(words(&alarmed, None), ["member m1: alarm NOSPACE"]);
    }
}
