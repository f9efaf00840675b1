//! What can happen that somebody may wait for: the name and the id by which each is told, and how grave it is.
//!
//! The ids are those of systemd's journal (`journalctl MESSAGE_ID=…`); `docs/watching.md` lists them.
//! Invariant: an id is never changed and never used again for something else.

use serde::{Deserialize, Serialize};

/// How grave something is; the numbers are those of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something that the operator must mend.
    Error = 3,
    /// Something doubtful.
    Warning = 4,
    /// What was done.
    Info = 6,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The agent has begun its work.
    Ready,
    /// A backup was taken.
    BackupTaken,
    /// An attempt came to nothing.
    BackupFailed,
    /// A backup is not everywhere where it should be.
    BackupIncomplete,
    /// A backup is less proven than was asked for.
    BackupUnproven,
    /// A schedule did not do its work in time.
    ScheduleLate,
    /// It did it after all.
    ScheduleInTime,
    /// etcd has another history than the backups before.
    NewLineage,
    /// The configuration is wrong; the one before goes on.
    ConfigurationRefused,
    /// Another configuration is in force.
    ConfigurationTaken,
    /// A destination is not used, because it cannot be.
    DestinationDisabled,
    /// A job does not go on.
    JobHangs,
    /// Nothing is wrong any more.
    Recovered,
    /// The program of `notify.on_failure` failed.
    HookFailed,
    /// The heartbeat could not be sent.
    HeartbeatFailed,
    /// A secret that no backup needs cannot be read.
    SecretUnreadable,
    /// What the agent did cannot be kept on this host.
    StateUnwritable,
    /// There is no backup at all.
    NoBackup,
    /// The agent does not run, or does not say how it is.
    AgentStopped,
    /// A member has an alarm, or does not answer though something depends on it.
    MemberUnwell,
    /// A restore is open on this host.
    RestoreOpen,
    /// New backups are encrypted to others than were accepted.
    RecipientsChanged,
    /// The metrics are not served, or not written.
    MetricsUnserved,
    /// A destination goes on lacking backups that others have.
    DestinationBehind,
    /// This host's clock shows less than it has shown.
    ClockSetBack,
    /// Documents in a destination count for nothing: no signer who is named has signed them.
    StrangersFound,
    /// A destination shows less than this host has seen in it.
    DestinationRolledBack,
    /// This host signs by a key that is not among those that are named.
    SignerUntrusted,
    /// Changes are not captured, or do not reach a destination.
    DeltasBehind,
    /// Changes wait for longer than they should, or there is hardly room for those that wait.
    DeltasLate,
    /// Somebody tries whether he is told.
    Test,
}

struct Row {
    event: Event,
    name: &'static str,
    id: &'static str,
    level: Level,
}

const fn row(event: Event, name: &'static str, id: &'static str, level: Level) -> Row {
    Row { event, name, id, level }
}

/// Every event, in the order of [`Event`].
const TABLE: [Row; 31] = [
    row(Event::Ready, "ready", "35bb780719034ac8957403ffa576cfc7", Level::Info),
    row(
        Event::BackupTaken,
        "backup-taken",
        "df33f45185d64a519abd54b455156d81",
        Level::Info,
    ),
    row(
        Event::BackupFailed,
        "backup-failed",
        "585a99dd4cd545d197f82ece23dcddbb",
        Level::Error,
    ),
    row(
        Event::BackupIncomplete,
        "backup-incomplete",
        "fbdf68ae427c47f8b7637c1b759200b8",
        Level::Error,
    ),
    row(
        Event::BackupUnproven,
        "backup-unproven",
        "b654233e81cc4d2c9abf8b378c4c3e83",
        Level::Error,
    ),
    row(
        Event::ScheduleLate,
        "schedule-late",
        "f508e45f3ae24bd5935d7f9e816519a9",
        Level::Error,
    ),
    row(
        Event::ScheduleInTime,
        "schedule-in-time",
        "df764d7c5183462e968324450c45cceb",
        Level::Info,
    ),
    row(
        Event::NewLineage,
        "new-lineage",
        "be6d53f4345641dfb5b1913647a9d951",
        Level::Error,
    ),
    row(
        Event::ConfigurationRefused,
        "configuration-refused",
        "6b545c414c184ce18775759a60d0ff93",
        Level::Error,
    ),
    row(
        Event::ConfigurationTaken,
        "configuration-taken",
        "f4243022c7b54825b16c225b92ae2a89",
        Level::Info,
    ),
    row(
        Event::DestinationDisabled,
        "destination-disabled",
        "7f5122d4d54b479fac5c49e71dde02fe",
        Level::Error,
    ),
    row(
        Event::JobHangs,
        "job-hangs",
        "41fa00ba17034507892f319939eeafee",
        Level::Error,
    ),
    row(
        Event::Recovered,
        "recovered",
        "069a3a98f8194887bfbf5ad0fd500419",
        Level::Info,
    ),
    row(
        Event::HookFailed,
        "hook-failed",
        "9f12ffde236c44d580b991bb72546a12",
        Level::Warning,
    ),
    row(
        Event::HeartbeatFailed,
        "heartbeat-failed",
        "bee2398565f043f8ad08d66e0add3336",
        Level::Warning,
    ),
    row(
        Event::SecretUnreadable,
        "secret-unreadable",
        "d5238e08dda145668933ec7eb61a5c50",
        Level::Error,
    ),
    row(
        Event::StateUnwritable,
        "state-unwritable",
        "fbb50dca3bd54437a2cbf33c9de9a36a",
        Level::Error,
    ),
    row(
        Event::NoBackup,
        "no-backup",
        "2b32957d1702d8407dc523936d960657",
        Level::Warning,
    ),
    row(
        Event::AgentStopped,
        "agent-stopped",
        "c9cf92363bdb7e261cc19f174584783a",
        Level::Error,
    ),
    row(
        Event::MemberUnwell,
        "member-unwell",
        "d29bd7c9ab388d2b0129fb81358bd8a9",
        Level::Error,
    ),
    row(
        Event::RestoreOpen,
        "restore-open",
        "cf97d9a5666ceaac12ec3569cbe4cf1c",
        Level::Error,
    ),
    row(
        Event::RecipientsChanged,
        "recipients-changed",
        "dd01eb4d513a4967b1fa647df6b1109c",
        Level::Error,
    ),
    row(
        Event::MetricsUnserved,
        "metrics-unserved",
        "38bc18cf39ab4d0e9f5ca75161f5ab24",
        Level::Warning,
    ),
    row(
        Event::DestinationBehind,
        "destination-behind",
        "4146113af6b36f170d2e7376bfb5e5e0",
        Level::Error,
    ),
    row(
        Event::ClockSetBack,
        "clock-set-back",
        "454a3f1b43494efffc7ba13050bdfbc7",
        Level::Warning,
    ),
    row(
        Event::StrangersFound,
        "strangers-found",
        "fbd7ce00cae552e2061be8102b5a3fba",
        Level::Error,
    ),
    row(
        Event::DestinationRolledBack,
        "destination-rolled-back",
        "59252f17598293169e4c94d6244f11a9",
        Level::Error,
    ),
    row(
        Event::SignerUntrusted,
        "signer-untrusted",
        "2fd4f34abca56a0417b788abee0a5336",
        Level::Error,
    ),
    row(
        Event::DeltasBehind,
        "deltas-behind",
        "f9eb6cf3ca394eecc61c4908f3bd57ef",
        Level::Error,
    ),
    row(
        Event::DeltasLate,
        "deltas-late",
        "fb564c0bc0984c9a85680bc81fb73a89",
        Level::Warning,
    ),
    row(Event::Test, "test", "7d1a4de6cf1b4b5fbfd9a6a8a30c2a4e", Level::Info),
];

impl Event {
    /// What programs call it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The `MESSAGE_ID` of its line in the journal.
    pub fn id(self) -> &'static str {
        self.row().id
    }

    /// How grave it is.
    pub fn level(self) -> Level {
        self.row().level
    }

    /// Every event that tells of something which is wrong, as long as it is.
    pub fn problems() -> impl Iterator<Item = Event> {
        TABLE.iter().map(|row| row.event).filter(|event| match event {
            Event::BackupFailed
            | Event::BackupIncomplete
            | Event::BackupUnproven
            | Event::ScheduleLate
            | Event::NewLineage
            | Event::ConfigurationRefused
            | Event::DestinationDisabled
            | Event::JobHangs
            | Event::HeartbeatFailed
            | Event::SecretUnreadable
            | Event::StateUnwritable
            | Event::NoBackup
            | Event::AgentStopped
            | Event::MemberUnwell
            | Event::RestoreOpen
            | Event::RecipientsChanged
            | Event::MetricsUnserved
            | Event::DestinationBehind
            | Event::ClockSetBack
            | Event::StrangersFound
            | Event::DestinationRolledBack
            | Event::SignerUntrusted
            | Event::DeltasBehind
            | Event::DeltasLate => true,
            Event::Ready
            | Event::BackupTaken
            | Event::ScheduleInTime
            | Event::ConfigurationTaken
            | Event::Recovered
            | Event::HookFailed
            | Event::Test => false,
        })
    }

    fn row(self) -> &'static Row {
        let row = TABLE.get(self as usize).expect("the table has a row for each");
        debug_assert!(row.event == self, "the table is in order");
        row
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::health::About;

    #[test]
    fn every_event_has_a_row_and_an_id_of_its_own() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.event as usize, index, "{}", row.name);
            assert_eq!(row.event.id(), row.id);
            assert_eq!(serde_json::to_value(row.event).unwrap(), row.name);
            assert_eq!(row.id.len(), 32);
            let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            assert!(row.id.chars().all(is_hex), "{}", row.id);
        }
        let ids: BTreeSet<_> = TABLE.iter().map(|row| row.id).collect();
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!((ids.len(), names.len()), (TABLE.len(), TABLE.len()));
    }

    #[test]
    fn the_documentation_lists_all_of_them_and_nothing_else() {
        let page = include_str!("../../docs/watching.md");
        let listed: Vec<(&str, &str)> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('|');
                let name = cells.next()?.trim().trim_end_matches('`');
                let id = cells.next()?.trim().trim_matches('`');
                (id.len() == 32).then_some((name, id))
            })
            .collect();
        let known: Vec<(&str, &str)> = TABLE.iter().map(|row| (row.name, row.id)).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn the_documentation_names_what_the_program_is_told_and_what_with() {
        let page = include_str!("../../docs/watching.md");
        let (_, section) = page.split_once("## A program of yours").unwrap();
        let named = |from: &str, to: &str| -> BTreeSet<&str> {
            let (_, text) = section.split_once(from).unwrap();
            let (text, _) = text.split_once(to).unwrap();
            text.split('`').skip(1).step_by(2).collect()
        };
        // The agent neither sees itself stopped nor asks the members.
        let unseen = [Event::AgentStopped, Event::MemberUnwell];
        let told = Event::problems().filter(|event| event.level() == Level::Error && !unseen.contains(event));
        let told: BTreeSet<&str> = told.map(Event::name).collect();
        assert_eq!(named("when something goes wrong:", "Once for each thing"), told);

        let all = About {
            schedule: Some(String::new()),
            destination: Some(String::new()),
            backup: Some(String::new()),
            member: Some(String::new()),
        };
        let words = ["event", "message", "cluster"].into_iter();
        let words = words.chain(all.parts().into_iter().map(|(word, _)| word));
        let mut variables: BTreeSet<String> = words.map(|word| format!("LIFEBOAT_{}", word.to_uppercase())).collect();
        variables.insert("PATH".to_owned());
        let named: BTreeSet<String> = named("In its environment are", ";")
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(named, variables);
    }
}
