//! The certificate of the public address: reading it, replacing it, and knowing when it ends.
//!
//! The files are looked at once a second and at SIGHUP. A changed pair must be at rest for a second before
//! it is read, because certificate and key are written one after the other; a pair that cannot be used
//! leaves the old one in force and is reported once. What is open is not touched: a connection holds the
//! keys it was made with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pulsewire_edge::{clock, tls::ServerConfig};
use pulsewire_telemetry::{ReloadOutcome, SharedMetrics};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use tokio::sync::watch;

use crate::app::App;
use crate::auth::keys::Read;
use crate::http::health::iso;
use crate::settings::{Problem, Settings, Tls};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Tls {
    /// Whether the public address speaks TLS.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.certificate_file.is_some() && self.key_file.is_some()
    }
}

/// A certificate with its key, ready to be shown to clients.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What a handshake needs.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, Unix seconds.
    pub expiry_seconds: u64,
}

impl Pair {
    /// Reads the pair that the settings name; `None` without TLS.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds something else, or the key is not the certificate's.
    pub fn load(settings: &Settings, read: Read<'_>) -> Result<Option<Self>, Problem> {
        let (Some(certificate), Some(key)) = (&settings.tls.certificate_file, &settings.tls.key_file) else {
            return Ok(None);
        };
        let refuse = |path: &'static str, file: &Path, what: String| {
            let problem = Problem::at(settings.origin(path), format!("`{path}`: {}: {what}", file.display()));
            problem.about(path)
        };
        let text = |path, file: &PathBuf| {
            read(file).map_err(|error| refuse(path, file, format!("it cannot be read: {error}")))
        };
        let wrong = |what: String| refuse("tls.certificate_file", certificate, what);
        let pem = text("tls.certificate_file", certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let chain = chain.map_err(|error| wrong(format!("it is no PEM file: {error}")))?;
        let Some(leaf) = chain.first() else {
            return Err(wrong("it holds no certificate".to_owned())
                .help("it begins with -----BEGIN CERTIFICATE-----; intermediates follow in the same file"));
        };
        let expiry_seconds = expiry_seconds(leaf).map_err(|error| wrong(error.to_string()))?;
        let pem = text("tls.key_file", key)?;
        let private = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            refuse("tls.key_file", key, "it holds no private key".to_owned())
                .help("it begins with -----BEGIN PRIVATE KEY-----, without a passphrase")
        })?;
        let config = config(chain, private).map_err(|error| {
            let what = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("it is not the key of the certificate in {}", certificate.display())
                }
                error => error.to_string(),
            };
            refuse("tls.key_file", key, what)
        })?;
        Ok(Some(Self { config: Arc::new(config), expiry_seconds }))
    }

    /// Whether clients will refuse the certificate.
    #[must_use]
    pub fn has_expired(&self, now_ms: i64) -> bool {
        self.expiry_seconds < u64::try_from(now_ms / 1_000).unwrap_or(0)
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who comes back in a storm brings a ticket and spares both sides a signature; nothing is kept here for it.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

/// When a certificate ends, Unix seconds: what a client would say that asks at the end of time.
pub(crate) fn expiry_seconds(leaf: &CertificateDer<'_>) -> Result<u64, rustls::Error> {
    let WebPkiSupportedAlgorithms { all, .. } =
        aws_lc_rs::default_provider().signature_verification_algorithms;
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let parsed = ParsedCertificate::try_from(leaf)?;
    match verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], end_of_time, all) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok(not_after.as_secs())
        }
        Err(error) => Err(error),
        Ok(()) => Err(rustls::Error::General("the certificate has no end".to_owned())),
    }
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    file: PathBuf,
    /// Inode, bytes, and when content or inode last changed; `None` if it cannot be seen.
    seen: Option<(u64, u64, i64, i64)>,
}

impl Stamp {
    fn of(file: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(file).ok();
        let seen = metadata.map(|it| (it.ino(), it.size(), it.ctime(), it.ctime_nsec()));
        Self { file: file.to_owned(), seen }
    }
}

type Stamps = Vec<Stamp>;

fn stamps(tls: &Tls) -> Stamps {
    let files = [&tls.certificate_file, &tls.key_file];
    files.into_iter().flatten().map(|file| Stamp::of(file)).collect()
}

#[derive(Default)]
struct Seen {
    /// The files as they were when they were last read.
    read: Stamps,
    /// The files as they were at the last look.
    looked: Stamps,
    /// It was said that the certificate in force has expired.
    told_expired: bool,
}

/// The certificate in force.
#[derive(Default)]
pub struct Certificates {
    in_force: ArcSwapOption<Pair>,
    seen: Mutex<Seen>,
}

impl Certificates {
    /// The pair in force; `None` without TLS.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<Pair>> {
        self.in_force.load_full()
    }

    /// Reads the pair that the settings name and puts it in force.
    ///
    /// # Errors
    ///
    /// As [`Pair::load`]; the old one stays in force then.
    pub fn put(&self, settings: &Settings) -> Result<(), Problem> {
        let mut seen = self.seen.lock();
        seen.read = stamps(&settings.tls);
        let pair = Pair::load(settings, &|path| std::fs::read_to_string(path))?;
        if let Some(pair) = &pair {
            tracing::info!(
                expires_at =
                    iso(i64::try_from(pair.expiry_seconds).unwrap_or(i64::MAX).saturating_mul(1_000)),
                "a TLS certificate is in force"
            );
        }
        self.in_force.store(pair.map(Arc::new));
        seen.told_expired = false;
        self.tell_expired(&mut seen);
        Ok(())
    }

    /// Looks whether the files have changed, and reads them once they are at rest.
    fn look(&self, settings: &Settings, metrics: &SharedMetrics) {
        {
            let mut seen = self.seen.lock();
            self.tell_expired(&mut seen);
            let now = stamps(&settings.tls);
            let at_rest = now == seen.looked;
            let changed = now != seen.read;
            seen.looked = now;
            if !changed || !at_rest {
                return;
            }
        }
        match self.put(settings) {
            Ok(()) => metrics.tls_reloaded(ReloadOutcome::Ok),
            Err(problem) => {
                tracing::error!(%problem, "the TLS certificate was not replaced; the old one stays in force");
                metrics.tls_reloaded(ReloadOutcome::Failed);
            }
        }
    }

    fn tell_expired(&self, seen: &mut Seen) {
        let expired =
            self.in_force.load().as_ref().is_some_and(|pair| pair.has_expired(clock::now().wall_ms));
        if expired && !std::mem::replace(&mut seen.told_expired, true) {
            tracing::warn!("the TLS certificate has expired: clients will refuse it");
        }
    }
}

/// Looks at the files until `stop` changes.
pub fn watch(app: &Arc<App>, mut stop: watch::Receiver<bool>) {
    let app = app.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => return,
            }
            let app = app.clone();
            let look = move || app.tls.look(&app.live.load().settings, app.telemetry.shared());
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::error!(%error, "the certificate files could not be looked at");
            }
        }
    });
}
