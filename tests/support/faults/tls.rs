//! TLS with certificates that are made on the spot.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

pub type Der = CertificateDer<'static>;

/// What the server shows.
#[derive(Clone, Copy, Debug)]
pub enum Certificate {
    /// For `localhost` and 127.0.0.1.
    Good,
    /// For somebody else.
    WrongName,
    /// Good until the year 2000.
    Expired,
}

/// The server's side, and the authority that its clients have to trust.
pub(super) fn acceptor(certificate: Certificate, http2: bool) -> (TlsAcceptor, Der) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);

    let names = match certificate {
        Certificate::WrongName => vec!["somebody-else.invalid".to_owned()],
        _ => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let mut params = CertificateParams::new(names).expect("names");
    if matches!(certificate, Certificate::Expired) {
        params.not_after = rcgen::date_time_ymd(2000, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("they belong together");
    config.alpn_protocols = vec![if http2 {
        b"h2".into()
    } else {
        b"http/1.1".into()
    }];
    (TlsAcceptor::from(Arc::new(config)), authority.der().clone())
}

/// A client that trusts this authority alone.
pub fn client_config(authority: Der) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("a certificate");
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
