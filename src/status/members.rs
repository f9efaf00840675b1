//! The members as they answer right now, each within a fixed time.

use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::error_chain::with_causes;
use crate::etcd::{self, Ahead, Endpoints, Surveyed, survey};
use crate::health::MemberState;
use crate::jobs::host;
use crate::keyspace::Alarm;
use crate::model::MemberId;

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One member, as programs see it.
#[derive(Debug, Serialize)]
pub struct MemberRow {
    /// Its name in the configuration.
    pub name: String,
    /// Where it answered, or did not.
    pub url: String,
    /// Its id, if it answers.
    pub id: Option<String>,
    /// Its cluster.
    pub cluster_id: Option<String>,
    /// Its release of etcd.
    pub version: Option<String>,
    /// What it is in the cluster, or that it does not answer.
    pub role: &'static str,
    /// The size of its database.
    pub database_bytes: Option<u64>,
    /// Alarms, and why it cannot be reached.
    pub errors: Vec<String>,
    /// Alarms that it tells of other members.
    #[serde(skip)]
    pub of_others: Vec<Alarm>,
}

/// Members that are being asked.
pub(super) struct Asking(Result<JoinSet<(usize, MemberRow)>, String>);

impl Asking {
    /// Asks every member of `config`; not, if what they want to see cannot be read by this user.
    pub fn begin(runtime: &Handle, config: &Config) -> Asking {
        let access = match host::access(config) {
            Ok(access) => access,
            Err(failure) => return Asking(Err(failure.message().to_owned())),
        };
        let mut asked = JoinSet::new();
        for (index, member) in host::endpoints(config).into_iter().enumerate() {
            let access = access.clone();
            let row = async move { (index, ask(member, &access).await) };
            asked.spawn_on(row, runtime);
        }
        Asking(Ok(asked))
    }

    /// Their answers in the order of the configuration, or why they were not asked.
    pub fn end(self, runtime: &Handle) -> Result<Vec<MemberRow>, String> {
        let mut rows = runtime.block_on(self.0?.join_all());
        rows.sort_by_key(|(index, _)| *index);
        let mut rows: Vec<MemberRow> = rows.into_iter().map(|(_, row)| row).collect();
        tell_of_the_absent(&mut rows);
        Ok(rows)
    }
}

/// Puts an alarm of a member that is not configured, or does not answer, beside the first one that tells of it.
fn tell_of_the_absent(rows: &mut [MemberRow]) {
    let mut told: Vec<String> = rows.iter().filter_map(|row| row.id.clone()).collect();
    for row in rows {
        for alarm in std::mem::take(&mut row.of_others) {
            let member = alarm.member.to_string();
            if !told.contains(&member) {
                row.errors.push(format!("alarm {} of member {member}", alarm.kind));
                told.push(member);
            }
        }
    }
}

impl MemberRow {
    /// The same for the verdict.
    pub fn state(&self) -> MemberState {
        MemberState {
            name: self.name.clone(),
            cluster_id: self.cluster_id.clone(),
            knows_leader: self.id.is_some() && self.role != "no leader",
            errors: self.errors.clone(),
        }
    }
}

async fn ask(member: Endpoints, access: &etcd::Access) -> MemberRow {
    let silent = |member: &Endpoints| MemberRow {
        name: member.name.clone(),
        url: member.urls.first().cloned().unwrap_or_default(),
        id: None,
        cluster_id: None,
        version: None,
        role: "no answer",
        database_bytes: None,
        errors: vec![format!("no answer within {} s", PATIENCE.as_secs())],
        of_others: Vec::new(),
    };
    let asked = tokio::time::timeout(PATIENCE, survey(std::slice::from_ref(&member), access, Ahead::Far)).await;
    let answer = asked.ok().and_then(|mut surveyed| surveyed.pop());
    answer.map_or_else(|| silent(&member), row)
}

fn row(surveyed: Surveyed) -> MemberRow {
    let candidate = surveyed.candidate;
    let status = candidate.answer.as_ref().ok();
    let alarms = status.map_or(Vec::new(), |status| status.alarms.clone());
    let is_own = |alarm: &Alarm| alarm.member == MemberId(0) || status.is_some_and(|own| own.member == alarm.member);
    let (own, of_others): (Vec<Alarm>, Vec<Alarm>) = alarms.into_iter().partition(is_own);
    MemberRow {
        id: status.map(|status| status.member.to_string()),
        cluster_id: status.map(|status| status.cluster.to_string()),
        version: status.map(|status| status.version.clone()),
        role: status.map_or("no answer", |status| status.role()),
        database_bytes: status.map(|status| status.db_bytes),
        errors: match &candidate.answer {
            Ok(status) => {
                let own = own.iter().map(|alarm| format!("alarm {}", alarm.kind));
                own.chain(status.errors.iter().cloned()).collect()
            }
            Err(error) => vec![with_causes(error)],
        },
        name: candidate.name,
        url: candidate.url,
        of_others,
    }
}
