//! Reads the metrics back as a scraper would.

#![expect(clippy::float_cmp, reason = "small counts are exact")]

use super::*;
use crate::room::policy::Policy;

/// Series and values of an `OpenMetrics` text; fails where a line is not well formed.
fn read(metrics: &Metrics) -> HashMap<String, f64> {
    let text = metrics.encode().unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut described = Vec::new();
    let mut series = HashMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind) && !rest.is_empty(), "{line}");
            if kind == "TYPE" {
                described.push(name.to_owned());
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let family = described.last().unwrap();
        assert!(name.starts_with(family.as_str()), "{name} stands under {family}");
        let old = series.insert(name.to_owned(), value.parse().unwrap());
        assert!(old.is_none(), "{name} stands there twice");
    }
    series
}

fn limits(pairs: &[(&str, &str)]) -> Policy {
    Policy::parse(pairs.iter().copied().chain([("room", "shop")])).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

#[test]
fn what_a_room_does_can_be_read_back() {
    let metrics = Metrics::new(10);
    let shop = metrics.room(&room("shop"));
    shop.checked(VerdictLabel::Admit);
    shop.checked(VerdictLabel::Wait);
    shop.checked(VerdictLabel::Wait);
    shop.observed(7, 2, 5);
    shop.set_limits(&limits(&[("capacity", "5"), ("rate", "90/m")]), true);
    shop.eta_proved(1.3);
    shop.arrived(9);
    shop.entered(2_000);
    shop.policy_conflicted();
    let series = read(&metrics);
    for (name, value) in [
        (r#"anteroom_checks_total{room="shop",verdict="admit"}"#, 1.0),
        (r#"anteroom_checks_total{room="shop",verdict="wait"}"#, 2.0),
        (r#"anteroom_checks_total{room="shop",verdict="error"}"#, 0.0),
        (r#"anteroom_waiting{room="shop"}"#, 7.0),
        (r#"anteroom_called{room="shop"}"#, 2.0),
        (r#"anteroom_sessions{room="shop"}"#, 5.0),
        (r#"anteroom_capacity{room="shop"}"#, 5.0),
        (r#"anteroom_rate_limit{room="shop"}"#, 1.5),
        (r#"anteroom_paused{room="shop"}"#, 1.0),
        (r#"anteroom_eta_ratio_bucket{le="1.25",room="shop"}"#, 0.0),
        (r#"anteroom_eta_ratio_bucket{le="1.5",room="shop"}"#, 1.0),
        (r#"anteroom_position_bucket{le="3.0",room="shop"}"#, 0.0),
        (r#"anteroom_position_bucket{le="10.0",room="shop"}"#, 1.0),
        (r#"anteroom_admissions_total{room="shop"}"#, 1.0),
        (r#"anteroom_wait_seconds_sum{room="shop"}"#, 2.0),
        (r#"anteroom_wait_seconds_bucket{le="5.0",room="shop"}"#, 1.0),
        (r#"anteroom_policy_conflicts_total{room="shop"}"#, 1.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in {series:#?}");
    }
}

#[test]
fn what_the_process_does_can_be_read_back() {
    let metrics = Metrics::new(10);
    metrics.check_took(VerdictLabel::Admit, Duration::from_micros(150));
    metrics.check_shed();
    metrics.store_call_took(StoreOp::Observe, Duration::from_millis(3));
    metrics.store_call_failed(StoreOp::Arrive, StoreFault::Unavailable);
    metrics.stream_refused();
    metrics.config_error();
    metrics.token_refused(TokenLabel::Pass, TokenFault::Expired);
    metrics.listener(ListenerLabel::Client).connection_refused();
    metrics.listener(ListenerLabel::Client).accept_failed();
    let series = read(&metrics);
    for (name, value) in [
        (r#"anteroom_check_seconds_bucket{le="0.0001",verdict="admit"}"#, 0.0),
        (r#"anteroom_check_seconds_bucket{le="0.0002",verdict="admit"}"#, 1.0),
        ("anteroom_checks_shed_total", 1.0),
        (r#"anteroom_store_call_seconds_count{op="observe"}"#, 1.0),
        (r#"anteroom_store_errors_total{op="arrive",kind="unavailable"}"#, 1.0),
        ("anteroom_streams_refused_total", 1.0),
        ("anteroom_config_errors_total", 1.0),
        (r#"anteroom_tokens_refused_total{kind="pass",reason="expired"}"#, 1.0),
        (r#"anteroom_connections_refused_total{listener="client"}"#, 1.0),
        (r#"anteroom_accept_errors_total{listener="client"}"#, 1.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in {series:#?}");
    }
    let build = concat!("anteroom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(series.get(build), Some(&1.0));
    assert!(series["process_start_time_seconds"] > 1.7e9);
    assert!(series["process_resident_memory_bytes"] > 1e5);
}

#[test]
fn what_is_open_is_counted_until_it_is_dropped() {
    let metrics = Metrics::new(10);
    let listener = metrics.listener(ListenerLabel::Authz);
    let open = (
        metrics.stream_opened(StreamKind::Sse),
        metrics.stream_opened(StreamKind::Sse),
        metrics.check_begun(),
        listener.connection_opened(),
    );
    let names = [
        r#"anteroom_streams_open{kind="sse"}"#,
        "anteroom_checks_in_flight",
        r#"anteroom_connections_open{listener="authz"}"#,
    ];
    let series = read(&metrics);
    assert_eq!(names.map(|name| series[name]), [2.0, 1.0, 1.0]);
    drop(open);
    let series = read(&metrics);
    assert_eq!(names.map(|name| series[name]), [0.0, 0.0, 0.0]);
}

#[test]
fn ten_thousand_rooms_do_not_grow_the_metrics() {
    let metrics = Metrics::new(3);
    let rooms: Vec<_> = (0..3).map(|n| metrics.room(&room(&format!("r{n}")))).collect();
    let one_more = read(&metrics).len();
    for n in 0..10_000 {
        metrics.room(&room(&format!("flood{n}"))).checked(VerdictLabel::Wait);
    }
    let series = read(&metrics);
    assert_eq!(series[r#"anteroom_checks_total{room="_other",verdict="wait"}"#], 10_000.0);
    // The shared room is as big as one room, less what only a room of its own has.
    assert!(series.len() <= one_more + one_more / 3, "{} after {one_more}", series.len());
    assert!(Arc::ptr_eq(&rooms[1], &metrics.room(&room("r1"))), "early rooms keep their own");
}

#[test]
fn levels_of_rooms_that_share_a_series_add_up() {
    let metrics = Metrics::new(0);
    let (a, b) = (metrics.room(&room("a")), metrics.room(&room("b")));
    a.observed(10, 1, 0);
    b.observed(5, 0, 0);
    a.observed(7, 0, 0);
    assert_eq!(read(&metrics)[r#"anteroom_waiting{room="_other"}"#], 12.0);
    drop(b);
    assert_eq!(read(&metrics)[r#"anteroom_waiting{room="_other"}"#], 7.0);
}

#[test]
fn a_room_without_a_limit_shows_none() {
    let metrics = Metrics::new(1);
    let (own, shared) = (metrics.room(&room("own")), metrics.room(&room("late")));
    own.set_limits(&limits(&[("capacity", "0"), ("rate", "0/s")]), false);
    shared.set_limits(&limits(&[("capacity", "9"), ("rate", "9/s")]), true);
    let shown = |name: &str| {
        let mut shown: Vec<_> =
            read(&metrics).into_iter().filter(|(series, _)| series.starts_with(name)).collect();
        shown.sort_by(|one, other| one.0.cmp(&other.0));
        shown
    };
    assert_eq!(shown("anteroom_capacity"), [(r#"anteroom_capacity{room="own"}"#.to_owned(), 0.0)]);
    assert_eq!(shown("anteroom_rate_limit"), [(r#"anteroom_rate_limit{room="own"}"#.to_owned(), 0.0)]);
    // Of how many of those that share it.
    assert_eq!(read(&metrics)[r#"anteroom_paused{room="_other"}"#], 1.0);
    own.set_limits(&limits(&[("rate", "1/s")]), false);
    assert_eq!(shown("anteroom_capacity"), []);
    own.set_limits(&limits(&[("capacity", "1")]), false);
    assert_eq!(shown("anteroom_rate_limit"), []);
}
