//! Tests of the policy's reader.

use super::*;

fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
    Policy::parse(pairs.iter().copied()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_demo_policy() {
    let pairs = [
        ("room", "shop"),
        ("capacity", "2"),
        ("rate", "5/s"),
        ("burst", "2"),
        ("session_ttl", "30s"),
        ("claim_ttl", "10s"),
    ];
    let policy = Policy::parse(pairs).unwrap();
    assert_eq!(policy.capacity, Some(2));
    assert_eq!(policy.rate.unwrap().to_string(), "5/s");
    assert_eq!((policy.burst, policy.session_ttl, policy.claim_ttl), (2, 30_000, 10_000));
    assert_eq!((policy.patience, policy.waiting_status), (180_000, 429));
}

#[test]
fn burst_defaults_to_a_second_of_rate() {
    for (rate, burst) in [("10/s", 10), ("600/m", 10), ("1/m", 1), ("0/s", 1), ("36000/h", 10), ("61/m", 2)] {
        let policy = Policy::parse([("room", "r"), ("rate", rate)]).unwrap();
        assert_eq!(policy.burst, burst, "{rate}");
    }
}

#[test]
fn a_slip_of_the_pen_is_named() {
    let found = mistakes(&[("room", "shop"), ("capacty", "5")]);
    assert_eq!(found, ["capacty: is not a known key; did you mean capacity?"]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let found = mistakes(&[
        ("room", "a b"),
        ("capacity", "-1"),
        ("rate", "10"),
        ("burst", "0"),
        ("session_ttl", "soon"),
        ("patience", "0s"),
        ("waiting_status", "99"),
        ("mode", "shadow"),
        ("colour", "red"),
    ]);
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn absurd_numbers_are_refused() {
    for capacity in ["-1", "+1", "1e3", "4294967296", "99999999999999999999", "", " ", "0x10", "1000000001"] {
        assert!(Policy::parse([("room", "r"), ("capacity", capacity)]).is_err(), "{capacity:?}");
    }
    assert_eq!(Policy::parse([("room", "r"), ("capacity", "0")]).unwrap().capacity, Some(0));
}

#[test]
fn limits_are_required_unless_the_room_is_off() {
    assert_eq!(mistakes(&[("room", "r")]).len(), 1);
    assert!(Policy::parse([("room", "r"), ("mode", "off")]).is_ok());
    assert_eq!(mistakes(&[("capacity", "1")]), ["room: is missing; name the room these limits belong to"]);
}

#[test]
fn patience_shorter_than_polls_can_serve_is_refused() {
    assert!(Policy::parse([("room", "r"), ("capacity", "1"), ("patience", "2999ms")]).is_err());
    assert!(Policy::parse([("room", "r"), ("capacity", "1"), ("patience", "3s")]).is_ok());
}

#[test]
fn origins_are_read_and_policies_from_before_them_still_are() {
    let stated = [
        ("room", "r"),
        ("capacity", "1"),
        ("allow_origins", "https://App.example.com, http://localhost:3000"),
    ];
    let policy = Policy::parse(stated).unwrap();
    assert_eq!(policy.allow_origins.to_string(), "https://app.example.com,http://localhost:3000");
    let stored = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);

    let found = mistakes(&[("room", "r"), ("capacity", "1"), ("allow_origins", "example.com")]);
    assert!(
        found[0].starts_with("allow_origins: \"example.com\" cannot be understood; write at most 16"),
        "{found:?}"
    );

    let before = r#"{"room":"r","capacity":1,"rate":null,"burst":1,"session_ttl":240000,"claim_ttl":60000,
        "patience":180000,"rejoin":"keep","on_outage":"hold","waiting_status":429,"mode":"enforce","identity":"ticket"}"#;
    let policy: Policy = serde_json::from_str(before).unwrap();
    assert!(policy.allow_origins.is_empty());
    let again: String = before.split_whitespace().collect();
    assert_eq!(serde_json::to_string(&policy).unwrap(), again, "older versions write and read the same");
}

#[test]
fn a_users_place_is_bound_to_the_user_unless_it_is_said_otherwise() {
    let bind = |pairs: &[(&str, &str)]| {
        let room = [("room", "shop"), ("capacity", "1")];
        Policy::parse(room.iter().chain(pairs).copied()).unwrap().bind
    };
    assert_eq!(bind(&[]), Bind::None);
    assert_eq!(bind(&[("identity", "subject")]), Bind::Subject);
    assert_eq!(bind(&[("identity", "subject"), ("bind", "ip")]), Bind::Ip);
    assert_eq!(bind(&[("identity", "subject"), ("bind", "none")]), Bind::None);
}
