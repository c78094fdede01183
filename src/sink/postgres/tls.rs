//! Whom a server is taken for.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::model::{Error, Place, Result};

/// TLS with a server whose certificate is its own, signed by one of the system's authorities, or of a file's (`roots`).
///
/// # Errors
/// Of kind `Failed`, where there are none.
pub(super) fn verified(roots: Option<&Path>) -> Result<MakeRustlsConnect> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(path) => {
            let none = |why: String| {
                Error::failed("no certificate can be read that a server's could be checked with")
                    .at(Place::Path(path.to_owned()))
                    .because(why)
                    .help("sslrootcert must name a file of certificates in PEM, as libpq has it")
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| none(error.to_string()))?;
            for certificate in certificates {
                let added = certificate
                    .map_err(|error| error.to_string())
                    .and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()));
                added.map_err(none)?;
            }
            if store.is_empty() {
                return Err(none("it holds none".to_owned()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // what of the system's is no certificate says nothing about the others
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return Err(Error::failed("this system has no certificates that a server's could be checked with")
                    .because(if why.is_empty() { "none is where systems have them".to_owned() } else { why })
                    .help("install ca-certificates, or name a file of them: sslrootcert"));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(broken)?;
    Ok(MakeRustlsConnect::new(builder.with_root_certificates(store).with_no_client_auth()))
}

/// TLS with whoever answers, as libpq's `require` and `prefer` have it: nobody can listen, and anybody could pose as the server.
pub(super) fn with_anyone() -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(broken)?;
    let anyone = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    Ok(MakeRustlsConnect::new(anyone.with_no_client_auth()))
}

fn broken(error: rustls::Error) -> Error {
    Error::failed("TLS cannot be set up").because(error.to_string())
}

/// Takes any certificate, and checks no more than that the server has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
