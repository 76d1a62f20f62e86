//! Resources encrypted to this guest: flattened JWE with ECDH-ES+A256KW on P-256 and A256GCM (RFC 7516, RFC 7518).

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::KwAes256;
use base64ct::{Base64UrlUnpadded, Encoding};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::protocol::json::{self, JsonError, Members};

/// The one algorithm this guest asks for.
pub const ALGORITHM: &str = "ECDH-ES+A256KW";
const ENCRYPTION: &str = "A256GCM";
const MAX_TEXT: usize = 1024 * 1024;

/// Why a resource cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum JweError {
    Json(JsonError),
    Base64(&'static str),
    Algorithm,
    Key,
    Unwrap,
    Decrypt,
    Random,
}

impl fmt::Display for JweError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "{error}"),
            Self::Base64(name) => write!(f, "{name} is not base64url"),
            Self::Algorithm => write!(f, "it is not encrypted with {ALGORITHM} and {ENCRYPTION}"),
            Self::Key => f.write_str("its key is not on the curve"),
            Self::Unwrap => f.write_str("it is not encrypted to this guest"),
            Self::Decrypt => f.write_str("it was altered"),
            Self::Random => f.write_str("there is no entropy"),
        }
    }
}

impl From<JsonError> for JweError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// The key of this boot. Wiped when it goes.
pub struct GuestKey {
    secret: SecretKey,
}

impl GuestKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, JweError> {
        // The chance that 32 random bytes are no key of P-256 is 2^-32.
        for _ in 0..16 {
            let mut bytes = Zeroizing::new([0; 32]);
            crate::entropy::fill(bytes.as_mut()).map_err(|_| JweError::Random)?;
            if let Ok(key) = Self::from_bytes(bytes.as_ref()) {
                return Ok(key);
            }
        }
        Err(JweError::Random)
    }

    /// The key with this scalar.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JweError> {
        SecretKey::from_slice(bytes).map(|secret| Self { secret }).map_err(|_| JweError::Key)
    }

    /// The public coordinates, base64url.
    pub fn coordinates(&self) -> (String, String) {
        let point = self.secret.public_key().to_sec1_point(false);
        let bytes = point.as_bytes();
        let part = |range| Base64UrlUnpadded::encode_string(bytes.get(range).unwrap_or_default());
        (part(1..33), part(33..65))
    }

    /// Decrypts a flattened JWE.
    pub fn open(&self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, JweError> {
        let mut jwe = Members::of("", json::parse(text, 4)?)?;
        let protected = jwe.string("protected", 1, 4096)?;
        let header = decode(&protected, "protected")?;
        let mut header = Members::of("protected", json::parse(&header, 4)?)?;
        if header.string("alg", 1, 64)? != ALGORITHM || header.string("enc", 1, 64)? != ENCRYPTION {
            return Err(JweError::Algorithm);
        }
        // A header we must understand and do not (RFC 7516, section 4.1.13).
        if header.has("crit") || header.has("zip") {
            return Err(JweError::Algorithm);
        }
        let mut epk = header.object("epk")?;
        if epk.string("kty", 1, 16)? != "EC" || epk.string("crv", 1, 16)? != "P-256" {
            return Err(JweError::Algorithm);
        }
        let mut point = vec![4];
        for key in ["x", "y"] {
            point.extend_from_slice(&decode(&epk.string(key, 43, 43)?, "epk")?);
        }
        let theirs = PublicKey::from_sec1_bytes(&point).map_err(|_| JweError::Key)?;
        let mut part = |key: &'static str| decode(&jwe.string(key, 0, MAX_TEXT)?, key);
        let (encrypted_key, iv, tag) = (part("encrypted_key")?, part("iv")?, part("tag")?);
        let mut plain = Zeroizing::new(part("ciphertext")?);
        let content_key = self.unwrap(&theirs, &encrypted_key)?;
        let cipher = Aes256Gcm::new_from_slice(content_key.as_ref()).map_err(|_| JweError::Unwrap)?;
        let nonce = <[u8; 12]>::try_from(iv).map_err(|_| JweError::Decrypt)?;
        let tag = <[u8; 16]>::try_from(tag).map_err(|_| JweError::Decrypt)?;
        cipher
            .decrypt_inout_detached(&nonce.into(), protected.as_bytes(), plain.as_mut_slice().into(), &tag.into())
            .map_err(|_| JweError::Decrypt)?;
        Ok(plain)
    }

    fn unwrap(&self, theirs: &PublicKey, encrypted_key: &[u8]) -> Result<Zeroizing<[u8; 32]>, JweError> {
        let shared = self.secret.diffie_hellman(theirs);
        let wrapping_key = Zeroizing::new(concat_kdf(shared.raw_secret_bytes()));
        let unwrapper = KwAes256::new_from_slice(wrapping_key.as_ref()).map_err(|_| JweError::Unwrap)?;
        let mut key = Zeroizing::new([0; 32]);
        match unwrapper.unwrap_key(encrypted_key, key.as_mut()) {
            Ok(opened) if opened.len() == 32 => Ok(key),
            _ => Err(JweError::Unwrap),
        }
    }
}

/// RFC 7518, section 4.6.2, for 256 bits: one round, no party information.
fn concat_kdf(shared: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(1u32.to_be_bytes())
        .chain_update(shared)
        .chain_update((ALGORITHM.len() as u32).to_be_bytes())
        .chain_update(ALGORITHM)
        .chain_update(0u32.to_be_bytes())
        .chain_update(0u32.to_be_bytes())
        .chain_update(256u32.to_be_bytes())
        .finalize()
        .into()
}

fn decode(text: &str, name: &'static str) -> Result<Vec<u8>, JweError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| JweError::Base64(name))
}
