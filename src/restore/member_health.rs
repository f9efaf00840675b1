//! Whether a restored member is well, from what was seen of it. How long it may take: `config::restore`.
//!
//! Pure. There are two ends, because a member of several answers no client before its quorum is there: *started*, when
//! the process stays up and its peer port shows the planned ids; *healthy*, when it serves reads and writes through a
//! quorum at the restored revision.
//!
//! Invariant: the lack of a quorum alone is never a fault.

use std::time::Duration;

use super::init_system::{Activity, UnitState};
use super::plan::Plan;
use super::rendezvous::Identity;
use crate::etcd::PeerAnswer;
use crate::model::{ClusterId, MemberId, Revision};

/// For how long it must stay up to count as started.
pub const STABLE: Duration = Duration::from_secs(10);
/// After so many starts by itself it is in a loop.
const LOOP: u32 = 3;
/// How long it may be down at first before it counts as not started: systemd may have other jobs first.
const DOWN: Duration = Duration::from_secs(60);

/// What a client was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientSight {
    /// Nothing, or nothing of use.
    Silent(String),
    /// It wants a login or a certificate that we do not have.
    Denied(String),
    /// It took a read through its quorum.
    Serves {
        /// Its cluster.
        cluster: ClusterId,
        /// Its id.
        member: MemberId,
        /// Its revision.
        revision: Revision,
        /// What it does with writes.
        writes: Writes,
    },
}

/// What a member that serves does with writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writes {
    /// It takes them.
    Taken,
    /// It refuses ours, for a reason that no restore can mend and that was as true before: it is told, and no fault.
    Refused(String),
}

/// For how long it must not be started again for earlier times to count no more: one of several waits for days.
const CALM: Duration = Duration::from_secs(10 * 60);

/// Whether the unit has been up since it was asked to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seen {
    /// Never.
    #[default]
    Down,
    /// It has.
    Up,
}

/// What looking at the unit has shown so far; times are counted from the first look.
#[derive(Debug, Clone, Default)]
pub struct Course {
    seen: Seen,
    /// When no other unit held its start up any more.
    began: Duration,
    /// The init system's count of restarts from which they count.
    counted_from: Option<u32>,
    /// Its count, and since when that is so.
    count: u32,
    since: Duration,
}

impl Course {
    /// Takes in how the unit is `now`: whether it was ever up, how long it has had, how often it was started again.
    pub fn look(&mut self, unit: &UnitState, now: Duration) -> (Seen, Duration, u32) {
        match unit.activity {
            Activity::Queued if self.seen == Seen::Down => self.began = now,
            Activity::Active | Activity::Starting | Activity::Stopping => self.seen = Seen::Up,
            Activity::Queued | Activity::Inactive | Activity::Failed => {}
        }
        let mut from = self.counted_from.unwrap_or(unit.restarts);
        if unit.restarts != self.count {
            (self.count, self.since) = (unit.restarts, now);
        } else if now.saturating_sub(self.since) >= CALM {
            from = unit.restarts;
        }
        // It counts anew when somebody starts the unit.
        if unit.restarts < from {
            from = 0;
        }
        self.counted_from = Some(from);
        (self.seen, now.saturating_sub(self.began), unit.restarts - from)
    }
}

/// What was seen of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Its unit.
    pub unit: UnitState,
    /// Whether that was ever up.
    pub seen: Seen,
    /// How often it was started again by itself since we began to look.
    pub restarts: u32,
    /// What its peer port says.
    pub own: Option<PeerAnswer>,
    /// What its client port says.
    pub client: ClientSight,
    /// How long we have looked since nothing held its start up.
    pub looked: Duration,
    /// For how long its peer port has answered and it was not started again.
    pub stable: Duration,
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It serves what was restored; a doubt if not all could be asked.
    Healthy {
        /// What could not be seen.
        doubt: Option<String>,
    },
    /// It is up, and waits for others.
    Started,
    /// It cannot be told yet.
    NotYet,
    /// It will not do.
    Broken(String),
}

/// Judges what was seen; `revision` is what was restored.
pub fn judge(plan: &Plan, revision: Revision, sight: &Sight) -> Health {
    let Some(is) = &plan.host.identity else {
        return Health::Broken("it is not known who this member is".to_owned());
    };
    if let Some(fault) = fault(plan, is, revision, sight) {
        return Health::Broken(fault);
    }
    let shows_ids = sight.own.is_some();
    match &sight.client {
        // Another member's address may lead here, or the other way round.
        ClientSight::Serves {
            cluster,
            member,
            writes,
            ..
        } if (*cluster, *member) == (is.cluster_id, is.member_id) => {
            let doubt = match writes {
                Writes::Taken => None,
                Writes::Refused(why) => Some(format!("it serves reads only: {why}")),
            };
            return Health::Healthy { doubt };
        }
        // The unit is ready only when etcd has been heard by a quorum.
        ClientSight::Denied(why) if shows_ids && sight.unit.activity == Activity::Active && sight.stable >= STABLE => {
            let doubt = Some(format!("reads and writes could not be tried: {why}"));
            return Health::Healthy { doubt };
        }
        // A single one whose peer port does not answer us either, as without its certificate: that it stays up must do.
        ClientSight::Denied(why) if stays_up_alone(plan, sight) => {
            let doubt = Some(format!("it stays up, and whether it serves could not be seen: {why}"));
            return Health::Healthy { doubt };
        }
        ClientSight::Serves { .. } | ClientSight::Denied(_) | ClientSight::Silent(_) => {}
    }
    if plan.is_single() && sight.looked >= plan.host.health_timeout {
        let (ClientSight::Silent(why) | ClientSight::Denied(why)) = &sight.client else {
            return Health::Broken(format!(
                "the member does not serve at {}",
                plan.host.site.client_urls.join(", ")
            ));
        };
        return Health::Broken(format!(
            "the member does not serve within {} s: {why}",
            plan.host.health_timeout.as_secs()
        ));
    }
    // Where its peer port does not answer us, as without its certificate, that it stays up must do.
    let is_up = (shows_ids && sight.stable >= STABLE) || sight.looked >= plan.host.health_timeout;
    match !plan.is_single() && is_up {
        true => Health::Started,
        false => Health::NotYet,
    }
}

/// Whether the only member of its cluster has been up for all the time it is given.
fn stays_up_alone(plan: &Plan, sight: &Sight) -> bool {
    let is_up = sight.unit.activity == Activity::Active && sight.restarts == 0;
    plan.is_single() && is_up && sight.looked >= plan.host.health_timeout
}

/// What no time will heal.
fn fault(plan: &Plan, is: &Identity, revision: Revision, sight: &Sight) -> Option<String> {
    let unit = &plan.host.site.unit;
    match sight.unit.activity {
        Activity::Failed => return Some(format!("{unit} failed ({})", sight.unit.words)),
        // What was up and went down without a failure was stopped by somebody, or the host shuts down.
        Activity::Inactive if sight.seen == Seen::Down && sight.looked >= DOWN => {
            return Some(format!("{unit} does not start ({})", sight.unit.words));
        }
        Activity::Inactive | Activity::Active | Activity::Queued | Activity::Starting | Activity::Stopping => {}
    }
    if sight.restarts >= LOOP {
        return Some(format!("{unit} ends again and again ({} restarts)", sight.restarts));
    }
    if let Some(own) = &sight.own {
        if own.cluster != is.cluster_id {
            let (reported, wanted) = (own.cluster, is.cluster_id);
            return Some(format!("the member reports cluster {reported} instead of {wanted}"));
        }
        if !own.knows(is.member_id) {
            return Some(format!("the cluster does not have the planned member {}", is.member_id));
        }
    }
    match &sight.client {
        ClientSight::Serves { cluster, member, .. } if *member == is.member_id && *cluster != is.cluster_id => Some(
            format!("the member serves cluster {cluster} instead of {}", is.cluster_id),
        ),
        ClientSight::Serves {
            cluster,
            revision: served,
            ..
        } if *cluster == is.cluster_id && *served < revision => Some(format!(
            "the member serves revision {served}, and {revision} was restored"
        )),
        ClientSight::Serves { .. } | ClientSight::Denied(_) | ClientSight::Silent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::wish;
    use super::*;
    use crate::etcd::PeerMember;
    use crate::restore::rendezvous::Nonce;

    fn plan(members: &str) -> Plan {
        let mut plan = Plan::new(wish(members)).unwrap();
        let founders = plan.cluster.members.keys().map(|name| (name.clone(), Nonce([3; 16])));
        plan.commit(founders.collect()).unwrap();
        plan
    }

    fn revision(number: i64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn unit(activity: Activity) -> UnitState {
        UnitState {
            activity,
            restarts: 0,
            words: "words".to_owned(),
        }
    }

    fn known(id: MemberId) -> PeerMember {
        PeerMember {
            id,
            name: String::new(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            is_learner: false,
        }
    }

    fn own(plan: &Plan) -> PeerAnswer {
        let (membership, _) = plan.membership().unwrap().unwrap();
        PeerAnswer {
            cluster: plan.cluster_id().unwrap(),
            members: membership.members().iter().map(|member| known(member.id)).collect(),
        }
    }

    fn serves(plan: &Plan, number: i64) -> ClientSight {
        ClientSight::Serves {
            cluster: plan.cluster_id().unwrap(),
            member: plan.host.identity.as_ref().unwrap().member_id,
            revision: revision(number),
            writes: Writes::Taken,
        }
    }

    fn silent(plan: &Plan) -> Sight {
        Sight {
            unit: unit(Activity::Starting),
            seen: Seen::Up,
            restarts: 0,
            own: Some(own(plan)),
            client: ClientSight::Silent("no leader".to_owned()),
            looked: Duration::from_secs(1),
            stable: Duration::ZERO,
        }
    }

    #[test]
    fn a_start_that_waits_for_other_units_has_all_its_time_yet() {
        let (mut course, seconds) = (Course::default(), Duration::from_secs);
        let queued = unit(Activity::Queued);
        assert_eq!(course.look(&queued, seconds(0)), (Seen::Down, seconds(0), 0));
        assert_eq!(course.look(&queued, seconds(300)), (Seen::Down, seconds(0), 0));
        let starting = unit(Activity::Starting);
        assert_eq!(course.look(&starting, seconds(310)), (Seen::Up, seconds(10), 0));
        // Not that of somebody who stops it and starts it anew.
        assert_eq!(course.look(&queued, seconds(320)), (Seen::Up, seconds(20), 0));
    }

    #[test]
    fn restarts_count_together_only_if_they_follow_each_other() {
        let at = |restarts: u32| UnitState {
            restarts,
            ..unit(Activity::Starting)
        };
        let counted = |step: Duration| {
            let mut course = Course::default();
            // Those from before do not count.
            let mut looks = (0..=8).map(|number| {
                let now = step * number / 2;
                course.look(&at(7 + number / 2), now).2
            });
            looks.by_ref().last().unwrap()
        };
        assert_eq!(counted(Duration::from_secs(20)), 4);
        assert!(counted(CALM * 3) < LOOP);
        let mut course = Course::default();
        course.look(&at(7), Duration::ZERO);
        let anew = [at(0), at(1), at(2)].map(|unit| course.look(&unit, Duration::from_secs(1)).2);
        assert_eq!(anew, [0, 1, 2], "somebody started it");
    }

    const ONE: &str = "m1=http://a:2380";
    const THREE: &str = "m1=http://a:2380,m2=http://b:2380,m3=http://c:2380";

    #[test]
    fn a_member_that_serves_what_was_restored_is_healthy() {
        for members in [ONE, THREE] {
            let plan = plan(members);
            for number in [42, 43] {
                let sight = Sight {
                    client: serves(&plan, number),
                    ..silent(&plan)
                };
                assert_eq!(judge(&plan, revision(42), &sight), Health::Healthy { doubt: None });
            }
        }
    }

    #[test]
    fn a_member_that_refuses_writes_as_it_would_have_before_is_healthy_and_told() {
        let plan = plan(ONE);
        let sight = Sight {
            client: ClientSight::Serves {
                cluster: plan.cluster_id().unwrap(),
                member: plan.host.identity.as_ref().unwrap().member_id,
                revision: revision(42),
                writes: Writes::Refused("database space exceeded".to_owned()),
            },
            ..silent(&plan)
        };
        let Health::Healthy { doubt: Some(doubt) } = judge(&plan, revision(42), &sight) else {
            panic!("it serves reads")
        };
        assert!(doubt.contains("reads only: database space exceeded"), "{doubt}");
    }

    #[test]
    fn a_member_of_several_waits_for_the_others_for_ever_and_a_single_one_does_not() {
        let long = Duration::from_secs(1_000_000);
        let patient = |plan: &Plan| Sight {
            looked: long,
            stable: long,
            ..silent(plan)
        };
        let three = plan(THREE);
        assert_eq!(judge(&three, revision(42), &silent(&three)), Health::NotYet);
        assert_eq!(judge(&three, revision(42), &patient(&three)), Health::Started);
        let mute = Sight {
            own: None,
            stable: Duration::ZERO,
            ..patient(&three)
        };
        assert_eq!(judge(&three, revision(42), &mute), Health::Started);
        let one = plan(ONE);
        assert_eq!(judge(&one, revision(42), &silent(&one)), Health::NotYet);
        let broken = judge(&one, revision(42), &patient(&one));
        assert!(matches!(broken, Health::Broken(why) if why.contains("within 60 s: no leader")));
    }

    #[test]
    fn a_member_of_several_that_somebody_stopped_is_not_broken() {
        let plan = plan(THREE);
        for looked in [Duration::from_secs(1), DOWN, Duration::from_secs(1_000_000)] {
            let stopped = Sight {
                unit: unit(Activity::Inactive),
                own: None,
                looked,
                ..silent(&plan)
            };
            let health = judge(&plan, revision(42), &stopped);
            assert!(!matches!(health, Health::Broken(_)), "{looked:?}: {health:?}");
        }
    }

    #[test]
    fn what_no_time_will_heal_is_broken() {
        let plan = plan(THREE);
        let seen = silent(&plan);
        let old = PeerAnswer {
            cluster: ClusterId(0xab),
            ..own(&plan)
        };
        let stranger = PeerAnswer {
            members: vec![known(MemberId(1))],
            ..own(&plan)
        };
        let broken = [
            Sight {
                unit: unit(Activity::Failed),
                ..seen.clone()
            },
            Sight {
                unit: unit(Activity::Inactive),
                seen: Seen::Down,
                looked: DOWN,
                ..seen.clone()
            },
            Sight {
                restarts: LOOP,
                ..seen.clone()
            },
            Sight {
                own: Some(old),
                ..seen.clone()
            },
            Sight {
                own: Some(stranger),
                ..seen.clone()
            },
            Sight {
                client: serves(&plan, 41),
                ..seen.clone()
            },
            Sight {
                client: ClientSight::Serves {
                    cluster: ClusterId(0xab),
                    member: plan.host.identity.as_ref().unwrap().member_id,
                    revision: revision(42),
                    writes: Writes::Taken,
                },
                ..seen
            },
        ];
        for sight in broken {
            let health = judge(&plan, revision(42), &sight);
            assert!(matches!(health, Health::Broken(_)), "{sight:?}: {health:?}");
        }
    }

    #[test]
    fn where_a_login_is_wanted_the_unit_and_the_peer_port_must_do() {
        let plan = plan(ONE);
        let denied = Sight {
            unit: unit(Activity::Active),
            client: ClientSight::Denied("user name is empty".to_owned()),
            stable: STABLE,
            ..silent(&plan)
        };
        let health = judge(&plan, revision(42), &denied);
        assert!(matches!(health, Health::Healthy { doubt: Some(_) }), "{health:?}");
        let starting = Sight {
            unit: unit(Activity::Starting),
            ..denied
        };
        assert_eq!(judge(&plan, revision(42), &starting), Health::NotYet);
    }

    #[test]
    fn a_single_member_that_nobody_could_ask_is_not_taken_back_as_long_as_it_stays_up() {
        let plan = plan(ONE);
        let mute = Sight {
            unit: unit(Activity::Active),
            own: None,
            client: ClientSight::Denied("no certificate".to_owned()),
            looked: plan.host.health_timeout,
            ..silent(&plan)
        };
        let health = judge(&plan, revision(42), &mute);
        assert!(matches!(health, Health::Healthy { doubt: Some(_) }), "{health:?}");
        let early = Sight {
            looked: plan.host.health_timeout / 2,
            ..mute.clone()
        };
        assert_eq!(judge(&plan, revision(42), &early), Health::NotYet);
        let broken = [
            Sight {
                restarts: 1,
                ..mute.clone()
            },
            Sight {
                unit: unit(Activity::Starting),
                ..mute.clone()
            },
            Sight {
                client: ClientSight::Silent("no answer".to_owned()),
                ..mute
            },
        ];
        for sight in broken {
            let health = judge(&plan, revision(42), &sight);
            assert!(matches!(health, Health::Broken(_)), "{sight:?}: {health:?}");
        }
    }
}
