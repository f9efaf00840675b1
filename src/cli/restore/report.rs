//! What a restore is going to do, and what came of it: printed as text, or as a document of `json::restore`.

use std::path::Path;

use super::super::{Exit, Failure, host};
use crate::etcd_settings::{Change, Overlay, Source};
use crate::jobs::restore::{
    Ended, Here, begins_anew, not_revived, seconds_down, undone, warnings as warnings_of, was_down,
};
use crate::json::restore::{Document, PlanDocument};
use crate::model::ByteSize;
use crate::rebuild::Rewrite;
use crate::restore::{Outcome, Plan, kept_path};
use crate::terminal::{Format, Output};
use crate::text::{age, rfc3339};

/// Where something is, as text.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Prints what would be done.
pub(super) fn plan(output: &Output, plan: &Plan, here: &Here, keys: Option<u64>) {
    let to_change = here.etcd.to_change(plan);
    let mut warnings = warnings_of(plan);
    warnings.extend(begins_anew(plan, &to_change));
    match output.format {
        Format::Json => output.json(&PlanDocument::of(plan, keys, &warnings, &to_change)),
        Format::Text => {
            print_plan(output, plan, here, keys);
            print_changes(output, &to_change);
        }
    }
    warnings.iter().for_each(|warning| output.warn(warning));
}

fn print_plan(output: &Output, plan: &Plan, here: &Here, keys: Option<u64>) {
    let field = |name: &str, value: String| output.field(name, value);
    let backup = &plan.cluster.backup;
    let taken = match backup.taken_at {
        Some(at) => format!(", {} ({} ago)", rfc3339(at), age(at, host::now())),
        None => String::new(),
    };
    let name = backup.name.strip_prefix("backup ").unwrap_or(&backup.name);
    field("backup", format!("{name}{taken}"));
    field("revision", format!("{}; {}", backup.revision, plan.cluster.bump.why));
    if let Some(keys) = keys {
        field("keys", keys.to_string());
    }
    let replaces = match plan.host.in_place {
        Some(cluster) => format!(", in place of {cluster}"),
        None => String::new(),
    };
    let cluster = match &plan.host.identity {
        Some(is) => format!("{} (token {})", is.cluster_id, is.token),
        None => "a new one, named once all members have met".to_owned(),
    };
    field("cluster", format!("{cluster}{replaces}"));
    for (name, urls) in &plan.cluster.members {
        let own = if *name == plan.host.site.member {
            ", this host"
        } else {
            ""
        };
        field("member", format!("{name} at {}{own}", urls.join(", ")));
    }
    field(
        "unit",
        format!(
            "{}, settings in {}",
            plan.host.site.unit,
            settings_in(&here.etcd.settings.source)
        ),
    );
    field("data", shown(&plan.host.site.data_dir));
    if let Some(wal_dir) = &plan.host.site.wal_dir {
        field("log", shown(wal_dir));
    }
    let quota = plan
        .host
        .site
        .quota_bytes
        .map_or(String::new(), |quota| format!("; etcd's quota is {}", ByteSize(quota)));
    field(
        "space",
        format!(
            "{} beside the old data{quota}",
            ByteSize(plan.host.rewrite.needed_bytes(backup.bytes))
        ),
    );
    if let Some(how) = written_anew(plan) {
        field("database", how.to_owned());
    }
    let together = match plan.is_single() {
        true => "",
        false => ", and serves once enough of the other hosts have come",
    };
    field(
        "downtime",
        format!("etcd stops and starts, about {} s{together}", seconds_down(plan)),
    );
    field(
        "old data",
        format!("kept in {}", shown(&kept_path(&plan.host.site.data_dir, &plan.host.id))),
    );
    for path in plan.host.overlay.iter().flat_map(Overlay::paths) {
        field("writes", shown(path));
    }
    for path in &plan.host.stale {
        field("removes", shown(path));
    }
    output.line("");
    output.sentence(match plan.has_to_meet() {
        true => {
            "etcd is stopped once the new data is made and checked. It starts when all members are there and restore the same."
        }
        false => "etcd is stopped once the new data is made and checked, and started on it right after.",
    });
}

/// How the database is written anew, where that was asked for.
fn written_anew(plan: &Plan) -> Option<&'static str> {
    match (plan.host.rewrite, plan.cluster.bump.by) {
        (Rewrite::Not | Rewrite::ToFit { .. }, _) => None,
        (Rewrite::Defragmented, _) => Some("written anew, without free pages"),
        (Rewrite::Compacted, 0) => Some("written anew, without free pages and what compaction gave up"),
        (Rewrite::Compacted, _) => Some("written anew, without free pages and history"),
    }
}

fn settings_in(source: &Source) -> String {
    match source {
        Source::Environment { files } if files.is_empty() => "its environment".to_owned(),
        Source::Environment { files } => {
            let files: Vec<String> = files.iter().map(|file| shown(file)).collect();
            files.join(" and ")
        }
        Source::ConfigFile { path } => shown(path),
        Source::Flags => "the flags of its command".to_owned(),
    }
}

/// What the operator should change in his own files.
fn print_changes(output: &Output, to_change: &[Change]) {
    if to_change.is_empty() {
        return;
    }
    output.line("");
    output.sentence("change in etcd's own settings, which count should its data directory ever be empty:");
    to_change
        .iter()
        .for_each(|change| output.sentence(format!("  {change}")));
}

/// Prints what came of it; the exit code, or the failure that it is.
pub(super) fn outcome(output: &Output, ended: &Ended) -> Result<Exit, Failure> {
    let Ended {
        ledger,
        outcome,
        to_change,
        ..
    } = ended;
    if let Outcome::Undone { why, down } = outcome {
        ended.notes.iter().for_each(|note| output.warn(note));
        if let Some(words) = down {
            output.warn(not_revived(ledger, words));
        }
        let mut failure = undone(ledger, why);
        if ended.is_refused {
            failure.exit = Exit::Refused;
        }
        return Err(failure);
    }
    let of_source = ledger.built.iter().flat_map(|built| &built.warnings);
    let mut notes: Vec<String> = of_source.chain(&ended.notes).cloned().collect();
    notes.extend(begins_anew(&ledger.plan, to_change));
    match output.format {
        Format::Json => output.json(&Document::of(ledger, outcome, &notes, to_change)),
        Format::Text => {
            print_outcome(output, ended);
            print_changes(output, to_change);
        }
    }
    notes.iter().for_each(|note| output.warn(note));
    Ok(Exit::Done)
}

fn print_outcome(output: &Output, ended: &Ended) {
    let Ended {
        ledger,
        outcome,
        first_backup,
        ..
    } = ended;
    let field = |name: &str, value: String| output.field(name, value);
    let plan = &ledger.plan;
    let verdict = match outcome {
        Outcome::Restored => format!("{} serves {}", plan.host.site.unit, plan.cluster.backup.name),
        Outcome::Waiting { .. } if plan.is_single() => format!("{} runs, and does not serve yet", plan.host.site.unit),
        Outcome::Waiting { there } => {
            let of = plan.peers().count();
            let is = match ledger.service.started {
                true => "runs",
                false => "is down",
            };
            let waiting = of.saturating_sub(*there);
            format!("{} {is}, waiting for {waiting} of {of} peers", plan.host.site.unit)
        }
        Outcome::Undone { why, .. } => why.clone(),
    };
    field("restored", verdict);
    if let Some(is) = &plan.host.identity {
        field("cluster", format!("{}, member {}", is.cluster_id, is.member_id));
    }
    if let Some(built) = &ledger.built {
        let proof = if built.is_proven {
            ", equal to what the member reported"
        } else {
            ""
        };
        field("revision", built.revision.to_string());
        field(
            "HashKV",
            format!("{} at revision {}{proof}", built.hash_kv.hash, built.hash_kv.revision),
        );
        field("keys", built.live_keys.to_string());
    }
    if let Some(seconds) = was_down(ledger) {
        field("etcd was down", format!("{seconds:.1} s"));
    }
    if ledger.had_data() {
        field("old data", shown(&kept_path(&plan.host.site.data_dir, &plan.host.id)));
    }
    output.line("");
    output.line("next:");
    match outcome {
        Outcome::Waiting { .. } if plan.is_single() => {
            output.sentence("  it is finished in the background; wait for it with `lifeboat restore --wait`");
        }
        Outcome::Waiting { .. } => {
            output.sentence("  run the same command on the other hosts; this one is finished in the background");
            if !ledger.service.started {
                output.sentence(
                    "  a host that is gone for good: `lifeboat rollback` here, then restore with `--without NAME` on all others",
                );
            }
        }
        Outcome::Restored | Outcome::Undone { .. } => {
            output.sentence(format!("  {}", first_backup.next_step()));
        }
    }
    if ledger.had_data() {
        output.sentence("  the old data comes back with `lifeboat rollback`, and is given up with `lifeboat release`");
    }
}
