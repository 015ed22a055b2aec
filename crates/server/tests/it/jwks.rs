//! Row A4 of the fault catalogue with key sets (threats S2 and S3): keys by `kid` from a file and from an
//! address, against an identity provider on loopback that counts what it is asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use parking_lot::Mutex as Lock;
use pulsewire::auth::jwks::{FETCH_SPACING_MS, Remote, RemoteOptions, Source};
use pulsewire::auth::{Authenticator, Principal, Refusal, Revocations, Role};
use pulsewire::settings::Settings;
use pulsewire_edge::clock;
use pulsewire_telemetry::KeyFetch;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use crate::harness::{self, Server, handshake};
use crate::support::World;

const NOW_MS: i64 = 1_700_000_000_000;

/// An identity provider: answers every request alike, and counts them.
struct Provider {
    address: SocketAddr,
    shared: Arc<(Mutex<Answers>, Condvar)>,
}

#[derive(Default)]
struct Answers {
    status: &'static str,
    headers: &'static str,
    body: Vec<u8>,
    /// Answers wait until this is false.
    held: bool,
    requests: Vec<String>,
}

impl Provider {
    fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<(Mutex<Answers>, Condvar)> = Arc::default();
        let provider = Self { address, shared: shared.clone() };
        provider.publish(keys);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream.unwrap(), &shared));
            }
        });
        provider
    }

    fn url(&self) -> String {
        format!("http://{}/tenant/keys.json", self.address)
    }

    fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public.clone()).collect();
        let body = json!({ "keys": keys }).to_string().into_bytes();
        self.set(|answers| (answers.status, answers.body) = ("200 OK", body));
    }

    fn requests(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().requests.clone()
    }

    fn asked(&self) -> usize {
        self.requests().len()
    }
}

fn answer(mut stream: TcpStream, shared: &(Mutex<Answers>, Condvar)) {
    let (mut request, mut block) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        match stream.read(&mut block) {
            Ok(len @ 1..) => request.extend_from_slice(&block[..len]),
            _ => return,
        }
    }
    let (answers, changed) = shared;
    let mut answers = answers.lock().unwrap();
    answers.requests.push(String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned());
    changed.notify_all();
    let answers = changed.wait_while(answers, |answers| answers.held).unwrap();
    let head = format!(
        "HTTP/1.1 {}\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n",
        answers.status,
        answers.headers,
        answers.body.len()
    );
    let body = answers.body.clone();
    drop(answers);
    // Whoever asked may have had enough.
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}

/// A signing key and its public half as a JWK.
struct Key {
    kid: &'static str,
    name: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl Key {
    fn new(name: &'static str, kid: &'static str) -> Self {
        let pair = |kind| KeyPair::generate_for(kind).unwrap();
        let jwk = |key: &EncodingKey, algorithm| {
            serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap()
        };
        let (algorithm, private, mut public) = match name {
            "EdDSA" => {
                let pair = pair(&PKCS_ED25519);
                let private = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
                let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
                (Algorithm::EdDSA, private, json!({"kty": "OKP", "crv": "Ed25519", "x": x}))
            }
            "RS256" => {
                let pem = pair(&PKCS_RSA_SHA256).serialize_pem();
                let private = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
                let public = jwk(&private, Algorithm::RS256);
                (Algorithm::RS256, private, public)
            }
            "ES256" => {
                let pem = pair(&PKCS_ECDSA_P256_SHA256).serialize_pem();
                let private = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
                let public = jwk(&private, Algorithm::ES256);
                (Algorithm::ES256, private, public)
            }
            _ => {
                let private = EncodingKey::from_secret(&[0x5a; 40]);
                let public = jwk(&private, Algorithm::HS256);
                (Algorithm::HS256, private, public)
            }
        };
        public["kid"] = json!(kid);
        Self { kid, name, algorithm, private, public }
    }

    fn token(&self) -> String {
        self.token_as(json!(self.kid))
    }

    /// A token of this key that names any key.
    fn token_as(&self, kid: Value) -> String {
        let mut header = json!({ "alg": self.name });
        if !kid.is_null() {
            header["kid"] = kid;
        }
        let claims = json!({"sub": "ann", "exp": clock::now().wall_ms / 1_000 + 3_600});
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        format!("{message}.{}", crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap())
    }
}

/// An authenticator that knows keys by the provider alone, and the outcomes of its fetches.
struct Client {
    authenticator: Authenticator,
    remote: Arc<Remote>,
    outcomes: Arc<Lock<Vec<KeyFetch>>>,
}

impl Client {
    fn new(provider: &Provider) -> Self {
        Self::with(provider, |_| {})
    }

    fn with(provider: &Provider, change: impl FnOnce(&mut RemoteOptions)) -> Self {
        let mut options = RemoteOptions {
            source: Source { issuer: None, url: provider.url() },
            refresh: Duration::from_secs(600),
            timeout: harness::PATIENCE,
            bytes_max: 64 * 1024,
            allow_private: true,
        };
        change(&mut options);
        Self::after(options, None)
    }

    fn after(options: RemoteOptions, before: Option<&Remote>) -> Self {
        let outcomes: Arc<Lock<Vec<KeyFetch>>> = Arc::default();
        let seen = outcomes.clone();
        let remote =
            Remote::new(options, Box::new(move |outcome| seen.lock().push(outcome)), before).unwrap();
        let url = format!("auth.jwks_url={}", remote.options().source.url);
        let sources = World::empty().set(&url).sources();
        let settings = Settings::load(&sources).unwrap();
        let revocations = Arc::new(Revocations::default());
        let authenticator =
            Authenticator::new(&settings, &*sources.read, revocations, Some(remote.clone()), &[7; 32])
                .unwrap();
        Self { authenticator, remote, outcomes }
    }

    /// As an endpoint does it: verify, and where the key is not known, look for it.
    async fn accepts(&self, token: &str, after_ms: i64) -> Result<Principal, Refusal> {
        let verify = || self.authenticator.token(token, clock::now().wall_ms);
        match verify() {
            Err(refusal) if self.authenticator.may_learn_key(&refusal) => {
                self.authenticator.look_for_key(token, NOW_MS + after_ms).await;
                verify()
            }
            outcome => outcome,
        }
    }
}

/// The key type decides: each kind of key is taken, and a shared secret from the network is not.
#[tokio::test]
async fn keys_of_every_kind_are_taken_from_an_address_but_no_shared_secret() {
    let keys = ["RS256", "ES256", "EdDSA"].map(|name| Key::new(name, name));
    let secret = Key::new("HS256", "secret");
    let [rsa, elliptic, edwards] = &keys;
    let provider = Provider::start(&[rsa, &secret, elliptic, edwards]);
    let client = Client::new(&provider);
    for key in &keys {
        assert_eq!(&*client.accepts(&key.token(), 0).await.unwrap().sub, "ann", "{}", key.name);
        let other = keys.iter().find(|other| other.name != key.name).unwrap();
        let stolen = key.token_as(json!(other.kid));
        assert!(
            matches!(client.accepts(&stolen, 0).await, Err(Refusal::Algorithm { .. })),
            "the named key decides the algorithm"
        );
    }
    assert_eq!(client.accepts(&secret.token(), 0).await, Err(Refusal::KeyUnknown));
    // Row A3 with named keys: the public key of the set is no shared secret.
    let public = rsa.public["n"].as_str().unwrap();
    for bytes in [public.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(public).unwrap()] {
        let forger = Key { private: EncodingKey::from_secret(&bytes), ..Key::new("HS256", "RS256") };
        assert_eq!(client.accepts(&forger.token(), 0).await, Err(Refusal::Algorithm { expected: "RS256" }));
    }
    assert_eq!(client.accepts(&rsa.token_as(json!(null)), 0).await, Err(Refusal::KeyIdMissing));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_new_key_counts_after_one_fetch_and_a_removed_one_no_longer_after_a_refresh() {
    let (old, new) = (Key::new("ES256", "2024"), Key::new("ES256", "2025"));
    let provider = Provider::start(&[&old]);
    let client = Client::new(&provider);
    client.remote.refresh(NOW_MS).await;
    assert!(client.accepts(&old.token(), 0).await.is_ok());
    assert_eq!(provider.asked(), 1);

    provider.publish(&[&old, &new]);
    assert_eq!(client.accepts(&new.token(), FETCH_SPACING_MS - 1).await, Err(Refusal::KeyUnknown));
    assert_eq!(provider.asked(), 1, "not within ten seconds of the last fetch");
    assert!(client.accepts(&new.token(), FETCH_SPACING_MS).await.is_ok());
    assert!(client.accepts(&old.token(), FETCH_SPACING_MS).await.is_ok());
    assert_eq!(provider.asked(), 2);

    provider.publish(&[&new]);
    let next_ms = FETCH_SPACING_MS + 600_000;
    client.remote.refresh(NOW_MS + next_ms - 1).await;
    assert!(client.accepts(&old.token(), next_ms - 1).await.is_ok(), "not yet");
    client.remote.refresh(NOW_MS + next_ms).await;
    assert_eq!(client.accepts(&old.token(), next_ms).await, Err(Refusal::KeyUnknown));
    assert!(client.accepts(&new.token(), next_ms).await.is_ok());
    assert_eq!(provider.asked(), 3);
    assert_eq!(*client.outcomes.lock(), [KeyFetch::Ok; 3]);
}

#[tokio::test]
async fn a_failed_fetch_leaves_the_known_keys_in_force_and_is_counted_by_its_reason() {
    let key = Key::new("EdDSA", "main");
    let provider = Provider::start(&[&key]);
    let client = Client::with(&provider, |options| {
        options.refresh = Duration::from_secs(60);
        options.bytes_max = 2_048;
    });
    client.remote.refresh(NOW_MS).await;
    let large = format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(2_048));
    let elsewhere = "Location: http://169.254.169.254/keys\r\n";
    for (at, (status, headers, body, outcome)) in [
        ("500 Oops", "", "{\"keys\":[]}", KeyFetch::Refused),
        ("302 Found", elsewhere, "{\"keys\":[]}", KeyFetch::Refused),
        ("204 No Content", "", "", KeyFetch::Refused),
        ("200 OK", "", large.as_str(), KeyFetch::TooLarge),
        ("200 OK", "", "<html>sign in</html>", KeyFetch::Unreadable),
        ("200 OK", "", "{\"keys\":{}}", KeyFetch::Unreadable),
        ("no HTTP", "", "", KeyFetch::Unreachable),
    ]
    .into_iter()
    .enumerate()
    {
        provider.set(|answers| {
            (answers.status, answers.headers, answers.body) = (status, headers, body.as_bytes().to_vec());
        });
        client.remote.refresh(NOW_MS + 60_000 * (at as i64 + 1)).await;
        assert_eq!(*client.outcomes.lock().last().unwrap(), outcome, "{status} {body}");
        assert!(client.accepts(&key.token(), 0).await.is_ok(), "{status} {body}");
    }
    assert_eq!((client.outcomes.lock().len(), provider.asked()), (8, 8), "no redirect is followed");

    let hasty = Client::with(&provider, |options| options.timeout = Duration::from_millis(20));
    provider.set(|answers| answers.held = true);
    hasty.remote.refresh(NOW_MS).await;
    assert_eq!(*hasty.outcomes.lock(), [KeyFetch::TimedOut]);
}

/// Single flight, and nobody with a known key waits for it.
#[tokio::test]
async fn whoever_asks_during_a_fetch_waits_for_that_one_and_known_keys_wait_for_none() {
    let (old, new) = (Key::new("ES256", "old"), Key::new("ES256", "new"));
    let provider = Provider::start(&[&old]);
    let client = Arc::new(Client::new(&provider));
    client.remote.refresh(NOW_MS).await;
    provider.publish(&[&old, &new]);
    provider.set(|answers| answers.held = true);
    let waiting: Vec<_> = (0..50)
        .map(|number| {
            let (client, token) = (client.clone(), new.token());
            tokio::spawn(async move { client.accepts(&token, FETCH_SPACING_MS + number).await.is_ok() })
        })
        .collect();
    while provider.asked() < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        assert!(client.authenticator.token(&old.token(), clock::now().wall_ms).is_ok());
    }
    assert!(waiting.iter().all(|task| !task.is_finished()));
    provider.set(|answers| answers.held = false);
    for task in waiting {
        assert!(task.await.unwrap());
    }
    assert_eq!(provider.asked(), 2);
}

/// The cache key is (issuer, address, id): another issuer or address begins with nothing.
#[tokio::test]
async fn a_reload_keeps_the_keys_of_the_same_source_and_of_no_other() {
    let key = Key::new("ES256", "main");
    let provider = Provider::start(&[&key]);
    let first = Client::new(&provider);
    first.remote.refresh(NOW_MS).await;
    let options = first.remote.options().clone();
    let other_time = RemoteOptions { timeout: Duration::from_secs(1), ..options.clone() };
    let same = Client::after(other_time, Some(&first.remote));
    assert!(same.authenticator.token(&key.token(), clock::now().wall_ms).is_ok());
    same.remote.refresh(NOW_MS + 1).await;
    assert_eq!(provider.asked(), 1, "the time of the last fetch is kept too");
    for source in [
        Source { issuer: Some("another".into()), ..options.source.clone() },
        Source { url: format!("{}?v=2", options.source.url), ..options.source.clone() },
    ] {
        let other = Client::after(RemoteOptions { source, ..options.clone() }, Some(&first.remote));
        assert!(other.remote.key("main").is_none());
    }
}

/// Row A4 over real connections.
#[test]
fn a_thousand_random_key_ids_cause_at_most_one_fetch_in_ten_seconds_and_disturb_no_login() {
    let key = Key::new("RS256", "main");
    let provider = Provider::start(&[&key]);
    let server =
        Server::start(&format!("[auth]\njwks_url = \"{}\"\nattempts_per_minute = 0", provider.url()));
    harness::until("the first fetch", || provider.asked() == 1);
    let began = Instant::now();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let knock = |token: &str| {
        let mut socket = server.connect();
        socket.send(handshake("/ws", &bearer(token)).as_bytes());
        socket.head().status
    };
    let mut odd: Vec<Value> =
        ["../../dev/null", "' OR 1=1", "http://169.254.169.254/keys", "file:///dev/zero", "", "a\nb", "ключ"]
            .map(Into::into)
            .into();
    odd.extend([json!("k".repeat(129)), json!(7), json!(["main"]), json!({"kid": "main"})]);
    for kid in odd {
        assert_eq!(knock(&key.token_as(kid.clone())), 401, "{kid}");
    }
    assert_eq!(knock(&key.token_as(json!("k".repeat(1 << 20)))), 431, "1 MiB does not even arrive");
    for number in 0..1_000 {
        let kid = format!("{:016x}", (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(knock(&key.token_as(json!(kid))), 401, "{kid}");
        if number % 50 == 0 {
            assert_eq!(knock(&key.token()), 101, "a valid login after {number}");
            assert_eq!(knock(&server.token("bob", Role::User)), 101, "with the key of the settings");
        }
    }
    // However slow this machine is: the first fetch, and one more for each ten seconds begun since.
    let most = 1 + began.elapsed().as_secs() / 10 + 1;
    let requests = provider.requests();
    assert!(requests.len() as u64 <= most, "{} fetches, at most {most}", requests.len());
    assert!(requests.iter().all(|line| line == "GET /tenant/keys.json HTTP/1.1"), "{requests:?}");
    let counted = server.metric("pulsewire_jwks_fetches_total{outcome=\"ok\"}");
    assert_eq!(counted, provider.asked() as f64);
    assert_eq!(server.metric("websocket_auth_failures_total{reason=\"invalid_token\"}"), 1_011.0);
}

/// A connection whose key is still being fetched waits, and so does one that says its token in a message.
#[test]
fn a_login_with_a_key_that_is_being_fetched_waits_for_it() {
    let key = Key::new("EdDSA", "main");
    let provider = Provider::start(&[&key]);
    provider.set(|answers| answers.held = true);
    let server = Server::start(&format!("[auth]\njwks_url = \"{}\"", provider.url()));
    harness::until("the first fetch", || provider.asked() == 1);
    let mut early = server.connect();
    early.send(handshake("/ws", &format!("Authorization: Bearer {}\r\n", key.token())).as_bytes());
    let mut talker = server.open("/ws", "");
    talker.say(&json!({"type": "connect", "id": 1, "token": key.token()}));
    talker.say(&json!({"type": "subscribe", "id": 2, "channels": ["run:1"]}));
    // Others are not held up.
    let mut other = server.welcomed("bob");
    assert_eq!(other.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    provider.set(|answers| answers.held = false);
    assert_eq!(early.head().status, 101);
    assert_eq!(early.json()["type"], "welcome");
    assert_eq!(talker.json()["type"], "connected");
    assert_eq!(talker.json()["id"], 2);
    assert_eq!(provider.asked(), 1);
}

/// Keys of a file: each under its own id and algorithm, beside the one key of the settings.
#[test]
fn a_file_holds_several_keys_each_with_its_algorithm() {
    let keys = ["RS256", "ES256", "EdDSA", "HS256"].map(|name| Key::new(name, name));
    let set = json!({ "keys": keys.iter().map(|key| key.public.clone()).collect::<Vec<_>>() }).to_string();
    let authenticator = |world: World| {
        let sources = world.set("auth.jwks_file=keys.json").file("keys.json", &set).sources();
        let settings = Settings::load(&sources).unwrap_or_else(|problems| panic!("{problems:?}"));
        Authenticator::new(&settings, &*sources.read, Arc::new(Revocations::default()), None, &[7; 32])
            .unwrap()
    };
    let now_ms = clock::now().wall_ms;
    let (alone, beside) = (authenticator(World::empty()), authenticator(World::new()));
    for key in &keys {
        assert!(alone.token(&key.token(), now_ms).is_ok(), "{}", key.name);
        assert!(beside.token(&key.token(), now_ms).is_ok(), "{}", key.name);
        for kid in ["absent", "../../dev/null", "' OR 1=1", "http://localhost/keys"] {
            assert_eq!(alone.token(&key.token_as(json!(kid)), now_ms), Err(Refusal::KeyUnknown), "{kid}");
        }
    }
    let own = Key {
        private: EncodingKey::from_secret(crate::support::SECRET.as_bytes()),
        ..Key::new("HS256", "HS256")
    };
    assert!(beside.token(&own.token_as(json!(null)), now_ms).is_ok(), "no name: the key of the settings");
    assert_eq!(beside.token(&own.token(), now_ms), Err(Refusal::Signature), "a name: that key alone");
    assert_eq!(alone.token(&own.token_as(json!(null)), now_ms), Err(Refusal::KeyIdMissing));
}

#[test]
fn a_key_file_with_a_mistake_is_refused_at_the_start() {
    let (rsa, short) =
        (Key::new("RS256", "r"), json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": "AAAA"}));
    let mut private = rsa.public.clone();
    private["d"] = json!("AAAA");
    for (set, part) in [
        (json!({"keys": [short]}), "keys.json: key 1: a shared secret of less than 32 bytes"),
        (json!({"keys": [rsa.public, private]}), "keys.json: key 2: a private key"),
        (json!({"keys": [rsa.public, rsa.public]}), "key 2: an earlier key has its `kid`"),
        (json!({"keys": []}), "no key in it verifies signatures"),
        (json!([]), "not a JWK set"),
    ] {
        let world = World::empty().set("auth.jwks_file=keys.json").file("keys.json", &set.to_string());
        let problems = world.problems().join("\n");
        assert!(problems.contains(part), "`{part}` is not in: {problems}");
    }
    let missing = World::empty().set("auth.jwks_file=keys.json").problems().join("\n");
    assert!(missing.contains("`auth.jwks_file`: keys.json: cannot be read"), "{missing}");
    let private = ["auth.jwks_url=http://127.0.0.1/keys", "auth.jwks_allow_private=false"];
    let refused = private.iter().fold(World::empty(), |world, set| world.set(set)).problems().join("\n");
    assert!(refused.contains("the url names the address 127.0.0.1, which is not public"), "{refused}");
}
