//! An Envoy between the load and a service: `envoy.yaml` beside `src/`, which is the same but for two ports.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use crate::Failed;
use crate::cores::Cores;
use crate::process::Process;
use crate::redis::ports;

/// The configuration, with the ports that are moved.
const CONFIGURATION: &str = include_str!("../envoy.yaml");
const PUBLIC: u16 = 8080;
const AUTHZ: u16 = 50051;

/// The program that was named, if it is there.
pub(crate) fn program(named: Option<&Path>) -> Result<&Path, Failed> {
    let wrong = match named {
        Some(path) if path.is_file() => return Ok(path),
        Some(path) => format!("there is no Envoy at {}", path.display()),
        None => "no Envoy is named".to_owned(),
    };
    Err(Failed(format!(
        "{wrong}: name one with --envoy or ENVOY_BIN; `make tools` installs one, `make bench-envoy` uses it"
    )))
}

/// Its version: `abc/1.40.0/Clean/…`, of what it says.
pub(crate) fn version(said: &str) -> &str {
    said.split('/').nth(1).unwrap_or(said)
}

/// A running Envoy with one worker; it ends with this.
pub(crate) struct Envoy {
    pub(crate) process: Process,
    /// Where visitors come.
    pub(crate) public: SocketAddr,
}

impl Envoy {
    /// Starts one that asks the service at `authz`, on the core of the load: the service's is its own.
    pub(crate) fn start(
        program: &Path,
        name: &str,
        authz: SocketAddr,
        cores: Option<Cores>,
        files: &Path,
    ) -> Result<Self, Failed> {
        let public = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let file = files.join(format!("{name}.yaml"));
        std::fs::write(&file, configuration(public.port(), authz.port()))
            .map_err(|error| Failed(format!("{}: {error}", file.display())))?;
        let mut words: Vec<OsString> = vec!["program".into(), program.into(), "-c".into(), file.into()];
        // One worker, as it has one core; without hot restarts several run side by side.
        words.extend(
            ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"].map(OsString::from),
        );
        let process = Process::serve(name, cores.map(|cores| cores.load), &words, files)?;
        Ok(Self { process, public })
    }
}

fn configuration(public: u16, authz: u16) -> String {
    // At once, so that a port that happens to be the other's default is not moved again.
    let moved = |line: &str| {
        let port = |at: u16| format!("port_value: {at} }}");
        let with = |from, to| line.contains(&port(from)).then(|| line.replace(&port(from), &port(to)));
        with(PUBLIC, public).or_else(|| with(AUTHZ, authz)).unwrap_or_else(|| line.to_owned())
    };
    CONFIGURATION.lines().map(moved).collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_are_moved_and_nothing_else() {
        let moved = configuration(AUTHZ, 7);
        let changed = CONFIGURATION.lines().zip(moved.lines()).filter(|(before, after)| before != after);
        let ports: Vec<_> = changed.filter_map(|(_, line)| line.split_once("port_value: ")).collect();
        assert_eq!(ports.iter().map(|(_, port)| *port).collect::<Vec<_>>(), ["50051 } }", "7 } } }"]);
    }

    #[test]
    fn the_route_states_the_limits_of_the_other_scenarios() {
        for (key, value) in crate::scenario::SHOP {
            assert!(CONFIGURATION.contains(&format!(" {key}: \"{value}\"\n")), "{key}: {value}");
        }
    }

    #[test]
    fn a_missing_envoy_is_told_with_what_helps() {
        let missing = program(Some(Path::new("/nowhere/envoy"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/envoy") && missing.contains("ENVOY_BIN"), "{missing}");
        assert!(missing.contains("make tools"), "{missing}");
        assert_eq!(version("9e55/1.40.0/Clean/RELEASE/BoringSSL"), "1.40.0");
    }
}
