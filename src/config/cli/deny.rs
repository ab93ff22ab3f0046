//! The command line of `anteroom deny`, the operators' client for the deny list.

// The doc comments here are help texts: a terminal shows them as they are.
#![allow(clippy::doc_markdown)]

use std::ffi::OsString;

use super::asking::Asking;
use crate::admin::client::{Order, What};
use crate::room::deny::written::Written;

/// Arguments of `anteroom deny`.
#[derive(Debug, clap::Args)]
pub struct DenyArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub asking: Asking,
    /// What to do.
    #[command(subcommand)]
    pub what: DenyCommand,
}

/// What an operator wants.
#[derive(Debug, clap::Subcommand)]
pub enum DenyCommand {
    /// Show every entry in force at the replica, those of its deny file too
    List,
    /// Refuse a network, a browser or a user at all replicas, from now on
    Add {
        /// Who is refused.
        #[command(flatten)]
        whom: WhomArgs,
        /// With --subject: this issuer's user only
        #[arg(long, value_name = "URL", requires = "subject")]
        issuer: Option<String>,
        /// Until when: 2026-12-01T00:00:00Z, or with an offset like +09:00; without it for good
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Why, for other operators
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Take back what operators have added; the deny file's entries are changed there
    Remove {
        /// Who is refused no more.
        #[command(flatten)]
        whom: WhomArgs,
        /// With --subject: this issuer's user only
        #[arg(long, value_name = "URL", requires = "subject")]
        issuer: Option<String>,
    },
}

/// Who is meant: one of them.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct WhomArgs {
    /// An address, or a network like 192.0.2.0/24
    #[arg(long, value_name = "NETWORK")]
    pub ip: Option<String>,
    /// A text that the User-Agent has in it, in any case
    #[arg(long, value_name = "TEXT")]
    pub user_agent: Option<String>,
    /// The `sub` of a verified user
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
}

impl DenyArgs {
    /// What is to be asked of whom; `token_file` is the variable [`Asking::TOKEN_FILE`]. An error says what is wrong, and what
    /// would be right.
    pub fn order(&self, token_file: Option<OsString>) -> Result<Order, String> {
        self.asking.order(token_file, self.what()?)
    }

    fn what(&self) -> Result<What, String> {
        Ok(match &self.what {
            DenyCommand::List => What::Denied,
            DenyCommand::Add { whom, issuer, until, note } => {
                let entry =
                    Written { until: until.clone(), note: note.clone(), ..whom.written(issuer.clone()) };
                What::Deny(sound(entry)?)
            }
            DenyCommand::Remove { whom, issuer } => What::Undeny(sound(whom.written(issuer.clone()))?),
        })
    }
}

impl WhomArgs {
    fn written(&self, issuer: Option<String>) -> Written {
        let Self { ip, user_agent, subject } = self.clone();
        Written { ip, user_agent, subject, issuer, ..Written::default() }
    }
}

/// The entry, if it means somebody. The service would say the same; here nothing was asked yet.
fn sound(entry: Written) -> Result<Written, String> {
    entry.clone().entry().map(|_| entry).map_err(|mut mistake| {
        // A flag has a hyphen where the file's key has none.
        mistake.key = format!("--{}", mistake.key.replace('_', "-"));
        mistake.to_string()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};

    fn what(words: &[&str]) -> Result<What, String> {
        let cli = Cli::try_parse_from(["anteroom", "deny"].iter().chain(words));
        match cli.map_err(|error| error.to_string())?.command {
            Command::Deny(arguments) => arguments.order(None).map(|order| order.what),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn orders_are_understood_and_slips_are_refused_before_anything_is_asked() {
        let written = |ip: &str| Written { ip: Some(ip.to_owned()), ..Written::default() };
        assert_eq!(what(&["list", "--format", "json"]), Ok(What::Denied));
        assert_eq!(what(&["remove", "--ip", "192.0.2.7"]), Ok(What::Undeny(written("192.0.2.7"))));
        let until = Some("2026-12-01T09:00:00+09:00".to_owned());
        let entry = Written { until, note: Some("a scraper".to_owned()), ..written("192.0.2.0/24") };
        let words =
            ["add", "--ip", "192.0.2.0/24", "--until", "2026-12-01T09:00:00+09:00", "--note", "a scraper"];
        assert_eq!(what(&words), Ok(What::Deny(entry)));
        for slip in [
            &["add"][..],
            &["add", "--ip", "0.0.0.0/1"],
            &["add", "--ip", "192.0.2.1", "--issuer", "https://id.example"],
            &["add", "--ip", "192.0.2.1", "--subject", "eve"],
            &["add", "--user-agent", "M"],
            &["add", "--ip", "192.0.2.1", "--until", "tomorrow"],
            &["remove", "--ip", "192.0.2.7/24"],
            &["remove", "--ip", "192.0.2.1", "--until", "2026-12-01T00:00:00Z"],
        ] {
            assert!(what(slip).is_err(), "{slip:?}");
        }
        let told = |user_agent| what(&["add", "--user-agent", user_agent]).unwrap_err();
        assert!(told("M").starts_with("--user-agent: "), "{}", told("M"));
        assert!(told("   ").starts_with("--user-agent: has only blanks in it; "), "{}", told("   "));
    }
}
