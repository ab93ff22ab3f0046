//! The program: arguments, telemetry, exit codes.

fn main() {}
