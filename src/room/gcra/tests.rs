//! Tests of the rate limits.

use proptest::prelude::*;

use super::super::rate::Period;
use super::*;

const START: Micros = 1_700_000_000_000_000;

fn quota(text: &str) -> Quota {
    text.parse().unwrap()
}

/// A key and its quota.
struct Key {
    quota: Quota,
    tat: Option<Tat>,
}

impl Key {
    fn with(quota: Quota) -> Self {
        Self { quota, tat: None }
    }

    fn spend(&mut self, now: Micros) -> Decision {
        let (decision, tat) = spend(self.tat, &self.quota, now);
        self.tat = Some(tat);
        decision
    }
}

#[test]
fn quotas_are_read_as_written() {
    for (text, count, period, burst) in [
        ("20/s", 20, 1_000_000, 20),
        ("20/s burst 40", 20, 1_000_000, 40),
        (" 600/m  burst  1 ", 600, 60_000_000, 1),
        ("7/m", 7, 60_000_000, 2),
        ("1/h", 1, 3_600_000_000, 2),
        ("1000000/s", 1_000_000, 1_000_000, 1_000_000),
    ] {
        let quota = quota(text);
        assert_eq!((quota.count(), quota.period(), quota.burst()), (count, period, burst), "{text}");
        assert_eq!(quota.to_string().parse(), Ok(quota), "{text}");
    }
    for text in [
        "",
        "20",
        "20/d",
        "0/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "20/s burst",
        "20/s burst 0",
        "20/s burst -1",
        "burst 4",
        "20/s 40",
        "1000001/s",
        "1/s burst 1000001",
        "20/s burst 4 burst 4",
        "20/s, burst 40",
    ] {
        assert_eq!(text.parse::<Quota>(), Err(()), "{text:?}");
    }
}

#[test]
fn a_burst_then_one_for_each_interval() {
    let mut key = Key::with(quota("20/s burst 3"));
    let told = |key: &mut Key, now| {
        let Decision { allowed, remaining, retry_after, reset } = key.spend(START + now);
        (allowed, remaining, retry_after, reset)
    };
    assert_eq!(told(&mut key, 0), (true, 2, 0, 50_000));
    assert_eq!(told(&mut key, 0), (true, 1, 0, 100_000));
    assert_eq!(told(&mut key, 0), (true, 0, 50_000, 150_000));
    assert_eq!(told(&mut key, 0), (false, 0, 50_000, 150_000));
    assert_eq!(told(&mut key, 49_999), (false, 0, 1, 100_001));
    assert_eq!(told(&mut key, 50_000), (true, 0, 50_000, 150_000), "refusals cost nothing");
    assert_eq!(told(&mut key, 10_000_000), (true, 2, 0, 50_000), "nothing is saved up beyond the burst");
}

#[test]
fn a_clock_set_back_costs_the_burst_and_no_more() {
    let mut key = Key::with(quota("20/s burst 3"));
    key.spend(START);
    let refused = key.spend(START - 86_400_000_000);
    assert_eq!((refused.allowed, refused.retry_after, refused.reset), (false, 50_000, 150_000));
    assert!(key.spend(START - 86_400_000_000 + 50_000).allowed);
}

#[test]
fn a_quota_may_change_under_a_key() {
    let mut key = Key::with(quota("1/h burst 1"));
    assert!(key.spend(START).allowed && !key.spend(START + 1).allowed);
    key.quota = quota("100/s burst 5");
    assert_eq!(key.spend(START + 2).retry_after, 10_000);
    assert!(key.spend(START + 10_002).allowed);
    key.quota = quota("7/h");
    key.spend(START + 20_000_000);
    key.quota = quota("3/h");
    assert!(key.spend(START + 20_000_000).allowed, "whatever its rest meant");
}

#[test]
fn shares_make_up_the_whole() {
    let whole = quota("20/s burst 40");
    let share = whole.share(3);
    assert_eq!((share.count(), share.period(), share.burst()), (20, 3_000_000, 13));
    assert_eq!(quota("1/h burst 2").share(5).burst(), 1, "a replica allows something");
    assert_eq!((whole.share(0), whole.share(1)), (whole, whole));
}

fn any_quota() -> impl Strategy<Value = Quota> {
    let rate = (
        prop_oneof![1..50u32, 1..=MAX, Just(MAX)],
        prop::sample::select(vec![Period::Second, Period::Minute, Period::Hour]),
    );
    let burst = prop_oneof![4 => 1..30u32, 1 => 1..=MAX, 1 => Just(MAX)];
    let rate = rate.prop_map(|(count, period)| Rate { count, period });
    (rate, burst, prop_oneof![3 => Just(1u32), 1 => 1..20u32])
        .prop_map(|(rate, burst, replicas)| Quota::new(rate, Some(burst)).unwrap().share(replicas))
}

/// Times between requests, in thousandths of an interval.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    let pause = prop_oneof![4 => Just(0u64), 4 => 0..1_500u64, 1 => 0..50_000u64];
    prop::collection::vec(pause, 1..300)
}

proptest! {
    #[test]
    fn never_more_than_burst_and_rate(quota in any_quota(), pauses in pauses()) {
        let mut key = Key::with(quota);
        let (mut now, mut allowed) = (START, Vec::new());
        for pause in pauses {
            now += pause * quota.period() / u64::from(quota.count()) / 1_000;
            if key.spend(now).allowed {
                allowed.push(now);
            }
        }
        let (count, period) = (u128::from(quota.count()), u128::from(quota.period()));
        for from in 0..allowed.len() {
            for to in from..allowed.len() {
                let passed = u128::from(allowed[to] - allowed[from]);
                let most = u128::from(quota.burst()) + passed * count / period;
                prop_assert!((to - from + 1) as u128 <= most, "{} in {passed} µs of {quota:?}", to - from + 1);
            }
        }
    }

    /// A request an interval, each as late as it likes by less than what the burst allows for.
    #[test]
    fn a_steady_client_is_never_refused(
        quota in any_quota(),
        late in prop::collection::vec(0..1_000u64, 1..200),
        phase in 0..1_000_000u64,
    ) {
        let mut key = Key::with(quota);
        let (count, period) = (u128::from(quota.count()), u128::from(quota.period()));
        let slack = u128::from(quota.burst() - 1) * period / count;
        let mut last = 0;
        for (turn, late) in late.into_iter().enumerate() {
            let due = (turn as u128 * period).div_ceil(count);
            // What is rounded up may be a microsecond late already.
            let late = slack.saturating_sub(1) * u128::from(late) / 1_000;
            let due = if quota.burst() == 1 { turn as u128 * period.div_ceil(count) } else { due };
            let now = START + phase + u64::try_from(due + late).unwrap();
            last = now.max(last);
            let decision = key.spend(last);
            prop_assert!(decision.allowed, "request {turn}: {decision:?}");
        }
    }

    #[test]
    fn what_is_told_is_true(quota in any_quota(), pauses in pauses(), back in prop::option::of(0..10_000_000_000u64)) {
        let mut key = Key::with(quota);
        let mut now = START;
        for (turn, pause) in pauses.into_iter().enumerate() {
            now += pause * quota.period() / u64::from(quota.count()) / 1_000;
            if turn == 20 {
                now -= back.unwrap_or(0);
            }
            let decision = key.spend(now);
            let tat = key.tat;
            let allowed_at = |now| spend(tat, &quota, now).0.allowed;
            prop_assert_eq!(decision.remaining > 0, decision.retry_after == 0);
            prop_assert!(allowed_at(now + decision.retry_after));
            prop_assert!(decision.retry_after == 0 || !allowed_at(now + decision.retry_after - 1));
            prop_assert!(decision.retry_after <= quota.period().div_ceil(u64::from(quota.count())));
            let rested = spend(tat, &quota, now + decision.reset).0;
            prop_assert_eq!((rested.allowed, rested.remaining), (true, quota.burst() - 1));
            if decision.remaining <= 20 {
                let mut twin = Key { quota, tat };
                let more = (0..=decision.remaining).filter(|_| twin.spend(now).allowed).count();
                prop_assert_eq!(more, decision.remaining as usize);
            }
            // What Lua's doubles hold exactly.
            prop_assert!(tat.is_some_and(|tat| tat.at < 1 << 53));
        }
    }

    /// Random moments and quotas against the whole numbers of the definition, without the rest.
    #[test]
    fn doubles_hold_every_number(quota in any_quota()) {
        if quota.share(1) == quota {
            let full = u64::from(quota.burst()) * quota.period();
            prop_assert!(full + 2 * quota.period() + u64::from(quota.count()) < 1 << 53);
        }
    }
}
