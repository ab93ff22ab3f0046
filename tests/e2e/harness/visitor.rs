//! A visitor: an HTTP client with a cookie jar of its own, and what it is answered.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url};
use serde_json::Value;

use super::SOON;
use super::sse::Sse;

/// A client without cookies, for probes.
pub(crate) fn plain_client() -> Client {
    Client::builder().no_proxy().timeout(SOON).build().unwrap()
}

/// One without cookies that has this address, of the loopback range.
pub(crate) fn client_from(address: Ipv4Addr) -> Client {
    Client::builder().no_proxy().timeout(SOON).local_address(IpAddr::from(address)).build().unwrap()
}

/// A visitor. Clones share the cookie jar: they are the same visitor.
#[derive(Clone)]
pub(crate) struct Visitor {
    http: Client,
    jar: Arc<Jar>,
    base: Url,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: not JSON, status {}: {:?}", self.status, self.text))
    }

    /// A header's value, "" without one.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The cookie of this name as it is set here, with its attributes.
    pub(crate) fn set_cookie(&self, name: &str) -> Option<&str> {
        let all = self.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
        all.into_iter().find(|cookie| cookie.split('=').next() == Some(name))
    }
}

impl Visitor {
    pub(crate) fn new(port: u16) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, port)
    }

    /// One with this address, of the loopback range.
    pub(crate) fn from(address: Ipv4Addr, port: u16) -> Self {
        let jar = Arc::new(Jar::default());
        let base = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        Self { http: Self::http(&jar, address), jar, base }
    }

    /// The same visitor on a new connection: one that is open may be closed while a request is on its way.
    pub(crate) fn anew(&self) -> Self {
        Self { http: Self::http(&self.jar, Ipv4Addr::LOCALHOST), ..self.clone() }
    }

    fn http(jar: &Arc<Jar>, address: Ipv4Addr) -> Client {
        Client::builder()
            .no_proxy()
            .timeout(SOON)
            .local_address(IpAddr::from(address))
            .cookie_provider(Arc::clone(jar))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap()
    }

    /// A request, with these headers beside those of the jar.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.request(method, self.base.join(path).unwrap());
        if !headers.iter().any(|(name, _)| *name == "accept") {
            request = request.header("accept", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    /// Gives up the session in `/shop`.
    pub(crate) async fn leave(&self) {
        let answer = self.send(Method::DELETE, "/anteroom/v1/rooms/shop/pass", &[]).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    /// Where the visitor stands in line, by the client API.
    pub(crate) async fn standing(&self) -> Value {
        let answer = self.get("/anteroom/v1/rooms/shop/position").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Asks for `/shop` until let in.
    pub(crate) async fn enters(&self) {
        super::until("the visitor is let into /shop", SOON, || async {
            let answer = self.get("/shop").await;
            assert!([200, 429].contains(&answer.status), "{answer:?}");
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// The live stream of positions.
    pub(crate) async fn stream(&self) -> Sse {
        self.stream_after(None).await
    }

    /// The stream of one who comes back, and was told this position last.
    pub(crate) async fn stream_after(&self, last: Option<u64>) -> Sse {
        let url = self.base.join("/anteroom/v1/rooms/shop/stream").unwrap();
        // Streams outlast the usual timeout; `Sse` bounds the wait for each event.
        let mut request = self.http.get(url).timeout(SOON * 10).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let status = answer.status();
        assert_eq!(status, 200, "{:?}", answer.text().await);
        assert!(kind.as_deref().is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
        Sse::new(answer)
    }

    /// The value of a cookie in the jar.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let all = self.jar.cookies(&self.base)?;
        let mut pairs = all.to_str().unwrap().split("; ").filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    /// Puts a cookie into the jar.
    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        self.jar.add_cookie_str(&format!("{name}={value}; Path=/"), &self.base);
    }
}
