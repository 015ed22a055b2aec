//! `pulsewire token`: tokens and API keys, offline.

use std::{
    io::Read as _,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use pulsewire_protocol::ChannelPattern;
use serde_json::Value;

use super::{Exit, SettingsArguments, Terminal, load};
use crate::{
    auth::{Action, KeyId, NewToken, Refusal, Role, Signer, Verifier, api_key, words},
    settings::{Problem, Sources, duration_from_text, duration_to_text},
};

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, signed with the configured key.
    Create(Create),
    /// Verify a token as the server would; exit code 4 when it would be refused.
    Verify(Check),
    /// Show what a token says, without verifying anything.
    Inspect {
        /// The token, or `-` for standard input.
        token: String,
    },
    /// Make an API key for an application that publishes.
    Key {
        /// A name for it: a-z, 0-9 and -.
        id: String,
        /// Channels it may publish to, such as `run:*`; can be repeated.
        #[arg(long, value_name = "PATTERN", default_value = "*", value_parser = pattern)]
        publish: Vec<ChannelPattern>,
    },
}

/// What a new token shall say.
#[derive(Debug, Args)]
pub struct Create {
    /// Whose it is: the user's id.
    #[arg(long, value_name = "SUB")]
    pub sub: String,
    /// admin, operator, viewer, publisher or user.
    #[arg(long, default_value = "user", value_parser = role)]
    pub role: Role,
    /// How long it lasts, such as 15m, 24h or 30d.
    #[arg(long, default_value = "24h", value_parser = ttl)]
    pub ttl: Duration,
    /// Limit it to these channels, such as `run:*`; can be repeated.
    #[arg(long = "channel", value_name = "PATTERN", value_parser = pattern)]
    pub channels: Vec<ChannelPattern>,
    /// Let it publish to the channels too.
    #[arg(long, requires = "channels")]
    pub publish: bool,
    /// What it allows on the channels.
    #[arg(long, value_delimiter = ',', requires = "channels", default_value = "subscribe,history,presence")]
    pub actions: Vec<String>,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// A token to verify.
#[derive(Debug, Args)]
pub struct Check {
    /// The token, or `-` for standard input.
    pub token: String,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

fn role(text: &str) -> Result<Role, String> {
    words::role_from_word(text).ok_or_else(|| format!("expected {}", words::words_of_roles()))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let right = duration_from_text(text).filter(|ttl| *ttl >= Duration::from_secs(1));
    right.ok_or_else(|| "expected a duration of at least 1s such as 15m, 24h or 30d".to_owned())
}

fn pattern(text: &str) -> Result<ChannelPattern, String> {
    ChannelPattern::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(command: &Token, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    match command {
        Token::Create(arguments) => create(arguments, &sources(&arguments.settings), now_ms, terminal),
        Token::Verify(arguments) => {
            let token = given(&arguments.token, terminal)?;
            verify(&token, &sources(&arguments.settings), now_ms, terminal)
        }
        Token::Inspect { token } => inspect(&given(token, terminal)?, terminal),
        Token::Key { id, publish } => key(id, publish, terminal),
    }
}

/// The settings' sources without a key made for `--dev`: nothing else would know that key.
fn sources(arguments: &SettingsArguments) -> Sources {
    Sources::without_own_key(arguments.flags())
}

fn given(token: &str, terminal: &mut Terminal<'_>) -> Result<String, Exit> {
    if token != "-" {
        return Ok(token.trim().to_owned());
    }
    let mut text = String::new();
    match std::io::stdin().take(1 << 20).read_to_string(&mut text) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) => {
            terminal.say(format_args!("error: cannot read a token from standard input: {error}"));
            Err(Exit::Failed)
        }
    }
}

fn usage(terminal: &mut Terminal<'_>, problem: Problem) -> Exit {
    terminal.problems(&[problem])
}

/// Makes a token and writes it as one line.
///
/// # Errors
///
/// [`Exit::Usage`] when settings or arguments are wrong, after the reason has been written.
pub fn create(
    arguments: &Create,
    sources: &Sources,
    now_ms: i64,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let mut actions =
        words::actions_from_words(arguments.actions.iter().map(String::as_str)).map_err(|error| {
            terminal.say(format_args!("error: --actions: {error}"));
            Exit::Usage
        })?;
    if arguments.publish {
        actions = actions.with(Action::Publish);
    }
    let settings = load(sources, terminal)?;
    let signer = Signer::new(&settings, &*sources.read).map_err(|problem| usage(terminal, problem))?;
    let new = NewToken {
        sub: arguments.sub.clone(),
        role: arguments.role,
        ttl: arguments.ttl,
        channels: arguments.channels.clone(),
        actions,
    };
    let token = signer.sign(&new, now_ms).map_err(|error| {
        terminal.say(format_args!("error: the key cannot sign: {error}"));
        Exit::Failed
    })?;
    // A token the server would refuse must not leave this command.
    let verifier =
        Verifier::new(&settings, &*sources.read, None).map_err(|problem| usage(terminal, problem))?;
    if let Err(refusal) = verifier.verify(&token, now_ms) {
        terminal.say(format_args!("error: the server would refuse this token: {refusal}"));
        return Err(Exit::Usage);
    }
    let role = words::word_of_role(arguments.role);
    let ttl = duration_to_text(arguments.ttl);
    terminal.say(format_args!("sub={} role={role}, valid for {ttl}", escaped(&arguments.sub)));
    terminal.data(token);
    Ok(Exit::Ok)
}

/// Verifies a token as the server would and writes its claims.
///
/// # Errors
///
/// [`Exit::Unauthorised`] when it would be refused, after the reason has been written.
pub fn verify(
    token: &str,
    sources: &Sources,
    now_ms: i64,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let settings = load(sources, terminal)?;
    let verifier =
        Verifier::new(&settings, &*sources.read, None).map_err(|problem| usage(terminal, problem))?;
    match verifier.verify(token, now_ms) {
        Ok(principal) => {
            let role = words::word_of_role(principal.role);
            let expires = principal.expires_at_ms.map_or("never".to_owned(), time);
            terminal
                .say(format_args!("valid: sub={} role={role}, expires {expires}", escaped(&principal.sub)));
            for grant in principal.grants.iter() {
                let actions = words::words_of_actions(grant.actions).join(", ");
                terminal.say(format_args!("  may {actions} on {}", grant.pattern));
            }
            if let Some(claims) = parts(token).and_then(|(_, claims)| claims) {
                terminal.data(pretty(&claims));
            }
            Ok(Exit::Ok)
        }
        Err(refusal) => {
            terminal.say(format_args!("refused: {refusal}"));
            if refusal == Refusal::KeyUnknown && settings.auth.jwks_url.is_some() {
                terminal.say("    this command does not fetch auth.jwks_url; the server may know the key");
            }
            terminal.say("    `pulsewire token inspect` shows what it says");
            Err(Exit::Unauthorised)
        }
    }
}

/// Writes what a token says; nothing is verified.
///
/// # Errors
///
/// [`Exit::Failed`] when it is no token.
pub fn inspect(token: &str, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    terminal.say("not verified: anybody could have written this; `pulsewire token verify` checks it");
    let Some((Some(header), Some(claims))) = parts(token) else {
        terminal.say("error: this is not a token: expected header.claims.signature in base64url");
        return Err(Exit::Failed);
    };
    for claim in ["iat", "nbf", "exp"] {
        if let Some(seconds) = claims.get(claim).and_then(Value::as_i64) {
            terminal.say(format_args!("{claim}: {}", time(seconds.saturating_mul(1000))));
        }
    }
    terminal.data(pretty(&serde_json::json!({"header": header, "claims": claims})));
    Ok(Exit::Ok)
}

fn key(id: &str, publish: &[ChannelPattern], terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let Some(id) = KeyId::parse(id) else {
        terminal.say("error: an API key is named with 1 to 32 characters a-z, 0-9 and -, such as `ci`");
        return Err(Exit::Usage);
    };
    let (secret, hash) = api_key::generate(&id).map_err(|error| {
        terminal.say(format_args!("error: the system gives no randomness for a key: {error}"));
        Exit::Failed
    })?;
    let patterns: Vec<_> = publish.iter().map(|pattern| format!("\"{pattern}\"")).collect();
    terminal.say("add this to pulsewire.toml; the key itself is shown only now:\n");
    terminal.say("[[auth.api_keys]]");
    terminal.say(format_args!("id = \"{id}\"\nsha256 = \"{hash}\"\npublish = [{}]\n", patterns.join(", ")));
    terminal.data(secret.expose());
    Ok(Exit::Ok)
}

/// Header and claims of a token, each `None` when it cannot be decoded.
fn parts(token: &str) -> Option<(Option<Value>, Option<Value>)> {
    let (header, rest) = token.split_once('.')?;
    let (claims, _) = rest.split_once('.')?;
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((json(header), json(claims)))
}

fn pretty(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

/// A text of somebody else's, harmless on a terminal.
fn escaped(text: &str) -> String {
    let one = |character: char| {
        if character.is_control() && character != '\n' {
            character.escape_unicode().to_string()
        } else {
            character.to_string()
        }
    };
    text.chars().map(one).collect()
}

fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| format!("{unix_ms} ms after 1970"), |time| time.to_string())
}
