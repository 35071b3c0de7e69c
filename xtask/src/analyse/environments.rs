//! In what two runs' machines and builds differ, and so may be why their figures do.

use std::collections::BTreeSet;

use alloc_ladder::record::{Environment, Run, Timing};
use serde::Serialize;

/// The fields in which two records differ, as `name old and new`; a field that only one has is `none` in the other.
pub(crate) fn json_differences<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let object = |value: &T| match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (object(old), object(new));
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let field = |of: &serde_json::Map<_, _>, name: &String| of.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name, field(&old, name), field(&new, name)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| format!("{name} {} and {}", plain(&before), plain(&after)))
        .collect()
}

/// What differs between two machines or builds, and so may be why figures differ.
fn differences(old: &Environment, new: &Environment) -> Vec<String> {
    // What may differ between any two runs is not worth a warning.
    let alike = |environment: &Environment| Environment {
        revision: String::new(),
        dirty: false,
        command: String::new(),
        timing: None,
        ..environment.clone()
    };
    // What one of them does not know is no difference: of a program that somebody else built little is known.
    let unknown = [old, new].map(|of| {
        let fields = [&of.rustc, &of.profile, &of.allocator, &of.cpu, &of.kernel];
        fields.map(|field| field.is_empty())
    });
    let known = |of: &Environment| {
        let mut of = of.clone();
        let fields = [&mut of.rustc, &mut of.profile, &mut of.allocator, &mut of.cpu, &mut of.kernel];
        for (index, field) in fields.into_iter().enumerate() {
            if unknown.iter().any(|unknown| unknown[index]) {
                field.clear();
            }
        }
        of
    };
    let mut differ = json_differences(&known(&alike(old)), &known(&alike(new)));
    if let (Some(old), Some(new)) = (&old.timing, &new.timing) {
        let kept = |timing: &Timing| Timing {
            server_cores: timing.server_cores.clone(),
            client_cores: timing.client_cores.clone(),
            congestion: timing.congestion.clone(),
            governor: timing.governor.clone(),
            ..Timing::default()
        };
        differ.extend(json_differences(&kept(old), &kept(new)));
    }
    differ
}

/// What differs between the hosts and builds of two runs: of their clients, and of their servers where one ran elsewhere.
pub(crate) fn environments(old: &Run, new: &Run) -> Vec<String> {
    let mut differ = differences(&old.environment, &new.environment);
    let server = |run: &Run| run.server_environment.clone().unwrap_or_else(|| run.environment.clone());
    if old.server_environment.is_some() || new.server_environment.is_some() {
        let place =
            |run: &Run| if run.server_environment.is_some() { "on another host" } else { "on the client's host" };
        if place(old) != place(new) {
            differ.push(format!("server {} and {}", place(old), place(new)));
        }
        let servers = differences(&server(old), &server(new));
        differ.extend(servers.into_iter().map(|difference| format!("the server's {difference}")));
    }
    differ
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::ladder::{Http2, Tuning};
    use alloc_ladder::subject::scenario::Scenario;

    use super::*;
    use crate::fixture;

    #[test]
    fn machines_and_builds_that_differ_are_named_and_revisions_are_not() {
        let old =
            Environment { cpu: "A".into(), cores: 2, revision: "1".into(), dirty: true, ..Environment::default() };
        let new = Environment { cpu: "B".into(), cores: 4, revision: "2".into(), ..Environment::default() };
        assert_eq!(differences(&old, &new), ["cores 2 and 4", "cpu A and B"]);
        assert_eq!(differences(&old, &old), [""; 0]);
        let built = Environment { rustc: "rustc 1".into(), profile: "release".into(), ..old.clone() };
        assert_eq!(differences(&old, &built), [""; 0], "nobody knows what the other was built with");
        let run = |own: &Environment, server: Option<&Environment>| Run {
            environment: own.clone(),
            server_environment: server.cloned(),
            ..fixture::run("put-a", Scenario::Put)
        };
        assert_eq!(environments(&run(&old, None), &run(&old, None)), [""; 0]);
        assert_eq!(
            environments(&run(&old, None), &run(&old, Some(&new))),
            [
                "server on the client's host and on another host",
                "the server's cores 2 and 4",
                "the server's cpu A and B"
            ]
        );
        assert_eq!(
            environments(&run(&old, Some(&old)), &run(&old, Some(&new))),
            ["the server's cores 2 and 4", "the server's cpu A and B"]
        );
        let tuned = Tuning { http2: Http2::Tuned, ..Tuning::default() };
        assert_eq!(json_differences(&Tuning::default(), &tuned), ["http2 stock and tuned"]);
    }
}
