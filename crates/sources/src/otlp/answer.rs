//! What OTLP's senders are answered, in the encoding of their request.

use super::OtlpEncoding;

/// The answer to a request that was taken, `ExportMetricsServiceResponse`: empty when nothing was refused.
#[must_use]
pub fn accepted(encoding: OtlpEncoding, rejected: u64, message: &str) -> Vec<u8> {
    let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
    match encoding {
        _ if rejected == 0 && message.is_empty() => match encoding {
            OtlpEncoding::Protobuf => Vec::new(),
            OtlpEncoding::Json => b"{}".to_vec(),
        },
        OtlpEncoding::Protobuf => {
            let mut partial = Vec::new();
            number(&mut partial, 1, rejected as u64);
            bytes(&mut partial, 2, message.as_bytes());
            let mut response = Vec::new();
            bytes(&mut response, 1, &partial);
            response
        }
        // 64-bit numbers are texts in Protobuf's JSON.
        OtlpEncoding::Json => serde_json::json!({
            "partialSuccess": { "rejectedDataPoints": rejected.to_string(), "errorMessage": message },
        })
        .to_string()
        .into_bytes(),
    }
}

/// The answer to a request that was refused as a whole, `google.rpc.Status`.
#[must_use]
pub fn refused(encoding: OtlpEncoding, code: GrpcCode, message: &str) -> Vec<u8> {
    match encoding {
        OtlpEncoding::Protobuf => {
            let mut status = Vec::new();
            number(&mut status, 1, code as u64);
            bytes(&mut status, 2, message.as_bytes());
            status
        }
        OtlpEncoding::Json => {
            serde_json::json!({ "code": code as u64, "message": message }).to_string().into_bytes()
        }
    }
}

/// The codes of gRPC that a `Status` can have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "gRPC names them")]
pub enum GrpcCode {
    Unknown = 2,
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unavailable = 14,
    Unauthenticated = 16,
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_in_the_encoding_of_the_request() {
        assert_eq!(accepted(OtlpEncoding::Protobuf, 0, ""), b"");
        assert_eq!(accepted(OtlpEncoding::Json, 0, ""), b"{}");
        assert_eq!(
            accepted(OtlpEncoding::Protobuf, 300, "no"),
            [0x0a, 7, 0x08, 0xac, 0x02, 0x12, 2, b'n', b'o']
        );
        assert_eq!(
            String::from_utf8(accepted(OtlpEncoding::Json, 300, "no")).unwrap(),
            r#"{"partialSuccess":{"errorMessage":"no","rejectedDataPoints":"300"}}"#
        );
        let code = GrpcCode::InvalidArgument;
        assert_eq!(refused(OtlpEncoding::Protobuf, code, "no"), [0x08, 3, 0x12, 2, b'n', b'o']);
        let json = refused(OtlpEncoding::Json, code, "no");
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"code":3,"message":"no"}"#);
    }
}
