//! Users' tokens against real servers of keys: good, slow, lying and gone.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::drain::Tasks;
use anteroom::identity::public::PublicPaths;
use anteroom::identity::settings::{IdentitySettings, IssuerSettings, JwksSource, TokenPlace, UserHeaders};
use anteroom::identity::token::Refusal;
use anteroom::identity::{Answer, Identity, Known, Shown};
use anteroom::telemetry::metrics::Metrics;
use futures_util::future::join_all;
use jsonwebtoken::Algorithm;

use crate::jwks_server::{JwksServer, Says, lies};
use crate::redis_server::until::{SOON, until, until_true};
use crate::signer::{AUDIENCE, ISSUER, Signer, claims, jwks};

/// How long somebody waits for an issuer's keys.
const BUDGET: Duration = Duration::from_millis(60);

/// Users known by one issuer's keys, which are fetched every now and then.
pub(crate) struct Users {
    pub(crate) identity: Arc<Identity>,
    metrics: Metrics,
    clock: Clock,
    _tasks: Tasks,
}

impl Users {
    fn of(jwks: JwksSource) -> Self {
        Self::with(jwks, |_| {})
    }

    pub(crate) fn of_server(server: &JwksServer) -> Self {
        Self::of(url(&server.url()))
    }

    /// With settings that are changed before it begins.
    pub(crate) fn with(jwks: JwksSource, change: impl FnOnce(&mut IdentitySettings)) -> Self {
        let issuer = IssuerSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            jwks,
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
            leeway: Duration::from_secs(30),
            refresh: Duration::from_millis(200),
            stale: Duration::from_hours(24),
            type_claim: "user_type".to_owned(),
        };
        let mut settings = IdentitySettings {
            issuers: vec![issuer],
            token: TokenPlace::default(),
            headers: UserHeaders::default(),
            public: PublicPaths::default(),
        };
        change(&mut settings);
        let (clock, metrics, mut tasks) = (Clock::system(), Metrics::new(1), Tasks::new());
        let identity = Arc::new(Identity::new(settings, clock, metrics.identity()).unwrap());
        let (tended, shutdown) = (identity.clone(), tasks.shutdown());
        tasks.spawn("identity", async move {
            tended.tend(&shutdown).await;
            Ok::<_, std::io::Error>(())
        });
        Self { identity, metrics, clock, _tasks: tasks }
    }

    pub(crate) fn token(&self, signer: &Signer, user: &str) -> String {
        signer.sign(&claims(user, self.clock.now_ms() / 1_000))
    }

    /// Who shows this token, asked as a Check asks.
    async fn who(&self, token: &str) -> Answer {
        self.identity.who(token, BUDGET).await
    }

    async fn is(&self, token: &str, expected: impl Fn(&Answer) -> bool) {
        until("the token comes to what it should", SOON, || async {
            let answer = self.who(token).await;
            expected(&answer).then_some(())
        })
        .await;
    }

    pub(crate) async fn is_user(&self, token: &str, name: &str) {
        self.is(token, |answer| matches!(answer, Answer::User(user) if user.name() == name)).await;
    }

    /// Nobody can say who shows this token.
    pub(crate) async fn is_unavailable(&self, token: &str) {
        assert_eq!(self.who(token).await, Answer::Unavailable);
    }

    /// Waits until a fetch has failed before any answer.
    pub(crate) async fn found_unreachable(&self) {
        let series = format!("anteroom_identity_fetches_total{{issuer=\"{ISSUER}\",result=\"unreachable\"}}");
        until_true("a fetch has failed", SOON, || self.metric(&series) > 0.0).await;
    }

    /// The value of a metric, by its name and labels; 0 where there is none.
    fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Keys at an address whose server the system's roots vouch for, where it is `https`.
pub(crate) fn url(address: &str) -> JwksSource {
    JwksSource::Url { url: address.parse().unwrap(), roots: None }
}

fn good(signer: &Signer) -> Says {
    Says::Text(jwks(&[signer]))
}

#[tokio::test]
async fn a_token_is_verified_once_and_remembered() {
    let signer = Signer::es256("a");
    let server = JwksServer::start(good(&signer)).await;
    let users = Users::of_server(&server);
    let token = users.token(&signer, "ann");
    users.is_user(&token, "ann").await;
    for _ in 0..10 {
        let Known::Answer(Answer::User(user)) = users.identity.known(&token, users.clock.now_ms()) else {
            panic!("a user")
        };
        assert_eq!(user.name(), "ann");
    }
    let verified = "anteroom_identity_tokens_total{result=\"verified\"}";
    let keys = format!("anteroom_identity_keys{{issuer=\"{ISSUER}\"}}");
    for (series, expected) in [
        (verified, "1"),
        ("anteroom_identity_remembered_total", "10"),
        ("anteroom_identity_kept", "1"),
        (&keys, "1"),
    ] {
        assert_eq!(users.metric(series).to_string(), expected, "{series}");
    }
    // Remembered or not, a token ends.
    let later = users.clock.now_ms() + 3_700_000;
    assert_eq!(users.identity.known(&token, later), Known::Answer(Answer::Refused(Refusal::Expired)));
}

#[tokio::test]
async fn an_issuer_that_lies_or_hangs_makes_nobody_a_user_and_nobody_wait_for_long() {
    let signer = Signer::es256("a");
    let elsewhere = JwksServer::start(good(&signer)).await;
    let text = jwks(&[&signer]);
    let lies = lies(&text, &elsewhere);
    join_all(lies.map(|lie| {
        let signer = &signer;
        async move {
            let told = format!("{lie:?}").chars().take(60).collect::<String>();
            let server = JwksServer::start(lie).await;
            let users = Users::of_server(&server);
            let token = users.token(signer, "ann");
            until_true("it was asked twice", SOON, || server.asked() >= 2).await;
            assert_eq!(users.who(&token).await, Answer::Unavailable, "{told}");
            server.says(good(signer));
            users.is_user(&token, "ann").await;
        }
    }))
    .await;
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[tokio::test]
async fn an_issuer_out_of_reach_costs_nobody_who_is_known_anything() {
    let signer = Signer::es256("a");
    let server = JwksServer::start(good(&signer)).await;
    let users = Users::of_server(&server);
    users.is_user(&users.token(&signer, "ann"), "ann").await;
    for lie in [Says::HangUp, Says::Status(500, String::new()), Says::Text("{\"keys\": []}".to_owned())] {
        server.says(lie);
        let before = server.asked();
        until_true("it was asked again", SOON, || server.asked() >= before + 2).await;
        assert!(matches!(users.who(&users.token(&signer, "bob")).await, Answer::User(_)));
    }
    // Whose key is not known could be a user by a new one: nobody can say.
    let unknown = users.token(&Signer::other_es256("b"), "ann");
    assert_eq!(users.who(&unknown).await, Answer::Unavailable);
}

#[tokio::test]
async fn what_a_key_has_vouched_for_ends_when_its_issuer_takes_it_back() {
    let (old, new) = (Signer::es256("old"), Signer::other_es256("new"));
    let server = JwksServer::start(good(&old)).await;
    let users = Users::of_server(&server);
    let token = users.token(&old, "ann");
    users.is_user(&token, "ann").await;
    server.says(Says::Text(jwks(&[&old, &new])));
    users.is_user(&users.token(&new, "bob"), "bob").await;
    users.is_user(&token, "ann").await;
    server.says(good(&new));
    users.is(&token, |answer| *answer == Answer::Refused(Refusal::UnknownKey)).await;
    users.is_user(&users.token(&new, "ann"), "ann").await;
    // Another key under the old name.
    server.says(Says::Text(jwks(&[&Signer::other_es256("old")])));
    users.is(&token, |answer| *answer == Answer::Refused(Refusal::BadSignature)).await;
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let (old, new) = (Signer::es256("old"), Signer::ed25519("new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&old])).unwrap();
    let users = Users::of(JwksSource::File(file.clone()));
    let token = users.token(&old, "ann");
    users.is_user(&token, "ann").await;
    std::fs::write(&file, "half a fi").unwrap();
    until_true("the broken file was read", SOON, || {
        let series = format!("anteroom_identity_fetches_total{{issuer=\"{ISSUER}\",result=\"unusable\"}}");
        users.metric(&series) > 0.0
    })
    .await;
    users.is_user(&token, "ann").await;
    std::fs::write(&file, jwks(&[&new])).unwrap();
    users.is_user(&users.token(&new, "bob"), "bob").await;
    users.is(&token, |answer| matches!(answer, Answer::Refused(_))).await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_not_believed() {
    // It does not speak TLS, and `https` was asked for.
    let signer = Signer::es256("a");
    let server = JwksServer::start(good(&signer)).await;
    let address = server.url().replace("http://", "https://");
    let users = Users::of(url(&address));
    users.found_unreachable().await;
    users.is_unavailable(&users.token(&signer, "ann")).await;
    assert_eq!(server.asked(), 0);
}

fn bytes<'a>(texts: &[&'a str]) -> std::vec::IntoIter<&'a [u8]> {
    texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().into_iter()
}

#[tokio::test]
async fn a_token_is_taken_from_one_place_and_doubt_is_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = || JwksSource::File(folder.path().join("jwks.json"));
    let place = |header: &str, cookie: Option<&str>| TokenPlace {
        header: header.to_owned(),
        cookie: cookie.map(str::to_owned),
    };
    let usual = Users::of(file()).identity;
    let shown = |values: &[&'static str]| usual.shown(bytes(values), bytes(&["id_token=x.y.z"]));
    assert_eq!(shown(&["Bearer a.b.c"]), Shown::Token("a.b.c"));
    assert_eq!(shown(&["bEARER \t a.b.c "]), Shown::Token("a.b.c"));
    assert_eq!(shown(&["Bearer a.b.c,Bearer d.e.f"]), Shown::Token("a.b.c,Bearer d.e.f"));
    for nothing in [&[][..], &[""], &["Basic YTpi"], &["a.b.c"], &["Bearera.b.c"], &["Bearer"]] {
        assert_eq!(shown(nothing), Shown::Nothing, "{nothing:?}");
    }
    assert_eq!(shown(&["Bearer a.b.c", "Bearer a.b.c"]), Shown::Unclear);
    assert_eq!(usual.shown([&b"Bearer \xff"[..]].into_iter(), bytes(&[])), Shown::Unclear);

    let cookie = Users::with(file(), |settings| settings.token = place("x-token", Some("id_token"))).identity;
    let shown =
        |values: &[&'static str], cookies: &[&'static str]| cookie.shown(bytes(values), bytes(cookies));
    assert_eq!(shown(&["a.b.c"], &["id_token=x.y.z"]), Shown::Token("a.b.c"));
    assert_eq!(shown(&["Bearer a.b.c"], &[]), Shown::Token("a.b.c"));
    assert_eq!(shown(&[], &["a=b; id_token=x.y.z"]), Shown::Token("x.y.z"));
    assert_eq!(shown(&[], &["id_token=x.y.z; id_token=x.y.z"]), Shown::Token("x.y.z"));
    assert_eq!(shown(&[], &["id_token=x.y.z; id_token=u.v.w"]), Shown::Unclear);
    assert_eq!(shown(&[], &["Id_Token=x.y.z"]), Shown::Nothing);
}
