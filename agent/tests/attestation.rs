//! Keys, evidence and TPM structures against other tools.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

mod support;

use serde_json::json;
use shelter_agent::attest::evidence::report_data;
use shelter_agent::attest::jwe::{GuestKey, JweError};
use shelter_agent::attest::marshal::{
    RS_PW, Reader, attestation_template, command, endorsement_template, pcr_selection, public_head, response, rsa_spki,
};
use support::{Random, read_json, rounds, unhex};

fn base64url(text: &str) -> Vec<u8> {
    use base64ct::{Base64UrlUnpadded, Encoding};
    Base64UrlUnpadded::decode_vec(text).unwrap()
}

#[test]
fn opens_what_jose_encrypted() {
    let vectors = read_json("tests/vectors/jwe.json");
    let key = GuestKey::from_bytes(&base64url(vectors["d"].as_str().unwrap())).unwrap();
    assert_eq!(key.coordinates().0, vectors["x"]);
    assert_eq!(key.coordinates().1, vectors["y"]);
    for case in vectors["opens"].as_array().unwrap() {
        let opened = key.open(case["jwe"].to_string().as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&opened).unwrap(), case["plain"]);
    }
    for case in vectors["refused"].as_array().unwrap() {
        let error = key.open(case["jwe"].to_string().as_bytes()).err();
        assert_eq!(error, Some(JweError::Algorithm), "{}", case["name"]);
    }
}

#[test]
fn refuses_one_altered_character_anywhere() {
    let vectors = read_json("tests/vectors/jwe.json");
    let key = GuestKey::from_bytes(&base64url(vectors["d"].as_str().unwrap())).unwrap();
    let jwe = &vectors["opens"][1]["jwe"];
    for member in ["protected", "encrypted_key", "iv", "ciphertext", "tag"] {
        let text = jwe[member].as_str().unwrap();
        for at in 0..text.len() {
            // The last character of a part carries bits that decoders may not look at.
            let mut altered = text.as_bytes().to_vec();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let mut copy = jwe.clone();
            copy[member] = String::from_utf8(altered).unwrap().into();
            assert!(key.open(copy.to_string().as_bytes()).is_err(), "{member} {at}");
        }
    }
}

#[test]
fn another_guest_cannot_open_it() {
    let vectors = read_json("tests/vectors/jwe.json");
    let other = GuestKey::generate().unwrap();
    let error = other.open(vectors["opens"][1]["jwe"].to_string().as_bytes()).err();
    assert_eq!(error, Some(JweError::Unwrap));
}

#[test]
fn two_guests_have_two_keys() {
    assert_ne!(GuestKey::generate().unwrap().coordinates(), GuestKey::generate().unwrap().coordinates());
}

/// Computed with another implementation of RFC 8785 and SHA-384 from Trustee's description.
#[test]
fn report_data_binds_nonce_and_key() {
    let vectors = read_json("tests/vectors/jwe.json");
    let nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let key = json!({
        "kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": vectors["x"], "y": vectors["y"],
    });
    let hex = |data: [u8; 48]| data.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(
        hex(report_data(nonce, &key)),
        "d4bd1841ef158d7c3904848b81d834cafb2fb888d896151632a2aa5e8c258da20f8ba11735fc30d095f10ed26e055e09"
    );
    assert_ne!(hex(report_data("B", &key)), hex(report_data(nonce, &key)));
}

#[test]
fn templates_are_those_of_tpm2_tools() {
    let vectors = read_json("tests/vectors/tpm.json");
    let file = |name: &str| unhex(vectors[name].as_str().unwrap());
    // TPM2B_PUBLIC: what differs is only the key itself, at the end.
    let same = |ours: Vec<u8>, theirs: Vec<u8>, key: usize| {
        assert_eq!(ours.len(), theirs.len() - 2);
        assert_eq!(ours[..ours.len() - key], theirs[2..theirs.len() - key]);
    };
    same(attestation_template(&[0; 256]), file("ak_public"), 256);
    same(endorsement_template(true), file("ek_rsa"), 256);
    same(endorsement_template(false), file("ek_ecc")[..].to_vec(), 68 - 2);
    assert_eq!(rsa_spki(&file("ak_public")[2..]).unwrap(), file("ak_der"));
    assert!(rsa_spki(&file("ek_ecc")[2..]).is_err());
    assert_eq!(public_head(&file("ek_rsa")[2..]).unwrap().attributes, 0x0003_00b2);
}

/// TPM 2.0 library part 3 (PCR_Read, Quote): worked out by hand from the tables.
#[test]
fn commands_have_their_headers_and_areas() {
    let read = command(0x17E, &[], &[], &pcr_selection(0xFF));
    assert_eq!(read, unhex("8001000000140000017e00000001000b03ff0000"));
    let flush = command(0x165, &[], &[], &0x8000_0001u32.to_be_bytes());
    assert_eq!(flush, unhex("80010000000e0000016580000001"));
    let authorised = command(0x158, &[0x8000_0001], &[RS_PW], &[0xAA]);
    assert_eq!(
        authorised,
        unhex("80020000001c0000015880000001000000094000000900000100 00aa".replace(' ', "").as_str())
    );
    assert_eq!(response(&unhex("8001 0000000a 00000922".replace(' ', "").as_str())).unwrap(), (0x922, &[][..]));
    assert!(response(&unhex("80010000000b00000000")).is_err());
    assert!(response(&unhex("8001000000")).is_err());
}

#[test]
fn answers_of_a_hostile_tpm_do_no_harm() {
    let vectors = read_json("tests/vectors/tpm.json");
    let public = unhex(vectors["ak_public"].as_str().unwrap());
    let mut random = Random::new("tpm");
    for _ in 0..rounds(5000) {
        let mut bytes = public.clone();
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
        bytes.truncate(random.below(bytes.len() + 1));
        let _ = response(&bytes);
        let _ = rsa_spki(&bytes);
        let _ = public_head(&bytes);
        let mut reader = Reader(&bytes);
        while reader.sized().is_ok_and(|part| !part.is_empty()) {}
    }
}
