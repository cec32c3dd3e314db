//! TLS with a broker: whom we trust, who we are, and what went wrong in words that help.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls_connector::rustls::{AlertDescription, CertificateError, Error as TlsError};
use rustls_connector::rustls_pki_types::pem::PemObject;
use rustls_connector::rustls_pki_types::{CertificateDer, PrivateKeyDer};
use rustls_connector::{RustlsConnector, RustlsConnectorConfig};

use super::BrokerError;
use crate::config::BrokerTls;

/// The longest file of certificates or keys that is read, in bytes. A system's whole collection has 250
/// KB; a longer one is something else, and the connection isn't made.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What speaks TLS as the settings say. It reads their files, so that renewed ones count from the next
/// connection on.
pub(super) fn connector(tls: &BrokerTls) -> Result<RustlsConnector, BrokerError> {
    let trusted = match &tls.ca {
        Some(path) => {
            RustlsConnectorConfig::default().with_parsable_certificates(certificates(path)?)
        }
        None => {
            RustlsConnectorConfig::new_with_native_certs().map_err(|source| BrokerError::File {
                path: "the system's certificates".to_owned(),
                source,
            })?
        }
    };
    let Some((certificate, key)) = &tls.identity else {
        return trusted
            .connector_with_no_client_auth()
            .map_err(|error| unusable(tls.ca.as_deref().unwrap_or(Path::new("")), error));
    };
    let own = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key, error))?;
    trusted
        .connector_with_single_cert(own, key)
        .map_err(|error| unusable(certificate, error))
}

/// What TLS says is wrong, if it is TLS that says something: for the broker's host and our settings.
pub(super) fn reason(error: &(dyn Error + 'static), host: &str) -> Option<String> {
    Some(match tls_error(error)? {
        TlsError::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                "its certificate is signed by nobody who is trusted here: see [oslo_messaging_rabbit] \
                 ssl_ca_file"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for {host}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            _ => "its certificate can't be used".to_owned(),
        },
        TlsError::AlertReceived(alert) if is_about_us(*alert) => {
            "it wants another certificate of ours: see [oslo_messaging_rabbit] ssl_cert_file".to_owned()
        }
        TlsError::InvalidMessage(_) => "it doesn't speak TLS on this port".to_owned(),
        _ => "TLS failed".to_owned(),
    })
}

/// What it means that a connection was closed right after TLS was agreed upon. A certificate of ours is
/// looked at only then, and the alert about it may get lost on the way.
pub(super) fn closed(error: &(dyn Error + 'static)) -> Option<String> {
    let is_end = |kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    };
    let mut next = Some(error);
    while let Some(error) = next {
        let found = error.downcast_ref::<io::Error>();
        if found.is_some_and(|error| is_end(error.kind())) {
            return Some(
                "it closed the connection, as one does that wants another certificate of ours: see \
                 [oslo_messaging_rabbit] ssl_cert_file"
                    .to_owned(),
            );
        }
        next = error.source();
    }
    None
}

fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    )
}

/// An error of TLS among an error's causes; what an IO error wraps is not called its cause.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, "it holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BrokerError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|source| BrokerError::File {
            path: path.display().to_string(),
            source,
        })?;
    Ok(bytes)
}

fn unusable(path: &Path, why: impl Into<Box<dyn Error + Send + Sync>>) -> BrokerError {
    BrokerError::File {
        path: path.display().to_string(),
        source: io::Error::new(io::ErrorKind::InvalidData, why),
    }
}
