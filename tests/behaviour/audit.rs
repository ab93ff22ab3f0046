//! What is written down of operators' calls: what was asked, what came of it, and why not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anteroom::telemetry::logs;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use crate::operators::Listener;
use crate::probe::Mood;
use crate::world::World;

/// The log lines of this thread, as the service writes them.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Keeps what this filter lets through, until the guard is dropped.
    pub(crate) fn keep(filter: &str) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let kept = tracing_subscriber::fmt()
            .with_env_filter(logs::filter(filter).unwrap())
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .finish();
        (lines, tracing::subscriber::set_default(kept))
    }

    /// How many lines so far hold these words.
    pub(crate) fn times_told(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock()).lines().filter(|line| line.contains(words)).count()
    }

    /// The audit lines so far, which are then forgotten.
    fn audit(&self) -> Vec<Value> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["target"] == "anteroom::audit").collect()
    }

    /// The only audit line since the last look.
    fn only(&self) -> Value {
        let lines = self.audit();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.into_iter().next().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_is_written_down_with_what_was_asked_and_what_came_of_it() {
    let world = World::new();
    world.room("capacity=1");
    let listener = Listener::over(&world);
    let (lines, _kept) = Lines::keep("error");
    listener.done("POST /rooms/shop/limits", r#"{"capacity": 7, "rate": "10/s"}"#).await;
    let line = lines.only();
    for (field, value) in [
        ("op", json!("limits")),
        ("room", json!("shop")),
        ("asked", json!("capacity 7, rate 10/s")),
        ("result", json!("done")),
        ("reason", Value::Null),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["before"].as_str().unwrap().contains("capacity 1,"), "{line}");
    assert!(line["after"].as_str().unwrap().contains("capacity 7 (operator), rate 10/s"), "{line}");
    listener.done("POST /rooms/shop/pause", "").await;
    let line = lines.only();
    assert_eq!((&line["op"], &line["asked"]), (&json!("pause"), &Value::Null), "{line}");
    listener.done("GET /rooms/shop", "").await;
    assert_eq!(lines.audit(), Vec::<Value>::new(), "looks change nothing");
}

#[tokio::test(start_paused = true)]
async fn a_control_that_is_refused_is_written_down_with_what_was_asked_and_why_not() {
    let world = World::new();
    world.room("capacity=1");
    let listener = Listener::over(&world);
    let (lines, _kept) = Lines::keep("error");
    for (call, body, asked, result, reason) in [
        (
            "POST /rooms/nowhere/limits",
            r#"{"capacity": 5, "burst": 2}"#,
            json!("capacity 5, burst 2"),
            "no_room",
            "nowhere",
        ),
        (
            "POST /rooms/shop/limits",
            r#"{"capacity": 1000000001}"#,
            json!("capacity 1000000001"),
            "wrong",
            "too large",
        ),
        ("POST /rooms/shop/limits", r#"{"capacty": 5}"#, Value::Null, "wrong", "capacty"),
        ("POST /rooms/shop/reset", r#"{"confirm": "shops"}"#, json!("confirm \"shops\""), "wrong", "send"),
        ("POST /rooms/%ff/pause", "", Value::Null, "wrong", "a room name is"),
    ] {
        assert!(listener.ask(call, body).await.0 >= 400, "{call} {body}");
        let line = lines.only();
        assert_eq!((&line["asked"], &line["result"]), (&asked, &json!(result)), "{line}");
        assert!(line["reason"].as_str().is_some_and(|why| why.contains(reason)), "{line}");
        assert_eq!((&line["before"], &line["after"]), (&Value::Null, &Value::Null), "{line}");
    }
    world.probe.set(Mood::Fails);
    assert_eq!(listener.ask("POST /rooms/shop/limits", r#"{"rate": "5/s"}"#).await.0, 503);
    let line = lines.only();
    assert_eq!((&line["asked"], &line["result"]), (&json!("rate 5/s"), &json!("unavailable")), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_control_whose_operator_hangs_up_is_written_down_too() {
    let world = World::new();
    let room = world.room("capacity=1");
    world.rooms.refresh(&room).await.unwrap();
    let listener = Listener::over(&world);
    let (lines, _kept) = Lines::keep("info");
    world.probe.set(Mood::Hangs);
    let asking = listener.ask("POST /rooms/shop/limits", r#"{"capacity": 3}"#);
    assert!(tokio::time::timeout(Duration::from_millis(1), asking).await.is_err());
    let line = lines.only();
    assert_eq!((&line["asked"], &line["result"]), (&json!("capacity 3"), &json!("hung_up")), "{line}");
    assert!(world.metric(r#"anteroom_operator_calls_total{op="limits",result="hung_up"}"#) > 0.0);
}
