//! How the databases write what has no type of theirs.

use pulsewire_protocol::Tags;

/// Over what must not change unseen: whose row it is, and its texts.
pub(super) fn checksum(owner: &[u8], texts: &[&str]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(owner);
    for text in texts {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize()
}

/// Tags as JSON, the pairs in order; `None` if there are none.
pub(super) fn tags_text(tags: &Tags) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    serde_json::to_string(&tags.iter().collect::<Vec<_>>()).ok()
}

pub(super) fn tags_of(text: &str) -> Option<Tags> {
    let pairs: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    Tags::new(pairs.iter().map(|(key, value)| (&**key, &**value)))
}
