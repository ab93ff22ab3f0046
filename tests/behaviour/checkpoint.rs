//! The checkpoint: a crash at any moment, disks that fail, clocks set back. No number twice, no order lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anteroom::clock::Clock;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Hints, Limits, Newcomer, Outcome};
use anteroom::store::checkpoint::{Checkpoint, CheckpointError, Image, read};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Store, StoreError};
use tempfile::TempDir;

use crate::policies::{name, under};
use crate::store::place;

fn open(dir: &Path, clock: Clock) -> MemoryStore {
    MemoryStore::open(clock, 8, Checkpoint::open(dir).unwrap()).unwrap()
}

/// What a crash at this moment would leave.
fn crashed(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    fs::create_dir(copy.path().join("rooms")).unwrap();
    for entry in fs::read_dir(dir.join("rooms")).unwrap() {
        let from = entry.unwrap().path();
        if !from.metadata().is_ok_and(|file| file.is_file()) {
            continue;
        }
        // A draft may be renamed between the listing and the copy, as it may at a crash.
        let _ = fs::copy(&from, copy.path().join("rooms").join(from.file_name().unwrap()));
    }
    copy
}

fn image(dir: &Path) -> Option<Image> {
    let bytes = fs::read(dir.join("rooms/shop.json")).ok()?;
    Some(read(&dir.join("rooms/shop.json"), &bytes).expect("a file is whole at every moment"))
}

async fn arrive(store: &MemoryStore, call: &Call, count: usize) -> Result<Vec<Outcome>, StoreError> {
    store.arrive(&name("shop"), call, &vec![Newcomer::default(); count]).await
}

async fn first_of(store: &MemoryStore, call: &Call) -> Place {
    place(&arrive(store, call, 1).await.unwrap()[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_gives_no_number_twice_and_loses_no_order() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path(), Clock::system()));
    let (answered, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let call = under("capacity=0");
    let generation = first_of(&store, &call).await.generation;
    answered.store(1, Ordering::SeqCst);
    let runtime = tokio::runtime::Handle::current();
    let arrivals: Vec<_> = (0..2)
        .map(|_| {
            let (store, answered, over) = (store.clone(), answered.clone(), over.clone());
            let (runtime, call) = (runtime.clone(), call.clone());
            // Batches that go past what is reserved every few calls.
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let outcomes = runtime.block_on(arrive(&store, &call, 9_000)).unwrap();
                    answered.fetch_max(place(outcomes.last().unwrap()).number, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let saving = thread::spawn({
        let (store, over) = (store.clone(), over.clone());
        move || {
            while !over.load(Ordering::SeqCst) {
                store.save(false).unwrap();
            }
        }
    });
    let mut ceiling = 0;
    for crash in 0..12 {
        // At odd times of the writers: as long as it takes them to give some thousands more.
        let before = answered.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(10);
        while answered.load(Ordering::SeqCst) < before + 1_000 * crash {
            assert!(Instant::now() < deadline, "nobody arrives any more");
            thread::yield_now();
        }
        let given = answered.load(Ordering::SeqCst);
        let copy = crashed(dir.path());
        let kept = image(copy.path()).unwrap().ceiling;
        assert!(kept >= ceiling && kept > given, "ceiling {kept} after {ceiling}, {given} given");
        ceiling = kept;
        let woken = open(copy.path(), Clock::system());
        let next = first_of(&woken, &call).await;
        assert!(next.number > given && next.generation == generation, "{next:?} after {given}");
        let shown: Vec<_> = [1, 2, 63, 64, 65, given / 3, given / 2, given - 1, given]
            .into_iter()
            .filter(|number| *number > 0)
            .map(|number| Place { generation, number })
            .collect();
        let outcomes = woken.enter(&name("shop"), &call, &shown).await.unwrap();
        let mut positions: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Waiting(place, position) => (place.number, *position),
                other => panic!("{other:?}: lost by the crash"),
            })
            .collect();
        positions.sort_unstable();
        positions.dedup();
        assert!(positions.is_sorted_by(|one, next| one.1 < next.1), "{positions:?}");
    }
    over.store(true, Ordering::SeqCst);
    for thread in arrivals.into_iter().chain([saving]) {
        thread.join().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_everything_changed_behind_is_followed_by_another() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), Clock::system());
    let call = under("capacity=0");
    arrive(&store, &call, 3).await.unwrap();
    assert_eq!(store.save(false).unwrap(), 1);
    assert_eq!(store.save(false).unwrap(), 0, "nothing has changed");
    arrive(&store, &call, 1).await.unwrap();
    assert_eq!(store.save(false).unwrap(), 1);
    assert_eq!(image(dir.path()).unwrap().state.next(), 5);
}

#[tokio::test(start_paused = true)]
async fn numbers_are_reserved_again_before_they_run_out() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), Clock::system());
    let call = under("capacity=0");
    arrive(&store, &call, 1).await.unwrap();
    let first = image(dir.path()).unwrap().ceiling;
    arrive(&store, &call, 40_000).await.unwrap();
    assert_eq!(image(dir.path()).unwrap().ceiling, first, "still within");
    store.save(false).unwrap();
    let renewed = image(dir.path()).unwrap().ceiling;
    assert!(renewed > first, "{renewed}");
    // So that these need not wait for the disk.
    let before = fs::metadata(dir.path().join("rooms/shop.json")).unwrap();
    arrive(&store, &call, 50_000).await.unwrap();
    let after = fs::metadata(dir.path().join("rooms/shop.json")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[tokio::test(start_paused = true)]
async fn numbers_beyond_a_hint_are_reserved_too() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), Clock::system());
    let mut call = under("capacity=0");
    let generation = first_of(&store, &call).await.generation;
    for hinted in [generation, generation + 7] {
        call.hints = Hints { generation: hinted, next: 1_000_000, head: 1, floor: 0 };
        let given = first_of(&store, &call).await;
        assert!(given.generation == hinted && given.number >= 1_000_000, "{given:?}");
        call.hints = Hints::default();
        let copy = crashed(dir.path());
        let woken = open(copy.path(), Clock::system());
        // Whoever shows the ticket proves what was lost; without, the ceiling must be enough.
        let anew = first_of(&woken, &call).await;
        let twice = anew.generation == given.generation && anew.number <= given.number;
        assert!(!twice, "{anew:?} after {given:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_leaves_no_gap_and_nobody_waits_for_healing() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=2");
    let store = open(dir.path(), Clock::system());
    let before = arrive(&store, &call, 2).await.unwrap();
    store.save(true).unwrap();
    drop(store);
    let store = open(dir.path(), Clock::system());
    assert!(store.leave(&name("shop"), &call, &[(place(&before[0]), None)]).await.is_ok());
    let Outcome::Admitted(inside, until) = before[1] else { panic!("{before:?}") };
    assert_eq!(store.leave(&name("shop"), &call, &[(inside, Some(until))]).await.unwrap(), [true]);
    let next = arrive(&store, &call, 1).await.unwrap()[0];
    assert!(matches!(next, Outcome::Admitted(Place { number: 3, .. }, _)), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_entered_a_woken_room_just_before_a_crash_keeps_their_session() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=1");
    let store = open(dir.path(), Clock::system());
    let before = arrive(&store, &call, 2).await.unwrap();
    store.save(true).unwrap();
    drop(store);
    let store = open(dir.path(), Clock::system());
    let Outcome::Admitted(first, until) = before[0] else { panic!("{before:?}") };
    store.save(false).unwrap();
    // Nobody arrives, but somebody goes and somebody enters, and no save comes in between.
    store.leave(&name("shop"), &call, &[(first, Some(until))]).await.unwrap();
    let entered = store.enter(&name("shop"), &call, &[place(&before[1])]).await.unwrap()[0];
    let Outcome::Admitted(second, until) = entered else { panic!("{entered:?}") };
    drop(store);
    let store = open(dir.path(), Clock::system());
    let touched = store.touch(&name("shop"), &call, &[(second, until)]).await.unwrap();
    assert!(matches!(touched[..], [Some(_)]), "{touched:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_arrives_after_the_last_save_gets_no_number_of_the_next_process() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=0");
    let store = open(dir.path(), Clock::system());
    arrive(&store, &call, 5).await.unwrap();
    store.save(true).unwrap();
    let late = first_of(&store, &call).await;
    drop(store);
    let woken = open(dir.path(), Clock::system());
    let next = first_of(&woken, &call).await;
    assert!(next.number > late.number, "{next:?} after {late:?}");
    let shown = woken.enter(&name("shop"), &call, &[late]).await.unwrap();
    assert!(matches!(shown[0], Outcome::Waiting(_, 6)), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_stops_nobody() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=1 session_ttl=30s");
    let noon = 1_800_000_000_000;
    let store = open(dir.path(), Clock::starting_at(noon));
    let places: Vec<_> = arrive(&store, &call, 3).await.unwrap().iter().map(place).collect();
    store.save(true).unwrap();
    drop(store);
    let store = open(dir.path(), Clock::starting_at(noon - 3_600_000));
    let next = first_of(&store, &call).await;
    assert_eq!((next.generation, next.number), (places[0].generation, 4));
    let until = noon + 30_000;
    assert_eq!(store.leave(&name("shop"), &call, &[(places[0], Some(until))]).await.unwrap(), [true]);
    let shown = store.enter(&name("shop"), &call, &places[1..]).await.unwrap();
    assert!(matches!(shown[..], [Outcome::Admitted(..), Outcome::Waiting(_, 1)]), "{shown:?}");
    tokio::time::advance(Duration::from_secs(31)).await;
    let shown = store.enter(&name("shop"), &call, &places[2..]).await.unwrap();
    assert!(matches!(shown[..], [Outcome::Admitted(..)]), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn what_operators_are_told_is_done_is_on_disk_by_then() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=1");
    let store = open(dir.path(), Clock::system());
    let first = first_of(&store, &call).await;
    let limits = Limits { capacity: Some(9), ..Limits::default() };
    for control in [Control::Pause, Control::Limits(limits), Control::Reset, Control::Resume] {
        store.control(&name("shop"), &call, control.clone()).await.unwrap();
        let copy = crashed(dir.path());
        let woken = open(copy.path(), Clock::system());
        let snapshot = woken.observe(&name("shop"), &call, &Beats::new(), None).await.unwrap();
        let is_kept = match &control {
            Control::Pause => snapshot.paused,
            Control::Limits(limits) => snapshot.limits == *limits,
            Control::Reset => snapshot.floor > first.generation,
            Control::Resume => !snapshot.paused,
        };
        assert!(is_kept, "{control:?}: {snapshot:?}");
    }
    assert_eq!(store.save(false).unwrap(), 0, "it is not written twice");
}

#[tokio::test(start_paused = true)]
async fn what_operators_ask_for_is_refused_where_it_cannot_be_kept_and_written_once_it_can() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=1");
    let store = open(dir.path(), Clock::system());
    arrive(&store, &call, 1).await.unwrap();
    let draft = dir.path().join("rooms/shop.draft");
    // Every write to it fails for want of space.
    symlink("/dev/full", &draft).unwrap();
    let refused = store.control(&name("shop"), &call, Control::Pause).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("shop.draft"), "{refused}");
    fs::remove_file(&draft).unwrap();
    assert_eq!(store.save(false).unwrap(), 1);
    let copy = crashed(dir.path());
    let woken = open(copy.path(), Clock::system());
    assert!(woken.observe(&name("shop"), &call, &Beats::new(), None).await.unwrap().paused);
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = TempDir::new().unwrap();
    let held = Checkpoint::open(dir.path()).unwrap();
    let refused = Checkpoint::open(dir.path()).err().unwrap();
    assert!(matches!(&refused, CheckpointError::InUse(path) if path == dir.path()), "{refused}");
    assert!(refused.to_string().contains("--state-dir"), "{refused}");
    drop(held);
    Checkpoint::open(dir.path()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_named_and_what_is_not_ours_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), Clock::system());
    arrive(&store, &under("capacity=0"), 70).await.unwrap();
    store.save(true).unwrap();
    drop(store);
    let path = dir.path().join("rooms/shop.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"\0\0\0\0", br#"{"ceiling":-1,"state":{}}"#] {
        fs::write(&path, damaged).unwrap();
        let refused =
            MemoryStore::open(Clock::system(), 8, Checkpoint::open(dir.path()).unwrap()).err().unwrap();
        let said = refused.to_string();
        assert!(said.contains("rooms/shop.json") && said.contains("move it away"), "{said}");
    }
    fs::write(&path, &whole).unwrap();
    for foreign in ["shop.draft", "a b.json", "README", ".json"] {
        fs::write(dir.path().join("rooms").join(foreign), "garbage").unwrap();
    }
    let store = open(dir.path(), Clock::system());
    assert_eq!(first_of(&store, &under("capacity=0")).await.number, 71);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_arrivals_rather_than_giving_numbers_it_cannot_keep() {
    let dir = TempDir::new().unwrap();
    let call = under("capacity=0");
    let store = open(dir.path(), Clock::system());
    let draft = dir.path().join("rooms/shop.draft");
    // Every write to it fails for want of space.
    symlink("/dev/full", &draft).unwrap();
    let refused = arrive(&store, &call, 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("shop.draft"), "{refused}");
    let watched = store.observe(&name("shop"), &call, &Beats::new(), None).await.unwrap();
    assert_eq!(watched.waiting, 0, "nobody got a number");
    fs::remove_file(&draft).unwrap();
    let first = first_of(&store, &call).await;
    assert_eq!(first.number, 1);

    symlink("/dev/full", &draft).unwrap();
    let error = store.save(false).unwrap_err();
    assert!(error.to_string().contains("shop.draft"), "{error}");
    arrive(&store, &call, 1_000).await.expect("these were reserved while there was space");
    assert!(matches!(arrive(&store, &call, 100_000).await, Err(StoreError::Unavailable(_))));
    let copy = crashed(dir.path());
    let woken = open(copy.path(), Clock::system());
    assert!(first_of(&woken, &call).await.number > 1_001);
    fs::remove_file(&draft).unwrap();
    assert_eq!(store.save(false).unwrap(), 1, "what could not be written is tried again");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(refused.contains("file/rooms") && refused.contains("writable"), "{refused}");
}
