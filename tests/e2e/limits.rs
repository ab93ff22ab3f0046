//! Limits are tuned in a file of routes that Envoy watches: they hold a moment later, and nobody loses their place.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::config::EnvoyConfig;
use crate::harness::visitor::Visitor;
use crate::harness::{SOON, Scene, until};

type Limits<'a> = &'a [(&'a str, &'a str)];

/// A folder with the file that Envoy watches.
struct Routes(tempfile::TempDir);

impl Routes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Moves a file with these limits into place, which is what Envoy watches for; the rest of the configuration.
    fn put(&self, limits: Limits<'_>) -> EnvoyConfig {
        let [file, draft] = ["routes.yaml", "draft.yaml"].map(|name| self.0.path().join(name));
        let (config, routes) = EnvoyConfig::shipped().limits(limits).with_routes_in(&file);
        std::fs::write(&draft, routes).unwrap();
        std::fs::rename(draft, file).unwrap();
        config
    }

    /// The same, and waits until something is seen of it; how long that took.
    async fn change<T, F: Future<Output = Option<T>>>(
        &self,
        limits: Limits<'_>,
        what: &str,
        seen: impl FnMut() -> F,
    ) -> Duration {
        let begun = Instant::now();
        self.put(limits);
        until(what, SOON, seen).await;
        eprintln!("{what}: {:?} after the file was moved into place", begun.elapsed());
        begun.elapsed()
    }
}

async fn line(scene: &Scene, count: usize) -> Vec<(Visitor, Value)> {
    let mut line = Vec::new();
    for _ in 0..count {
        let (visitor, _) = scene.in_line().await;
        let standing = visitor.standing().await;
        line.push((visitor, standing["number"].clone()));
    }
    line
}

/// Whether somebody who asks for `/shop` is let in; nobody is told anything but that or to wait.
async fn is_in(visitor: &Visitor) -> bool {
    let answer = visitor.get("/shop").await;
    assert!([200, 429].contains(&answer.status), "{answer:?}");
    answer.status == 200
}

/// These stand at 1, 2, 3 and so on, each with the number they were given.
async fn stand(line: &[(Visitor, Value)]) {
    for (position, (visitor, number)) in (1..).zip(line) {
        let answer = visitor.get("/shop").await;
        assert_eq!(answer.status, 429, "{answer:?}");
        let told = answer.json();
        assert_eq!((&told["number"], &told["position"]), (number, &Value::from(position)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capacity_raised_and_lowered_in_the_watched_file_holds_without_a_restart() {
    let routes = Routes::new();
    let test = "a_capacity_raised_and_lowered_in_the_watched_file_holds_without_a_restart";
    let scene = Scene::with(test, |_| routes.put(&[("capacity", "2")])).await;
    let inside = [scene.inside().await, scene.inside().await];
    let line = line(&scene, 5).await;
    stand(&line).await;
    let (called, behind) = line.split_at(2);

    routes
        .change(&[("capacity", "4")], "two more are let in", || async {
            let both = [is_in(&called[0].0).await, is_in(&called[1].0).await];
            (both == [true, true]).then_some(())
        })
        .await;
    until("the others have moved up", SOON, || async {
        (behind[0].0.standing().await["position"] == 1).then_some(())
    })
    .await;
    stand(behind).await;

    routes
        .change(&[("capacity", "1")], "the room has become smaller", || async {
            // Limits come with requests.
            stand(behind).await;
            (scene.metric("anteroom_capacity").await.to_string() == "1").then_some(())
        })
        .await;
    // Nobody is thrown out, and nobody is let in until there is room.
    for visitor in inside.iter().chain([&called[0].0, &called[1].0]) {
        assert!(is_in(visitor).await);
    }
    for visitor in [&inside[0], &inside[1], &called[0].0] {
        visitor.leave().await;
    }
    until("one is left inside", SOON, || async {
        (scene.metric("anteroom_sessions").await.to_string() == "1").then_some(())
    })
    .await;
    stand(behind).await;
    called[1].0.leave().await;
    behind[0].0.enters().await;
    stand(&behind[1..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_raised_and_lowered_in_the_watched_file_holds_without_a_restart() {
    let routes = Routes::new();
    let test = "a_rate_raised_and_lowered_in_the_watched_file_holds_without_a_restart";
    let scene = Scene::with(test, |_| routes.put(&[("rate", "1/h")])).await;
    let first = scene.inside().await;
    let before = line(&scene, 4).await;
    stand(&before).await;

    let all_in = async |line: &[(Visitor, Value)]| {
        let mut inside = 0;
        for (visitor, number) in line {
            let answer = visitor.get("/shop").await;
            assert!([200, 429].contains(&answer.status), "{answer:?}");
            if answer.status == 200 {
                assert_eq!(answer.json()["headers"]["x-anteroom-number"], number.to_string());
                inside += 1;
            }
        }
        (inside == line.len()).then_some(())
    };
    routes.change(&[("rate", "1000/s")], "all are let in", || all_in(&before)).await;
    routes
        .change(&[("rate", "0/s")], "newcomers wait", || async {
            (!is_in(&scene.visitor()).await).then_some(())
        })
        .await;
    let after = line(&scene, 3).await;
    assert!(is_in(&first).await, "who is inside stays there");
    routes.change(&[("rate", "1000/s")], "those who came meanwhile are let in", || all_in(&after)).await;
}
