//! Serving HTTPS: a certificate and its key, read once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;

/// A certificate and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Tls {
    /// Reads both.
    ///
    /// # Errors
    /// If they cannot be read or do not belong together.
    pub async fn load(&self) -> anyhow::Result<RustlsConfig> {
        windlass_functions::trust::use_ring();
        let loaded = RustlsConfig::from_pem_file(&self.certificate, &self.key).await;
        loaded.with_context(|| {
            format!(
                "cannot use the certificate {} with the key {}: expected PEM files that belong together",
                self.certificate.display(),
                self.key.display()
            )
        })
    }

    /// The same for a server that speaks HTTP/1.1 only.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub async fn http1(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let loaded = self.load().await?;
        let mut config = ServerConfig::clone(&loaded.get_inner());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
