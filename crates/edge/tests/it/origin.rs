//! Which origins may connect: row A12 of the fault catalogue.

use http::{HeaderMap, HeaderValue, StatusCode};
use pulsewire_edge::handshake::{MissingOrigin, OriginError, OriginPolicy, Refusal};
use pulsewire_telemetry::RejectReason;

fn permits(policy: &OriginPolicy, origins: &[&str]) -> bool {
    let mut headers = HeaderMap::new();
    for origin in origins {
        headers.append("origin", HeaderValue::from_str(origin).unwrap());
    }
    policy.permits(&headers)
}

fn policy(missing: MissingOrigin) -> OriginPolicy {
    let origins = ["https://app.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"];
    OriginPolicy::exactly(origins, missing).unwrap()
}

#[test]
fn a12_only_the_exact_origin_may_connect() {
    let policy = policy(MissingOrigin::Refuse);
    for origin in ["https://app.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"] {
        assert!(permits(&policy, &[origin]), "{origin}");
    }
    for origin in [
        "http://app.example.com",
        "HTTPS://app.example.com",
        "https://APP.example.com",
        "https://app.example.com.",
        "https://app.example.com:443",
        "https://app.example.com:8443",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com.evil.com",
        "https://evil-app.example.com",
        "https://evilapp.example.com",
        "https://sub.app.example.com",
        "https://example.com",
        "https://app.example.com@evil.com",
        "https://user@app.example.com",
        "https://app.example.com#",
        "https://app.example.com\u{20}",
        "https://app.example.com https://evil.com",
        "https://app.example.com, https://evil.com",
        "app.example.com",
        "//app.example.com",
        "null",
        "*",
        "",
        "http://localhost",
        "http://localhost:03000",
        "http://127.0.0.1:3000",
        "file://",
    ] {
        assert!(!permits(&policy, &[origin]), "{origin}");
    }
    assert!(!permits(&policy, &["https://app.example.com", "https://evil.com"]));
    assert!(!permits(&policy, &["https://app.example.com", "https://app.example.com"]));
    assert_eq!(
        (Refusal::Origin.status(), Refusal::Origin.reject_reason()),
        (StatusCode::FORBIDDEN, RejectReason::Origin)
    );
}

#[test]
fn a12_a_missing_origin_is_a_setting() {
    assert!(permits(&policy(MissingOrigin::Allow), &[]));
    assert!(!permits(&policy(MissingOrigin::Refuse), &[]));
    assert!(!permits(&policy(MissingOrigin::Allow), &["null"]));
}

#[test]
fn any_policy_lets_everyone_connect() {
    let any = OriginPolicy::any();
    assert!(permits(&any, &[]) && permits(&any, &["null"]) && permits(&any, &["https://a", "https://b"]));
}

#[test]
fn configured_origins_are_brought_into_the_form_browsers_send() {
    for (configured, sent) in [
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("capacitor://localhost", "capacitor://localhost"),
    ] {
        let policy = OriginPolicy::exactly([configured], MissingOrigin::Refuse).unwrap();
        assert!(permits(&policy, &[sent]), "{configured}");
    }
}

#[test]
fn configured_texts_that_are_no_origin_are_refused() {
    type Kind = fn(String) -> OriginError;
    let cases: [(&str, Kind); 18] = [
        ("", OriginError::Scheme),
        ("app.example.com", OriginError::Scheme),
        ("null", OriginError::Scheme),
        ("*", OriginError::Scheme),
        ("1http://a", OriginError::Scheme),
        ("https://", OriginError::Host),
        ("https://*.example.com", OriginError::Host),
        ("https://a b", OriginError::Host),
        ("https://.example.com", OriginError::Host),
        ("https://bücher.example", OriginError::Host),
        ("https://[::zz]", OriginError::Host),
        ("https://a:0", OriginError::Port),
        ("https://a:", OriginError::Port),
        ("https://a:65536", OriginError::Port),
        ("https://a:+1", OriginError::Port),
        ("https://a/path", OriginError::Excess),
        ("https://user@a", OriginError::Excess),
        ("https://a?q", OriginError::Excess),
    ];
    for (text, kind) in cases {
        let refused = OriginPolicy::exactly([text], MissingOrigin::Allow);
        assert_eq!(refused, Err(kind(text.to_owned())), "{text}");
    }
}
