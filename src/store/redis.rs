//! The store over Redis: the rules as Lua scripts, one call per room and operation under way.

mod decode;
mod encode;
mod keys;
mod lane;
pub mod ledger;
mod operation;
pub mod script;
mod scripts;
pub mod shards;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::types::Value;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::decode::Garbled;
use self::lane::{Lane, Runner};
use self::operation::{Arrive, Away, Enter, Leave, Operation, Touch};
use self::script::Script;
use self::scripts::Scripts;
use self::shards::{Health, ShardError, Shards};
use self::view::View;
use super::{Store, StoreError};
use crate::clock::HandClock;
use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Control, Newcomer, Outcome};

/// The code of a script's error that says that nobody has stated limits for the room.
const NO_ROOM: &str = "NOROOM";

/// The store over Redis.
pub struct RedisStore {
    link: Arc<Link>,
    max_rooms: usize,
    rooms: RwLock<HashMap<RoomName, Arc<Cell>>>,
    tasks: TaskTracker,
}

/// How scripts are run.
struct Link {
    shards: Arc<Shards>,
    scripts: Scripts,
    /// For tests; in production Redis tells the time, the same for all replicas.
    clock: Option<HandClock>,
}

/// One room as this replica speaks to it.
struct Cell {
    link: Arc<Link>,
    name: RoomName,
    keys: Vec<Bytes>,
    arrive: Arc<Lane<Arrive>>,
    enter: Arc<Lane<Enter>>,
    touch: Arc<Lane<Touch>>,
    leave: Arc<Lane<Leave>>,
    away: Arc<Lane<Away>>,
    /// Held while the room is observed: one call at a time.
    view: tokio::sync::Mutex<View>,
}

impl RedisStore {
    /// A store over these connections, that opens at most `max_rooms` rooms.
    pub fn new(shards: Arc<Shards>, max_rooms: usize) -> Self {
        Self::with_clock(shards, max_rooms, None)
    }

    /// The same with a clock set by hand instead of that of Redis: for tests.
    pub fn with_clock(shards: Arc<Shards>, max_rooms: usize, clock: Option<HandClock>) -> Self {
        let link = Arc::new(Link { shards, scripts: Scripts::new(), clock });
        Self { link, max_rooms, rooms: RwLock::default(), tasks: TaskTracker::new() }
    }

    /// How the servers are, always the newest.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.link.shards.health()
    }

    /// Ends the calls under way, then the connections.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.link.shards.close().await;
    }

    /// The room; a new one only where the call states its limits.
    fn cell(&self, room: &RoomName, call: &Call) -> Result<Arc<Cell>, StoreError> {
        if let Some(cell) = self.rooms.read().get(room) {
            return Ok(cell.clone());
        }
        let cell = Arc::new(Cell::new(self.link.clone(), room.clone()));
        if call.policy.is_none() {
            // A name of which nothing is known yet is kept only once Redis knows the room.
            return Ok(cell);
        }
        let mut rooms = self.rooms.write();
        if !rooms.contains_key(room) && rooms.len() >= self.max_rooms {
            return Err(StoreError::TooManyRooms { room: room.clone(), max: self.max_rooms });
        }
        Ok(rooms.entry(room.clone()).or_insert(cell).clone())
    }

    /// Keeps a room that Redis knows, as long as there are not too many.
    fn keep(&self, cell: &Arc<Cell>) {
        if !self.rooms.read().contains_key(&cell.name) {
            let mut rooms = self.rooms.write();
            if rooms.len() < self.max_rooms {
                rooms.entry(cell.name.clone()).or_insert_with(|| cell.clone());
            }
        }
    }

    async fn pass<O: Operation>(
        &self,
        room: &RoomName,
        call: &Call,
        items: &[O::Item],
        lane: impl Fn(&Cell) -> &Arc<Lane<O>>,
    ) -> Result<Vec<O::Answer>, StoreError> {
        let cell = self.cell(room, call)?;
        let answers = lane(&cell).pass(&cell, &self.tasks, call, items).await?;
        self.keep(&cell);
        Ok(answers)
    }
}

impl Cell {
    fn new(link: Arc<Link>, name: RoomName) -> Self {
        let metrics = link.shards.metrics().clone();
        Self {
            link,
            keys: keys::keys(&name),
            name,
            arrive: Arc::new(Lane::new(metrics.clone())),
            enter: Arc::new(Lane::new(metrics.clone())),
            touch: Arc::new(Lane::new(metrics.clone())),
            leave: Arc::new(Lane::new(metrics.clone())),
            away: Arc::new(Lane::new(metrics.clone())),
            view: tokio::sync::Mutex::default(),
        }
    }

    fn arguments(&self, call: &Call) -> Vec<Bytes> {
        encode::call(call, self.link.clock.as_ref().map(HandClock::now_ms))
    }

    async fn script(&self, script: &Script, args: Vec<Bytes>) -> Result<Value, StoreError> {
        let answer = self.link.shards.run(self.name.as_str(), script, self.keys.clone(), args).await;
        answer.map_err(|error| match error {
            ShardError::Script { .. } if error.code() == Some(NO_ROOM) => {
                StoreError::NoRoom(self.name.clone())
            }
            // The others are about a server, and name it.
            ShardError::Script { .. } => StoreError::Unavailable(format!("room {}: {error}", self.name)),
            other => StoreError::Unavailable(other.to_string()),
        })
    }
}

#[async_trait]
impl<O: Operation> Runner<O> for Cell {
    async fn run(&self, call: Call, items: Vec<O::Item>) -> Result<Vec<O::Answer>, StoreError> {
        let mut args = self.arguments(&call);
        O::arguments(&items, &mut args);
        let answer = self.script(O::script(&self.link.scripts), args).await?;
        Ok(O::answers(answer, items.len())?)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn arrive(
        &self,
        room: &RoomName,
        call: &Call,
        newcomers: &[Newcomer],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.pass(room, call, newcomers, |cell| &cell.arrive).await
    }

    async fn observe(
        &self,
        room: &RoomName,
        call: &Call,
        beats: &Beats,
        known: Option<&Snapshot>,
    ) -> Result<Snapshot, StoreError> {
        let cell = self.cell(room, call)?;
        let snapshot = {
            let mut view = cell.view.lock().await;
            let mut args = cell.arguments(call);
            args.push(view.has().into());
            encode::beats(beats, &mut args);
            if let Some(known) = known {
                encode::known(known, &mut args);
            }
            let answer = cell.script(&self.link.scripts.observe, args).await?;
            view.snapshot(answer)?
        };
        self.keep(&cell);
        Ok(snapshot)
    }

    async fn enter(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[Place],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.pass(room, call, places, |cell| &cell.enter).await
    }

    async fn touch(
        &self,
        room: &RoomName,
        call: &Call,
        passes: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError> {
        self.pass(room, call, passes, |cell| &cell.touch).await
    }

    async fn leave(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Option<Millis>)],
    ) -> Result<Vec<bool>, StoreError> {
        self.pass(room, call, places, |cell| &cell.leave).await
    }

    async fn away(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Millis)],
    ) -> Result<Vec<bool>, StoreError> {
        self.pass(room, call, places, |cell| &cell.away).await
    }

    async fn control(&self, room: &RoomName, call: &Call, control: Control) -> Result<(), StoreError> {
        let cell = self.cell(room, call)?;
        let mut args = cell.arguments(call);
        let (what, limits) = match &control {
            Control::Pause => ("pause", String::new()),
            Control::Resume => ("resume", String::new()),
            Control::Limits(limits) => ("limits", encode::limits(limits)),
            Control::Reset => ("reset", String::new()),
        };
        args.extend([what.into(), limits.into()]);
        cell.script(&self.link.scripts.control, args).await?;
        self.keep(&cell);
        Ok(())
    }
}

impl From<Garbled> for StoreError {
    fn from(garbled: Garbled) -> Self {
        Self::Unavailable(garbled.to_string())
    }
}
