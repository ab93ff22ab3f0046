//! The program on a terminal: what is drawn fits into it, and colours are there where they are welcome.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};

use crate::fleet::Fleet;
use crate::operators::{command, token_file};
use crate::redis::server::signal;
use crate::redis::{SOON, ports, until};

/// A terminal with a program on it; both end with this.
struct Terminal {
    ours: File,
    seen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// A terminal of so many rows and columns.
    fn of((rows, columns): (u16, u16), mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        resize(&ours, rows, columns);
        let its = ioctl_tiocgptpeer(&ours, flags).unwrap();
        command.stdin(Stdio::null());
        command.stdout(its.try_clone().unwrap()).stderr(its).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(ours.try_clone().unwrap());
        let read = seen.clone();
        // Ends when nobody has the terminal open any more: with the program, as our own end is in `command`.
        drop(command);
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                read.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
            }
        });
        Self { ours: File::from(ours), seen, child }
    }

    /// Everything written so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The lines of the last picture that is whole.
    fn picture(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind("\x1b[J").map_or("", |end| &text[..end]);
        let begin = whole.rfind("\x1b[H").map_or(0, |at| at + "\x1b[H".len());
        whole[begin..].lines().map(plain).collect()
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its end; the exit status.
    async fn end(&mut self) -> i32 {
        let ended = tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends").unwrap();
        ended.code().expect("it ends by itself")
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// A line without what only gives it colour or clears its rest.
fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(['m', 'K']).map_or(part, |(_, rest)| rest))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_watched_fits_into_the_terminal_also_when_that_changes() {
    let token = token_file();
    let rooms: Vec<_> = (10..50).map(|room| format!("  room-{room}:\n    capacity: 1\n")).collect();
    let flags = ["--drain", "2s", "--admin-token-file", token.path().to_str().unwrap()];
    let mut fleet = Fleet::new("watched", "memory", &format!("rooms:\n{}", rooms.concat())).with(&flags);
    fleet.add("serve");
    let replica = &fleet.replicas()[0];
    replica.until_ready().await;
    // It looks once an hour: what is drawn anew is drawn because of the size.
    let mut terminal = Terminal::of((24, 80), command(replica.admin, &token, "watch --every 1h"));
    for ((rows, columns), drawn, last) in [
        ((24, 80), 19, "… and 21 more"),
        ((10, 30), 5, "… and 35 more"),
        ((60, 200), 40, "room-49"),
        ((44, 80), 40, "room-49"),
        ((43, 80), 38, "… and 2 more"),
        ((5, 80), 1, "… and 39 more"),
        ((4, 80), 1, "… and 39 more"),
        ((3, 80), 1, "… and 39 more"),
        ((2, 80), 1, "room-10"),
        ((6, 80), 1, "… and 39 more"),
    ] {
        if (rows, columns) != (24, 80) {
            resize(&terminal.ours, rows, columns);
            signal("WINCH", terminal.pid());
        }
        let picture = until("it is drawn in the new size", SOON, || async {
            let picture = terminal.picture();
            let of_rooms = picture.iter().filter(|line| line.starts_with("room-")).count();
            let fits = picture.len() < usize::from(rows);
            (fits && of_rooms == drawn && picture.last()?.starts_with(last)).then_some(picture)
        })
        .await;
        for line in &picture {
            assert!(line.chars().count() <= usize::from(columns), "{line:?} in {columns} columns");
        }
    }
    signal("INT", terminal.pid());
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colours_are_there_unless_no_color_says_something() {
    let token = token_file();
    let flags = ["--drain", "2s", "--admin-token-file", token.path().to_str().unwrap()];
    let mut fleet = Fleet::new("colours", "memory", "rooms:\n  shop:\n    capacity: 1\n").with(&flags);
    fleet.add("serve");
    let replica = &fleet.replicas()[0];
    replica.until_ready().await;
    let mut wrong = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    write!(wrong, "rooms:\n  shop:\n    capacity: many\n").unwrap();
    let service = env!("CARGO_BIN_EXE_anteroom");
    let check = || {
        let mut command = Command::new(service);
        command.arg("check-config").arg(wrong.path());
        command
    };
    let logs = || {
        let mut command = Command::new(service);
        command.args(["serve", "--log-format", "human"]);
        for flag in ["--authz-listen", "--http-listen", "--admin-listen", "--grpc-listen"] {
            command.arg(flag).arg(format!("127.0.0.1:{}", ports::free()));
        }
        command
    };
    until("the room is listed", SOON, || async {
        let listed = command(replica.admin, &token, "list").output().await.unwrap();
        String::from_utf8_lossy(&listed.stdout).contains("shop").then_some(())
    })
    .await;
    for (no_color, coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        for (what, mut command, says) in [
            ("rooms", command(replica.admin, &token, "list"), "shop"),
            ("check", check(), "many"),
            ("logs", logs(), "started"),
        ] {
            command.env_remove("NO_COLOR");
            if let Some(value) = no_color {
                command.env("NO_COLOR", value);
            }
            let terminal = Terminal::of((24, 200), command);
            let text = until(&format!("{what} says {says:?}"), SOON, || async {
                let text = terminal.text();
                text.contains(says).then_some(text)
            })
            .await;
            assert_eq!(text.contains('\x1b'), coloured, "{what} with NO_COLOR={no_color:?}: {text}");
        }
    }
}
