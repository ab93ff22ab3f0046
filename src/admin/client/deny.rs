//! Operators' entries of the deny list, by the client: what is on it, who is put on it, who is taken off.

use std::io::{self, Write};

use ::http::Method;
use serde_json::json;

use super::http::Client;
use super::{Failure, Screen, done_all_the_same, read, table, write_json};
use crate::admin::denied::{Done, Page};
use crate::room::deny::written::Written;

/// Shows the list in force at the process that is asked.
pub(super) async fn list(
    client: &Client,
    json: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let list = all(client).await?;
    Ok(if json { write_json(&list, out) } else { table::entries(&list.entries, screen, out) }?)
}

/// Changes it by `POST` or `DELETE`, and shows what was understood.
pub(super) async fn change(
    client: &Client,
    method: Method,
    entry: &Written,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let what = if method == Method::POST { "refused" } else { "not refused any more" };
    let answer = client.call(method, "/deny", Some(&json!(entry)), "entry").await?;
    let shown = read(answer)
        .and_then(|done: Done| Ok(if json { write_json(&done, out) } else { tell(&done.entry, what, out) }?));
    shown.map_err(done_all_the_same)
}

fn tell(entry: &Written, what: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let until = entry.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
    writeln!(out, "{}: {what}{until}", table::whom(entry))
}

/// Every entry, page by page, as one page. What changes meanwhile may be missing or there twice.
async fn all(client: &Client) -> Result<Page, Failure> {
    let mut entries = Vec::new();
    let mut after = 0;
    loop {
        let answer = client.call(Method::GET, &format!("/deny?after={after}"), None, "entries").await?;
        let mut page: Page = read(answer)?;
        entries.append(&mut page.entries);
        match page.next {
            // A listener that leads in a circle must not lead us on for ever.
            Some(next) if next > after => after = next,
            _ => return Ok(Page { entries, next: None, known: page.known }),
        }
    }
}
