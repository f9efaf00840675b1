//! Whether new backups are encrypted to those that the operator means.

use std::fmt;

/// Recipients that are not those that were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRecipients {
    added: Vec<String>,
    missing: Vec<String>,
}

impl OtherRecipients {
    /// How `now` differs from `accepted`; their order says nothing.
    pub fn between(accepted: &[String], now: &[String]) -> Option<OtherRecipients> {
        let without = |of: &[String], others: &[String]| -> Vec<String> {
            of.iter().filter(|one| !others.contains(one)).cloned().collect()
        };
        let (added, missing) = (without(now, accepted), without(accepted, now));
        let differs = !added.is_empty() || !missing.is_empty();
        differs.then_some(OtherRecipients { added, missing })
    }
}

impl fmt::Display for OtherRecipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the recipients have changed: ")?;
        let mut parts = Vec::new();
        if !self.added.is_empty() {
            let added = self.added.join(", ");
            parts.push(format!("added {added} (whoever holds that key can read new backups)"));
        }
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            parts.push(format!("removed {missing} (that key does not open new backups)"));
        }
        f.write_str(&parts.join("; "))?;
        f.write_str(". If that is meant: `lifeboat check --accept-recipients`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_removed_is_named() {
        let keys = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let between = |accepted, now| OtherRecipients::between(&keys(accepted), &keys(now)).map(|it| it.to_string());
        assert_eq!(between("age1a age1b", "age1b age1a"), None);
        let swapped = between("age1a", "age1z").unwrap();
        assert!(
            swapped.contains("added age1z") && swapped.contains("removed age1a"),
            "{swapped}"
        );
        assert!(!between("age1a", "age1a age1z").unwrap().contains("removed"));
        assert!(!between("age1a age1b", "age1a").unwrap().contains("added"));
    }
}
