//! Whose certificates a client believes.
//!
//! The authorities of this machine unless a file names others, as a set-up with certificates of its own needs. There is
//! no way to believe everybody.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Who may vouch for a server's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    #[default]
    Platform,
    /// The certificates in this PEM file and no others. It is read with every connection.
    File(PathBuf),
}

/// Why no authority can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read or holds no certificate.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// This machine has no list of authorities.
    #[error("this machine has no certificates of authorities to trust; name a file with them")]
    Platform,
    /// The library refuses to begin.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

impl Trust {
    /// What a TLS connection to a server begins with.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if nobody would be trusted.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        static PLATFORM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        match self {
            Trust::File(file) => {
                let wrong = |why: String| TrustError::File { file: file.display().to_string(), why };
                let certificates: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
                let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
                let mut roots = RootCertStore::empty();
                let (_, refused) = roots.add_parsable_certificates(certificates);
                if roots.is_empty() {
                    let why = if refused > 0 {
                        "its certificates cannot be read"
                    } else {
                        "it holds no certificate"
                    };
                    return Err(wrong(why.to_owned()));
                }
                config(roots)
            }
            Trust::Platform => {
                if let Some(config) = PLATFORM.get() {
                    return Ok(config.clone());
                }
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TrustError::Platform);
                }
                let config = config(roots)?;
                Ok(PLATFORM.get_or_init(|| config).clone())
            }
        }
    }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Library(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
