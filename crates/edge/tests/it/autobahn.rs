//! The Autobahn test suite's cases, groups 1 to 7 and 10, as a table: what a server may not get wrong.
//! Cases that differ only in how bytes are cut into writes are covered by `check`, which cuts every way.
//! Groups 9, 12 and 13 measure speed and compression, which is never negotiated.

use crate::frames::{
    BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, binary, check, close, fragments, frame, text,
};

#[test]
fn group_1_messages_of_every_length_form() {
    for len in [0usize, 125, 126, 127, 128, 65535, 65536] {
        let expected = match len {
            0 => "text".to_owned(),
            _ => format!("text of {len}"),
        };
        check(&text(&"*".repeat(len)), &expected);
        let expected = if len == 0 { "binary []".to_owned() } else { format!("binary of {len}") };
        check(&binary(&vec![0xfe; len]), &expected);
    }
}

#[test]
fn group_2_pings_and_pongs() {
    check(&frame(FIN | PING, b""), "ping");
    check(&frame(FIN | PING, b"Hello, world!"), "ping Hello, world!");
    check(&frame(FIN | PING, &[b'a'; 125]), &format!("ping {}", "a".repeat(125)));
    check(&frame(FIN | PING, &[0xfe; 126]), "refused 1002");
    check(&frame(FIN | PONG, b""), "pong");
    check(&frame(FIN | PONG, b"unsolicited pong payload"), "pong unsolicited pong payload");
    let pong_then_ping = [frame(FIN | PONG, b"unsolicited"), frame(FIN | PING, b"ping payload")].concat();
    check(&pong_then_ping, "pong unsolicited | ping ping payload");
    let ten: Vec<u8> = (0..10).flat_map(|n| frame(FIN | PING, format!("payload-{n}").as_bytes())).collect();
    let answers: Vec<String> = (0..10).map(|n| format!("ping payload-{n}")).collect();
    check(&ten, &answers.join(" | "));
}

#[test]
fn group_3_reserved_bits() {
    check(&frame(FIN | 0x10 | TEXT, b"Hello"), "refused 1002");
    for bits in [0x20, 0x30, 0x40] {
        let bytes = [text("small"), frame(FIN | bits | TEXT, b"Hello"), frame(FIN | PING, b"")].concat();
        check(&bytes, "text small | refused 1002");
    }
    check(&frame(FIN | 0x50 | BINARY, b"\x00"), "refused 1002");
    check(&frame(FIN | 0x60 | PING, b"Hello"), "refused 1002");
    check(&frame(FIN | 0x70 | CLOSE, b""), "refused 1002");
}

#[test]
fn group_4_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&frame(FIN | opcode, b"payload"), "refused 1002");
        check(&[text("first"), frame(FIN | opcode, b"")].concat(), "text first | refused 1002");
    }
}

#[test]
fn group_5_fragmentation() {
    let cases: [(Vec<Vec<u8>>, &str); 17] = [
        // 5.1, 5.2: control frames in fragments.
        (vec![frame(PING, b"fragment1"), frame(FIN | CONT, b"fragment2")], "refused 1002"),
        (vec![frame(PONG, b"fragment1"), frame(FIN | CONT, b"fragment2")], "refused 1002"),
        // 5.3 to 5.5: a text in two.
        (vec![fragments(TEXT, &[b"one", b"two"])], "text onetwo"),
        // 5.6 to 5.8: with a ping between.
        (
            vec![frame(TEXT, b"one"), frame(FIN | PING, b"p"), frame(FIN | CONT, b"two")],
            "ping p | text onetwo",
        ),
        // 5.9 to 5.12: a continuation of nothing, whole.
        (vec![frame(FIN | CONT, b"non-continuation"), text("Hello")], "refused 1002"),
        // 5.13, 5.14: a continuation of nothing, unfinished.
        (vec![frame(CONT, b"non-continuation"), text("Hello")], "refused 1002"),
        // 5.15: a text in two, then a continuation of nothing.
        (
            vec![
                fragments(TEXT, &[b"one", b"two"]),
                frame(CONT, b"x"),
                fragments(TEXT, &[b"three", b"four"]),
            ],
            "text onetwo | refused 1002",
        ),
        // 5.16, 5.17: twice an opening continuation.
        (vec![frame(CONT, b"x"), frame(TEXT, b"y"), frame(FIN | CONT, b"z")], "refused 1002"),
        (vec![frame(FIN | CONT, b"x"), frame(TEXT, b"y"), frame(FIN | CONT, b"z")], "refused 1002"),
        // 5.18: a text inside a text.
        (vec![frame(TEXT, b"one"), frame(FIN | TEXT, b"two")], "refused 1002"),
        // 5.19, 5.20: five fragments, two pings.
        (
            vec![
                frame(TEXT, b"1"),
                frame(CONT, b"2"),
                frame(FIN | PING, b"a"),
                frame(CONT, b"3"),
                frame(CONT, b"4"),
                frame(FIN | PING, b"b"),
                frame(FIN | CONT, b"5"),
            ],
            "ping a | ping b | text 12345",
        ),
        // Empty fragments at every place (6.1.2, 6.1.3).
        (vec![fragments(TEXT, &[b"", b"", b""])], "text"),
        (vec![fragments(TEXT, &[b"", b"middle frame payload", b""])], "text middle frame payload"),
        (vec![text("")], "text"),
        // A message after a fragmented one.
        (vec![fragments(BINARY, &[b"\x01", b"\x02"]), text("next")], "binary [01, 02] | text next"),
        // A close between fragments ends the connection without the message.
        (vec![frame(TEXT, b"one"), close(1000, b""), frame(FIN | CONT, b"two")], "close 1000"),
        // A pong between fragments.
        (
            vec![frame(BINARY, b"\x01"), frame(FIN | PONG, b""), frame(FIN | CONT, b"\x02")],
            "pong  | binary [01, 02]",
        ),
    ];
    for (frames, expected) in cases {
        check(&frames.concat(), expected);
    }
}

#[test]
fn group_6_valid_utf8_passes_whole_and_cut_at_every_byte() {
    let valid = [
        "Hello-µ@ßöäüàá-UTF-8!!",
        "κόσμε",
        "\0",
        "\u{80}",
        "\u{800}",
        "\u{10000}",
        "\u{7f}",
        "\u{7ff}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        // Non-characters are code points too (6.20 to 6.22).
        "\u{fffe}",
        "\u{1fffe}",
        "\u{1ffff}",
        "\u{7fffe}",
        "\u{ffffe}",
        "\u{fffff}",
        "\u{10fffe}",
        "\u{fdd0}\u{fdef}",
    ];
    for message in valid {
        check(&text(message), &format!("text {message}"));
        let bytes: Vec<&[u8]> = message.as_bytes().chunks(1).collect();
        check(&fragments(TEXT, &bytes), &format!("text {message}"));
    }
}

#[test]
fn group_6_invalid_utf8_is_refused_whole_and_cut_at_every_byte() {
    let kosme = "κόσμε".as_bytes();
    let mut invalid: Vec<Vec<u8>> = [
        // 6.6: every prefix that ends inside a code point.
        &b"\xce"[..],
        b"\xce\xba\xe1",
        b"\xce\xba\xe1\xbd",
        b"\xce\xba\xe1\xbd\xb9\xcf",
        // 6.8, 6.10: five and six bytes, above U+10FFFF.
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        // 6.12: continuation bytes alone.
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\x80\xbf\x80",
        b"\x80\xbf\x80\xbf\x80\xbf",
        // 6.13: start bytes alone.
        b"\xc0 \xc1 \xc2 ",
        b"\xe0 \xe1 \xe2 ",
        b"\xf0 \xf1 \xf2 ",
        b"\xf8 \xf9 ",
        b"\xfc ",
        // 6.14: one continuation byte missing.
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        // 6.15: several of them.
        b"\xc0\xe0\x80\xf0\x80\x80",
        // 6.16: impossible bytes.
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        // 6.17: overlong slashes.
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        // 6.18: the largest overlong sequences.
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        // 6.19: overlong NUL.
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        // 6.20, 6.21: surrogates, alone and in pairs.
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbe\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect();
    // 6.3, 6.4: valid, then invalid, then valid again.
    invalid.push([kosme, b"\xed\xa0\x80", b"edited"].concat());
    invalid.push([kosme, b"\xf4\x90\x80\x80", b"edited"].concat());
    for bytes in invalid {
        check(&frame(FIN | TEXT, &bytes), "refused 1007");
        let parts: Vec<&[u8]> = bytes.chunks(1).collect();
        check(&fragments(TEXT, &parts), "refused 1007");
    }
}

#[test]
fn group_7_closing() {
    check(&[text("Hello World!"), close(1000, b"")].concat(), "text Hello World! | close 1000");
    check(&[close(1000, b""), close(1000, b"")].concat(), "close 1000");
    check(&[close(1000, b""), frame(FIN | PING, b"")].concat(), "close 1000");
    check(&[close(1000, b""), text("after close")].concat(), "close 1000");
    let unfinished = [frame(TEXT, b"fragment1"), close(1000, b""), frame(FIN | CONT, b"fragment2")];
    check(&unfinished.concat(), "close 1000");
    check(&[text(&"BAsd7&jh23".repeat(6000)), close(1000, b"")].concat(), "text of 60000 | close 1000");
    check(&frame(FIN | CLOSE, b""), "close");
    check(&frame(FIN | CLOSE, b"a"), "refused 1002");
    check(&close(1000, b"Hello World!"), "close 1000 Hello World!");
    check(&close(1000, &[b'*'; 123]), &format!("close 1000 {}", "*".repeat(123)));
    check(&close(1000, &[b'*'; 124]), "refused 1002");
    check(&close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), "refused 1007");
}

#[test]
fn group_10_a_message_in_1300_byte_fragments() {
    let message = vec![b'*'; 65536];
    let parts: Vec<&[u8]> = message.chunks(1300).collect();
    check(&fragments(TEXT, &parts), "text of 65536");
}
