//! One replica as Envoy and visitors reach it: Checks by gRPC, polls and streams by HTTP.

use std::time::Duration;

use anteroom::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use anteroom::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use anteroom::pb::envoy::service::auth::v3::check_response::HttpResponse;
use anteroom::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

/// How long anything is waited for; far longer than the service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A replica's listeners. Cheap to clone; clones share connections.
#[derive(Clone)]
pub(crate) struct Door {
    /// Which replica.
    pub(crate) index: usize,
    checks: AuthorizationClient<Channel>,
    http: reqwest::Client,
    base: String,
}

/// A place in line, as its ticket or pass says: generation and number.
pub(crate) type Place = (u64, u64);

/// The tokens of a visitor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) ticket: Option<String>,
    pub(crate) pass: Option<String>,
}

/// What somebody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Waiting(u64),
    Called,
    Inside,
    Gone,
    /// Wait without a number: the store is out.
    Held,
    /// Anything else: a status or what went wrong.
    Failed(String),
}

/// An answer: what was told, and the tokens that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) told: Told,
    pub(crate) tokens: Tokens,
}

impl Door {
    pub(crate) fn new(index: usize, authz: u16, http: u16) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{authz}")).unwrap();
        let channel = endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy();
        let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().connect_timeout(PATIENCE);
        let base = format!("http://127.0.0.1:{http}/anteroom/v1/rooms");
        Self { index, checks: AuthorizationClient::new(channel), http: client.build().unwrap(), base }
    }

    /// Envoy's question for a request in this room.
    pub(crate) async fn check(&self, room: &str, tokens: &Tokens) -> Answer {
        match self.checks.clone().check(question(room, tokens)).await {
            Ok(response) => read(response.into_inner()),
            Err(status) => Answer::failed(format!("gRPC {:?}", status.code())),
        }
    }

    /// A poll of the position.
    pub(crate) async fn poll(&self, room: &str, tokens: &Tokens) -> Answer {
        self.http(reqwest::Method::GET, room, "position", tokens).await
    }

    /// Gives the pass back; `true` when that was taken in.
    pub(crate) async fn leave(&self, room: &str, tokens: &Tokens) -> bool {
        let request = self.request(reqwest::Method::DELETE, &format!("{room}/pass"), tokens);
        request.timeout(PATIENCE).send().await.is_ok_and(|answer| answer.status() == 204)
    }

    /// Any call of the client API, with the path after `rooms/` as it is written here; the status.
    pub(crate) async fn status(&self, method: reqwest::Method, path: &str, tokens: &Tokens) -> u16 {
        let answer = self.request(method, path, tokens).timeout(PATIENCE).send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }

    async fn http(&self, method: reqwest::Method, room: &str, call: &str, tokens: &Tokens) -> Answer {
        let request = self.request(method, &format!("{room}/{call}"), tokens).timeout(PATIENCE);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::failed(format!("HTTP: {error:?}")),
        };
        let status = answer.status().as_u16();
        match answer.json::<Value>().await {
            Ok(body) if status < 300 => Answer::standing(&body),
            Ok(body) => Answer::failed(format!("HTTP {status}: {}", body["detail"].as_str().unwrap_or("?"))),
            Err(error) => Answer::failed(format!("HTTP {status}: {error}")),
        }
    }

    /// A stream of positions; `None` if it was refused.
    pub(crate) async fn stream(&self, room: &str, tokens: &Tokens) -> Option<Stream> {
        let request = self.request(reqwest::Method::GET, &format!("{room}/stream"), tokens);
        let answer = tokio::time::timeout(PATIENCE, request.send()).await.ok()?.ok()?;
        (answer.status() == 200).then(|| Stream { answer, buffer: String::new() })
    }

    fn request(&self, method: reqwest::Method, path: &str, tokens: &Tokens) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}/{path}", self.base));
        for (name, token) in tokens.headers() {
            request = request.header(name, token);
        }
        request
    }
}

impl Tokens {
    fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = [("x-anteroom-ticket", &self.ticket), ("x-anteroom-pass", &self.pass)];
        pairs.into_iter().filter_map(|(name, token)| Some((name, token.as_deref()?)))
    }

    /// The place that the newest token proves.
    pub(crate) fn place(&self) -> Option<Place> {
        let token = self.ticket.as_deref().or(self.pass.as_deref())?;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        Some((claims["gen"].as_u64()?, claims["num"].as_u64()?))
    }

    /// Keeps what an answer brought.
    pub(crate) fn take(&mut self, new: &Self) {
        self.ticket = new.ticket.clone().or(self.ticket.take());
        self.pass = new.pass.clone().or(self.pass.take());
    }
}

impl Answer {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { told: Told::Failed(why.into()), tokens: Tokens::default() }
    }

    fn standing(body: &Value) -> Self {
        let told = match (body["status"].as_str(), body["position"].as_u64()) {
            (Some("waiting"), Some(position)) => Told::Waiting(position),
            (Some("waiting"), None) => Told::Held,
            (Some("called"), _) => Told::Called,
            (Some("admitted"), _) => Told::Inside,
            (Some("gone"), _) => Told::Gone,
            _ => Told::Failed(format!("not a standing: {body}")),
        };
        let token = |name: &str| body[name].as_str().map(str::to_owned);
        Self { told, tokens: Tokens { ticket: token("ticket"), pass: token("pass") } }
    }
}

/// A Check on `GET /` in this room, whose limits the rooms file has.
pub(crate) fn question(room: &str, tokens: &Tokens) -> CheckRequest {
    let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
    headers.extend(tokens.headers().map(|(name, token)| (name.to_owned(), token.to_owned())));
    let http = HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        host: "example.com".into(),
        headers: headers.into_iter().collect(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        request: Some(Asked { http: Some(http) }),
        context_extensions: [("room".to_owned(), room.to_owned())].into_iter().collect(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

fn read(response: CheckResponse) -> Answer {
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => {
            let headers = ok.headers.into_iter().filter_map(|option| option.header);
            let pass =
                headers.into_iter().find(|header| header.key == "x-anteroom-pass").map(|header| header.value);
            Answer { told: Told::Inside, tokens: Tokens { ticket: None, pass } }
        }
        Some(HttpResponse::DeniedResponse(denied)) => serde_json::from_str(&denied.body)
            .map_or_else(|_| Answer::failed(denied.body.clone()), |b| Answer::standing(&b)),
        other => Answer::failed(format!("{other:?}")),
    }
}

/// What a stream brings.
#[derive(Debug)]
pub(crate) enum Word {
    Told(Told),
    /// Nothing yet.
    Nothing,
    /// It was ended, or broke off.
    End,
}

/// An open stream of positions.
pub(crate) struct Stream {
    answer: reqwest::Response,
    buffer: String,
}

impl Stream {
    /// The next word, if one comes `within`.
    pub(crate) async fn next(&mut self, within: Duration) -> Word {
        match tokio::time::timeout(within, self.read()).await {
            Ok(Some(told)) => Word::Told(told),
            Ok(None) => Word::End,
            Err(_) => Word::Nothing,
        }
    }

    async fn read(&mut self) -> Option<Told> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(body) = data.and_then(|data| serde_json::from_str(data).ok()) {
                    return Some(Answer::standing(&body).told);
                }
            }
            let bytes = self.answer.chunk().await.ok()??;
            self.buffer.push_str(std::str::from_utf8(&bytes).ok()?);
        }
    }
}
