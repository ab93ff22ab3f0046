//! The gates that stand before a room, in their fixed order: deny list, limits, identity. Checks and the client API go
//! through the same. Whoever is refused here takes no number.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Guard;
use super::deny::Denials;
use super::limiter::{Ask, Verdict};
use crate::room::decision::{Limited, Refusal};
use crate::room::deny::Asker;
use crate::room::gcra::Quota;
use crate::room::policy::Millis;
use crate::telemetry::metrics::label::counting::LimitScope;

/// Somebody who asks.
pub trait Caller: Sync {
    /// Who it is, as far as that is known by now.
    fn asker(&self) -> Asker<'_>;

    /// Finds out who it is; or why the request goes no further.
    fn identify(&self) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Limits to be held to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// What each address may.
    pub ip: Option<Quota>,
    /// What each user may.
    pub user: Option<Quota>,
    /// What each address may with one and the same user agent.
    pub client: Option<Quota>,
    /// What each address may of the client API.
    pub api: Option<Quota>,
}

/// The gates as they stand for one request.
pub struct Order<'a> {
    /// What counts.
    pub guard: &'a Guard,
    /// Who is refused before anything else; `None`: the list does not count here.
    pub denials: Option<&'a Denials>,
    /// The room that is meant; empty: none, or all of them together.
    pub room: &'a str,
    /// What is counted.
    pub limits: Limits,
    /// Now.
    pub now: Millis,
}

impl Order<'_> {
    /// Who turns a caller away before the room is asked; `None`: nobody does. Counted.
    pub async fn turns_away(&self, caller: &impl Caller) -> Option<Refusal> {
        let asker = caller.asker();
        if self.denies(&asker) {
            return Some(Refusal::Denied);
        }
        // Before a token is verified, which costs more than looking at an address. A user who is known already is held to
        // all limits at once: what one refuses, no other counts.
        if let Some(limited) = self.limited(&asker).await {
            return Some(limited);
        }
        let known = asker.subject;
        if let Err(reason) = caller.identify().await {
            return Some(reason);
        }
        let asker = caller.asker();
        // It may be somebody else than whom Envoy has named.
        if asker.subject.is_none() || asker.subject == known {
            return None;
        }
        if self.denies(&asker) {
            return Some(Refusal::Denied);
        }
        let limits = Limits { user: self.limits.user, ..Limits::default() };
        self.beyond(&asker, limits).await.map(Refusal::Limited)
    }

    /// Whether a caller who is known by now is beyond a limit; counted.
    pub async fn limited(&self, asker: &Asker<'_>) -> Option<Refusal> {
        self.beyond(asker, self.limits).await.map(Refusal::Limited)
    }

    fn denies(&self, asker: &Asker<'_>) -> bool {
        self.denials.is_some_and(|denials| !denials.is_empty() && denials.refuses(asker, self.now))
    }

    /// The first of these limits that a request is beyond, if it is beyond one.
    async fn beyond(&self, asker: &Asker<'_>, limits: Limits) -> Option<Limited> {
        let Limits { ip, user, client, api } = limits;
        if [ip, user, client, api].iter().all(Option::is_none) {
            return None;
        }
        let address = asker.address.map(household);
        let by_address = address.as_deref().map(|address| [address]);
        let agent = asker.user_agent.unwrap_or_default();
        let by_client = address.as_deref().map(|address| [address, agent]);
        let by_user = asker.subject.map(|(issuer, name)| [issuer.as_bytes(), name.as_bytes()]);
        let by_address = by_address.as_ref().map(|who| &who[..]);
        let asks = [
            (LimitScope::Ip, ip, by_address),
            (LimitScope::User, user, by_user.as_ref().map(|who| &who[..])),
            (LimitScope::Client, client, by_client.as_ref().map(|who| &who[..])),
            (LimitScope::Api, api, by_address),
        ];
        // Whoever cannot be told apart by this is held to the others.
        let room = self.room;
        let asks: Vec<_> = asks
            .into_iter()
            .filter_map(|(scope, quota, who)| Some(Ask { scope, room, who: who?, quota: quota? }))
            .collect();
        refused(self.guard.limiter.spend(&asks).await)
    }
}

impl Guard {
    /// Whether one more place may be taken from this address, whatever the room and the way; counted. Without an address
    /// nobody can be told apart, and all may.
    async fn takes_place(&self, quota: Quota, address: Option<IpAddr>) -> Result<(), Limited> {
        let Some(address) = address.map(household) else { return Ok(()) };
        let ask = Ask { scope: LimitScope::Join, room: "", who: &[&address], quota };
        refused(self.limiter.spend(&[ask]).await).map_or(Ok(()), Err)
    }

    /// What each new place costs, for the rooms: so many may be taken from each address.
    pub fn toll(
        self: Arc<Self>,
        quota: Quota,
    ) -> impl Fn(Option<IpAddr>) -> BoxFuture<'static, Result<(), Limited>> + Send + Sync {
        move |address| {
            let guard = self.clone();
            Box::pin(async move { guard.takes_place(quota, address).await })
        }
    }
}

fn refused(verdict: Verdict) -> Option<Limited> {
    match verdict {
        Verdict::Refused(standing) => Some(standing.into()),
        Verdict::Allowed(_) | Verdict::Unlimited => None,
    }
}

/// What an address is counted by: an IPv6 network of 64 bits is one household, and has addresses without end.
fn household(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_is_an_address_or_a_network_of_64_bits() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), [192, 0, 2, 1]);
        assert_eq!(of("::ffff:192.0.2.1"), [192, 0, 2, 1]);
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
