//! Certificate, key and client authorities, read whole from the files of the agent's own mount.
#![expect(clippy::disallowed_methods, reason = "these files are not the host's, and are named by flags")]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest file that is read; a bundle of hundreds of authorities is far below.
const MAX_BYTES: u64 = 1 << 20;

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, followed by its intermediate ones (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Authorities whose clients are let in (PEM).
    pub client_ca: PathBuf,
}

/// What stood in them.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateTexts {
    /// Of the certificate.
    pub certificate: Vec<u8>,
    /// Of the key.
    pub key: Vec<u8>,
    /// Of the authorities.
    pub client_ca: Vec<u8>,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}; see to the mount and to --tls-cert, --tls-key and --tls-client-ca", path.display())]
pub struct CertificateFileError {
    /// Which.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl CertificateFiles {
    /// Reads all three.
    ///
    /// # Errors
    /// [`CertificateFileError`] for the first that cannot be read or is longer than 1 MiB.
    pub fn read(&self) -> Result<CertificateTexts, CertificateFileError> {
        Ok(CertificateTexts {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: read(&self.client_ca)?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 1 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| CertificateFileError { path: path.to_owned(), source })
}
