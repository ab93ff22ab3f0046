//! The program: arguments, telemetry, exit codes.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anteroom::admin::client::{self, Order, Screen};
use anteroom::app;
use anteroom::config::check;
use anteroom::config::cli::asking::Asking;
use anteroom::config::cli::{Cli, Command};
use anteroom::config::settings::Settings;
use anteroom::drain::signals;
use anteroom::telemetry::logs;
use clap::Parser as _;
use rustix::termios::tcgetwinsize;
use tokio::runtime;

// It gives memory back: some 12 s after 20,000 streams had ended, 2 MiB more than before were held, and with mimalloc
// 60 MiB; a stream took 3.7 KB where it took 4.4 KB there. What it costs a Check has not been compared.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for settings that cannot be used, as clap has it for arguments.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::CheckConfig(arguments) = &cli.command {
        let mut out = std::io::stdout().lock();
        let colour = logs::is_colour_welcome(out.is_terminal());
        return match check::run(arguments, std::env::vars_os(), colour, &mut out) {
            Ok(status) => ExitCode::from(status),
            Err(error) => complain(&format!("the report cannot be written: {error}"), MISCONFIGURED),
        };
    }
    let token_file = || std::env::var_os(Asking::TOKEN_FILE);
    match &cli.command {
        Command::Rooms(arguments) => return operate(arguments.order(token_file())),
        Command::Deny(arguments) => return operate(arguments.order(token_file())),
        _ => {}
    }
    let settings = match cli.settings(std::env::vars_os()) {
        Ok(settings) => settings,
        Err(mistakes) => {
            for mistake in mistakes {
                complain(&mistake.to_string(), MISCONFIGURED);
            }
            return ExitCode::from(MISCONFIGURED);
        }
    };
    if let Err(error) = logs::set_up(settings.log_format, &settings.log) {
        return complain(&error.to_string(), MISCONFIGURED);
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    serve(settings)
}

fn serve(settings: Settings) -> ExitCode {
    let runtime = match app::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), 1),
    };
    let result = runtime.block_on(async {
        let stops = signals().map_err(|error| format!("signals cannot be received: {error}"))?;
        app::run(settings, stops).await.map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

/// Looks at rooms or the deny list and controls them, as an operator.
fn operate(order: Result<Order, String>) -> ExitCode {
    let order = match order {
        Ok(order) => order,
        Err(mistake) => return complain(&mistake, MISCONFIGURED),
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), MISCONFIGURED),
    };
    let mut out = std::io::stdout();
    let terminal = out.is_terminal();
    let screen = Screen { terminal: terminal.then_some(size), colour: logs::is_colour_welcome(terminal) };
    match runtime.block_on(client::run(order, screen, &mut out)) {
        (status, Some(message)) => complain(&message, status),
        (status, None) => ExitCode::from(status),
    }
}

/// Rows and columns of the terminal at standard output; of an old one where it does not tell.
fn size() -> (u16, u16) {
    let told = tcgetwinsize(std::io::stdout()).ok().map(|size| (size.ws_row, size.ws_col));
    told.filter(|(rows, columns)| *rows > 0 && *columns > 0).unwrap_or((24, 80))
}

fn complain(message: &str, code: u8) -> ExitCode {
    // Standard error may be closed; then there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "anteroom: {message}");
    ExitCode::from(code)
}
