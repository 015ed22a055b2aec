//! Channel names and patterns: no panic, what is accepted reads back, and a name matches itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::{ChannelName, ChannelPattern};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
    let pattern = ChannelPattern::parse(pattern);
    let Ok(name) = ChannelName::parse(name) else { return };
    assert_eq!(ChannelName::parse(name.as_str()).as_ref(), Ok(&name));
    assert!(ChannelPattern::parse(name.as_str()).expect("a name is a pattern").matches(&name));
    if let Ok(pattern) = pattern {
        assert_eq!(pattern.matches(&name), slow_match(pattern.as_str(), name.as_str()), "{pattern} {name}");
    }
});

/// The definition of `*`, as a table over every prefix of both.
fn slow_match(pattern: &str, name: &str) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern.bytes() {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match wanted {
                b'*' => reached[at] || at > 0 && next[at - 1],
                byte => at > 0 && reached[at - 1] && name.as_bytes()[at - 1] == byte,
            };
        }
        reached = next;
    }
    reached[name.len()]
}
