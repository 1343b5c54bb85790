//! Certificates of private authorities, for every part that connects: reading them, and saying what a
//! refused one means.

use std::path::Path;

/// What rustls says, and what that means for who deploys.
const MEANINGS: [(&[&str], &str); 3] = [
    (
        &["UnknownIssuer"],
        "its certificate is of an authority that is not trusted here: name the right authority's certificate",
    ),
    (
        &["NotValidForName", "not valid for name"],
        "its certificate is for other hosts: use a name that stands in it, or have one issued for this host",
    ),
    (
        &["Expired", "certificate expired"],
        "its certificate has expired: renew it, or set this machine's clock",
    ),
];

/// An HTTP client to be built, which trusts the authority of this PEM file alone to vouch for who is at
/// an https address, or the system's authorities without one.
///
/// # Errors
/// If the file holds no certificate that can be used.
pub fn http(authority: Option<&Path>) -> Result<reqwest::ClientBuilder, BadAuthority> {
    use_ring();
    let builder = reqwest::Client::builder();
    let Some(path) = authority else {
        return Ok(builder);
    };
    let text = self::authority(path)?;
    let certificates = reqwest::Certificate::from_pem_bundle(text.as_bytes())
        .map_err(|error| BadAuthority::of(path, error.to_string()))?;
    Ok(builder.tls_certs_only(certificates))
}

/// Makes ring this process's cryptography, which whoever speaks TLS needs, HTTP clients that might
/// included. If somebody installed another before, that one stays.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What to do about a failed connection, if its error text tells of a certificate.
pub fn explain(error: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let meaning = MEANINGS.iter().find(|(words, _)| says(words));
    meaning.map(|(_, meaning)| *meaning)
}

/// An error with its causes and, where a certificate is to blame, with what to do.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their causes.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    match explain(&text) {
        Some(meaning) => format!("{text}; {meaning}"),
        None => text,
    }
}

/// A file with an authority's certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("expected certificates in PEM in {path}: {why}")]
pub struct BadAuthority {
    path: String,
    why: String,
}

impl BadAuthority {
    fn of(path: &Path, why: String) -> Self {
        Self {
            path: path.display().to_string(),
            why,
        }
    }
}

/// Reads the PEM file of an authority's certificates.
///
/// # Errors
/// If it cannot be read or holds no certificate.
pub fn authority(path: &Path) -> Result<String, BadAuthority> {
    let text =
        std::fs::read_to_string(path).map_err(|error| BadAuthority::of(path, error.to_string()))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        Ok(text)
    } else {
        Err(BadAuthority::of(path, "it holds none".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_says_what_to_do() {
        let refused = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        assert!(chain(&refused).contains("the right authority's certificate"));
        let plain = std::io::Error::other("connection refused");
        assert_eq!(chain(&plain), "connection refused");
    }

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        let missing = authority(&path).unwrap_err().to_string();
        assert!(missing.contains("ca.crt"), "{missing}");
        std::fs::write(&path, "no PEM").unwrap();
        let empty = authority(&path).unwrap_err().to_string();
        assert!(empty.contains("holds none"), "{empty}");
    }
}
