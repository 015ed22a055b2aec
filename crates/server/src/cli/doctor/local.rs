//! The settings a server here would have, and whether this machine lets it do what they say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsewire_bus::Store;
use pulsewire_edge::clock;

use super::finding::{Examination, Finding};
use super::machine;
use crate::settings::{Flags, Settings, Sources, weakness};
use crate::{store, tls};

/// A database that answers no faster makes strict publishes wait, milliseconds.
const STORE_WARNING_MS: f64 = 50.0;
/// Days before a certificate ends at which a word is due.
const CERTIFICATE_WARNING_DAYS: f64 = 14.0;

pub(super) fn examine(flags: Flags, found: &mut Examination) {
    let sources = match Sources::of_process(flags) {
        Ok(sources) => sources,
        Err(error) => {
            let text = format!("the system gives no randomness: {error}");
            found.add(Finding::critical("settings", text, "look at /dev/urandom and the kernel's log"));
            return;
        }
    };
    let settings = match Settings::load(&sources) {
        Ok(settings) => settings,
        Err(problems) => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let remedy = "`pulsewire config check` lists them; `pulsewire serve --dev` needs none";
            found.add(Finding::critical("settings", said.join("; "), remedy));
            return;
        }
    };
    found.add(Finding::ok("settings", loaded(&settings)));
    found.add(secret(&settings));
    found.add(certificate(&settings, &sources));
    machine::examine(&settings, found);
    found.add(opened(&settings));
    found.add(redis(&settings));
}

fn loaded(settings: &Settings) -> String {
    let dev = if settings.dev { ", with --dev" } else { "" };
    format!("they load{dev}: {} namespaces, at {}", settings.namespaces.len(), settings.server.listen)
}

fn secret(settings: &Settings) -> Finding {
    let Some(secret) = &settings.auth.secret else {
        return Finding::ok(
            "secret",
            format!("none: tokens are verified by {}", settings.auth.algorithm.as_str()),
        );
    };
    match weakness(secret.expose()) {
        None => Finding::ok("secret", format!("{} bytes, not guessable", secret.expose().len())),
        Some(weakness) => Finding::warning(
            "secret",
            weakness,
            "make a key with `openssl rand -hex 32`; --dev alone allows this one",
        ),
    }
}

fn certificate(settings: &Settings, sources: &Sources) -> Finding {
    match tls::Pair::load(settings, &*sources.read) {
        Ok(None) => Finding::skipped("certificate", "no TLS here (tls.certificate_file)"),
        Ok(Some(pair)) => {
            let days = (pair.expiry_seconds as f64 - clock::now().wall_ms as f64 / 1_000.0) / 86_400.0;
            let text = format!("it ends in {days:.0} d");
            let remedy = "renew it; new files are taken into use by themselves";
            match days {
                days if days < 0.0 => Finding::critical("certificate", text, remedy),
                days if days < CERTIFICATE_WARNING_DAYS => Finding::warning("certificate", text, remedy),
                _ => Finding::ok("certificate", text),
            }
            .value(days, "days")
        }
        Err(problem) => Finding::critical(
            "certificate",
            problem.to_string(),
            "correct tls.certificate_file and tls.key_file",
        ),
    }
}

/// A database is asked as the server would; a file only read, because it may be in use.
fn opened(settings: &Settings) -> Finding {
    let begun = Instant::now();
    match store::look(settings) {
        Ok(store::Looked::Memory) => {
            Finding::skipped("store", "memory: events end with the process (store.url)")
        }
        Ok(store::Looked::NoFile(path)) => {
            Finding::ok("store", format!("{} is made with the first start", path.display()))
        }
        Ok(store::Looked::File { path, schema, bytes }) => {
            let mib = bytes as f64 / (1 << 20) as f64;
            let ms = begun.elapsed().as_secs_f64() * 1_000.0;
            let text = format!(
                "{}: {mib:.1} MiB, schema {} of {}, read in {ms:.1} ms",
                path.display(),
                schema.taken,
                schema.known
            );
            if schema.taken > schema.known {
                let remedy = "run the version of Pulsewire that wrote it, or a newer one";
                return Finding::critical("store", text, remedy);
            }
            Finding::ok("store", text).value(ms, "ms")
        }
        Ok(store::Looked::Database(database)) => asked(&database),
        Err(error) => {
            Finding::critical("store", format!("{error:#}"), "correct store.url, or the rights of its folder")
        }
    }
}

/// The second question tells how far it is; the first one connects.
fn asked(database: &Arc<dyn Store>) -> Finding {
    let ask = || -> Result<Duration, String> {
        let begun = Instant::now();
        database.extents(&[]).map_err(|error| error.to_string())?;
        Ok(begun.elapsed())
    };
    match ask().and_then(|_| ask()) {
        Ok(took) => {
            let ms = took.as_secs_f64() * 1_000.0;
            let text = format!("PostgreSQL answers in {ms:.1} ms");
            if ms > STORE_WARNING_MS {
                let remedy = "bring the database nearer: a strict publish waits for it";
                return Finding::warning("store", text, remedy).value(ms, "ms");
            }
            Finding::ok("store", text).value(ms, "ms")
        }
        Err(why) => Finding::critical(
            "store",
            why,
            "is the database running, and do the address and the rights in store.url hold?",
        ),
    }
}

fn redis(settings: &Settings) -> Finding {
    let Some(url) = &settings.redis.url else {
        return Finding::skipped("redis", "not used (redis.url)");
    };
    match pulsewire_sources::redis::ping(url.expose()) {
        Ok(took) => {
            let ms = took.as_secs_f64() * 1_000.0;
            Finding::ok("redis", format!("answers in {ms:.1} ms")).value(ms, "ms")
        }
        Err(error) => Finding::critical(
            "redis",
            error.to_string(),
            "is Redis running, and do the address and the password in redis.url hold?",
        ),
    }
}
