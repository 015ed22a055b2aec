//! How another program tells the proxy what to do: a line of JSON for a line of JSON.
//!
//! The first line that comes out is `{"address":"127.0.0.1:40001"}`. Then each line that goes in is a [`Fault`], such as
//! `{"fault":"slow","ms":50}`, or `{"stats":true}`, and is answered once it holds: with `{"ok":true}`, to `stats` with
//! the numbers of [`Stats`](super::Stats) beside it, or with `{"error":"…"}`.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use super::{Fault, Proxy};

/// Does what the lines say until they end.
///
/// # Errors
///
/// When a line cannot be read or an answer not written.
pub fn serve(proxy: &Proxy, lines: impl BufRead, mut answers: impl Write) -> std::io::Result<()> {
    let mut say = |answer: &Value| {
        writeln!(answers, "{answer}")?;
        answers.flush()
    };
    say(&json!({ "address": proxy.address.to_string() }))?;
    for line in lines.lines() {
        let answer = answer(proxy, &line?).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        say(&answer)?;
    }
    Ok(())
}

fn answer(proxy: &Proxy, line: &str) -> serde_json::Result<Value> {
    let order: Value = serde_json::from_str(line)?;
    let mut answer = json!({ "ok": true });
    if order == json!({ "stats": true }) {
        answer = serde_json::to_value(proxy.stats())?;
        answer["ok"] = Value::Bool(true);
    } else {
        proxy.apply(serde_json::from_value::<Fault>(order)?);
    }
    Ok(answer)
}
