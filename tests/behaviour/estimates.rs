//! What estimates are worth, and what binds a room, can be read from the metrics.

use std::time::Duration;

use anteroom::room::state::Control;
use anteroom::rooms::visit::Shown;

use crate::world::World;

const LIMITS: &str = "rate=1/s patience=1h";

async fn line_of(world: &World, count: usize) {
    for _ in 0..count {
        world.check(LIMITS, &Shown::default()).await;
    }
}

/// How many forecasts were proved, of those at most so many times as long as told.
fn proved(world: &World, at_most: &str) -> f64 {
    world.metric(&format!("anteroom_eta_ratio_bucket{{le=\"{at_most}\",room=\"shop\"}}"))
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_held_against_what_it_took() {
    let mut world = World::new();
    world.run();
    line_of(&world, 61).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(proved(&world, "+Inf") < 0.5, "nobody's turn has come");
    tokio::time::sleep(Duration::from_mins(1)).await;
    // What was told when 60, 50 and 40 were in line, and a tenth more than it took.
    assert!(proved(&world, "+Inf") > 2.5);
    assert!((proved(&world, "1.0") - proved(&world, "+Inf")).abs() < 0.5);
    assert!(proved(&world, "0.8") < 0.5);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_shown_and_no_estimate_is_blamed_for_it() {
    let mut world = World::new();
    world.run();
    line_of(&world, 61).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!((world.metric("anteroom_rate_limit{room=\"shop\"}") - 1.0).abs() < 0.01);
    let room = world.room(LIMITS);
    world.rooms.control(&room, Control::Pause).await.unwrap();
    assert!(world.metric("anteroom_paused{room=\"shop\"}") > 0.9);
    tokio::time::sleep(Duration::from_mins(20)).await;
    world.rooms.control(&room, Control::Resume).await.unwrap();
    assert!(world.metric("anteroom_paused{room=\"shop\"}") < 0.1);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(proved(&world, "+Inf") > 0.5, "those told after the pause");
    assert!((proved(&world, "1.0") - proved(&world, "+Inf")).abs() < 0.5);
}
