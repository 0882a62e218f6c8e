//! The certificate of `longhaul demo --tls`: signed by itself, in a folder of its own.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};

/// A certificate for this machine, and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoCertificate {
    /// PEM file with the certificate.
    pub cert: PathBuf,
    /// PEM file with the private key, readable by the user alone.
    pub key: PathBuf,
}

impl DemoCertificate {
    /// Makes a certificate for `localhost`, the loopback addresses and the address of `listen`, in a new folder in
    /// `parent`.
    ///
    /// # Errors
    /// The folder is there already, or cannot be written.
    pub fn make(parent: &Path, listen: SocketAddr) -> io::Result<Self> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let own = listen.ip();
        if !own.is_unspecified() && !own.is_loopback() {
            names.push(IpAddr::to_canonical(&own).to_string());
        }
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "longhaul demo");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        // A folder that somebody else made is not taken.
        let folder = parent.join(format!("longhaul-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let made = Self { cert: folder.join("demo.pem"), key: folder.join("demo.key") };
        for (path, text) in [(&made.cert, certificate.pem()), (&made.key, key.serialize_pem())] {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Ok(made)
    }

    /// Removes both files, and their folder.
    pub fn remove(&self) {
        // Nobody can be told of what is left in a folder for temporary files.
        let _ = self.cert.parent().map(fs::remove_dir_all);
    }
}
