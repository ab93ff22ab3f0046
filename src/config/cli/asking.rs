//! Whom the operators' client asks, and how: the same flags for all of its commands.

// The doc comments here are help texts: a terminal shows them as they are.
#![allow(clippy::doc_markdown)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::CheckFormat;
use crate::admin::client::{Order, Target, What};
use crate::config::token_file;
use crate::room::policy::quoted;

/// Arguments of every command of operators.
#[derive(Debug, clap::Args)]
pub struct Asking {
    /// The admin listener of any replica: http://HOST:PORT or unix:/path
    #[arg(long, global = true, value_name = "ADDRESS", default_value = "http://127.0.0.1:9102")]
    pub admin: String,
    /// File with the operators' token, the same that the service was given [env: ANTEROOM_ADMIN_TOKEN_FILE]
    // The variable is read by ourselves: clap would show the flag as a part of every command in its usage.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to report
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: CheckFormat,
}

impl Asking {
    /// The environment variable that names the token's file where no flag does.
    pub const TOKEN_FILE: &str = "ANTEROOM_ADMIN_TOKEN_FILE";

    /// This asked of whom the flags name, with the token of the file named by flag or else by `token_file`, the variable.
    pub(super) fn order(&self, token_file: Option<OsString>, what: What) -> Result<Order, String> {
        let target = Target::parse(&self.admin).ok_or_else(|| {
            format!("--admin {}: write http://HOST:PORT or unix:/path", quoted(&self.admin))
        })?;
        let stated = token_file.filter(|file| !file.is_empty()).map(PathBuf::from);
        let token = self.token_file.as_ref().or(stated.as_ref()).map(|file| read_token(file)).transpose()?;
        Ok(Order { target, token, json: self.format == CheckFormat::Json, what })
    }
}

fn read_token(file: &Path) -> Result<String, String> {
    token_file::read(file).map(|(_, text)| text).map_err(|mistake| format!("--token-file {mistake}"))
}
