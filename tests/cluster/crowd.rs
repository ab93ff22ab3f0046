//! Visitors: they arrive, wait by polling or watching, enter, look around, and leave; the ledger notes it all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::door::{Door, Tokens, Told, Word};
use crate::ledger::{Event, Ledger, Way};

/// How visitors behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Between two polls.
    pub(crate) poll: Duration,
    /// Between two requests inside.
    pub(crate) look: Duration,
    /// How long they stay inside.
    pub(crate) stay: Duration,
}

/// A crowd in one room. Its visitors end with it.
pub(crate) struct Crowd {
    room: String,
    doors: Vec<Door>,
    manner: Manner,
    pub(crate) ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    visitors: JoinSet<(usize, Tokens, Told)>,
    next: Arc<AtomicUsize>,
}

/// How visitors wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Polling,
    Watching,
}

/// What a visitor was told last, with the tokens to ask again.
pub(crate) type Left = Vec<(Tokens, Told)>;

impl Crowd {
    pub(crate) fn new(room: &str, doors: Vec<Door>, manner: Manner) -> Self {
        let ledger = Arc::new(Ledger::new());
        let (over, next) = (Arc::default(), Arc::default());
        Self { room: room.to_owned(), doors, manner, ledger, over, visitors: JoinSet::new(), next }
    }

    /// One more visitor.
    pub(crate) fn comes(&mut self, waits: Waits) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // Each begins at another replica and goes round.
        let mut doors = self.doors.clone();
        doors.rotate_left(id % self.doors.len());
        let visitor = Visitor {
            id,
            room: self.room.clone(),
            doors,
            turn: 0,
            manner: self.manner,
            ledger: self.ledger.clone(),
            over: self.over.clone(),
            tokens: Tokens::default(),
            told: Told::Held,
        };
        self.visitors.spawn(visitor.lives(waits));
    }

    /// Many more, evenly over this time.
    pub(crate) async fn come(&mut self, count: usize, over: Duration, waits: Waits) {
        let begun = tokio::time::Instant::now();
        for step in 1..=count {
            self.comes(waits);
            let share = step as f64 / count as f64;
            tokio::time::sleep_until(begun + over.mul_f64(share)).await;
        }
    }

    /// Waits until all have left by themselves.
    pub(crate) async fn all_left(&mut self) -> Left {
        let mut left = Vec::new();
        while let Some(ended) = self.visitors.join_next().await {
            let (_, tokens, told) = ended.unwrap();
            left.push((tokens, told));
        }
        left
    }

    /// Stops everybody where they are.
    pub(crate) async fn ends(&mut self) -> Left {
        self.over.store(true, Ordering::Relaxed);
        self.all_left().await
    }
}

struct Visitor {
    id: usize,
    room: String,
    doors: Vec<Door>,
    turn: usize,
    manner: Manner,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    tokens: Tokens,
    told: Told,
}

impl Visitor {
    async fn lives(mut self, waits: Waits) -> (usize, Tokens, Told) {
        self.lives_on(waits).await;
        (self.id, self.tokens, self.told)
    }

    async fn lives_on(&mut self, waits: Waits) {
        self.asks(Way::Arrive).await;
        while !self.over() {
            match &self.told {
                Told::Waiting(_) if waits == Waits::Watching => self.watches().await,
                Told::Waiting(_) => {
                    sleep(self.manner.poll).await;
                    self.asks(Way::Poll).await;
                }
                Told::Called => {
                    self.asks(Way::Enter).await;
                    if self.told != Told::Inside {
                        sleep(self.manner.poll).await;
                    }
                }
                Told::Inside => return self.stays().await,
                // Noted: the checker has its own opinion of it.
                Told::Gone => return,
                Told::Held | Told::Failed(_) => {
                    sleep(self.manner.poll).await;
                    let way = if self.tokens.ticket.is_some() { Way::Poll } else { Way::Arrive };
                    self.asks(way).await;
                }
            }
        }
    }

    async fn asks(&mut self, way: Way) {
        let door = self.door();
        let sent = self.ledger.now();
        let answer = match way {
            Way::Poll => door.poll(&self.room, &self.tokens).await,
            _ => door.check(&self.room, &self.tokens).await,
        };
        self.ledger.answered(self.id, way, door.index, sent, &answer);
        // Who was called and could not enter just now is still called.
        let still_called = self.told == Told::Called && matches!(answer.told, Told::Held | Told::Failed(_));
        if !still_called {
            self.told = answer.told.clone();
        }
        self.tokens.take(&answer.tokens);
    }

    async fn watches(&mut self) {
        let door = self.door();
        let Some(mut stream) = door.stream(&self.room, &self.tokens).await else {
            self.notes(Way::Stream, &door, Told::Failed("the stream was refused".into()));
            return sleep(self.manner.poll).await;
        };
        while !self.over() {
            let told = match stream.next(self.manner.poll).await {
                Word::Told(told) => told,
                Word::Nothing => continue,
                Word::End => return self.notes(Way::Stream, &door, Told::Failed("the stream ended".into())),
            };
            self.notes(Way::Stream, &door, told.clone());
            self.told = told;
            if !matches!(self.told, Told::Waiting(_)) {
                return;
            }
        }
    }

    async fn stays(&mut self) {
        // The pass does it from here on.
        let only_pass = Tokens { ticket: None, pass: self.tokens.pass.clone() };
        let inside = std::mem::replace(&mut self.tokens, only_pass);
        let until = self.ledger.now() + self.manner.stay;
        while self.ledger.now() < until && !self.over() {
            sleep(self.manner.look.min(self.manner.stay)).await;
            self.asks(Way::Pass).await;
        }
        let door = self.door();
        while !self.over() {
            let (sent, place) = (self.ledger.now(), inside.place());
            let way = Way::Leave;
            let noted =
                Event { visitor: self.id, place, way, door: door.index, sent, received: sent, told: None };
            self.ledger.note(noted);
            if door.leave(&self.room, &self.tokens).await {
                self.told = Told::Inside;
                return;
            }
            sleep(self.manner.poll).await;
        }
    }

    fn notes(&self, way: Way, door: &Door, told: Told) {
        let now = self.ledger.now();
        let event = Event {
            visitor: self.id,
            place: None,
            way,
            door: door.index,
            sent: now,
            received: now,
            told: Some(told),
        };
        self.ledger.note(event);
    }

    fn door(&mut self) -> Door {
        self.turn += 1;
        self.doors[self.turn % self.doors.len()].clone()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
