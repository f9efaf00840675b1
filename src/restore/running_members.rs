//! Whether a restore is right while members of a cluster run on other hosts, and what to do where it is not.
//!
//! Pure. With a quorum nothing has to be restored; without one, what the members hold is newer than any backup.

use std::path::PathBuf;

use super::quorum::{Found, Heard, Verdict, called};
use crate::datadir::{InitialCluster, Membership};
use crate::etcd::PeerMember;
use crate::etcd_settings::shell_word as word;

/// Where it is told what the words of `member add` are kept for the lines that follow it.
const ADDED: &str = "/run/etcd-rejoin.txt";
const VARIABLES: &str = "/run/etcd-rejoin.env";

/// Who the new cluster is to have, and how much of what is said of running members is overridden.
pub struct Wanted<'a> {
    /// All members.
    pub members: &'a InitialCluster,
    /// This host's member.
    pub member: &'a str,
    /// The operator's own token: whoever has that already is no stranger.
    pub token: Option<&'a str>,
    /// Whether to go on although members of another cluster run.
    pub despite: bool,
}

/// This host's member, as far as the way out needs it.
pub struct ThisMember {
    /// Its name.
    pub member: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// The unit that runs it.
    pub unit: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The directory of its log, if that is elsewhere.
    pub wal_dir: Option<PathBuf>,
    /// Whether there is data in place.
    pub has_data: bool,
    /// Where etcd's settings are, in words, unless variables that are laid over them count.
    pub settings: Option<String>,
    /// Flags of etcdctl that prove who asks.
    pub proof: String,
    /// What the old data is called once it is moved away.
    pub aside: String,
    /// The restore that keeps etcd from starting, for there was no data before it.
    pub held_by: Option<String>,
}

/// Why no restore is made now, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotNow {
    /// Why.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// Judges a restore of `wanted` by the clusters that run, whether the new cluster has members of them or not; gives what is
/// to be warned of.
pub fn judge(this: &ThisMember, wanted: &Wanted<'_>, found: &[Found]) -> Result<Vec<String>, NotNow> {
    let to_be = wanted
        .token
        .and_then(|token| Membership::new(wanted.members, token).ok());
    let to_be = to_be.map(|membership| membership.cluster_id());
    let mut warnings = Vec::new();
    for cluster in found {
        let verdict = cluster.verdict();
        if Some(cluster.cluster) == to_be {
            // Without its log the member must not come back under its id.
            if this.has_served_in(cluster) {
                let message = format!(
                    "{}, and this host has served in it before: the token was used already",
                    this.message(cluster)
                );
                let next = match verdict {
                    Verdict::Lives => this.out_of_living(cluster, false),
                    Verdict::Stuck => this.out_of_used(cluster),
                };
                return Err(NotNow { message, next });
            }
            continue;
        }
        if !this.has_others(cluster) {
            continue;
        }
        let may_be_overridden = verdict == Verdict::Stuck || !this.founds_with_any_of(cluster, wanted);
        match wanted.despite && may_be_overridden {
            true => warnings.push(this.message(cluster)),
            false => {
                let (message, next) = (this.message(cluster), this.way_out(cluster, may_be_overridden));
                return Err(NotNow { message, next });
            }
        }
    }
    Ok(warnings)
}

impl ThisMember {
    /// Whom to ask, by name with one peer URL each: the other members of the new cluster, and those that are `known`
    /// otherwise, such as members of the old cluster that the new one is without. Whatever has this host's name or one of the
    /// URLs that are `here` is this host.
    pub fn to_ask(&self, wanted: &Wanted<'_>, known: Vec<(String, String)>, here: &[String]) -> Vec<(String, String)> {
        let planned = wanted.members.iter().flat_map(|(name, urls)| {
            let urls = urls.iter();
            urls.map(move |url| (name.to_owned(), url.to_string()))
        });
        let mut asked: Vec<(String, String)> = Vec::new();
        for (name, url) in planned.chain(known) {
            let url = url.trim_end_matches('/');
            let is = |other: &String| other.trim_end_matches('/') == url;
            let is_here = name == self.member || self.peer_urls.iter().chain(here).any(is);
            if !is_here && !asked.iter().any(|(_, known)| is(known)) {
                asked.push((name, url.to_owned()));
            }
        }
        asked
    }

    fn own<'a>(&self, found: &'a Found) -> Option<&'a (PeerMember, Heard)> {
        found.member_of(&self.member, &self.peer_urls)
    }

    fn is_own(&self, found: &Found, member: &PeerMember) -> bool {
        self.own(found).is_some_and(|(own, _)| own.id == member.id)
    }

    /// Whether it has members on other hosts.
    fn has_others(&self, found: &Found) -> bool {
        found.members.iter().any(|(member, _)| !self.is_own(found, member))
    }

    /// Whether this host's member has served in it: one that was only added has told no client URLs.
    fn has_served_in(&self, found: &Found) -> bool {
        self.own(found).is_some_and(|(own, _)| !own.client_urls.is_empty())
    }

    /// Whether the new cluster is to have members that run in this one: it could not come about.
    fn founds_with_any_of(&self, found: &Found, wanted: &Wanted<'_>) -> bool {
        let is_planned = |member: &PeerMember| {
            let mut others = wanted.members.iter().filter(|(name, _)| *name != self.member);
            others.any(|(name, urls)| {
                let mut urls = urls.iter().map(ToString::to_string);
                name == member.name || urls.any(|url| member.peer_urls.contains(&url))
            })
        };
        found.running().any(is_planned)
    }

    fn way_out(&self, found: &Found, may_be_overridden: bool) -> String {
        match found.verdict() {
            Verdict::Lives => self.out_of_living(found, may_be_overridden),
            Verdict::Stuck => self.out_of_stuck(found),
        }
    }

    fn message(&self, found: &Found) -> String {
        let names = |members: Vec<&PeerMember>| {
            let mut names: Vec<String> = members
                .into_iter()
                .map(|member| match self.is_own(found, member) {
                    true => format!("{} (this host)", called(member)),
                    false => called(member),
                })
                .collect();
            names.sort_unstable();
            names.join(", ")
        };
        let silent: Vec<_> = found.silent().collect();
        let rest = match silent.is_empty() {
            true => String::new(),
            false => format!("; no answer from {}", names(silent)),
        };
        match found.verdict() {
            Verdict::Lives => format!(
                "cluster {} lives: {} {}{rest}",
                found.cluster,
                names(found.well().collect()),
                verb(found.well().count(), "is well", "are well")
            ),
            Verdict::Stuck => {
                let running: Vec<_> = found.running().collect();
                let count = running.len();
                let why = found.members.iter().find_map(|(_, heard)| match heard {
                    Heard::Stuck(why) => Some(format!(" ({why})")),
                    Heard::Serves | Heard::Runs | Heard::Silent => None,
                });
                format!(
                    "cluster {} has lost its quorum: {} {} and {} not serve{}{rest}",
                    found.cluster,
                    names(running),
                    verb(count, "runs", "run"),
                    verb(count, "does", "do"),
                    why.unwrap_or_default()
                )
            }
        }
    }

    /// What to do while a quorum lives.
    fn out_of_living(&self, found: &Found, may_be_overridden: bool) -> String {
        let mut next = match self.own(found) {
            Some((_, Heard::Serves | Heard::Runs)) => {
                "nothing has to be restored here: this host's member is well too. For \
                 keys that were deleted, and for a cluster that is to go back to a backup as a whole, see \
                 lifeboat-runbook(7)"
                    .to_owned()
            }
            Some(_) | None => format!(
                "this host's member gets its data from the others, without a restore. As root, on this host:{}",
                lines(&self.commands(found))
            ),
        };
        if may_be_overridden {
            next.push_str(
                "\n    to make a new cluster beside that one, with members of its own: --despite-running-members; clients may \
                 then reach both",
            );
        }
        next
    }

    /// The lines that take this member out, add it as a learner, start it empty and give it its vote.
    fn commands(&self, found: &Found) -> Vec<String> {
        let urls: Vec<String> = found
            .well()
            .filter(|member| !self.is_own(found, member))
            .flat_map(|member| member.client_urls.iter().cloned())
            .collect();
        let etcdctl = format!("etcdctl --endpoints={}{}", word(&urls.join(",")), self.proof);
        let (unit, data_dir) = (word(&self.unit), self.data_dir.display().to_string());
        let at = |name: String| word(&format!("{data_dir}/{name}")).into_owned();
        let mut lines = vec![format!("systemctl stop {unit}")];
        if let Some((own, _)) = self.own(found) {
            lines.push(format!("{etcdctl} member remove {}", own.id));
        }
        if self.has_data {
            let (from, to) = (at("member".to_owned()), at(format!("member.{}", self.aside)));
            lines.push(format!("mv {from} {to}"));
        }
        if let Some(wal_dir) = &self.wal_dir {
            let (log, aside) = (
                wal_dir.display().to_string(),
                format!("{}/{}", wal_dir.display(), self.aside),
            );
            let (log, aside) = (word(&log), word(&aside));
            lines.push(format!(
                "mkdir {aside} && find {log} -maxdepth 1 -type f -exec mv {{}} {aside} ';'"
            ));
        }
        // It is refused until all voters have been connected with each other for 5 s.
        lines.push(format!(
            "until {etcdctl} member add {} --learner --peer-urls={} >{ADDED}; do sleep 2; done; cat {ADDED}",
            word(&self.member),
            word(&self.peer_urls.join(","))
        ));
        let drop_ins = format!("/run/systemd/system/{}.d", self.unit);
        let (folder, drop_in) = (word(&drop_ins), format!("{drop_ins}/zzz-rejoin.conf"));
        let drop_in = word(&drop_in);
        match &self.settings {
            None => lines.extend([
                format!("grep ^ETCD_ {ADDED} >{VARIABLES}"),
                format!("mkdir -p {folder} && printf '[Service]\\nEnvironmentFile={VARIABLES}\\n' >{drop_in}"),
                "systemctl daemon-reload".to_owned(),
            ]),
            Some(place) => lines.push(format!(
                "# etcd's settings ({place}): initial-cluster-state existing, and initial-cluster as it was printed"
            )),
        }
        if let Some(restore) = &self.held_by {
            lines.push(format!("lifeboat release --restore {}", word(restore)));
        }
        lines.push(format!("systemctl start {unit}"));
        lines.push(format!(
            "until {etcdctl} member promote $(sed -n 's/^Member *\\([0-9a-f]*\\) added.*/\\1/p' {ADDED}); do sleep 2; done"
        ));
        if self.settings.is_none() {
            lines.push(format!("rm {drop_in} && systemctl daemon-reload"));
        }
        lines
    }

    /// What to do where the quorum is lost.
    fn out_of_stuck(&self, found: &Found) -> String {
        format!(
            "a restore is right. {}\n    or go back to the backup: stop etcd on {}, then run the same command on each host. A \
             host that is gone for good is left out on the others with --without NAME. --despite-running-members goes on as it \
             is: clients may then reach two clusters",
            self.out_of_survivor(found),
            running(found).join(", ")
        )
    }

    /// The same where the token is that of the cluster that lost it.
    fn out_of_used(&self, found: &Found) -> String {
        format!(
            "restore with a token that was never used before, the same on every host, or without one. {}\n    or go back to the \
             backup: stop etcd on {}, then restore it on each host, with such a token or without one",
            self.out_of_survivor(found),
            running(found).join(", ")
        )
    }

    /// How what the members still hold is restored.
    fn out_of_survivor(&self, found: &Found) -> String {
        let survivor = match running(found).as_slice() {
            [only] => only.clone(),
            several => format!(
                "that one of {} whose RAFT APPLIED INDEX in `etcdctl endpoint status -w table` is the highest",
                several.join(", ")
            ),
        };
        let (unit, db) = (word(&self.unit), format!("{}/member/snap/db", self.data_dir.display()));
        format!(
            "What is newer than any backup is the data of {survivor}; there, as root:{}\n    then, with that file on every host, \
             on each of them:{}",
            lines(&[
                format!("systemctl stop {unit}"),
                format!("cp {} /root/survivor.db", word(&db)),
            ]),
            lines(&["lifeboat restore /root/survivor.db --skip-hash-check".to_owned()]),
        )
    }
}

/// The names of the members that run.
fn running(found: &Found) -> Vec<String> {
    found.running().map(called).collect()
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n      {line}")).collect()
}

fn verb(count: usize, one: &'static str, several: &'static str) -> &'static str {
    match count {
        1 => one,
        _ => several,
    }
}

#[cfg(test)]
mod tests {
    use super::super::quorum::tests::{found, stuck};
    use super::*;

    fn way() -> ThisMember {
        ThisMember {
            member: "m1".to_owned(),
            peer_urls: vec!["http://10.0.0.1:2380".to_owned()],
            unit: "etcd.service".to_owned(),
            data_dir: "/var/lib/etcd/default".into(),
            wal_dir: None,
            has_data: true,
            settings: None,
            proof: " --cacert=/pki/ca.pem".to_owned(),
            aside: "X".to_owned(),
            held_by: None,
        }
    }

    #[test]
    fn members_of_the_old_cluster_are_asked_too_and_this_host_is_not_under_any_name() {
        let members = "m1=http://10.0.0.1:2380,m2=http://b:2380".parse().unwrap();
        let wanted = Wanted {
            members: &members,
            member: "m1",
            token: None,
            despite: false,
        };
        let known = [
            ("m1", "http://a.old:2380"),
            ("default", "http://localhost:2380"),
            ("m1-by-its-host", "http://10.0.0.1:2380/"),
            ("m2", "http://b:2380/"),
            ("m2", "http://b.old:2380"),
            ("m3", "http://c:2380"),
            ("third", "http://c:2380"),
        ];
        let known = known.map(|(name, url)| (name.to_owned(), url.to_owned())).to_vec();
        let asked = way().to_ask(&wanted, known, &["http://localhost:2380".to_owned()]);
        let asked: Vec<(&str, &str)> = asked.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
        let expected = [
            ("m2", "http://b:2380"),
            ("m2", "http://b.old:2380"),
            ("m3", "http://c:2380"),
        ];
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_member_that_is_lost_is_taken_out_and_comes_back_as_a_learner() {
        let found = found(&[Heard::Silent, Heard::Serves, Heard::Serves]);
        let (message, next) = (way().message(&found), way().out_of_living(&found, false));
        assert!(
            message.contains("m2, m3 are well; no answer from m1 (this host)"),
            "{message}"
        );
        let to = "etcdctl --endpoints=http://10.0.0.2:2379,http://10.0.0.3:2379 --cacert=/pki/ca.pem";
        let in_order = [
            "systemctl stop etcd.service".to_owned(),
            format!("{to} member remove 1"),
            "mv /var/lib/etcd/default/member /var/lib/etcd/default/member.X".to_owned(),
            format!("{to} member add m1 --learner --peer-urls=http://10.0.0.1:2380"),
            "systemctl start etcd.service".to_owned(),
            format!("until {to} member promote"),
        ];
        let mut from = 0;
        for part in in_order {
            let at = next[from..]
                .find(&part)
                .unwrap_or_else(|| panic!("no `{part}` in {next}"));
            from += at + part.len();
        }
        assert!(!next.contains("--despite-running-members"), "{next}");
    }

    #[test]
    fn nobody_is_told_to_stop_a_member_of_a_quorum_that_lives() {
        let all_well = found(&[Heard::Serves, Heard::Serves, Heard::Serves]);
        for (found, override_is_offered) in [(&all_well, false), (&all_well, true)] {
            let next = way().out_of_living(found, override_is_offered);
            assert!(
                !next.contains("stop") && next.contains("nothing has to be restored"),
                "{next}"
            );
            assert_eq!(next.contains("--despite-running-members"), override_is_offered);
        }
        let lost = found(&[Heard::Silent, Heard::Serves, Heard::Serves]);
        let other = ThisMember {
            settings: Some("/etc/etcd.yaml".to_owned()),
            has_data: false,
            held_by: Some("R".to_owned()),
            ..way()
        };
        let next = other.out_of_living(&lost, false);
        assert_eq!(next.matches("systemctl stop").count(), 1, "its own: {next}");
        assert!(
            next.contains("lifeboat release --restore R\n"),
            "it would not start: {next}"
        );
        assert!(
            next.contains("(/etc/etcd.yaml): initial-cluster-state existing")
                && !next.contains("EnvironmentFile")
                && !next.contains("\n      mv "),
            "{next}"
        );
    }

    #[test]
    fn without_a_quorum_the_survivor_and_the_override_are_named() {
        let lost = found(&[Heard::Silent, Heard::Silent, stuck()]);
        let (message, next) = (way().message(&lost), way().out_of_stuck(&lost));
        assert!(
            message.contains("lost its quorum: m3 runs and does not serve (no leader)"),
            "{message}"
        );
        for part in [
            "the data of m3",
            "cp /var/lib/etcd/default/member/snap/db /root/survivor.db",
            "restore /root/survivor.db --skip-hash-check",
            "--despite-running-members",
        ] {
            assert!(next.contains(part), "no `{part}` in {next}");
        }
    }

    #[test]
    fn a_token_that_was_used_is_not_to_be_used_again_whether_its_cluster_lives_or_not() {
        let members: InitialCluster = "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380"
            .parse()
            .unwrap();
        let judged = |heard: &[Heard]| {
            let mut cluster = found(heard);
            cluster.cluster = Membership::new(&members, "again").unwrap().cluster_id();
            let wanted = Wanted {
                members: &members,
                member: "m1",
                token: Some("again"),
                despite: true,
            };
            judge(&way(), &wanted, &[cluster]).unwrap_err()
        };
        let lives = judged(&[Heard::Silent, Heard::Serves, Heard::Serves]);
        assert!(lives.next.contains("member add m1 --learner"), "{}", lives.next);
        let lost = judged(&[Heard::Silent, Heard::Silent, stuck()]);
        for part in [
            "with a token that was never used before, the same on every host, or without one",
            "restore /root/survivor.db --skip-hash-check",
            "stop etcd on m3",
        ] {
            assert!(lost.next.contains(part), "no `{part}` in {}", lost.next);
        }
        assert!(!lost.next.contains("the same command"), "{}", lost.next);
        for NotNow { message, next } in [lives, lost] {
            assert!(message.contains("the token was used already"), "{message}");
            assert!(
                !next.contains("--despite-running-members"),
                "it is not honoured: {next}"
            );
        }
    }
}
