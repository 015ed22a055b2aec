//! The keys that sign and verify tokens, read from the settings.
//!
//! The algorithm comes from the settings, or from the type of a key in a set, and decides how the key
//! is read; a token never has a say in it (threat S2). A public key is never used as a shared secret: a secret that looks like a
//! key file is refused.

use std::{io, path::Path};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use super::jwks::{KeySet, VerifyingKey, Voucher, read_set};
use crate::settings::{AlgorithmName, Origin, Problem, Settings};

/// Reads a key file.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The library's name of an algorithm.
#[must_use]
pub const fn algorithm(name: AlgorithmName) -> Algorithm {
    match name {
        AlgorithmName::Hs256 => Algorithm::HS256,
        AlgorithmName::Hs384 => Algorithm::HS384,
        AlgorithmName::Hs512 => Algorithm::HS512,
        AlgorithmName::Rs256 => Algorithm::RS256,
        AlgorithmName::Es256 => Algorithm::ES256,
        AlgorithmName::EdDsa => Algorithm::EdDSA,
    }
}

/// The key that verifies tokens that name none; `None` when only named keys are configured.
///
/// # Errors
///
/// When no key is set, its file cannot be read, or it is not a key for the algorithm.
pub fn verifying(settings: &Settings, read: Read<'_>) -> Result<Option<VerifyingKey>, Problem> {
    let auth = &settings.auth;
    if auth.has_key_sets() && auth.secret.is_none() && auth.public_key_file.is_none() {
        return Ok(None);
    }
    if auth.algorithm.is_hmac() {
        let key = shared(settings).map(|secret| DecodingKey::from_secret(secret.as_bytes()))?;
        return Ok(Some(VerifyingKey::new(auth.algorithm, key)));
    }
    let path = "auth.public_key_file";
    let (file, pem) = key_file(settings, path, auth.public_key_file.as_deref(), read)?;
    if pem.contains("PRIVATE KEY") {
        let what = format!("`{path}`: {file} holds a private key");
        let help = "name the public key here; the private key stays with the issuer of the tokens";
        return Err(Problem::at(settings.origin(path), what).about(path).help(help));
    }
    let key = match auth.algorithm {
        AlgorithmName::Rs256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmName::Es256 => DecodingKey::from_ec_pem(pem.as_bytes()),
        _ => DecodingKey::from_ed_pem(pem.as_bytes()),
    };
    let key = key.map_err(|_| wrong_kind(settings, path, &file, "public"))?;
    Ok(Some(VerifyingKey::new(auth.algorithm, key)))
}

/// The keys of `auth.jwks_file` by their ids; `None` when it is not set.
///
/// # Errors
///
/// When the file cannot be read, is not a JWK set, or holds a key that cannot be used: in a file of the
/// operator's own that is a mistake, not somebody else's other key.
pub fn file_set(settings: &Settings, read: Read<'_>) -> Result<Option<KeySet>, Problem> {
    let path = "auth.jwks_file";
    let Some(file) = settings.auth.jwks_file.as_deref() else { return Ok(None) };
    let problem = |what: &str| {
        let what = format!("`{path}`: {}: {what}", file.display());
        Problem::at(settings.origin(path), what).about(path)
    };
    let text = read(file).map_err(|error| problem(&format!("cannot be read: {error}")))?;
    let (keys, skipped) =
        read_set(text.as_bytes(), Voucher::Operator).map_err(|error| problem(&error.to_string()))?;
    match skipped.first() {
        Some(key) => Err(problem(&format!("key {}: {}", key.place, key.why))),
        None if keys.is_empty() => Err(problem("no key in it verifies signatures")),
        None => Ok(Some(keys)),
    }
}

/// The key that signs tokens; only the command line needs it.
///
/// # Errors
///
/// When no key is set, its file cannot be read, or it is not a key for the algorithm.
pub fn signing(settings: &Settings, read: Read<'_>) -> Result<EncodingKey, Problem> {
    let auth = &settings.auth;
    if auth.algorithm.is_hmac() {
        return shared(settings).map(|secret| EncodingKey::from_secret(secret.as_bytes()));
    }
    let path = "auth.private_key_file";
    let (file, pem) = key_file(settings, path, auth.private_key_file.as_deref(), read)?;
    let key = match auth.algorithm {
        AlgorithmName::Rs256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmName::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_ed_pem(pem.as_bytes()),
    };
    key.map_err(|_| wrong_kind(settings, path, &file, "private"))
}

/// What is wrong with the configured keys, for the refusal to start.
pub(crate) fn problems(settings: &Settings, read: Read<'_>) -> Vec<Problem> {
    let private = settings.auth.private_key_file.is_some().then(|| signing(settings, read).err());
    let private = private.flatten();
    let own = verifying(settings, read).err();
    own.into_iter().chain(file_set(settings, read).err()).chain(private).collect()
}

fn shared(settings: &Settings) -> Result<&str, Problem> {
    let problem = |what: &str| Problem::at(settings.origin("auth.secret"), format!("`auth.secret`: {what}"));
    let secret = settings.auth.secret.as_ref().ok_or_else(|| {
        problem("not set, so tokens can be neither signed nor verified")
            .about("auth.secret")
            .help("set JWT_SECRET_KEY or auth.secret_file to the key that the server uses")
    })?;
    if secret.expose().contains("-----BEGIN") {
        let what =
            format!("a key file in PEM, but {} needs a plain secret", settings.auth.algorithm.as_str());
        let help = "for a public key set auth.public_key_file and auth.algorithm to RS256, ES256 or EdDSA";
        return Err(problem(&what).about("auth.secret").help(help));
    }
    Ok(secret.expose())
}

fn key_file(
    settings: &Settings,
    path: &str,
    file: Option<&Path>,
    read: Read<'_>,
) -> Result<(String, String), Problem> {
    let algorithm = settings.auth.algorithm.as_str();
    let Some(file) = file else {
        let what = format!("`{path}`: not set, but {algorithm} needs it");
        return Err(Problem::at(Origin::Default, what).about(path).help("name a PEM file"));
    };
    let shown = file.display().to_string();
    match read(file) {
        Ok(pem) => Ok((shown, pem)),
        Err(error) => {
            let what = format!("`{path}`: cannot read {shown}: {error}");
            Err(Problem::at(settings.origin(path), what).about(path))
        }
    }
}

fn wrong_kind(settings: &Settings, path: &str, file: &str, half: &str) -> Problem {
    let algorithm = settings.auth.algorithm.as_str();
    let (kind, command) = match settings.auth.algorithm {
        AlgorithmName::Rs256 => ("RSA", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        AlgorithmName::Es256 => ("P-256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        _ => ("Ed25519", "openssl genpkey -algorithm ed25519"),
    };
    let what = format!("`{path}`: {file} is not a {half} {kind} key in PEM, which {algorithm} needs");
    let help = format!(
        "make a pair with `{command} -out private.pem` and `openssl pkey -in private.pem -pubout -out public.pem`"
    );
    Problem::at(settings.origin(path), what).about(path).help(help)
}
