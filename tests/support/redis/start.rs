//! Starts programs that end with the test process, however it ends.

use std::process::{Child, Command};
use std::sync::{LazyLock, mpsc};

type Asked = (Command, mpsc::Sender<std::io::Result<Child>>);

/// A thread that lives as long as the process: the signal that `setpriv` asks for comes when the *thread* that
/// started the program ends, and a test's thread ends before the process does.
static STARTER: LazyLock<mpsc::SyncSender<Asked>> = LazyLock::new(|| {
    let (asked, orders) = mpsc::sync_channel::<Asked>(16);
    std::thread::spawn(move || {
        for (mut command, reply) in orders {
            // Whoever asked may have given up meanwhile; then the child is killed here.
            if let Err(mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                child.kill().ok();
                child.wait().ok();
            }
        }
    });
    asked
});

static HAS_SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status().is_ok_and(|s| s.success())
});

/// A command for `program` that is killed when this process ends, where the system can do that.
pub(crate) fn bound_to_us(program: &str) -> Command {
    if !*HAS_SETPRIV {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Starts it.
pub(crate) fn start(command: Command) -> std::io::Result<Child> {
    let (reply, child) = mpsc::channel();
    STARTER.send((command, reply)).expect("the starter lives as long as the process");
    child.recv().expect("the starter answers every order")
}
