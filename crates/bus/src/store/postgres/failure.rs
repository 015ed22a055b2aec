//! What PostgreSQL's errors mean.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

use crate::store::{Failure, Outcome, StoreError};

/// Before anything could be kept.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::store) fn failed(error: Error) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        // The cause says what happened; the error itself only where.
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return StoreError::new(Failure::Unreachable, format!("{error}{cause}"));
    };
    let failure = failure_of(answer.code().code());
    StoreError::new(failure, format!("{} ({})", answer.message(), answer.code().code()))
}

/// While a batch was being kept: if the database did not say that it refused, nobody knows. What ends the session,
/// too, may have come after the commit.
pub(in crate::store) fn commit_failed(error: Error) -> StoreError {
    let refused = |answer: &DbError| answer.parsed_severity() == Some(Severity::Error);
    let outcome = if error.as_db_error().is_some_and(refused) { Outcome::NotKept } else { Outcome::Unknown };
    StoreError { outcome, ..failed(error) }
}

/// No answer in time.
pub(super) fn silent(waited_s: u64) -> StoreError {
    StoreError::new(Failure::Unreachable, format!("no answer within {waited_s} s"))
}

pub(super) fn missing(what: &str) -> StoreError {
    StoreError::new(Failure::Corrupt, format!("{what} is missing in the database"))
}

/// By class and code of PostgreSQL's appendix A.
fn failure_of(code: &str) -> Failure {
    match code {
        // Lock and statement time-outs, deadlocks, too many connections.
        "55P03" | "57014" | "40P01" | "40001" | "53300" => Failure::Busy,
        "53100" => Failure::Full,
        "25006" | "42501" => Failure::ReadOnly,
        "58030" => Failure::Io,
        "57P01" | "57P02" | "57P03" | "57P05" | "3D000" => Failure::Unreachable,
        _ if code.starts_with("08") || code.starts_with("28") => Failure::Unreachable,
        _ if code.starts_with("XX") => Failure::Corrupt,
        _ => Failure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_kind_of_failure_it_is() {
        let expected = [
            ("55P03", Failure::Busy),
            ("53300", Failure::Busy),
            ("53100", Failure::Full),
            ("25006", Failure::ReadOnly),
            ("28P01", Failure::Unreachable),
            ("57P01", Failure::Unreachable),
            ("08006", Failure::Unreachable),
            ("XX001", Failure::Corrupt),
            ("22021", Failure::Other),
        ];
        for (code, failure) in expected {
            assert_eq!(failure_of(code), failure, "{code}");
        }
    }
}
