//! What is read as a Redis address, what is refused, and that a password is never shown.

use super::*;

fn hosts(text: &str) -> Vec<String> {
    Target::parse(text).unwrap().hosts.iter().map(ToString::to_string).collect()
}

#[test]
fn every_form_is_read() {
    let plain = Target::parse("redis://cache").unwrap();
    assert_eq!(plain.kind, TargetKind::Single);
    assert_eq!(plain.hosts, [Address::new("cache", 6379)]);
    assert_eq!((plain.tls, plain.db, plain.credentials), (false, 0, None));

    let all = Target::parse("rediss://al:p%40ss%25@10.0.0.1:7000/3").unwrap();
    assert_eq!((all.tls, all.db), (true, 3));
    assert_eq!(
        all.credentials,
        Some(Credentials { username: Some("al".to_owned()), password: "p@ss%".to_owned() })
    );
    let default_user = Target::parse("redis://:secret@h").unwrap().credentials.unwrap();
    assert_eq!((default_user.username, default_user.password.as_str()), (None, "secret"));

    assert_eq!(hosts("redis-cluster://a:1,b:2,a:1"), ["a:1", "b:2"]);
    assert_eq!(hosts("rediss-cluster://u:p@a:1?node=b:2&node=c"), ["a:1", "b:2", "c:6379"]);
    assert_eq!(hosts("redis://[::1]:7000/"), ["[::1]:7000"]);
    assert_eq!(hosts("redis://[fe80::1]"), ["[fe80::1]:6379"]);

    let sentinel = Target::parse("redis-sentinel://s1,s2:5000/2?sentinelServiceName=mymaster").unwrap();
    assert_eq!(sentinel.kind, TargetKind::Sentinel { service: "mymaster".to_owned() });
    assert_eq!(sentinel.hosts, [Address::new("s1", 26379), Address::new("s2", 5000)]);
    assert_eq!(sentinel.db, 2);
}

#[test]
fn what_is_shown_can_be_read_again_but_for_the_login() {
    for text in [
        "redis://h:1",
        "rediss://h:1/7",
        "redis-cluster://a:1,[::1]:2",
        "redis-sentinel://s:1/2?sentinelServiceName=m",
    ] {
        assert_eq!(Target::parse(text).unwrap().to_string(), text);
    }
    let secret = Target::parse("redis://al:hunter2@h:1").unwrap();
    assert_eq!(secret.to_string(), "redis://***@h:1");
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn mistakes_are_named_and_no_password_with_them() {
    for (text, says) in [
        ("", "no Redis address"),
        ("hunter2", "no Redis address"),
        ("al:hunter2@host:6379", "no Redis address"),
        ("http://al:hunter2@host", "scheme"),
        ("hunter2://host", "scheme"),
        ("redisx://host", "scheme"),
        ("redis+unix:///tmp/s", "scheme"),
        ("redis://", "host is missing"),
        ("redis://al:hunter2@", "host is missing"),
        ("redis://hunter2@host", "user:password"),
        ("redis://al:@host", "empty"),
        ("redis://al:hunter2%@host", "%25"),
        ("redis://al:hunter2%ff@host", "UTF-8"),
        ("redis://al:hunter2%4host", "more than one :|port of al"),
        ("redis://host:hunter2:6379", "more than one :"),
        ("redis://host:0", "1 to 65535"),
        ("redis://host:65536", "1 to 65535"),
        ("redis://ho st", "letters"),
        ("redis://ho\nst", "letters"),
        ("redis://[::1", "closing ]"),
        ("redis://[::1]7", "a : and a port"),
        ("redis://[cafe", "closing ]"),
        ("redis://[host]:1", "IPv6"),
        ("redis://host/256", "0 to 255"),
        ("redis://host/-1", "0 to 255"),
        ("redis://host/a", "0 to 255"),
        ("redis://a:1,b:2", "redis-cluster://"),
        ("redis-cluster://a:1,,b:2", "host is missing"),
        ("redis-cluster://a:1/1", "database 0"),
        ("redis-cluster://a:1?password=hunter2", "node=host:port"),
        ("redis-cluster://a:1?sentinelServiceName=m", "redis-sentinel://"),
        ("redis-sentinel://a:1", "sentinelServiceName"),
        ("redis-sentinel://a:1?sentinelServiceName=", "letters"),
    ] {
        let error = Target::parse(text).expect_err(text);
        assert!(says.split('|').any(|says| error.contains(says)), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{text}: {error}");
    }
    let many = (0..65).map(|port| format!("h:{}", port + 1)).collect::<Vec<_>>().join(",");
    assert!(Target::parse(&format!("redis-cluster://{many}")).unwrap_err().contains("64"));
}

proptest::proptest! {
    #[test]
    fn anything_is_read_or_refused_without_panic(text in ".{0,64}", scheme in "rediss?(-cluster|-sentinel)?") {
        let _ = Target::parse(&text);
        if let Ok(target) = Target::parse(&format!("{scheme}://{text}")) {
            proptest::prop_assert!(!target.hosts.is_empty());
        }
    }

    #[test]
    fn any_password_survives_encoding(password in ".{1,24}") {
        let encoded = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
        let target = Target::parse(&format!("redis://:{encoded}@h")).unwrap();
        proptest::prop_assert_eq!(target.credentials.unwrap().password, password);
    }
}
