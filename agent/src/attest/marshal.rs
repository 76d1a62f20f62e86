//! TPM 2.0 structures: big-endian, with explicit sizes (TPM 2.0 library, parts 2 and 3).

use std::fmt;

/// What a TPM answered that is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum MarshalError {
    Short { need: usize, have: usize },
    Unexpected(&'static str),
}

impl fmt::Display for MarshalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { need, have } => write!(f, "need {need} bytes, have {have}"),
            Self::Unexpected(what) => write!(f, "unexpected {what}"),
        }
    }
}

/// Reads a structure from its beginning.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], MarshalError> {
        let short = MarshalError::Short { need: length, have: self.0.len() };
        let (head, rest) = self.0.split_at_checked(length).ok_or(short)?;
        self.0 = rest;
        Ok(head)
    }

    /// A number of 16 bits.
    pub fn u16(&mut self) -> Result<u16, MarshalError> {
        let bytes = self.take(2)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, MarshalError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    /// The content of a TPM2B.
    pub fn sized(&mut self) -> Result<&'a [u8], MarshalError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

/// Writes a structure.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }
    /// A number of 16 bits.
    pub fn u16(mut self, n: u16) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    /// A number of 32 bits.
    pub fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// A TPM2B.
    pub fn sized(self, bytes: &[u8]) -> Self {
        self.u16(bytes.len() as u16).raw(bytes)
    }
}

/// TPM_ST, TPM_ALG and handles used here (part 2).
pub const ST_NO_SESSIONS: u16 = 0x8001;
pub const ST_SESSIONS: u16 = 0x8002;
pub const ALG_RSA: u16 = 0x0001;
pub const ALG_AES: u16 = 0x0006;
pub const ALG_SHA256: u16 = 0x000B;
pub const ALG_SHA384: u16 = 0x000C;
pub const ALG_SHA512: u16 = 0x000D;
pub const ALG_NULL: u16 = 0x0010;
pub const ALG_RSASSA: u16 = 0x0014;
pub const ALG_ECC: u16 = 0x0023;
pub const ALG_CFB: u16 = 0x0043;
pub const RH_NULL: u32 = 0x4000_0007;
pub const RS_PW: u32 = 0x4000_0009;
pub const RH_ENDORSEMENT: u32 = 0x4000_000B;
/// TPMA_OBJECT bits.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
pub const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// A command; `auths` are the sessions of its authorisation area.
pub fn command(code: u32, handles: &[u32], auths: &[u32], parameters: &[u8]) -> Vec<u8> {
    let mut area = Writer::default();
    for session in auths {
        // No nonce, continueSession, no HMAC: a password session, or a policy session that needs none.
        area = area.u32(*session).sized(&[]).u8(1).sized(&[]);
    }
    let mut body = Writer::default();
    for handle in handles {
        body = body.u32(*handle);
    }
    if !auths.is_empty() {
        body = body.u32(area.0.len() as u32).raw(&area.0);
    }
    body = body.raw(parameters);
    let tag = if auths.is_empty() { ST_NO_SESSIONS } else { ST_SESSIONS };
    Writer::default().u16(tag).u32(10 + body.0.len() as u32).u32(code).raw(&body.0).0
}

/// Splits a response into its code and what follows the header.
pub fn response(bytes: &[u8]) -> Result<(u32, &[u8]), MarshalError> {
    let mut reader = Reader(bytes);
    reader.u16()?;
    let size = reader.u32()? as usize;
    let code = reader.u32()?;
    if size != bytes.len() {
        return Err(MarshalError::Unexpected("response size"));
    }
    Ok((code, reader.0))
}

/// TPMT_PUBLIC of the attestation key: restricted, RSA-2048, RSASSA with SHA-256. `unique` makes it another key
/// than any before.
pub fn attestation_template(unique: &[u8]) -> Vec<u8> {
    let attributes = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN;
    Writer::default()
        .u16(ALG_RSA)
        .u16(ALG_SHA256)
        .u32(attributes)
        .sized(&[])
        .u16(ALG_NULL)
        .u16(ALG_RSASSA)
        .u16(ALG_SHA256)
        .u16(2048)
        .u32(0)
        .sized(unique)
        .0
}

/// PolicyA of TCG EK Credential Profile 2.5, B.6.2: TPM2_PolicySecret(endorsement hierarchy), SHA-256.
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// TPMT_PUBLIC of the endorsement key templates L-1 (RSA-2048) and L-2 (ECC P-256).
pub fn endorsement_template(rsa: bool) -> Vec<u8> {
    let attributes = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
    let common = Writer::default()
        .u16(if rsa { ALG_RSA } else { ALG_ECC })
        .u16(ALG_SHA256)
        .u32(attributes)
        .sized(&POLICY_A)
        .u16(ALG_AES)
        .u16(128)
        .u16(ALG_CFB)
        .u16(ALG_NULL);
    if rsa {
        common.u16(2048).u32(0).sized(&[0; 256]).0
    } else {
        common.u16(0x0003).u16(ALG_NULL).sized(&[0; 32]).sized(&[0; 32]).0
    }
}

/// What of a TPMT_PUBLIC decides how the key is used.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicHead {
    pub kind: u16,
    pub name_alg: u16,
    pub attributes: u32,
}

/// Reads the beginning of a TPMT_PUBLIC.
pub fn public_head(public: &[u8]) -> Result<PublicHead, MarshalError> {
    let mut reader = Reader(public);
    Ok(PublicHead { kind: reader.u16()?, name_alg: reader.u16()?, attributes: reader.u32()? })
}

/// SubjectPublicKeyInfo (DER) of an RSA-2048 TPMT_PUBLIC with the template above.
pub fn rsa_spki(public: &[u8]) -> Result<Vec<u8>, MarshalError> {
    let mut reader = Reader(public);
    if reader.u16()? != ALG_RSA {
        return Err(MarshalError::Unexpected("key type"));
    }
    reader.take(6)?;
    reader.sized()?;
    // symmetric, scheme, its hash, keyBits, exponent
    reader.take(2 + 2 + 2 + 2 + 4)?;
    let modulus = reader.sized()?;
    if modulus.len() != 256 || modulus.first().is_none_or(|b| b & 0x80 == 0) {
        return Err(MarshalError::Unexpected("modulus"));
    }
    let mut der = vec![
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
    ];
    der.extend_from_slice(modulus);
    der.extend_from_slice(&[0x02, 0x03, 0x01, 0x00, 0x01]);
    Ok(der)
}

/// TPML_PCR_SELECTION of one bank of SHA-256.
pub fn pcr_selection(mask: u32) -> Vec<u8> {
    let [low, middle, high, _] = mask.to_le_bytes();
    Writer::default().u32(1).u16(ALG_SHA256).u8(3).u8(low).u8(middle).u8(high).0
}
