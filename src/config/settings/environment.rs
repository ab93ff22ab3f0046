//! `ANTEROOM_*` environment variables that mean nothing.

use std::ffi::OsString;

use clap::CommandFactory;

use crate::config::cli::Cli;
use crate::config::{Grade, Mistake};
use crate::room::policy::unknown_key;

/// `ANTEROOM_*` variables that no flag has: most likely slips.
pub(super) fn unknown_variables(env: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<Mistake> {
    let command = Cli::command();
    let known: Vec<String> = command
        .find_subcommand("serve")
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|flag| flag.get_env()?.to_str().map(str::to_lowercase))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let mut mistakes = Vec::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        // Case counts: ANTEROOM_tick would never be read.
        let meant = known.iter().any(|known| known.to_uppercase() == name);
        if name.starts_with("ANTEROOM_")
            && !meant
            && !names_a_kubernetes_service(&name, &value.to_string_lossy())
        {
            let mistake = unknown_key(&name, &known);
            mistakes.push(Mistake {
                file: None,
                line: None,
                key: mistake.key,
                problem: "is not a known environment variable".into(),
                remedy: shout(&mistake.remedy),
                grade: Grade::Mistake,
            });
        }
    }
    mistakes
}

/// Kubernetes puts the address of a Service named `anteroom` into every pod as `ANTEROOM_SERVICE_HOST`,
/// `ANTEROOM_PORT`, `ANTEROOM_PORT_8081_TCP_ADDR` and the like: none of these is a slip.
fn names_a_kubernetes_service(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Variables are written in capitals; `unknown_key` compares and names them in small letters.
fn shout(remedy: &str) -> String {
    let words = remedy
        .split(' ')
        .map(|word| if word.starts_with("anteroom_") { word.to_uppercase() } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> Vec<String> {
        unknown_variables([(name.into(), value.into())]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn slips_are_named() {
        assert_eq!(
            told("ANTEROOM_TICKS", "1s"),
            ["ANTEROOM_TICKS: is not a known environment variable; did you mean ANTEROOM_TICK?"]
        );
        assert_eq!(told("ANTEROOM_tick", "1s").len(), 1);
        assert_eq!(told("ANTEROOM_NOTHING_LIKE_IT", "x").len(), 1);
    }

    #[test]
    fn known_foreign_and_kubernetes_variables_are_fine() {
        for (name, value) in [
            ("ANTEROOM_TICK", "nonsense"),
            ("PATH", "/bin"),
            ("ANTEROOM", "x"),
            ("ANTEROOM_SERVICE_HOST", "10.0.0.1"),
            ("ANTEROOM_SERVICE_PORT", "8081"),
            ("ANTEROOM_SERVICE_PORT_HTTP", "8081"),
            ("ANTEROOM_PORT", "tcp://10.0.0.1:8081"),
            ("ANTEROOM_PORT_8081_TCP", "tcp://10.0.0.1:8081"),
            ("ANTEROOM_PORT_8081_TCP_ADDR", "10.0.0.1"),
            ("ANTEROOM_AUTHZ_PORT_50051_TCP_PROTO", "tcp"),
        ] {
            assert_eq!(told(name, value), [] as [String; 0], "{name}");
        }
    }
}
