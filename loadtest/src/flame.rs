//! A flame graph of Anteroom while it is asked as fast as it goes: where its CPU time goes.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::Failed;
use crate::bench::top_rate;
use crate::cli::Plan;
use crate::peers::{Peer, Server};
use crate::progress::progress;
use crate::report::Tally;
use crate::service::get;

/// How long the picture may take to be drawn, when the samples are there.
const PATIENCE: Duration = Duration::from_mins(1);

/// Profiles the peer for the length of a round, rounded up to seconds, and writes the picture.
pub(crate) fn draw(peer: &mut Peer, plan: &Plan, picture: &Path, tally: &mut Tally) -> Result<(), Failed> {
    let Server::Anteroom(service) = &peer.server else {
        return Err(Failed(format!("{} tells no profile", peer.name)));
    };
    let admin = service.admin;
    let seconds = plan.length().as_secs_f64().ceil().min(60.0);
    progress(&format!("a profile of {} for {seconds:.0} s", peer.name));
    let asked = thread::spawn(move || profile(admin, seconds));
    // Longer than the profile, which begins a little later.
    top_rate(peer, &Plan { seconds: seconds + 1.0, ..plan.clone() }, tally)?;
    let drawn = asked.join().map_err(|_| Failed("the profile broke off".to_owned()))?;
    std::fs::write(picture, drawn?).map_err(|error| Failed(format!("{}: {error}", picture.display())))
}

fn profile(admin: SocketAddr, seconds: f64) -> Result<Vec<u8>, Failed> {
    let path = format!("/debug/profile?seconds={seconds:.0}");
    let asked = get(admin, &path, Duration::from_secs_f64(seconds) + PATIENCE);
    let answer = asked.map_err(|error| Failed(format!("no profile from {admin}: {error}")))?;
    picture_in(&answer).map(<[u8]>::to_vec)
}

/// The body of a good answer.
fn picture_in(answer: &[u8]) -> Result<&[u8], Failed> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|bytes| bytes == END).unwrap_or(answer.len());
    let (head, rest) = answer.split_at(end);
    let body = rest.get(END.len()..).unwrap_or_default();
    let is_picture = head.starts_with(b"HTTP/1.0 200") && body.starts_with(b"<?xml");
    is_picture.then_some(body).ok_or_else(|| {
        let said = String::from_utf8_lossy(if body.is_empty() { head } else { body });
        Failed(format!("no profile: {}", said.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_are_taken() {
        assert_eq!(picture_in(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n<?xml>").unwrap(), b"<?xml>");
        let refused = picture_in(b"HTTP/1.0 409 Conflict\r\n\r\nask again\n").unwrap_err();
        assert_eq!(refused.to_string(), "no profile: ask again");
        assert!(picture_in(b"").is_err() && picture_in(b"HTTP/1.0 200 OK\r\n\r\nno CPU").is_err());
    }
}
