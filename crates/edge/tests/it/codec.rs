//! The framing rules: rows P5 to P14 of the fault catalogue, as far as bytes alone decide them.

use std::ops::ControlFlow;

use pulsewire_edge::codec::{ControlBudget, Decoder, Inbound, Limits, ViolationKind};

use crate::frames::{
    BINARY, CLOSE, CONT, Client, FIN, LIMITS, PING, PONG, TEXT, binary, check, close, fragments, frame,
    frame_with_length, text,
};

#[test]
fn p5_an_unmasked_frame_is_a_protocol_error() {
    check(&[FIN | TEXT, 0x05, b'H', b'e', b'l', b'l', b'o'], "refused 1002");
    check(&[FIN | PING, 0x00], "refused 1002");
    check(&[text("a"), vec![FIN | TEXT, 0x01, b'b']].concat(), "text a | refused 1002");
}

#[test]
fn p6_reserved_bits_and_opcodes_are_protocol_errors() {
    for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        check(&frame(FIN | bits | TEXT, b"x"), "refused 1002");
        check(&frame(FIN | bits | PING, b"x"), "refused 1002");
    }
    for opcode in (3..=7).chain(11..=15) {
        check(&frame(FIN | opcode, b""), "refused 1002");
    }
}

#[test]
fn p7_control_frames_are_short_whole_and_may_interleave() {
    check(&frame(FIN | PING, &[b'x'; 126]), "refused 1002");
    check(&frame(PING, b"x"), "refused 1002");
    check(&frame(FIN | CLOSE, &[b'x'; 126]), "refused 1002");
    check(&frame(CLOSE, b""), "refused 1002");
    check(&frame(FIN | PONG, &[b'x'; 125]), &format!("pong {}", "x".repeat(125)));
    let interleaved = [frame(TEXT, b"He"), frame(FIN | PING, b"mid"), frame(FIN | CONT, b"llo")].concat();
    check(&interleaved, "ping mid | text Hello");
}

#[test]
fn p8_continuation_and_start_must_alternate_properly() {
    check(&frame(FIN | CONT, b"x"), "refused 1002");
    check(&frame(CONT, b"x"), "refused 1002");
    check(&[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), "refused 1002");
    check(&[frame(TEXT, b"a"), frame(FIN | BINARY, b"b")].concat(), "refused 1002");
    check(&[frame(BINARY, b"a"), frame(BINARY, b"b")].concat(), "refused 1002");
    check(&[text("a"), frame(FIN | CONT, b"b")].concat(), "text a | refused 1002");
}

#[test]
fn p9_invalid_utf8_is_refused_and_a_split_code_point_is_not() {
    let invalid: [&[u8]; 8] = [
        b"\xc0\x80",         // overlong
        b"\xe0\x80\xaf",     // overlong
        b"\xed\xa0\x80",     // surrogate
        b"\xf4\x90\x80\x80", // above U+10FFFF
        b"\xf8\x88\x80\x80\x80",
        b"\x80",     // continuation alone
        b"\xe2\x82", // incomplete at the end
        b"ok\xff",
    ];
    for bytes in invalid {
        check(&frame(FIN | TEXT, bytes), "refused 1007");
        for split in 0..=bytes.len() {
            check(&fragments(TEXT, &[&bytes[..split], &bytes[split..]]), "refused 1007");
        }
    }
    let euro = "a€😀z".as_bytes();
    for split in 0..=euro.len() {
        check(&fragments(TEXT, &[&euro[..split], b"", &euro[split..]]), "text a€😀z");
    }
    check(&frame(FIN | BINARY, b"\xff\xfe"), "binary [ff, fe]");
}

#[test]
fn p9_invalid_utf8_is_refused_before_the_message_ends() {
    check(&frame(TEXT, b"caf\xff"), "refused 1007");
    let mut client = Client::default();
    let whole = frame(FIN | TEXT, b"\xed\xa0\x80 and then a long rest");
    let proof = 2 + 4 + 2;
    assert_eq!(client.send(&whole[..proof - 1], &LIMITS, 0), Ok(()));
    let violation = client.send(&whole[proof - 1..proof], &LIMITS, 0).unwrap_err();
    assert_eq!(violation.kind, ViolationKind::Utf8);
}

#[test]
fn p10_close_bodies_are_checked() {
    check(&frame(FIN | CLOSE, b""), "close");
    check(&frame(FIN | CLOSE, b"\x03"), "refused 1002");
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check(&close(code, b""), "refused 1002");
    }
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in valid {
        check(&close(code, b"bye"), &format!("close {code} bye"));
    }
    check(&close(1000, &[b'r'; 123]), &format!("close 1000 {}", "r".repeat(123)));
    check(&close(1000, b"\xce\xba\xed\xa0\x80"), "refused 1007");
}

#[test]
fn whatever_follows_a_close_is_ignored() {
    check(&[text("a"), close(1000, b""), text("b"), vec![0xff; 9]].concat(), "text a | close 1000");
}

#[test]
fn p11_lengths_are_minimal_and_within_63_bits() {
    let long =
        |length: u64| frame_with_length(FIN | BINARY, &[&[0xff][..], &length.to_be_bytes()].concat(), b"");
    let medium =
        |length: u16| frame_with_length(FIN | BINARY, &[&[0xfe][..], &length.to_be_bytes()].concat(), b"");
    for (bytes, expected) in [
        (long(1 << 62), "refused 1009"),
        (long((1 << 63) - 1), "refused 1009"),
        (long(1 << 63), "refused 1002"),
        (long(u64::MAX), "refused 1002"),
        (long(0xffff), "refused 1002"),
        (long(0), "refused 1002"),
        (medium(125), "refused 1002"),
        (medium(0), "refused 1002"),
    ] {
        check(&bytes, expected);
    }
    check(&binary(&[0; 126]), "binary of 126");
    check(&binary(&[0; 65536]), "binary of 65536");
}

#[test]
fn p11_a_declared_length_allocates_nothing() {
    let mut client = Client::default();
    let declared = frame_with_length(FIN | BINARY, &[0xff, 0, 0, 0, 0, 0, 1, 0, 0], b"0123456789");
    assert_eq!(client.send(&declared, &LIMITS, 0), Ok(()));
    assert!(client.decoder.held_bytes() < 512, "{} bytes for ten", client.decoder.held_bytes());
}

#[test]
fn p12_a_message_may_be_as_large_as_the_limit_and_no_larger() {
    check(&text(&"x".repeat(65536)), "text of 65536");
    check(&text(&"x".repeat(65537)), "refused 1009");
    let kib: &[u8] = &[b'x'; 1024];
    check(&fragments(TEXT, &[kib; 64]), "text of 65536");
    check(&fragments(TEXT, &[&[kib; 64][..], &[b"y"]].concat()), "refused 1009");
    let early = [frame(BINARY, &[0; 65536]), frame(CONT, b""), frame(FIN | PING, b"p"), frame(CONT, b"!")];
    check(&early.concat(), "ping p | refused 1009");
}

#[test]
fn a_message_has_a_bounded_number_of_fragments() {
    let limits = Limits { fragments_max: 3, ..LIMITS };
    let mut client = Client::default();
    assert_eq!(client.send(&fragments(TEXT, &[b"a", b"b", b"c"]), &limits, 0), Ok(()));
    let violation = client.send(&fragments(TEXT, &[b"a", b"b", b"c", b"d"]), &limits, 0).unwrap_err();
    assert_eq!((violation.close.code(), violation.kind), (1009, ViolationKind::TooLarge));
    assert_eq!(client.delivered, ["text abc"]);
}

#[test]
fn tiny_fragments_are_abuse_from_the_hundredth_on() {
    check(&fragments(TEXT, &[&b"x"[..]; 99]), "text of 99");
    check(&fragments(TEXT, &[&b"x"[..]; 100]), "refused 4005");
    check(&fragments(TEXT, &[&b""[..]; 100]), "refused 4005");
    check(&fragments(TEXT, &[&b"0123456789abc"[..]; 500]), "text of 6500");
    let large_first: Vec<&[u8]> = [&[&[b'x'; 2048][..]], &[&b"x"[..]; 299][..]].concat();
    check(&fragments(TEXT, &large_first), "refused 4005");
}

#[test]
fn p14_control_frames_beyond_the_budget_close_4005() {
    let limits = Limits::default();
    for (opcode, name) in [(PING, "ping"), (PONG, "pong")] {
        let mut client = Client::default();
        let burst = frame(FIN | opcode, b"x").repeat(21);
        let violation = client.send(&burst, &limits, 1_000).unwrap_err();
        assert_eq!((violation.close.code(), violation.kind), (4005, ViolationKind::Abuse));
        assert_eq!(client.delivered, vec![format!("{name} x"); 20]);
    }
    let mut steady = Client::default();
    for second in 0..60 {
        assert_eq!(steady.send(&frame(FIN | PING, b"").repeat(20), &limits, second * 1_000), Ok(()));
    }
    assert_eq!(steady.delivered.len(), 1_200);
}

#[test]
fn p14_neither_messages_nor_the_close_are_charged() {
    let limits = Limits::default();
    let mut client = Client::default();
    assert_eq!(client.send(&frame(FIN | PING, b"").repeat(20), &limits, 0), Ok(()));
    assert_eq!(client.send(&text("m").repeat(50), &limits, 0), Ok(()));
    assert_eq!(client.send(&close(1000, b""), &limits, 0), Ok(()));
    assert_eq!(client.delivered.last().map(String::as_str), Some("close 1000 "));
}

#[test]
fn an_idle_connection_holds_nothing() {
    let mut client = Client::default();
    for bytes in [text("a"), fragments(TEXT, &[b"a", b"b"]), frame(FIN | PING, b"p"), binary(&[7; 60_000])] {
        for chunk in [1, 5, usize::MAX] {
            for read in bytes.chunks(chunk) {
                assert_eq!(client.send(read, &LIMITS, 0), Ok(()));
            }
            assert_eq!(client.decoder.held_bytes(), 0);
        }
    }
}

#[test]
fn an_interleaved_control_frame_leaves_the_unfinished_message_alone() {
    let mut client = Client::default();
    let ping = frame(FIN | PING, b"abc");
    client.send(&frame(TEXT, b"un"), &LIMITS, 0).unwrap();
    for byte in ping.chunks(1) {
        client.send(byte, &LIMITS, 0).unwrap();
    }
    assert!(client.decoder.held_bytes() > 0);
    client.send(&frame(FIN | CONT, b"done"), &LIMITS, 0).unwrap();
    assert_eq!(client.delivered, ["ping abc", "text undone"]);
    assert_eq!(client.decoder.held_bytes(), 0);
}

#[test]
fn a_sink_that_breaks_off_gets_nothing_more() {
    let mut decoder = Decoder::default();
    let mut seen = 0;
    let mut bytes = [text("a"), text("b"), frame(TEXT, b"unfinished")].concat();
    let decoded = decoder.decode(&mut bytes, &LIMITS, 0, &mut ControlBudget::default(), &mut |inbound| {
        assert_eq!(inbound, Inbound::Text("a"));
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((decoded, seen, decoder.held_bytes()), (Ok(()), 1, 0));
}
