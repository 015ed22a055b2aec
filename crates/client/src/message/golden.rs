//! The conversations of `crates/protocol/tests/golden`, with this client in its part.

use std::fs;

use super::{Incoming, read};

/// What the placeholders of the transcripts stand for.
const PLACEHOLDERS: [(&str, &str); 12] = [
    ("time", "1699459200.0"),
    ("ms", "1699459200123"),
    ("iso", "\"2025-11-08T12:00:00Z\""),
    ("number", "1.5"),
    ("whole", "3"),
    ("epoch", "\"e7\""),
    ("epoch1", "\"e7\""),
    ("session", "\"s1\""),
    ("session1", "\"s1\""),
    ("ticket", "\"pwt1.contents.seal\""),
    ("help", "\"Do this.\""),
    ("message", "\"What happened\""),
];

#[test]
fn every_message_of_the_golden_transcripts_is_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/golden");
    let mut understood = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let transcript = fs::read_to_string(&path).unwrap();
        for line in transcript.lines() {
            let Some(said) = line.strip_prefix("< ") else { continue };
            let said = PLACEHOLDERS
                .iter()
                .fold(said.to_owned(), |said, (name, value)| said.replace(&format!("\"<{name}>\""), value));
            assert!(!said.contains("\"<"), "a placeholder without a value in {}: {line}", path.display());
            match read(&said) {
                None | Some(Incoming::Other { .. }) => {
                    panic!("not understood, of {}: {line}", path.display())
                }
                Some(_) => understood += 1,
            }
        }
    }
    assert!(understood > 60, "only {understood} messages");
}
