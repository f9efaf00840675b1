//! Which wins where a setting is given in several ways: a flag over a variable. Where etcd has a YAML file it reads nothing else
//! (`discover` sees to that); of two environment files the later one wins (`environment`), of two flags the last
//! (`arguments`).
//!
//! Source: etcd `server/etcdmain/config.go`, `pkg/flags/flag.go` (`SetFlagsFromEnv`).

use super::SetIn;
use super::flags::{KNOWN, Values, variable};
use super::start::Start;

impl Values {
    /// From flags, and from variables what flags leave open. An empty variable sets nothing, an empty flag does.
    pub(super) fn layered(start: &Start) -> Values {
        let mut values = Values::default();
        for (flag, _) in KNOWN {
            let name = variable(flag);
            let variable = start.environment.get(&name).filter(|value| !value.is_empty());
            match (start.flags.get(*flag), variable) {
                (Some(value), _) => values.set(flag, value, SetIn::Command),
                (None, Some(value)) => values.set(flag, value, start.origin(&name)),
                (None, None) => {}
            }
        }
        values
    }
}
