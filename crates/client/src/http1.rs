//! HTTP/1.1 requests and answers as bytes, as little as a client of one known server needs.
//!
//! Used for the upgrade, for `POST /api/publish` and by the load tool for `/metrics`. No I/O: the caller reads and
//! writes. Answers are framed by length, by chunks, or by the end of the connection (RFC 9112 §6).

/// The most bytes an answer's head may have before it is refused.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// How many bytes of the buffer the head takes, with its empty line.
    pub len_bytes: usize,
    headers: Vec<(String, String)>,
}

/// How an answer cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The first line is not HTTP/1.
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    /// A header line cannot be read, or the head is too long.
    #[error("the head of the answer is malformed or longer than {HEAD_BYTES_MAX} bytes")]
    Head,
    /// The length or the chunks of the body cannot be read.
    #[error("the body of the answer is malformed")]
    Body,
}

/// Writes a request with its body. `headers` are complete lines without their line ends.
pub fn write_request(
    method: &str,
    target: &str,
    authority: &str,
    headers: &[String],
    body: &[u8],
) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    for header in headers {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() || method == "POST" {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// Reads the head at the start of `bytes`; `None` while it is incomplete.
///
/// # Errors
///
/// [`HttpError::NotHttp`] or [`HttpError::Head`].
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let probe = &bytes[..bytes.len().min(5)];
    if !b"HTTP/".starts_with(probe) {
        return Err(HttpError::NotHttp);
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(HttpError::Head) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| HttpError::Head)?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(HttpError::NotHttp)?;
    let headers = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or(HttpError::Head)?;
    Ok(Some(Head { status, len_bytes: end + 4, headers }))
}

impl Head {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the connection carries another request after this answer.
    pub fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body and its length on the wire, once `bytes` (what follows the head) holds all of it; `ended` says that the
    /// peer closed the connection.
    ///
    /// # Errors
    ///
    /// [`HttpError::Body`].
    pub fn body(&self, bytes: &[u8], ended: bool) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        if matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Some((Vec::new(), 0)));
        }
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return chunks(bytes);
        }
        match self.header("content-length") {
            Some(len) => {
                let len: usize = len.parse().map_err(|_| HttpError::Body)?;
                Ok(bytes.get(..len).map(|body| (body.to_vec(), len)))
            }
            None => Ok(ended.then(|| (bytes.to_vec(), bytes.len()))),
        }
    }
}

/// Joins the chunks of RFC 9112 §7.1; trailers are skipped.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
    let line = |from: usize| -> Option<(&[u8], usize)> {
        let len = bytes.get(from..)?.windows(2).position(|window| window == b"\r\n")?;
        Some((&bytes[from..from + len], from + len + 2))
    };
    let (mut body, mut at) = (Vec::new(), 0);
    while let Some((size, start)) = line(at) {
        let size = std::str::from_utf8(size).map_err(|_| HttpError::Body)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| HttpError::Body)?;
        if size == 0 {
            let mut at = start;
            while let Some((trailer, next)) = line(at) {
                if trailer.is_empty() {
                    return Ok(Some((body, next)));
                }
                at = next;
            }
            return Ok(None);
        }
        let end = start.checked_add(size).ok_or(HttpError::Body)?;
        let Some(chunk) = bytes.get(start..end) else { return Ok(None) };
        body.extend_from_slice(chunk);
        at = end + 2;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_only_with_its_last_byte() {
        for (text, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                "abc",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n", "abc"),
        ] {
            for cut in 0..text.len() {
                let bytes = &text.as_bytes()[..cut];
                if let Some(head) = parse_head(bytes).unwrap() {
                    assert_eq!(head.body(&bytes[head.len_bytes..], false), Ok(None), "{text:?} cut at {cut}");
                }
            }
            let head = parse_head(text.as_bytes()).unwrap().unwrap();
            let (seen, len) = head.body(&text.as_bytes()[head.len_bytes..], false).unwrap().unwrap();
            assert_eq!((seen, len), (body.as_bytes().to_vec(), text.len() - head.len_bytes));
        }
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let head = parse_head(b"HTTP/1.0 500 Oops\r\nconnection: Close\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.keeps_alive()), (500, false));
        assert_eq!(head.body(b"why", false), Ok(None));
        assert_eq!(head.body(b"why", true), Ok(Some((b"why".to_vec(), 3))));
    }

    #[test]
    fn other_protocols_and_broken_answers_are_refused() {
        assert_eq!(parse_head(b"SSH-2.0"), Err(HttpError::NotHttp));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), Err(HttpError::Head));
        assert_eq!(
            parse_head(&[b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat()),
            Err(HttpError::Head)
        );
        let head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.body(b"zz\r\n", false), Err(HttpError::Body));
    }
}
