//! Bodies that come packed with gzip.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use pulsewire_protocol::ErrorCode;

use crate::http::problem::Problem;

/// The body as it was before it was packed, at most `bytes_max` long if it was.
///
/// # Errors
///
/// 413 if it is longer, 415 if it is packed in another way, 400 if it cannot be unpacked.
pub(super) fn plain<'b>(
    headers: &HeaderMap,
    body: &'b [u8],
    bytes_max: usize,
) -> Result<Cow<'b, [u8]>, Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        None => return Ok(body.into()),
        Some(encoding) if encoding == "identity" => return Ok(body.into()),
        Some(encoding) if encoding == "gzip" => {}
        Some(_) => {
            let detail = "send the body plain or with `Content-Encoding: gzip`";
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
        }
    }
    let mut unpacked = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(|error| Problem::new(ErrorCode::BadRequest, format!("the body is not gzip: {error}")))?;
    if unpacked.len() > bytes_max {
        return Err(Problem::new(ErrorCode::TooLarge, format!("more than {bytes_max} bytes unpacked")));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn check(encoding: &'static str, body: &[u8], expected: Result<&[u8], ErrorCode>) {
        let headers = [(header::CONTENT_ENCODING, encoding.parse().unwrap())].into_iter().collect();
        let found = plain(&headers, body, 1_000);
        assert_eq!(found.as_deref().map_err(|problem| problem.code), expected, "{encoding}");
    }

    #[test]
    fn a_body_is_bounded_while_it_is_unpacked() {
        check("identity", b"hello", Ok(b"hello"));
        check("gzip", &gzip(b"hello"), Ok(b"hello"));
        check("gzip", &[gzip(b"hel"), gzip(b"lo")].concat(), Ok(b"hello"));
        check("gzip", &gzip(&[b'x'; 1_000]), Ok(&[b'x'; 1_000]));
        check("gzip", &gzip(&[b'x'; 1_001]), Err(ErrorCode::TooLarge));
        check("gzip", &gzip(&vec![0; 10_000_000]), Err(ErrorCode::TooLarge));
        check("gzip", b"hello", Err(ErrorCode::BadRequest));
        check("gzip", &gzip(b"hello")[..15], Err(ErrorCode::BadRequest));
        check("zstd", b"hello", Err(ErrorCode::UnsupportedMediaType));
    }
}
