//! MessagePack for tests: enough of it to say and hear what JSON can say, written apart from the server's.

use serde_json::{Map, Number, Value};

/// A value as MessagePack.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, value);
    out
}

/// The value of a whole MessagePack message.
#[track_caller]
pub(crate) fn decode(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let value = take(&mut rest).unwrap_or_else(|| panic!("not MessagePack: {bytes:02x?}"));
    assert!(rest.is_empty(), "bytes behind a MessagePack message: {rest:02x?}");
    value
}

fn push(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => {
                out.push(0xd3);
                out.extend_from_slice(&whole.to_be_bytes());
            }
            None => {
                out.push(0xcb);
                out.extend_from_slice(&number.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::String(text) => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            out.push(0xdc);
            out.extend_from_slice(&u16::try_from(items.len()).unwrap().to_be_bytes());
            items.iter().for_each(|item| push(out, item));
        }
        Value::Object(members) => {
            out.push(0xde);
            out.extend_from_slice(&u16::try_from(members.len()).unwrap().to_be_bytes());
            for (name, value) in members {
                push(out, &Value::String(name.clone()));
                push(out, value);
            }
        }
    }
}

fn take(rest: &mut &[u8]) -> Option<Value> {
    let first = number(rest, 1)? as u8;
    Some(match first {
        0..=0x7f => first.into(),
        0x80..=0x8f => map(rest, usize::from(first & 0x0f))?,
        0x90..=0x9f => array(rest, usize::from(first & 0x0f))?,
        0xa0..=0xbf => text(rest, usize::from(first & 0x1f))?,
        0xc0 => Value::Null,
        0xc2 => false.into(),
        0xc3 => true.into(),
        0xca => f64::from(f32::from_bits(number(rest, 4)? as u32)).into(),
        0xcb => Value::Number(Number::from_f64(f64::from_bits(number(rest, 8)?))?),
        0xcc..=0xcf => number(rest, 1 << (first - 0xcc))?.into(),
        0xd0 => (number(rest, 1)? as i8).into(),
        0xd1 => (number(rest, 2)? as i16).into(),
        0xd2 => (number(rest, 4)? as i32).into(),
        0xd3 => (number(rest, 8)? as i64).into(),
        0xd9..=0xdb => {
            let len = number(rest, 1 << (first - 0xd9))?;
            text(rest, usize::try_from(len).ok()?)?
        }
        0xdc | 0xdd => {
            let len = number(rest, 2 << (first - 0xdc))?;
            array(rest, usize::try_from(len).ok()?)?
        }
        0xde | 0xdf => {
            let len = number(rest, 2 << (first - 0xde))?;
            map(rest, usize::try_from(len).ok()?)?
        }
        0xe0..=0xff => (first as i8).into(),
        _ => return None,
    })
}

fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    Some(head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn text(rest: &mut &[u8], bytes: usize) -> Option<Value> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    Some(std::str::from_utf8(head).ok()?.into())
}

fn array(rest: &mut &[u8], len: usize) -> Option<Value> {
    (0..len).map(|_| take(rest)).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn map(rest: &mut &[u8], len: usize) -> Option<Value> {
    let mut members = Map::new();
    for _ in 0..len {
        let Value::String(name) = take(rest)? else { return None };
        members.insert(name, take(rest)?);
    }
    Some(Value::Object(members))
}
