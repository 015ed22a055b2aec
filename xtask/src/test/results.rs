//! How many tests passed, failed and were skipped, over all runners.

use std::fmt;

/// The sum so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Tests and checks that held.
    pub passed: u64,
    /// Those that did not.
    pub failed: u64,
    /// One reason for each that could not run.
    pub skipped: Vec<String>,
}

impl Results {
    /// Adds one outcome of a check that is not a `cargo test` test.
    pub fn add(&mut self, holds: bool) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds what others counted.
    pub fn merge(&mut self, others: Self) {
        self.passed += others.passed;
        self.failed += others.failed;
        self.skipped.extend(others.skipped);
    }

    /// Says that something could not run, and why.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.skipped.push(reason.into());
    }

    /// Adds a line that a test runner printed, if it is a summary:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn read_line(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => (0..number).for_each(|_| self.skip("a test marked #[ignore], see above")),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped.len() {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_several_runners_add_up() {
        let mut results = Results::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            results.read_line(line);
        }
        results.add(true);
        assert_eq!(results.to_string(), "5 passed, 2 failed, 1 skipped");
        results.merge(Results { passed: 1, failed: 2, skipped: vec!["no browser".to_owned()] });
        assert_eq!(results.to_string(), "6 passed, 4 failed, 2 skipped");
    }

    #[test]
    fn nothing_skipped_is_not_mentioned() {
        assert_eq!(Results { passed: 2, ..Results::default() }.to_string(), "2 passed, 0 failed");
    }
}
