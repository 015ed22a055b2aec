//! Messages of upstreams, read as several declarations mean them: no panic, and no event for a channel of others.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pulsewire_sources::upstream::{ChannelTemplate, Codec, Pointer, Template, Upstream};

static DECLARED: LazyLock<Vec<Upstream>> = LazyLock::new(|| {
    let declared = |channel: &str, codec: Codec| {
        let url = Template::parse("wss://feed.example/").expect("a URL");
        let mut upstream = Upstream::new("u", vec![url], ChannelTemplate::parse(channel).expect("a channel"));
        upstream.mapping.codec = codec;
        upstream
    };
    let at = |pointer: &str| Some(Pointer::parse(pointer).expect("a pointer"));
    let text = |template: &str| Some(Template::parse(template).expect("a template"));
    let mut all = Vec::new();
    for codec in [Codec::Json, Codec::MessagePack, Codec::Text] {
        all.push(declared("upstream:whole", codec));
        let mut keyed = declared("{key}", codec);
        keyed.mapping.route = text("{/s}");
        keyed.mapping.event_type = text("{/e}");
        keyed.mapping.event_key = text("{key}/{/k}");
        keyed.mapping.id = text("{/i}");
        keyed.mapping.time = at("/t");
        keyed.mapping.sequence = at("/u");
        keyed.mapping.sequence_first = at("/U");
        all.push(keyed);
        let mut several = declared("upstream:{key}", codec);
        several.mapping.each = at("/data");
        several.mapping.only = vec![(Pointer::parse("/0").expect("a pointer"), "trade".into())];
        several.mapping.route = text("{/1/a~1b}");
        several.mapping.data = at("/2");
        all.push(several);
    }
    all
});

fuzz_target!(|message: &[u8]| {
    for (upstream, own) in DECLARED.iter().flat_map(|upstream| [(upstream, ""), (upstream, "own")]) {
        let mut count = 0;
        upstream.mapping.read_for(upstream, own, message, &mut |result| {
            count += 1;
            let Ok(mapped) = result else { return };
            let name = mapped.event.channel.as_str();
            assert!(!name.starts_with('$'));
            let key = upstream.channel.key_of(name).expect("a channel of its own");
            assert!(!upstream.channel.has_key() || key == &*mapped.key);
            assert!(own.is_empty() || own == &*mapped.key);
            assert_ne!(mapped.event.event_type.as_str(), "upstream");
            assert!(mapped.sequence.is_none_or(|(first, last)| first <= last));
            assert!(pulsewire_protocol::is_shallow(mapped.event.data.get().as_bytes()));
        });
        assert!(count <= 1_000);
    }
});
