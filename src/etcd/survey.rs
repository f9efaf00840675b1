//! Asks every configured member how it is, all at once.

use super::certificate_check::fault_of_client;
use super::choose_member::Candidate;
use super::{Access, Ahead, Error, Member};

/// A configured member and where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Its name in the configuration.
    pub name: String,
    /// Its client URLs; at least one.
    pub urls: Vec<String>,
}

/// What came of asking one member.
pub struct Surveyed {
    /// Its answer.
    pub candidate: Candidate,
    /// The connection that answered.
    pub connection: Option<Member>,
}

/// Asks `members`, each at its URLs in turn until one answers; `ahead` is for the
/// connections that come of it. Results are in the order of `members`.
pub async fn survey(members: &[Endpoints], access: &Access, ahead: Ahead) -> Vec<Surveyed> {
    let mut asked = tokio::task::JoinSet::new();
    for (index, member) in members.iter().cloned().enumerate() {
        let access = access.clone();
        asked.spawn(async move { (index, ask(member, &access, ahead).await) });
    }
    let mut surveyed = asked.join_all().await;
    surveyed.sort_by_key(|(index, _)| *index);
    surveyed.into_iter().map(|(_, surveyed)| surveyed).collect()
}

async fn ask(member: Endpoints, access: &Access, ahead: Ahead) -> Surveyed {
    let mut refused = None;
    for url in member.urls {
        match connect_and_ask(&url, access, ahead).await {
            Ok((connection, status)) => {
                let (name, answer) = (member.name, Ok(status));
                return Surveyed {
                    candidate: Candidate { name, url, answer },
                    connection: Some(connection),
                };
            }
            Err(error) => refused = Some((url, error)),
        }
    }
    let (url, error) = refused.expect("a member has at least one URL");
    Surveyed {
        candidate: Candidate {
            name: member.name,
            url,
            answer: Err(error),
        },
        connection: None,
    }
}

async fn connect_and_ask(url: &str, access: &Access, ahead: Ahead) -> Result<(Member, super::Status), Error> {
    let asked = async {
        let mut connection = Member::connect(url, access, ahead).await?;
        let status = connection.status().await?;
        Ok((connection, status))
    };
    asked.await.map_err(|error: Error| match fault_of_client(&access.tls) {
        Some(fault) => error.blamed_on(&fault),
        None => error,
    })
}
