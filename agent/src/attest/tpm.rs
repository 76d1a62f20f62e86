//! The TPM: commands over its device, which nobody else in the guest can open.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::thread::sleep;
use std::time::Duration;

use super::marshal::{
    ALG_NULL, ALG_SHA256, MarshalError, RH_ENDORSEMENT, RH_NULL, RS_PW, Reader, Writer, attestation_template, command,
    pcr_selection, response,
};

const CREATE_PRIMARY: u32 = 0x131;
const ACTIVATE_CREDENTIAL: u32 = 0x147;
const NV_READ: u32 = 0x14E;
const POLICY_SECRET: u32 = 0x151;
const QUOTE: u32 = 0x158;
const FLUSH_CONTEXT: u32 = 0x165;
const NV_READ_PUBLIC: u32 = 0x169;
const READ_PUBLIC: u32 = 0x173;
const START_AUTH_SESSION: u32 = 0x176;
const PCR_READ: u32 = 0x17E;
const PCR_EXTEND: u32 = 0x182;

const MAX_RESPONSE: usize = 4096;
/// Every TPM reads at least this much of an index at once.
const NV_CHUNK: usize = 512;
const MAX_NV: usize = 8192;
/// TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: ask again.
const BUSY: [u32; 3] = [0x908, 0x90A, 0x922];
const MAX_TRIES: u32 = 40;

/// What went wrong with the TPM.
#[derive(Debug)]
pub enum TpmError {
    Device(io::Error),
    Refused { what: &'static str, code: u32 },
    Answer { what: &'static str, error: MarshalError },
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => write!(f, "the TPM's device failed: {error}"),
            Self::Refused { what, code } => write!(f, "the TPM refused to {what}: code {code:#x}"),
            Self::Answer { what, error } => {
                write!(f, "the TPM's answer when asked to {what}: {error}")
            }
        }
    }
}

/// A loaded or persistent key.
pub struct Key {
    pub handle: u32,
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// An open TPM.
pub struct Tpm {
    device: File,
}

impl Tpm {
    /// Opens the TPM, if this machine has one.
    pub fn open() -> Option<Self> {
        // Not the resource manager's device: it swaps every key in and out around every command.
        OpenOptions::new().read(true).write(true).open("/dev/tpm0").ok().map(|device| Self { device })
    }

    fn run(
        &mut self,
        what: &'static str,
        code: u32,
        handles: &[u32],
        auths: &[u32],
        parameters: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let request = command(code, handles, auths, parameters);
        for tries in 1.. {
            self.device.write_all(&request).map_err(TpmError::Device)?;
            let mut answer = vec![0; MAX_RESPONSE];
            let length = self.device.read(&mut answer).map_err(TpmError::Device)?;
            answer.truncate(length);
            let (code, rest) = response(&answer).map_err(|error| TpmError::Answer { what, error })?;
            match code {
                0 => return Ok(rest.to_vec()),
                busy if BUSY.contains(&busy) && tries < MAX_TRIES => sleep(Duration::from_millis(5)),
                code => return Err(TpmError::Refused { what, code }),
            }
        }
        Err(TpmError::Refused { what, code: 0 })
    }

    /// Makes the attestation key, another one at each call with other `unique` bytes.
    pub fn create_attestation_key(&mut self, unique: &[u8]) -> Result<Key, TpmError> {
        self.create_primary("make an attestation key", &attestation_template(unique))
    }

    /// Makes a primary key of the endorsement hierarchy.
    pub fn create_primary(&mut self, what: &'static str, template: &[u8]) -> Result<Key, TpmError> {
        // An empty TPM2B_SENSITIVE_CREATE, the template, no outside information, no creation PCRs.
        let sensitive = Writer::default().sized(&[]).sized(&[]).0;
        let parameters = Writer::default().sized(&sensitive).sized(template).sized(&[]).u32(0).0;
        let answer = self.run(what, CREATE_PRIMARY, &[RH_ENDORSEMENT], &[RS_PW], &parameters)?;
        let parse = || -> Result<Key, MarshalError> {
            let mut reader = Reader(&answer);
            let handle = reader.u32()?;
            reader.u32()?;
            Ok(Key { handle, public: reader.sized()?.to_vec() })
        };
        parse().map_err(|error| TpmError::Answer { what, error })
    }

    /// The public part of a key that is there.
    pub fn read_public(&mut self, handle: u32) -> Result<Key, TpmError> {
        let what = "read a public key";
        let answer = self.run(what, READ_PUBLIC, &[handle], &[], &[])?;
        let public = Reader(&answer).sized().map_err(|error| TpmError::Answer { what, error })?.to_vec();
        Ok(Key { handle, public })
    }

    /// The content of an NV index that anyone may read.
    pub fn read_nv(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        let what = "read a certificate";
        let bad = |error| TpmError::Answer { what, error };
        let answer = self.run(what, NV_READ_PUBLIC, &[index], &[], &[])?;
        let parse = || -> Result<usize, MarshalError> {
            let mut public = Reader(Reader(&answer).sized()?);
            public.take(4 + 2 + 4)?;
            public.sized()?;
            public.u16().map(usize::from)
        };
        let size = parse().map_err(bad)?;
        if size > MAX_NV {
            return Err(bad(MarshalError::Unexpected("size")));
        }
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            let chunk = (size - content.len()).min(NV_CHUNK);
            let parameters = Writer::default().u16(chunk as u16).u16(content.len() as u16).0;
            let answer = self.run(what, NV_READ, &[index, index], &[RS_PW], &parameters)?;
            let mut reader = Reader(&answer);
            let part = reader.u32().and_then(|_| reader.sized()).map_err(bad)?;
            if part.len() != chunk {
                return Err(bad(MarshalError::Unexpected("length")));
            }
            content.extend_from_slice(part);
        }
        Ok(content)
    }

    /// The 24 registers of the SHA-256 bank.
    pub fn read_pcrs(&mut self) -> Result<Vec<[u8; 32]>, TpmError> {
        let what = "read its registers";
        let bad = |error| TpmError::Answer { what, error };
        let mut values = Vec::with_capacity(24);
        // A TPM answers with eight digests at most.
        for group in 0..3 {
            let answer = self.run(what, PCR_READ, &[], &[], &pcr_selection(0xFF << (group * 8)))?;
            let parse = || -> Result<Vec<[u8; 32]>, MarshalError> {
                let mut reader = Reader(&answer);
                reader.take(4 + pcr_selection(0).len())?;
                if reader.u32()? != 8 {
                    return Err(MarshalError::Unexpected("number of registers"));
                }
                (0..8)
                    .map(|_| <[u8; 32]>::try_from(reader.sized()?).map_err(|_| MarshalError::Unexpected("digest size")))
                    .collect()
            };
            values.extend(parse().map_err(bad)?);
        }
        Ok(values)
    }

    /// Extends a register of the SHA-256 bank.
    pub fn extend(&mut self, pcr: u32, digest: &[u8; 32]) -> Result<(), TpmError> {
        let parameters = Writer::default().u32(1).u16(ALG_SHA256).raw(digest).0;
        self.run("extend a register", PCR_EXTEND, &[pcr], &[RS_PW], &parameters).map(|_| ())
    }

    /// Signs registers together with `data`: TPMS_ATTEST and TPMT_SIGNATURE.
    pub fn quote(&mut self, key: &Key, data: &[u8], mask: u32) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let what = "quote";
        let parameters = Writer::default().sized(data).u16(ALG_NULL).raw(&pcr_selection(mask)).0;
        let answer = self.run(what, QUOTE, &[key.handle], &[RS_PW], &parameters)?;
        let parse = || -> Result<_, MarshalError> {
            let mut reader = Reader(&answer);
            let length = reader.u32()? as usize;
            let mut parameters = Reader(reader.take(length)?);
            let message = parameters.sized()?.to_vec();
            Ok((message, parameters.0.to_vec()))
        };
        parse().map_err(|error| TpmError::Answer { what, error })
    }

    /// A policy session that satisfies PolicySecret(endorsement hierarchy).
    pub fn endorsement_session(&mut self, hash: u16, nonce: &[u8]) -> Result<u32, TpmError> {
        let what = "start a session";
        let parameters = Writer::default().sized(nonce).sized(&[]).u8(1).u16(ALG_NULL).u16(hash).0;
        let answer = self.run(what, START_AUTH_SESSION, &[RH_NULL, RH_NULL], &[], &parameters)?;
        let session = Reader(&answer).u32().map_err(|error| TpmError::Answer { what, error })?;
        let parameters = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0).0;
        self.run("authorise a session", POLICY_SECRET, &[RH_ENDORSEMENT, session], &[RS_PW], &parameters)?;
        Ok(session)
    }

    /// Opens a credential made for `endorsement` and the name of `attestation`.
    pub fn activate_credential(
        &mut self,
        attestation: &Key,
        endorsement: &Key,
        session: u32,
        blob: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        let what = "activate the credential";
        let parameters = Writer::default().raw(blob).raw(secret).0;
        let handles = [attestation.handle, endorsement.handle];
        let answer = self.run(what, ACTIVATE_CREDENTIAL, &handles, &[RS_PW, session], &parameters)?;
        let mut reader = Reader(&answer);
        let secret = reader.u32().and_then(|_| reader.sized());
        secret.map(<[u8]>::to_vec).map_err(|error| TpmError::Answer { what, error })
    }

    /// Forgets a key or session.
    pub fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        self.run("forget a key", FLUSH_CONTEXT, &[], &[], &handle.to_be_bytes()).map(|_| ())
    }
}
