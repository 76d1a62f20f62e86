//! The evidence of a vTPM guest (docs/formats.md).

use std::fs::File;
use std::io::Read;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use super::endorsement::Endorsement;
use super::jwe::{ALGORITHM, GuestKey};
use super::marshal::{Writer, rsa_spki};
use super::tpm::{Key, Tpm, TpmError};
use crate::failure::Failure;

const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// A longer log does not fit into a request.
const MAX_EVENT_LOG: u64 = 256 * 1024;
/// PCR 0 to 15 are quoted.
const QUOTED: u32 = 0xFFFF;
/// Where a guest measures what it has to say about itself; zero in one that has nothing to say.
const TESTIMONY_PCR: u32 = 12;
/// A TPM takes this much of the report data.
const QUOTE_DATA: usize = 32;

impl From<TpmError> for Failure {
    fn from(error: TpmError) -> Self {
        Failure::new("TPM_FAILED", error)
    }
}

/// The public half of this guest's key as a JWK.
pub fn tee_pubkey(key: &GuestKey) -> Value {
    let (x, y) = key.coordinates();
    json!({ "kty": "EC", "crv": "P-256", "alg": ALGORITHM, "x": x, "y": y })
}

/// SHA-384 of the canonical JSON that binds evidence to a nonce and a key. All names are ASCII and serde_json
/// sorts them, so its text is that of RFC 8785.
pub fn report_data(nonce: &str, tee_pubkey: &Value) -> [u8; 48] {
    let text = json!({ "additional-evidence": "", "nonce": nonce, "tee-pubkey": tee_pubkey }).to_string();
    Sha384::digest(text.as_bytes()).into()
}

/// A TPM ready to give evidence.
pub struct Attester {
    tpm: Tpm,
    attestation: Key,
    endorsement: Option<Endorsement>,
    testimony: Option<String>,
}

impl Attester {
    /// Opens the TPM and makes this boot's attestation key.
    pub fn open() -> Result<Self, Failure> {
        let Some(mut tpm) = Tpm::open() else {
            return Err(Failure::new("NO_EVIDENCE", "this platform has no TPM, so there is no evidence to send"));
        };
        let mut unique = [0; 256];
        crate::entropy::fill(&mut unique).map_err(|e| Failure::guest(format_args!("no entropy: {e}")))?;
        let attestation = tpm.create_attestation_key(&unique)?;
        let endorsement = Endorsement::find(&mut tpm)?;
        Ok(Self { tpm, attestation, endorsement, testimony: None })
    }

    /// What `/auth` carries, so that the answer can carry a challenge.
    pub fn introduction(&self) -> Value {
        match &self.endorsement {
            Some(endorsement) => json!({
                "ak_tpm_public": Base64::encode_string(&self.tpm_public()),
                "ek_certificate": Base64::encode_string(&endorsement.certificate),
            }),
            None => json!({}),
        }
    }

    /// Measures what is wrong with this guest: no evidence of this boot can leave it out any more.
    pub fn testify(&mut self, testimony: String) -> Result<(), Failure> {
        self.tpm.extend(TESTIMONY_PCR, &Sha256::digest(testimony.as_bytes()).into())?;
        self.testimony = Some(testimony);
        Ok(())
    }

    fn tpm_public(&self) -> Vec<u8> {
        Writer::default().sized(&self.attestation.public).0
    }

    /// Answers the challenge: proof that the attestation key lives in the TPM of the certificate.
    pub fn activate(&mut self, blob: &[u8], secret: &[u8], report_data: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some(endorsement) = &self.endorsement else {
            return Err(Failure::new("TPM_FAILED", "the broker challenges a TPM without endorsement key"));
        };
        let mut nonce = [0; 16];
        crate::entropy::fill(&mut nonce).map_err(|e| Failure::guest(format_args!("no entropy: {e}")))?;
        let opened = Zeroizing::new(endorsement.activate(&mut self.tpm, &self.attestation, &nonce, blob, secret)?);
        let mac = Hmac::<Sha256>::new_from_slice(&opened).map_err(|e| Failure::new("TPM_FAILED", e))?;
        Ok(mac.chain_update(report_data).finalize().into_bytes().to_vec())
    }

    /// The evidence, bound to the report data.
    pub fn evidence(&mut self, report_data: &[u8; 48], activation: Option<Vec<u8>>) -> Result<Value, Failure> {
        let data = report_data.get(..QUOTE_DATA).unwrap_or_default();
        let (message, signature) = self.tpm.quote(&self.attestation, data, QUOTED)?;
        let pcrs: Vec<String> = self.tpm.read_pcrs()?.iter().map(|value| hex(value)).collect();
        let spki = rsa_spki(&self.attestation.public).map_err(|e| Failure::new("TPM_FAILED", e))?;
        let mut evidence = json!({
            "tpm_quote": {
                "signature": Base64::encode_string(&signature),
                "message": Base64::encode_string(&message),
                "pcrs": pcrs,
            },
            "ak_public": Base64::encode_string(&spki),
            "ak_tpm_public": Base64::encode_string(&self.tpm_public()),
            "event_log": Base64::encode_string(&event_log()?),
        });
        if let Some(endorsement) = &self.endorsement {
            evidence["ek_certificate"] = Base64::encode_string(&endorsement.certificate).into();
        }
        if let Some(activation) = activation {
            evidence["activation"] = Base64::encode_string(&activation).into();
        }
        if let Some(testimony) = &self.testimony {
            evidence["guest_report"] = testimony.as_str().into();
        }
        Ok(evidence)
    }
}

fn event_log() -> Result<Vec<u8>, Failure> {
    let mut log = Vec::new();
    let read = File::open(EVENT_LOG).and_then(|f| f.take(MAX_EVENT_LOG + 1).read_to_end(&mut log));
    match read {
        Ok(length) if length as u64 <= MAX_EVENT_LOG => Ok(log),
        Ok(_) => Err(Failure::new("TPM_FAILED", "the event log is too long")),
        Err(error) => Err(Failure::new("TPM_FAILED", format_args!("cannot read the event log: {error}"))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
