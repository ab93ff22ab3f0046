//! `envoy/envoy.yaml` with the ports and limits that a test wants.

use std::fmt::Write;
use std::path::Path;

use super::ports::Ports;

/// The text of an Envoy configuration.
pub(crate) struct EnvoyConfig(String);

impl EnvoyConfig {
    /// The configuration we ship, with more patience for a Check: on a busy machine 100 ms may pass before a program
    /// gets its turn, and what is tested here is what is answered, not how fast.
    pub(crate) fn shipped() -> Self {
        let text = std::fs::read_to_string(super::root().join("envoy/envoy.yaml")).unwrap();
        Self(text).replace("timeout: 0.1s", "timeout: 5s").replace("max_interval: 0.1s", "max_interval: 5s")
    }

    /// Replaces text that must stand there exactly once: a test must not run on settings it does not expect.
    pub(crate) fn replace(self, old: &str, new: &str) -> Self {
        assert_eq!(self.0.matches(old).count(), 1, "envoy/envoy.yaml should state {old:?} exactly once");
        Self(self.0.replacen(old, new, 1))
    }

    /// Room `shop` with exactly these limits.
    pub(crate) fn limits(self, limits: &[(&str, &str)]) -> Self {
        const BEGIN: &str = "                      context_extensions:\n";
        let at = self.0.find(BEGIN).expect("context_extensions of /shop") + BEGIN.len();
        let end = at + self.0[at..].find("\n\n").expect("an empty line after the limits");
        let mut text = String::from("                        room: shop\n");
        for (key, value) in limits {
            writeln!(text, "                        {key}: \"{value}\"").unwrap();
        }
        Self(format!("{}{text}{}", &self.0[..at], &self.0[end..]))
    }

    /// The same limits as metadata of the route instead of `context_extensions`.
    pub(crate) fn limits_as_route_metadata(self, limits: &[(&str, &str)]) -> Self {
        let mut metadata = String::from("room: shop");
        for (key, value) in limits {
            write!(metadata, ", {key}: \"{value}\"").unwrap();
        }
        let route = "              - match: { path_separated_prefix: /shop, case_sensitive: false }\n";
        let with = format!(
            "{route}                metadata: {{ filter_metadata: {{ anteroom: {{ {metadata} }} }} }}\n"
        );
        let bare = self.replace(route, &with);
        let begin = bare.0.find("                typed_per_filter_config:\n                  envoy.filters.http.ext_authz:\n                    \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                    check_settings:").expect("the settings of /shop");
        let end = begin + bare.0[begin..].find("\n\n").expect("an empty line after the limits");
        Self(format!("{}{}", &bare.0[..begin], &bare.0[end..]))
    }

    /// The same with its routes in a file of their own, which Envoy watches; and the text for that file.
    pub(crate) fn with_routes_in(self, file: &Path) -> (Self, String) {
        const BEGIN: &str = "          route_config:\n";
        let begin = self.0.find(BEGIN).expect("the routes");
        let end = begin + self.0[begin..].find("\n  clusters:\n").expect("the clusters behind the routes");
        let watched = format!(
            "          rds:\n            route_config_name: public\n            config_source: {{ resource_api_version: \
             V3, path_config_source: {{ path: \"{}\" }} }}\n",
            file.display()
        );
        let mut routes = String::from(
            "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n",
        );
        for line in self.0[begin + BEGIN.len()..end].lines() {
            writeln!(routes, "{}", line.strip_prefix("          ").unwrap_or(line)).unwrap();
        }
        // Envoy wants a name for whoever asks for routes, be it a file that it asks.
        let node = "node: { id: envoy, cluster: envoy }\n";
        (Self(format!("{node}{}{watched}{}", &self.0[..begin], &self.0[end..])), routes)
    }

    /// The text with the scene's ports.
    pub(crate) fn text(self, ports: &Ports) -> String {
        let numbers = [
            (8080, ports.public),
            (8000, ports.backend),
            (50051, ports.authz),
            (50052, ports.grpc),
            (8081, ports.http),
            (9901, ports.envoy_admin),
        ];
        // The scene's own ports are none of the defaults (see `ports`), so that no replaced one is replaced again.
        let moved = numbers.into_iter().fold(self, |config, (default, port)| {
            config.replace(&format!("port_value: {default} }}"), &format!("port_value: {port} }}"))
        });
        moved.0
    }
}
