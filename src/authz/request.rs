//! Envoy's question: a view over a `CheckRequest` that answers what the rules ask. Pure, and never panics.
//!
//! Where the filter has `allowed_headers`, these must be among them: `accept`, `accept-language`, `cookie`,
//! `content-type`, `origin`, `access-control-request-method`, `upgrade`, `x-grpc-web`, `x-request-id`,
//! `traceparent`, `x-forwarded-for`, `user-agent`, `idempotency-key` and everything that begins with `x-anteroom-`.

mod accept;
mod metadata;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use crate::client_address::{self, Proxies};
use crate::identity::settings::UserHeaders;
use crate::identity::user::User;
use crate::pb::check::{Asked, Http, Unreadable};
use crate::room::policy::Mistake;

pub use metadata::Subject;

/// What our own headers begin with.
pub const HEADER_PREFIX: &str = "x-anteroom-";

/// Headers by which frameworks take one method for another.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Whether the client speaks gRPC, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grpc {
    /// It does not.
    No,
    /// `application/grpc`: Envoy turns a denial into trailers itself.
    Native,
    /// `application/grpc-web`, not translated before the filter: a denial needs HTTP 200 and gRPC headers.
    Web,
}

/// A view over a `CheckRequest`.
///
/// Anything may be missing: the HTTP attributes, the path (`CONNECT` has none), the headers.
#[derive(Debug)]
pub struct Question<'a> {
    asked: Asked<'a>,
    /// The `traceparent` of the call that asks.
    caller: Option<&'a str>,
    /// The headers by which the backend hears of users, where it does.
    user_headers: Option<&'a UserHeaders>,
    /// Who asks, once that is known.
    user: OnceLock<Arc<User>>,
    /// From where, once that was asked for.
    client: OnceLock<Option<IpAddr>>,
}

impl<'a> From<Asked<'a>> for Question<'a> {
    fn from(asked: Asked<'a>) -> Self {
        Self { asked, caller: None, user_headers: None, user: OnceLock::new(), client: OnceLock::new() }
    }
}

impl<'a> Question<'a> {
    /// Reads a `CheckRequest`.
    pub fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        Asked::read(message).map(Self::from)
    }

    /// The same with the `traceparent` that the call itself carried.
    #[must_use]
    pub fn called_by(self, traceparent: Option<&'a str>) -> Self {
        Self { caller: traceparent, ..self }
    }

    /// The same where the backend hears of users by these headers.
    #[must_use]
    pub fn telling_users(self, headers: &'a UserHeaders) -> Self {
        Self { user_headers: Some(headers), ..self }
    }

    /// Lets it be known who asks. The first word counts.
    pub fn is_from(&self, user: Arc<User>) {
        // A second word could only be the same.
        let _ = self.user.set(user);
    }

    /// Who asks, as far as known: by a verified token, or by Envoy's word where the backend is told of users.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.user.get()
    }

    /// The headers by which the backend hears of users, where it does.
    pub fn user_headers(&self) -> Option<&'a UserHeaders> {
        self.user_headers
    }

    /// The names, as sent, of headers that a backend could take for those by which it hears of users.
    pub fn headers_about_users(&self) -> impl Iterator<Item = &'a str> {
        let ours = self.user_headers;
        let names = self.headers().map(|(name, _)| name);
        names.filter(move |name| ours.is_some_and(|ours| ours.is_ours(name)))
    }

    fn http(&self) -> Option<&Http<'a>> {
        self.asked.http.as_ref()
    }

    fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.http().into_iter().flat_map(Http::all_headers)
    }

    /// Whether there are HTTP attributes at all; the network filter sends none.
    pub fn is_http(&self) -> bool {
        self.http().is_some()
    }

    /// The method as sent, like `GET`; empty without HTTP attributes.
    pub fn method(&self) -> &'a str {
        self.http().map_or("", |http| http.method)
    }

    /// Every method that a backend may take this for: the one sent, and those that [override](METHOD_OVERRIDES) it.
    pub fn methods(&self) -> impl Iterator<Item = &'a str> {
        let overrides = METHOD_OVERRIDES.into_iter().flat_map(|name| self.header_values(name));
        // Not text is no method, and nothing that one would be let through for.
        let overrides = overrides.flat_map(|value| std::str::from_utf8(value).unwrap_or("?").split(','));
        std::iter::once(self.method()).chain(overrides.map(str::trim))
    }

    /// The request target as sent, with its query; `None` where there is none, as with `CONNECT`.
    pub fn path_and_query(&self) -> Option<&'a str> {
        self.http().map(|http| http.path).filter(|path| !path.is_empty())
    }

    /// The path alone, without query and fragment, not decoded.
    pub fn path(&self) -> Option<&'a str> {
        self.path_and_query().map(|path| path.split_once(['?', '#']).map_or(path, |(path, _)| path))
    }

    /// The `Host` or `:authority` as sent, with its port; empty without HTTP attributes.
    pub fn authority(&self) -> &'a str {
        self.http().map_or("", |http| http.host)
    }

    /// The client's address, as far as these proxies tell; they are asked once.
    pub fn client(&self, proxies: &Proxies) -> Option<IpAddr> {
        *self.client.get_or_init(|| {
            let peer = client_address::read(self.asked.source.as_bytes());
            proxies.client(self.header_values("x-forwarded-for"), peer)
        })
    }

    /// The `User-Agent`, as sent.
    pub fn user_agent(&self) -> Option<&'a [u8]> {
        self.header_values("user-agent").next()
    }

    /// The `x-request-id`, or Envoy's own id of the stream where that header is not passed on.
    pub fn request_id(&self) -> Option<&'a str> {
        self.header("x-request-id").filter(|id| !id.is_empty()).or_else(|| self.stream_id())
    }

    /// Envoy's own id of the stream: a random number that a client neither learns nor chooses, the same each time Envoy
    /// asks about the request. `None` in forward auth.
    pub fn stream_id(&self) -> Option<&'a str> {
        self.http().map(|http| http.id).filter(|id| !id.is_empty())
    }

    /// The first value of a header; `None` without one, or where it is not text. `name` in any case.
    ///
    /// From `headers`, repeated headers come joined by commas; from `header_map`, this is the first of them.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of a header, as bytes: headers may hold more than text. `name` in any case.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The values of all `Cookie` headers, for [`crate::cookie::cookie_values`].
    pub fn cookies(&self) -> impl Iterator<Item = &'a [u8]> {
        self.header_values("cookie")
    }

    /// The names of the request's headers that begin with [`HEADER_PREFIX`], as sent: they are ours to set, not
    /// the client's.
    pub fn anteroom_headers(&self) -> impl Iterator<Item = &'a str> {
        self.headers().map(|(name, _)| name).filter(|name| {
            let prefix = name.as_bytes().get(..HEADER_PREFIX.len());
            prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(HEADER_PREFIX.as_bytes()))
        })
    }

    /// Whether the client wants a page: `text/html` is named, and not behind JSON. See [RFC 9110, 12.5.1].
    ///
    /// `*/*` alone is no wish for a page: scripts and `fetch` send it.
    ///
    /// [RFC 9110, 12.5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1
    pub fn accepts_html(&self) -> bool {
        accept::prefers_html(self.header_values("accept"))
    }

    /// The first `Accept-Language` header, for the page.
    pub fn accept_language(&self) -> Option<&'a str> {
        self.header("accept-language")
    }

    /// Whether the client speaks gRPC, by its `Content-Type`.
    pub fn grpc(&self) -> Grpc {
        let content_type = self.header("content-type").unwrap_or("");
        if has_media_type(content_type, "application/grpc-web")
            || has_media_type(content_type, "application/grpc-web-text")
        {
            Grpc::Web
        } else if has_media_type(content_type, "application/grpc") {
            Grpc::Native
        } else {
            Grpc::No
        }
    }

    /// Whether a browser is behind the gRPC: Envoy's `grpc_web` filter, run before this one, turns the content type
    /// into the native one but leaves `x-grpc-web`.
    pub fn is_grpc_from_browser(&self) -> bool {
        self.grpc() == Grpc::Web || self.header("x-grpc-web").is_some()
    }

    /// Whether this is a CORS preflight: `OPTIONS` with `Origin` and `Access-Control-Request-Method`. Browsers send none
    /// with a method override, and a backend would take such a one for something else.
    pub fn is_preflight(&self) -> bool {
        let present = |name| self.header_values(name).any(|value| !value.trim_ascii().is_empty());
        let asks = present("origin") && present("access-control-request-method");
        asks && self.methods().all(|method| method == "OPTIONS")
    }

    /// Whether the request asks for a WebSocket: `Upgrade: websocket`, or HTTP/2's extended `CONNECT`.
    pub fn is_websocket(&self) -> bool {
        let by_upgrade = self.header_values("upgrade").any(|value| {
            let mut protocols = value.split(|byte| *byte == b',');
            protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
        });
        let by_connect = self.method() == "CONNECT"
            && self.header_values(":protocol").any(|value| value.eq_ignore_ascii_case(b"websocket"));
        by_upgrade || by_connect
    }

    /// The W3C `traceparent`s that may say which trace this belongs to, not yet checked: that of the call, as Envoy asks
    /// in a span of its own where it traces, then that of the visitor's request.
    pub fn traceparents(&self) -> impl Iterator<Item = &'a str> {
        self.caller.into_iter().chain(self.header("traceparent"))
    }

    /// The route's `context_extensions`, in no particular order.
    pub fn context_extensions(&self) -> &[(&'a str, &'a str)] {
        self.asked.context_extensions.entries()
    }

    /// Whether there is any route metadata of the namespace `anteroom`.
    pub fn has_route_metadata(&self) -> bool {
        metadata::is_stated(self.asked.route_metadata.as_ref())
    }

    /// The route metadata of the namespace `anteroom`, by key; empty without any.
    ///
    /// Numbers and truth values come as text. Anything else (lists, nested values, null) is a [`Mistake`]; all of
    /// them are reported.
    pub fn route_metadata(&self) -> Result<Vec<(&str, Cow<'_, str>)>, Vec<Mistake>> {
        metadata::room_pairs(self.asked.route_metadata.as_ref())
    }

    /// The user: who has shown a token that was verified here, else whom Envoy's `jwt_authn` filter has verified.
    ///
    /// `payload_key` is that filter's `payload_in_metadata`; `None` takes the first payload with a `sub`, by key.
    pub fn subject(&self, payload_key: Option<&str>) -> Option<Subject<'_>> {
        match self.user() {
            Some(user) => Some(Subject { issuer: user.issuer(), name: user.name() }),
            None => metadata::subject(self.asked.metadata.as_ref(), payload_key),
        }
    }
}

/// Whether a `Content-Type` is this media type, with or without a suffix (`+proto`) and parameters.
fn has_media_type(content_type: &str, media_type: &str) -> bool {
    let content_type = content_type.trim().as_bytes();
    let Some((start, rest)) = content_type.split_at_checked(media_type.len()) else { return false };
    start.eq_ignore_ascii_case(media_type.as_bytes())
        && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests;
