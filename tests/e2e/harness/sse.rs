//! A reader of server-sent events.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

/// An open stream of events.
pub(crate) struct Sse {
    answer: Response,
    buffer: String,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Sse {
    pub(crate) fn new(answer: Response) -> Self {
        Self { answer, buffer: String::new() }
    }

    /// The next event, past comments and hints; `None` at the end of the stream. Panics if nothing comes `within`.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Event> {
        tokio::time::timeout(within, self.read())
            .await
            .unwrap_or_else(|_| panic!("no event within {within:?}; left over: {:?}", self.buffer))
    }

    /// Reads on to the first event of this name; panics if the stream ends or `within` passes between events.
    pub(crate) async fn next_named(&mut self, name: &str, within: Duration) -> Event {
        loop {
            let event = self.next(within).await;
            let event = event.unwrap_or_else(|| panic!("the stream ended without {name:?}"));
            if event.name == name {
                return event;
            }
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
            }
            // The end of the stream, clean or cut: what counts for a client is that it is over.
            let bytes = self.answer.chunk().await.ok()??;
            self.buffer.push_str(std::str::from_utf8(&bytes).expect("events are UTF-8"));
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut name = String::from("message");
    let mut data = Vec::new();
    for line in block.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.push(value),
            _ => {}
        }
    }
    let data = data.join("\n");
    (!data.is_empty()).then(|| Event {
        name,
        data: serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data:?}")),
    })
}
