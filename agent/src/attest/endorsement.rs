//! The endorsement key: the TPM's identity, certified by its maker.

use super::marshal::{ALG_ECC, ALG_RSA, RS_PW, USER_WITH_AUTH, endorsement_template, public_head};
use super::tpm::{Key, Tpm, TpmError};

/// An endorsement key may be at: its certificate's NV index, its persistent handle, and for the templates that
/// can be made again, their type (TCG EK Credential Profile 2.5, section 2.2.1.4 and annex B; the handles are
/// those swtpm and cloud TPMs use).
const PLACES: [(u32, u32, Option<u16>); 4] = [
    (0x01C0_0016, 0x8101_0016, None),
    (0x01C0_0014, 0x8101_0014, None),
    (0x01C0_0002, 0x8101_0001, Some(ALG_RSA)),
    (0x01C0_000A, 0x8101_0002, Some(ALG_ECC)),
];
const DER_SEQUENCE: u8 = 0x30;

/// The key and its certificate.
pub struct Endorsement {
    pub key: Key,
    /// DER.
    pub certificate: Vec<u8>,
    policy_hash: Option<u16>,
}

impl Endorsement {
    /// The first certified endorsement key of this TPM, if it has one.
    pub fn find(tpm: &mut Tpm) -> Result<Option<Self>, TpmError> {
        for (index, handle, kind) in PLACES {
            let certificate = match tpm.read_nv(index) {
                Ok(certificate) => certificate,
                Err(TpmError::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            let Some(certificate) = trim(&certificate) else {
                continue;
            };
            let key = match (tpm.read_public(handle), kind) {
                (Ok(key), _) => key,
                (Err(TpmError::Refused { .. }), Some(kind)) => {
                    tpm.create_primary("make its endorsement key", &endorsement_template(kind == ALG_RSA))?
                }
                (Err(TpmError::Refused { .. }), None) => continue,
                (Err(error), _) => return Err(error),
            };
            let head =
                public_head(&key.public).map_err(|error| TpmError::Answer { what: "read a public key", error })?;
            let policy_hash = (head.attributes & USER_WITH_AUTH == 0).then_some(head.name_alg);
            return Ok(Some(Self { key, certificate: certificate.to_vec(), policy_hash }));
        }
        Ok(None)
    }

    /// Opens a credential (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) with this key.
    pub fn activate(
        &self,
        tpm: &mut Tpm,
        attestation: &Key,
        nonce: &[u8],
        blob: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let session = match self.policy_hash {
            Some(hash) => tpm.endorsement_session(hash, nonce)?,
            None => RS_PW,
        };
        let result = tpm.activate_credential(attestation, &self.key, session, blob, secret);
        if session != RS_PW {
            tpm.flush(session)?;
        }
        result
    }
}

/// Cuts what an NV index holds behind a DER certificate.
fn trim(content: &[u8]) -> Option<&[u8]> {
    match content {
        [DER_SEQUENCE, 0x82, high, low, ..] => content.get(..4 + (usize::from(*high) << 8 | usize::from(*low))),
        [DER_SEQUENCE, 0x81, length, ..] => content.get(..3 + usize::from(*length)),
        _ => None,
    }
}
