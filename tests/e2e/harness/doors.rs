//! The other proxies: a [`Scene`] behind nginx or Caddy, as `nginx/nginx.conf` and `caddy/Caddyfile` have them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::ports::Ports;
use super::{Scene, root};

impl Scene {
    /// The scene behind nginx, with changes to `nginx/nginx.conf`.
    pub(crate) async fn behind_nginx(
        test: &str,
        flags: &[&str],
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let nginx = |ports: &Ports, files: &Path| {
            let text = change(shipped("nginx/nginx.conf", files));
            // Of the system's folders nothing is used: the tests run as anybody.
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = temporary.map(|kind| format!("    {kind}_temp_path {kind};")).join("\n");
            let text = replace(&text, "\nhttp {\n", &format!("\nhttp {{\n{temporary}\n"));
            // Patience for a busy machine, as the tests through Envoy have it.
            let text = text.replace("250ms;", "5s;");
            let file = files.join("nginx.conf");
            std::fs::write(&file, moved(&text, "127.0.0.1:8080", ports)).unwrap();
            let root = std::fs::metadata(files).unwrap().uid() == 0;
            let user = if root { "user root;" } else { "" };
            let mut command = Command::new("nginx");
            command.arg("-p").arg(files).arg("-c").arg(file);
            command.args(["-g", &format!("daemon off; pid nginx.pid; error_log /dev/stderr warn; {user}")]);
            command
        };
        Self::behind("nginx", test, flags, nginx).await
    }

    /// The scene behind Caddy.
    pub(crate) async fn behind_caddy(test: &str, flags: &[&str]) -> Self {
        let caddy = |ports: &Ports, files: &Path| {
            let text = shipped("caddy/Caddyfile", files).replace("250ms", "5s");
            let file = files.join("Caddyfile");
            std::fs::write(&file, moved(&text, ":8080", ports)).unwrap();
            let mut command = Command::new("caddy");
            // It keeps what it makes in its home.
            command.env("HOME", files).env("XDG_DATA_HOME", files).env("XDG_CONFIG_HOME", files);
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command
        };
        Self::behind("caddy", test, flags, caddy).await
    }
}

/// A configuration that we ship; the rooms file that belongs to it is put into the scene's folder.
fn shipped(file: &str, files: &Path) -> String {
    std::fs::copy(root().join("nginx/rooms.yaml"), files.join("rooms.yaml")).unwrap();
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// The text with the scene's ports; `public`: the address at which it listens.
fn moved(text: &str, public: &str, ports: &Ports) -> String {
    let listen = public.replace("8080", &ports.public.to_string());
    let text = text
        .lines()
        .map(|line| {
            // What the comments at the top say about ports stays as it is.
            if line.starts_with('#') { line.to_owned() } else { line.replace(public, &listen) }
        })
        .collect::<Vec<_>>()
        .join("\n");
    let text = text.replace("127.0.0.1:8000", &format!("127.0.0.1:{}", ports.backend));
    let text = text.replace("127.0.0.1:8081", &format!("127.0.0.1:{}", ports.http));
    assert!(text.contains(&ports.public.to_string()) && text.contains(&ports.http.to_string()), "{text}");
    text + "\n"
}

/// Replaces text that must stand there exactly once.
pub(crate) fn replace(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} should stand there exactly once");
    text.replacen(old, new, 1)
}
