//! Calls against a small HTTP server on loopback.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn options(url: String) -> HookOptions {
    HookOptions {
        url,
        secret: Some(Secret::new(SECRET)),
        timeout: Duration::from_secs(30),
        in_flight_max: 4,
        allow_private: true,
    }
}

/// A server that takes one request, answers with `response` and gives the request back.
async fn serve(response: impl Into<Vec<u8>>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?k=1", listener.local_addr().unwrap());
    let response = response.into();
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read_request(&mut socket).await;
        // The client may hang up on an answer it finds too long.
        let _ = socket.write_all(&response).await;
        let _ = socket.shutdown().await;
        request
    });
    (url, served)
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                return text.into_owned();
            }
        }
        assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "the request is incomplete");
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn call_with(hook: &Hook) -> Result<HookAnswer, HookError> {
    let data = RawValue::from_string(r#"{"task": 7}"#.to_owned()).unwrap();
    hook.call(ClientEvent {
        event_type: "task_assign",
        session: SESSION.parse().unwrap(),
        user: Some("an\"na"),
        channel: None,
        data: &data,
        id: None,
        timestamp_ms: 1_700_000_000_500,
    })
    .await
}

const SESSION: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// One call answered with `response`: the data or the code, detail and outcome.
async fn check(response: impl Into<Vec<u8>>) -> Result<Option<String>, (ErrorCode, String)> {
    let (url, served) = serve(response).await;
    let hook = Hook::new(&options(url)).unwrap();
    let answer = call_with(&hook).await;
    served.await.unwrap();
    assert_eq!(hook.in_flight(), 0);
    match answer {
        Ok(answer) => Ok(answer.data.map(|data| data.get().to_owned())),
        Err(error) => Err((error.code(), error.detail().to_owned())),
    }
}

#[tokio::test]
async fn a_call_posts_the_event_with_its_signature() {
    let (url, served) = serve(reply("200 OK", "{}")).await;
    call_with(&Hook::new(&options(url)).unwrap()).await.unwrap();
    let request = served.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        format!(
            r#"{{"type":"task_assign","session":"{SESSION}","user":"an\"na","channel":null,"data":{{"task": 7}},"id":null,"timestamp":1700000000500}}"#
        )
    );
    assert!(head.starts_with("POST /hook?k=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(head, "content-type"), Some("application/json"));
    assert_eq!(header(head, "pulsewire-event"), Some("task_assign"));
    let delivery: ulid::Ulid = header(head, "pulsewire-delivery").unwrap().parse().unwrap();
    assert_eq!(delivery.timestamp_ms(), 1_700_000_000_500);
    let key = Hmac::new_from_slice(SECRET.as_bytes()).unwrap();
    let expected = request::signature(&key, 1_700_000_000, body);
    assert_eq!(header(head, "pulsewire-signature"), Some(expected.as_str()));
}

#[tokio::test]
async fn without_a_secret_a_call_has_no_signature() {
    let (url, served) = serve(reply("200 OK", "{}")).await;
    let hook = Hook::new(&HookOptions { secret: None, ..options(url) }).unwrap();
    call_with(&hook).await.unwrap();
    assert_eq!(header(&served.await.unwrap(), "pulsewire-signature"), None);
}

#[tokio::test]
async fn a_success_is_the_answer_to_the_client() {
    assert_eq!(
        check(reply("200 OK", r#"{"assigned": true}"#)).await,
        Ok(Some(r#"{"assigned": true}"#.to_owned()))
    );
    assert_eq!(check(reply("202 Accepted", " \n")).await, Ok(None));
    assert_eq!(check("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(None));
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_words() {
    for (status, body, code, message) in [
        (
            "422 Unprocessable Content",
            r#"{"message":"task 7 is done"}"#,
            ErrorCode::BadRequest,
            "task 7 is done",
        ),
        ("409 Conflict", r#"{"code":"forbidden","detail":"not\nyours"}"#, ErrorCode::Forbidden, "notyours"),
        (
            "400 Bad Request",
            r#"{"code":"no_such_code","message":"a","detail":"b"}"#,
            ErrorCode::BadRequest,
            "a",
        ),
        ("401 Unauthorized", "no json", ErrorCode::Forbidden, ""),
        ("403 Forbidden", "", ErrorCode::Forbidden, ""),
        ("404 Not Found", "[]", ErrorCode::NotFound, ""),
        ("413 Content Too Large", "", ErrorCode::TooLarge, ""),
        ("429 Too Many Requests", "", ErrorCode::RateLimited, ""),
    ] {
        assert_eq!(check(reply(status, body)).await, Err((code, message.to_owned())), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_may_say_when_to_come_back() {
    let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n";
    let (url, _served) = serve(answer).await;
    let error = call_with(&Hook::new(&options(url)).unwrap()).await.unwrap_err();
    let HookError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!((refusal.status, refusal.retry_after_ms), (429, Some(3000)));
}

#[tokio::test]
async fn a_long_refusal_is_cut() {
    let body = format!(r#"{{"message":"{}"}}"#, "é".repeat(2000));
    let (_, message) = check(reply("400 Bad Request", &body)).await.unwrap_err();
    assert_eq!(message.chars().count(), 512);
}

#[tokio::test]
async fn what_is_neither_success_nor_refusal_has_failed() {
    let failed = Err((ErrorCode::HookFailed, String::new()));
    for response in [
        reply("500 Internal Server Error", r#"{"message":"stack trace"}"#),
        reply("200 OK", "<html>"),
        reply("200 OK", "{} {}"),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_owned(),
        "not http at all\r\n\r\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(check(response.clone()).await, failed, "{response}");
    }
}

#[tokio::test]
async fn an_answer_longer_than_the_bound_is_not_read() {
    let long = format!("\"{}\"", "x".repeat(ANSWER_BYTES_MAX));
    let announced = reply("200 OK", &long);
    let unannounced = format!("HTTP/1.1 200 OK\r\n\r\n{long}");
    for response in [announced, unannounced] {
        let (url, _served) = serve(response).await;
        let error = call_with(&Hook::new(&options(url)).unwrap()).await.unwrap_err();
        assert!(matches!(error, HookError::TooLarge), "{error}");
    }
}

#[tokio::test]
async fn an_answer_of_the_bound_is_read() {
    let body = format!("\"{}\"", "x".repeat(ANSWER_BYTES_MAX - 2));
    assert_eq!(check(reply("200 OK", &body)).await, Ok(Some(body)));
}

#[tokio::test]
async fn nobody_listening_is_a_failure_that_does_not_show_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:canary@{}/canary", listener.local_addr().unwrap());
    drop(listener);
    let hook = Hook::new(&options(url)).unwrap();
    let error = call_with(&hook).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HookFailed);
    assert!(!format!("{error:?} {hook:?}").contains("canary"), "{error:?}");
}

/// A hook whose server accepts connections and never answers.
async fn silent(options: impl FnOnce(HookOptions) -> HookOptions) -> (Arc<Hook>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (Arc::new(Hook::new(&options(self::options(url))).unwrap()), listener)
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_time_out() {
    let (hook, _listener) =
        silent(|options| HookOptions { timeout: Duration::from_millis(50), ..options }).await;
    let error = call_with(&hook).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HookTimeout);
    assert_eq!(hook.in_flight(), 0);
}

#[tokio::test]
async fn a_call_beyond_the_limit_is_refused_at_once_and_a_dropped_one_frees_its_place() {
    let (hook, listener) = silent(|options| HookOptions { in_flight_max: 1, ..options }).await;
    let first = tokio::spawn({
        let hook = Arc::clone(&hook);
        async move { call_with(&hook).await.map(drop) }
    });
    let _connection = listener.accept().await.unwrap();
    assert_eq!(hook.in_flight(), 1);
    assert_eq!(call_with(&hook).await.unwrap_err().code(), ErrorCode::Overloaded);
    first.abort();
    let _ = first.await;
    assert_eq!(hook.in_flight(), 0);
}

#[test]
fn options_that_cannot_be_used_are_refused() {
    let refused =
        |url: &str| Hook::new(&HookOptions { allow_private: false, ..options(url.to_owned()) }).unwrap_err();
    assert!(matches!(refused("not a url"), HookOptionsError::Url(UrlError::Unreadable(_))));
    assert!(matches!(refused("file:///etc/passwd"), HookOptionsError::Url(UrlError::Scheme { .. })));
    assert!(matches!(refused("http://127.0.0.1/"), HookOptionsError::Url(UrlError::Private { .. })));
    assert!(matches!(
        refused("http://[::ffff:169.254.169.254]/"),
        HookOptionsError::Url(UrlError::Private { .. })
    ));
}

#[tokio::test]
async fn a_name_of_a_private_address_is_not_connected_to_where_only_public_ones_are_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let hook = Hook::new(&HookOptions { allow_private: false, ..options(url) }).unwrap();
    assert_eq!(call_with(&hook).await.unwrap_err().code(), ErrorCode::HookFailed);
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err());
}
