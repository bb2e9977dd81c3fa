//! The broker's TLS: `MQ_USE_SSL_*`. Files and texts are looked into now, before any socket is opened.

use pkcs8::der::zeroize::Zeroizing;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::reader::Reader;
use super::{BrokerTls, Pem};

const CERT: &str = "MQ_USE_SSL_CERT";
const KEY: &str = "MQ_USE_SSL_KEY";
const PASSPHRASE: &str = "MQ_USE_SSL_PASSPHRASE";

/// The beginning and the end of a key that a passphrase protects (PKCS #8).
const ENCRYPTED: (&str, &str) = (
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "-----END ENCRYPTED PRIVATE KEY-----",
);
/// A line of a key that a passphrase protects in the older form of OpenSSL.
const LEGACY: &str = "Proc-Type: 4,ENCRYPTED";

pub(super) fn broker_tls(read: &mut Reader<'_>) -> BrokerTls {
    let ca = certificates(read, "MQ_USE_SSL_CA");
    let cert = certificates(read, CERT);
    let key = read.pem(KEY);
    let passphrase = read.text(PASSPHRASE);
    match (read.has(CERT), read.has(KEY)) {
        (true, false) => read.refuse(KEY, None, "must be set together with MQ_USE_SSL_CERT"),
        (false, true) => read.refuse(CERT, None, "must be set together with MQ_USE_SSL_KEY"),
        _ => {}
    }
    let key = key.and_then(|key| match usable(&key, passphrase.as_deref()) {
        Ok(key) => Some(key),
        Err((at, rule)) => {
            read.refuse(at, None, rule);
            None
        }
    });
    BrokerTls {
        ca,
        cert,
        key,
        reject_unauthorized: read.flag("MQ_USE_SSL_REJECT_UNAUTHORIZED", false),
    }
}

/// PEM with at least one certificate.
pub(super) fn certificates(read: &mut Reader<'_>, key: &str) -> Option<Pem> {
    let pem = read.pem(key)?;
    with_certificates(read, key, pem)
}

/// `pem`, if it has at least one certificate.
pub(super) fn with_certificates(read: &mut Reader<'_>, key: &str, pem: Pem) -> Option<Pem> {
    let Some(text) = content(&pem) else {
        read.refuse(key, None, "cannot be read");
        return None;
    };
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    if found.is_ok_and(|found| !found.is_empty()) {
        return Some(pem);
    }
    read.refuse(key, None, "must hold at least one certificate in PEM");
    None
}

/// The key without its passphrase, or the variable that is wrong and the rule that it breaks.
fn usable(key: &Pem, passphrase: Option<&str>) -> Result<Pem, (&'static str, &'static str)> {
    let text = content(key).ok_or((KEY, "cannot be read"))?;
    if text.contains(LEGACY) {
        let rule =
            "is protected in an old form; `openssl pkcs8 -topk8` writes one that can be used";
        return Err((KEY, rule));
    }
    let Some(begin) = text.find(ENCRYPTED.0) else {
        return match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(_) => Ok(key.clone()),
            // What the parser says may quote it.
            Err(_) => Err((KEY, "must hold a private key in PEM")),
        };
    };
    let passphrase = passphrase.ok_or((PASSPHRASE, "must be set: MQ_USE_SSL_KEY is protected"))?;
    let length = text[begin..].find(ENCRYPTED.1);
    let end = begin + length.ok_or((KEY, "must hold a private key in PEM"))? + ENCRYPTED.1.len();
    let document = SecretDocument::from_pem(&text[begin..end]);
    let (_label, document) = document.map_err(|_quotes| (KEY, "must hold a private key in PEM"))?;
    let protected = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
    let protected = protected.map_err(|_quotes| (KEY, "is protected in an unknown way"))?;
    let opened = protected.decrypt(passphrase);
    let opened = opened.map_err(|_why| (PASSPHRASE, "does not open MQ_USE_SSL_KEY"))?;
    let pem = opened.to_pem("PRIVATE KEY", LineEnding::LF);
    let pem = pem.map_err(|_why| (KEY, "holds no private key"))?;
    Ok(Pem::Inline(pem.as_str().to_owned()))
}

fn content(pem: &Pem) -> Option<Zeroizing<String>> {
    let text = match pem {
        Pem::Inline(text) => text.clone(),
        Pem::File(path) => std::fs::read_to_string(path).ok()?,
    };
    Some(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pkcs8::PrivateKeyInfoRef;
    use pkcs8::pkcs5::pbes2::Parameters;

    use super::super::{SettingErrors, Settings, Sources};
    use super::*;

    fn read(more: &[(&str, &str)]) -> Result<BrokerTls, String> {
        let mut variables = BTreeMap::from([("OPENCTI_URL", "http://o"), ("OPENCTI_TOKEN", "t")]);
        variables.extend(more.iter().copied());
        let settings = Settings::read(&Sources {
            environment: &|name| variables.get(name).map(|&value| value.to_owned()),
            platform: None,
            section: None,
        });
        let lines = |errors: SettingErrors| {
            let lines = errors.0.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>().join("\n")
        };
        settings.map(|settings| settings.broker_tls).map_err(lines)
    }

    /// A certificate, its key, and the key behind the passphrase `secret`.
    fn identity() -> (String, String, String) {
        let made = rcgen::generate_simple_self_signed(["worker".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        let key = PrivateKeyInfoRef::try_from(key.as_slice()).unwrap();
        // So few rounds only because a test needs no protection.
        let how = Parameters::generate_pbkdf2_sha256_aes256cbc(10, b"saltsalt", [7; 16]).unwrap();
        let sealed = key.encrypt_with_params(how, "secret").unwrap();
        let sealed = sealed.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF);
        (
            made.cert.pem(),
            made.signing_key.serialize_pem(),
            sealed.unwrap().to_string(),
        )
    }

    #[test]
    fn a_key_is_opened_by_its_passphrase() {
        let (cert, plain, sealed) = identity();
        let with = |passphrase: &str| {
            let variables = [
                (CERT, cert.as_str()),
                (KEY, sealed.as_str()),
                (PASSPHRASE, passphrase),
            ];
            read(&variables)
        };
        let Some(Pem::Inline(opened)) = with("secret").unwrap().key else {
            panic!("an inline key");
        };
        let der = |pem: &str| {
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
            key.secret_der().to_vec()
        };
        assert_eq!(der(&opened), der(&plain));
        let wrong = with("other").unwrap_err();
        assert_eq!(wrong, "MQ_USE_SSL_PASSPHRASE: does not open MQ_USE_SSL_KEY");
        let none = with("").unwrap_err();
        assert_eq!(
            none,
            "MQ_USE_SSL_PASSPHRASE: must be set: MQ_USE_SSL_KEY is protected"
        );
    }

    #[test]
    fn files_serve_as_texts_do_and_a_plain_key_needs_no_passphrase() {
        let (cert, plain, _) = identity();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (cert, key) = (write("cert", &cert), write("key", &plain));
        let variables = [
            ("MQ_USE_SSL_CA", cert.as_str()),
            (CERT, cert.as_str()),
            (KEY, key.as_str()),
            (PASSPHRASE, "not needed"),
            ("MQ_USE_SSL_REJECT_UNAUTHORIZED", "yes"),
        ];
        let tls = read(&variables).unwrap();
        assert!(tls.reject_unauthorized);
        assert_eq!(tls.key, Some(Pem::File(key.into())));
        assert!(!read(&[]).unwrap().reject_unauthorized);
    }

    #[test]
    fn each_wrong_value_is_named_with_its_rule() {
        let (cert, plain, sealed) = identity();
        let legacy = format!("-----BEGIN RSA PRIVATE KEY-----\n{LEGACY}\n");
        let broken = &sealed[..sealed.len() - 10];
        for (variables, expected) in [
            (
                vec![("MQ_USE_SSL_CA", plain.as_str())],
                "MQ_USE_SSL_CA: must hold at least one certificate in PEM",
            ),
            (
                vec![("MQ_USE_SSL_CA", "/no/such/file")],
                "MQ_USE_SSL_CA: must be PEM text, or the path of a file that can be read",
            ),
            (
                vec![(CERT, &cert)],
                "MQ_USE_SSL_KEY: must be set together with MQ_USE_SSL_CERT",
            ),
            (
                vec![(KEY, &plain)],
                "MQ_USE_SSL_CERT: must be set together with MQ_USE_SSL_KEY",
            ),
            (
                vec![(CERT, &cert), (KEY, &cert)],
                "MQ_USE_SSL_KEY: must hold a private key in PEM",
            ),
            (
                vec![(CERT, &cert), (KEY, broken), (PASSPHRASE, "secret")],
                "MQ_USE_SSL_KEY: must hold a private key in PEM",
            ),
            (
                vec![(CERT, &cert), (KEY, &legacy)],
                "MQ_USE_SSL_KEY: is protected in an old form; `openssl pkcs8 -topk8` writes one that can be used",
            ),
            (
                vec![("MQ_USE_SSL_REJECT_UNAUTHORIZED", "1")],
                "MQ_USE_SSL_REJECT_UNAUTHORIZED = \"1\": must be yes, true or True, or no, false or False",
            ),
        ] {
            assert_eq!(read(&variables).unwrap_err(), expected);
        }
    }
}
