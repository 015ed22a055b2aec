//! Tokens, keys and their carriers (rows A1 to A9 and A15 to A19 of the fault catalogue, at the
//! level that needs no server; threats S2 to S5).

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use pulsewire::{
    auth::{
        Action, Authenticator, Carrier, Principal, Refusal, Revocations, Role, TOKEN_LEN_BYTES_MAX, extract,
        redacted_query,
    },
    settings::Settings,
};
use pulsewire_protocol::{ChannelName, ErrorCode};
use pulsewire_telemetry::AuthFailure;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::support::{SECRET, World};

const NOW_S: i64 = 1_700_000_000;

fn authenticator(world: &World) -> Authenticator {
    let sources = world.sources();
    let settings = Settings::load(&sources).unwrap_or_else(|problems| panic!("{problems:?}"));
    Authenticator::new(&settings, &*sources.read, Arc::new(Revocations::default()), None, &[7; 32]).unwrap()
}

/// A token of any header and claims, signed in any way.
fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs256(header: &str, claims: &str) -> String {
    signed(header, claims, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW_S + 3600})
}

fn claims_with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn verify(token: &str) -> Result<Principal, Refusal> {
    static HS256: OnceLock<Authenticator> = OnceLock::new();
    HS256.get_or_init(|| authenticator(&World::new())).token(token, NOW_S * 1000)
}

#[track_caller]
fn refused(token: &str, part: &str) {
    let refusal = verify(token).expect_err(part);
    assert!(refusal.to_string().contains(part), "`{part}` is not in: {refusal}");
}

#[test]
fn a_proper_token_becomes_its_principal() {
    let mut claims = claims();
    claims["iat"] = json!(NOW_S - 5);
    claims["jti"] = json!("t1");
    claims["role"] = json!("publisher");
    claims["name"] = json!({"claims of the application": ["are its own"]});
    let principal = verify(&hs256(HEADER, &claims.to_string())).unwrap();
    assert_eq!((&*principal.sub, principal.role), ("ann", Role::Publisher));
    assert_eq!(principal.expires_at_ms, Some((NOW_S + 3600) * 1000));
    assert_eq!(principal.issued_at_ms, Some((NOW_S - 5) * 1000));
    assert_eq!(principal.token_id.as_deref(), Some("t1"));
}

/// Rows A1 and A2, threat S2.
#[test]
fn an_algorithm_that_is_not_the_configured_one_is_refused() {
    let payload = claims().to_string();
    for alg in ["none", "NONE", "nOnE", "None", "", "HS512", "hs256", "RS256", "HS256 "] {
        let header = json!({"alg": alg}).to_string();
        refused(&hs256(&header, &payload), "`alg` is not HS256");
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&payload));
        refused(&unsigned, "3 parts");
    }
    for header in
        ["{}", r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":"HS256","alg":"none"}"#, "[]", ""]
    {
        assert!(verify(&hs256(header, &payload)).is_err(), "{header}");
    }
    let good = hs256(HEADER, &payload);
    let (message, signature) = good.rsplit_once('.').unwrap();
    refused(&format!("{message}."), "3 parts");
    refused(&format!("{message}.{}", &signature[1..]), "signature");
    refused(&format!("{good}A"), "signature");
    refused(&format!("{good}="), "signature");
    let other = signed(HEADER, &payload, &EncodingKey::from_secret(b"another key"), Algorithm::HS256);
    refused(&other, "signature");
    for garbage in ["", "a", "a.b", "..", "a.b.c", "🦀.🦀.🦀", "\0.\0.\0"] {
        assert_eq!(verify(garbage).unwrap_err().reason(), AuthFailure::InvalidToken, "{garbage:?}");
    }
}

/// Row A4 and threat S3.
#[test]
fn a_key_id_chooses_nothing_and_cannot_be_a_path_a_query_or_a_url() {
    let payload = claims().to_string();
    let token = |kid: Value| hs256(&json!({"alg": "HS256", "kid": kid}).to_string(), &payload);
    assert!(verify(&token(json!("2024-01.main"))).is_ok());
    assert!(verify(&token(json!("no-such-key"))).is_ok(), "there is one key whatever the token names");
    for kid in ["../../dev/null", "' OR 1=1", "https://evil.example/keys", "a\nb", "ключ", &"k".repeat(129)]
    {
        refused(&token(json!(kid)), "`kid`");
    }
    refused(&token(json!("k".repeat(1 << 20))), "more than 8192");
    refused(&token(json!(7)), "header");
}

/// Row A8 and threat S4.
#[test]
fn a_header_that_asks_for_more_is_refused() {
    let payload = claims().to_string();
    for (field, value) in [
        ("crit", json!(["x"])),
        ("b64", json!(false)),
        ("jwk", json!({"kty": "oct", "k": "AA"})),
        ("jku", json!("https://evil.example")),
        ("x5u", json!("https://evil.example")),
        ("x5c", json!(["AA"])),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
    ] {
        let mut header = json!({"alg": "HS256"});
        header[field] = value;
        refused(&hs256(&header.to_string(), &payload), &format!("`{field}`"));
    }
    let token = hs256(HEADER, &payload);
    refused(&format!("{token}.AAAA"), "4 parts");
    refused(&format!("{token}.AAAA.BBBB"), "5 parts");
}

/// Row A7 and threat S5: the accepted set is exactly the well-formed tokens.
#[test]
fn claims_of_a_wrong_type_or_value_are_refused() {
    let wrong = |name: &str, values: &[Value]| {
        for value in values {
            assert!(verify(&hs256(HEADER, &claims_with(name, value.clone()))).is_err(), "{name}: {value}");
        }
    };
    let huge = serde_json::from_str::<Value>("1e300").unwrap();
    let far = NOW_S * 1000;
    let times = [json!("1700003600"), json!(-1), huge, json!([NOW_S]), json!({}), json!(true), json!(1e18)];
    wrong("exp", &times);
    wrong("exp", &[json!(null), json!(0), json!(NOW_S - 3600), json!(NOW_S - 30), json!(NOW_S - 5)]);
    wrong("nbf", &times);
    wrong("nbf", &[json!(NOW_S + 3600), json!(NOW_S + 6), json!(far)]);
    wrong("iat", &times);
    wrong("iat", &[json!(NOW_S + 3600), json!(NOW_S + 6)]);
    wrong(
        "sub",
        &[
            json!(null),
            json!(""),
            json!(7),
            json!({}),
            json!(["ann"]),
            json!("a\u{0}b"),
            json!("a\nb"),
            json!("a".repeat(257)),
            json!("\u{9b}"),
        ],
    );
    wrong("aud", &[json!("somebody"), json!(["somebody"]), json!(7), json!({})]);
    wrong("jti", &[json!(7), json!("j".repeat(257))]);
    wrong("role", &[json!(7), json!(["admin"]), json!({})]);
    wrong("iss", &[json!(7), json!([])]);
    for missing in
        [json!({"sub": "ann"}), json!({"exp": NOW_S + 60}), json!({}), json!([]), json!("x"), json!(null)]
    {
        assert!(verify(&hs256(HEADER, &missing.to_string())).is_err(), "{missing}");
    }
    let twice = format!("{{\"sub\":\"ann\",\"sub\":\"root\",\"exp\":{}}}", NOW_S + 60);
    refused(&hs256(HEADER, &twice), "duplicate field");
    refused(&hs256(HEADER, "{\"sub\":\"ann\""), "claims");
}

#[test]
fn five_seconds_of_clock_difference_are_tolerated_and_no_more() {
    let at = |name: &str, offset: f64| {
        #[expect(clippy::cast_precision_loss, reason = "a time of this century")]
        let time = NOW_S as f64 + offset;
        verify(&hs256(HEADER, &claims_with(name, json!(time))))
    };
    for (name, within, beyond) in [("exp", -4.9, -5.0), ("nbf", 5.0, 5.1), ("iat", 5.0, 5.1)] {
        assert!(at(name, within).is_ok(), "{name} {within}");
        assert!(at(name, beyond).is_err(), "{name} {beyond}");
    }
}

#[test]
fn configured_issuer_and_audience_are_required() {
    let world = World::new().set("auth.issuer=login").set("auth.audience=pulsewire");
    let authenticator = authenticator(&world);
    let check = |iss: Value, aud: Value| {
        let mut claims = claims();
        claims["iss"] = iss;
        claims["aud"] = aud;
        authenticator.token(&hs256(HEADER, &claims.to_string()), NOW_S * 1000).is_ok()
    };
    assert!(check(json!("login"), json!("pulsewire")));
    assert!(check(json!("login"), json!(["other", "pulsewire"])));
    assert!(!check(json!("login"), json!(null)));
    assert!(!check(json!(null), json!("pulsewire")));
    assert!(!check(json!("Login"), json!("pulsewire")));
    assert!(!check(json!("login"), json!(["other"])));
    assert!(!check(json!("login"), json!([])));
}

/// Row A1: what is counted and what the client hears.
#[test]
fn reasons_map_to_the_counters_and_codes_of_the_documents() {
    let expired = verify(&hs256(HEADER, &claims_with("exp", json!(NOW_S - 3600)))).unwrap_err();
    assert_eq!((expired.reason(), expired.code()), (AuthFailure::ExpiredToken, ErrorCode::TokenExpired));
    assert_eq!(expired, Refusal::Expired { ago_s: 3600 });
    let garbage = verify("garbage").unwrap_err();
    assert_eq!((garbage.reason(), garbage.code()), (AuthFailure::InvalidToken, ErrorCode::InvalidToken));
    assert_eq!(Refusal::Missing.reason(), AuthFailure::MissingToken);
    for code in [expired.code(), garbage.code(), Refusal::Missing.code()] {
        assert_eq!(code.message(), "Invalid authentication token");
    }
}

#[test]
fn a_long_token_is_refused_before_anything_is_decoded() {
    let padded = |len: usize| {
        let empty = hs256(HEADER, &claims_with("pad", json!(""))).len();
        (0..)
            .map(|more| {
                hs256(HEADER, &claims_with("pad", json!("p".repeat((len - empty) * 3 / 4 + more - 2))))
            })
            .find(|token| token.len() >= len)
            .unwrap()
    };
    let longest = padded(TOKEN_LEN_BYTES_MAX - 2);
    assert!(longest.len() <= TOKEN_LEN_BYTES_MAX && verify(&longest).is_ok(), "{}", longest.len());
    refused(&padded(TOKEN_LEN_BYTES_MAX + 1), "more than 8192");
    refused(&"x".repeat(8 << 20), "more than 8192");
}

/// A key pair as PEM texts, made for this test.
struct Pair {
    public_pem: String,
    public_der: Vec<u8>,
    private_pem: String,
}

fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> Pair {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    Pair {
        public_pem: pair.public_key_pem(),
        public_der: rcgen::PublicKeyData::subject_public_key_info(&pair),
        private_pem: pair.serialize_pem(),
    }
}

/// Row A3 and threat S2, for every asymmetric algorithm.
#[test]
fn a_public_key_is_never_a_shared_secret() {
    type Private = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
    let table: [(&str, Algorithm, &'static rcgen::SignatureAlgorithm, Private); 3] = [
        ("RS256", Algorithm::RS256, &PKCS_RSA_SHA256, EncodingKey::from_rsa_pem),
        ("ES256", Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem),
        ("EdDSA", Algorithm::EdDSA, &PKCS_ED25519, EncodingKey::from_ed_pem),
    ];
    for (name, algorithm, kind, private) in table {
        let own = pair(kind);
        let world = World::empty()
            .set(&format!("auth.algorithm={name}"))
            .set("auth.public_key_file=public.pem")
            .file("public.pem", &own.public_pem);
        let authenticator = authenticator(&world);
        let verify = |token: &str| authenticator.token(token, NOW_S * 1000);
        let (header, payload) = (json!({"alg": name}).to_string(), claims().to_string());
        let key = private(own.private_pem.as_bytes()).unwrap();
        assert!(verify(&signed(&header, &payload, &key, algorithm)).is_ok(), "{name}");

        let foreign = private(pair(kind).private_pem.as_bytes()).unwrap();
        assert_eq!(
            verify(&signed(&header, &payload, &foreign, algorithm)),
            Err(Refusal::Signature),
            "{name}"
        );
        let trimmed = own.public_pem.trim().as_bytes();
        for bytes in [own.public_pem.as_bytes(), trimmed, own.public_der.as_slice(), b""] {
            let secret = EncodingKey::from_secret(bytes);
            for lie in [HEADER, &header] {
                let token = signed(lie, &payload, &secret, Algorithm::HS256);
                assert!(verify(&token).is_err(), "{name} with {lie}");
            }
        }
    }
}

#[test]
fn a_wrong_key_file_is_refused_with_the_way_to_make_a_right_one() {
    let rsa_wanted = |pem: &str| {
        World::empty()
            .set("auth.algorithm=RS256")
            .set("auth.public_key_file=key.pem")
            .file("key.pem", pem)
            .problems()
            .join("\n")
    };
    let elliptic = pair(&PKCS_ECDSA_P256_SHA256);
    for wrong in [elliptic.public_pem.as_str(), "nonsense", ""] {
        let problem = rsa_wanted(wrong);
        assert!(problem.contains("key.pem is not a public RSA key in PEM"), "{problem}");
        assert!(problem.contains("openssl genpkey -algorithm RSA"), "{problem}");
    }
    assert!(rsa_wanted(&elliptic.private_pem).contains("holds a private key"));
    let missing = World::empty().set("auth.algorithm=ES256").problems().join("\n");
    assert!(missing.contains("`auth.public_key_file`: not set, but ES256"), "{missing}");
    let unused = World::new().set("auth.public_key_file=key.pem").problems().join("\n");
    assert!(unused.contains("set, but HS256 does not use it"), "{unused}");
    let pem_as_secret = World::empty().env("JWT_SECRET_KEY", &elliptic.public_pem).problems().join("\n");
    assert!(pem_as_secret.contains("a key file in PEM, but HS256 needs a plain secret"), "{pem_as_secret}");
}

/// Row A15, from claims to answers: what each token may do.
#[test]
fn capabilities_and_roles_give_exactly_the_documented_actions() {
    // Per case: role, caps, channel, and publish, subscribe, history, presence.
    let table = [
        (None, None, "run:1", "-shm"),
        (Some("user"), None, "run:1", "-shm"),
        (Some("publisher"), None, "run:1", "pshm"),
        (Some("admin"), None, "run:1", "pshm"),
        (Some("ADMIN"), None, "run:1", "-shm"),
        (Some("superuser"), None, "$sys.metrics", "----"),
        (Some("user"), None, "$sys.metrics", "----"),
        (Some("publisher"), None, "$sys.metrics", "----"),
        (Some("admin"), None, "$sys.metrics", "-shm"),
        (None, Some(json!({"run:*": ["subscribe", "publish"]})), "run:1", "ps--"),
        (None, Some(json!({"run:*": ["subscribe", "publish"]})), "project:1", "----"),
        (None, Some(json!({"run:*": ["*"]})), "run:1", "pshm"),
        (None, Some(json!({"*": ["*"]})), "$sys.metrics", "----"),
        (Some("publisher"), Some(json!({"run:1": ["subscribe"]})), "run:1", "-s--"),
        (Some("user"), Some(json!({})), "run:1", "----"),
        (Some("user"), Some(json!([])), "run:1", "----"),
        (
            None,
            Some(json!([{"channels": ["run:*", "project:*"], "actions": ["history"]}])),
            "project:1",
            "--h-",
        ),
        (None, Some(json!([{"channels": ["a:*"], "actions": ["publish"]}])), "b:x", "----"),
    ];
    for (role, caps, channel, expected) in table {
        let mut claims = claims();
        if let Some(role) = role {
            claims["role"] = json!(role);
        }
        if let Some(caps) = &caps {
            claims["caps"] = caps.clone();
        }
        let principal = verify(&hs256(HEADER, &claims.to_string())).unwrap();
        let name = ChannelName::parse(channel).unwrap();
        let actions = [Action::Publish, Action::Subscribe, Action::History, Action::Presence];
        let letter = |(action, letter)| if principal.may(action, &name) { letter } else { '-' };
        let found: String = actions.into_iter().zip("pshm".chars()).map(letter).collect();
        assert_eq!(found, expected, "{role:?} {caps:?} {channel}");
    }
}

#[test]
fn capabilities_that_cannot_be_understood_refuse_the_token() {
    let many: serde_json::Map<String, Value> =
        (0..257).map(|number| (format!("c{number}"), json!(["*"]))).collect();
    let wrong = [
        json!({"run:*": ["subscribe", "write"]}),
        json!({"two words": ["subscribe"]}),
        json!({"run:*": "subscribe"}),
        json!("run:*"),
        json!(7),
        json!([{"channels": ["run:*"]}]),
        json!([{"channels": ["run:*"], "actions": ["history"], "deny": true}]),
        Value::Object(many),
    ];
    for caps in wrong {
        assert!(verify(&hs256(HEADER, &claims_with("caps", caps.clone()))).is_err(), "{caps}");
    }
    let twice = format!("{{\"sub\":\"a\",\"exp\":{},\"caps\":{{\"a\":[],\"a\":[\"*\"]}}}}", NOW_S + 60);
    refused(&hs256(HEADER, &twice), "twice");
}

/// Row A9, at the level of tokens: what a refresh is judged by.
#[test]
fn a_refresh_is_judged_like_any_token() {
    let first = verify(&hs256(HEADER, &claims_with("exp", json!(NOW_S + 20)))).unwrap();
    assert_eq!(first.expires_at_ms, Some((NOW_S + 20) * 1000));
    let later = verify(&hs256(HEADER, &claims_with("exp", json!(NOW_S + 600)))).unwrap();
    assert!(later.expires_at_ms > first.expires_at_ms && later.sub == first.sub);
    let other = verify(&hs256(HEADER, &claims_with("sub", json!("bob")))).unwrap();
    assert_ne!(other.sub, first.sub, "the hub refuses a refresh with another subject");
    let expired = verify(&hs256(HEADER, &claims_with("exp", json!(NOW_S - 20)))).unwrap_err();
    assert_eq!(expired.reason(), AuthFailure::ExpiredToken);
}

/// Row A11, at the level of tokens.
#[test]
fn a_revoked_token_is_refused_while_the_users_next_one_works() {
    let sources = World::new().sources();
    let settings = Settings::load(&sources).unwrap();
    let revocations = Arc::new(Revocations::default());
    let authenticator =
        Authenticator::new(&settings, &*sources.read, Arc::clone(&revocations), None, &[7; 32]).unwrap();
    let token = |sub: &str, iat: i64| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        claims["iat"] = json!(iat);
        hs256(HEADER, &claims.to_string())
    };
    let verify = |token: &str| authenticator.token(token, NOW_S * 1000);
    let now_ms = NOW_S * 1000;
    revocations.revoke_subject("ann", now_ms - 60_000, now_ms + 3_600_000, now_ms).unwrap();
    assert_eq!(verify(&token("ann", NOW_S - 61)), Err(Refusal::Revoked));
    assert!(verify(&token("ann", NOW_S - 60)).is_ok());
    assert!(verify(&token("bob", NOW_S - 61)).is_ok());
}

/// Row A19, at the level of credentials: keys are for publishing over HTTP, tokens for both.
#[test]
fn an_api_key_is_no_token_and_a_token_is_no_api_key() {
    use sha2::Digest as _;
    let text = "pw_ci_3f1c0d9b8a7e6f5d4c3b2a190807f6e5";
    let hash: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("[[auth.api_keys]]\nid = \"ci\"\nsha256 = \"{hash}\"\npublish = [\"a:*\"]");
    let authenticator = authenticator(&World::new().toml(&keys));
    let now_ms = NOW_S * 1000;
    let principal = authenticator.token_or_key(text, now_ms).unwrap();
    let may = |action, channel: &str| principal.may(action, &ChannelName::parse(channel).unwrap());
    assert!(may(Action::Publish, "a:x") && !may(Action::Publish, "b:x") && !may(Action::Subscribe, "a:x"));
    assert_eq!(authenticator.token(text, now_ms), Err(Refusal::NotAToken), "a socket takes no API key");
    assert_eq!(authenticator.token_or_key(&text[..20], now_ms), Err(Refusal::ApiKey));
    assert!(authenticator.token_or_key(&hs256(HEADER, &claims().to_string()), now_ms).is_ok());
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(pair).collect()
}

#[test]
fn a_credential_is_found_in_each_of_its_carriers() {
    let auth = World::new().set("auth.cookie=session").settings().auth;
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<(&'a str, Carrier)>);
    let table: [Case<'_>; 12] = [
        (&[], None, None),
        (&[("authorization", "Bearer t")], None, Some(("t", Carrier::Authorization))),
        (&[("authorization", "bearer   t ")], None, Some(("t", Carrier::Authorization))),
        (&[("sec-websocket-protocol", "pulsewire.v1, bearer.t")], None, Some(("t", Carrier::Subprotocol))),
        (&[], Some("token=t"), Some(("t", Carrier::Query))),
        (&[], Some("a=b&token=t%2Fx&c"), Some(("t/x", Carrier::Query))),
        (&[], Some("%74oken=t"), Some(("t", Carrier::Query))),
        (&[], Some("token=&tokens=x&token"), None),
        (&[("cookie", "a=b; session=t; c=d")], None, Some(("t", Carrier::Cookie))),
        (&[("cookie", "mysession=t")], None, None),
        (
            &[("authorization", "Bearer t"), ("cookie", "session=t")],
            Some("token=t"),
            Some(("t", Carrier::Authorization)),
        ),
        (&[("sec-websocket-protocol", "bearer.t")], Some("token=t"), Some(("t", Carrier::Subprotocol))),
    ];
    for (list, query, expected) in table {
        let found = extract(&headers(list), query, &auth).unwrap();
        let found = found.as_ref().map(|it| (it.text.as_str(), it.carrier));
        assert_eq!(found, expected, "{list:?} {query:?}");
    }
}

#[test]
fn two_different_tokens_an_unknown_scheme_and_a_forbidden_carrier_are_refused() {
    let auth = World::new().set("auth.cookie=session").settings().auth;
    let check = |list: &[(&str, &str)], query| extract(&headers(list), query, &auth);
    for (list, query) in [
        (&[("authorization", "Bearer a")][..], Some("token=b")),
        (&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None),
        (&[("sec-websocket-protocol", "bearer.a, bearer.b")], None),
        (&[("authorization", "Bearer a"), ("cookie", "session=b")], None),
        (&[], Some("token=a&token=b")),
    ] {
        let found = check(list, query);
        assert!(matches!(found, Err(Refusal::Conflict { .. })), "{list:?} {query:?} {found:?}");
    }
    for value in ["Basic YTpi", "Bearer", "t", "Bearer a b", "Bearer a,b"] {
        assert_eq!(check(&[("authorization", value)], None), Err(Refusal::Scheme), "{value}");
    }
    let closed = World::new().set("auth.token_in_query=false").settings().auth;
    assert_eq!(extract(&HeaderMap::new(), Some("token=t"), &closed), Err(Refusal::QueryOff));
    let cookie = headers(&[("cookie", "session=t")]);
    assert_eq!(extract(&cookie, None, &closed), Ok(None), "cookies are off by default");
}

/// Row A17, as far as it needs no server.
#[test]
fn a_token_is_nowhere_in_what_is_written_about_it() {
    let canary = "canary-5f0e";
    assert_eq!(redacted_query("a=b&token=canary-5f0e&c=d"), "a=b&token=[redacted]&c=d");
    assert_eq!(redacted_query("%74%6Fken=canary-5f0e"), "token=[redacted]");
    let auth = World::new().settings().auth;
    let found = extract(&HeaderMap::new(), Some("token=canary-5f0e"), &auth).unwrap();
    assert!(!format!("{found:?}").contains(canary));
    let unsigned = format!("{canary}.{canary}.{canary}");
    for token in
        [canary.to_owned(), unsigned, hs256(HEADER, "{}"), hs256(HEADER, &claims_with("exp", json!(0)))]
    {
        let refusal = verify(&token).unwrap_err();
        let written = format!("{refusal} {refusal:?}");
        assert!(token.split('.').all(|part| !written.contains(part)), "{written}");
    }
}
