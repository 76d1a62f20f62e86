//! The key broker protocol, version 0.4.0, relayed by the host: what it carries back only this guest can read.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::evidence::{Attester, report_data, tee_pubkey};
use super::jwe::GuestKey;
use crate::failure::Failure;
use crate::machine::clock::uptime_ms;
use crate::protocol::json::{self as strict, JsonError, Members};
use crate::protocol::message::{FromHost, ToHost};
use crate::session::Session;

const PREFIX: &str = "/kbs/v0";
const MAX_DEPTH: usize = 16;
const MAX_ANSWER: usize = 512 * 1024;
/// What a broker keeps of a testimony.
const MAX_TESTIMONY: usize = 1000;
/// What of a refusal's reason is passed on.
const MAX_DETAIL: usize = 6000;

fn malformed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new("BROKER_MALFORMED", format_args!("the broker's answer to {what}: {error}"))
}

/// One conversation with the broker.
struct Conversation<'a> {
    session: &'a mut Session,
    cookie: Option<String>,
    next: u32,
}

impl Conversation<'_> {
    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>, Failure> {
        let id = self.next;
        self.next += 1;
        let path = format!("{PREFIX}{path}");
        let body = body.map(|b| b.to_string().into_bytes());
        let request = ToHost::Http { id, method, path: &path, cookie: self.cookie.as_deref(), body: body.as_deref() };
        match self.session.ask_broker(&request, id)? {
            FromHost::HttpResponse { status, cookie, body, .. } => {
                self.cookie = cookie.or_else(|| self.cookie.take());
                if status == 200 { Ok(body) } else { Err(refusal(status, &body)) }
            }
            FromHost::HttpError { message, .. } => Err(Failure::new("BROKER_UNREACHABLE", message)),
            other => Err(crate::session::unexpected(&other)),
        }
    }
}

/// The broker's own words where it has some.
fn refusal(status: u16, body: &[u8]) -> Failure {
    let detail = || -> Result<String, JsonError> {
        Members::of("", strict::parse(body, MAX_DEPTH)?)?.string("detail", 1, MAX_ANSWER)
    };
    match detail() {
        Ok(detail) => Failure::new("BROKER_REFUSED", crate::protocol::message::clip(&detail, MAX_DETAIL)),
        Err(_) => Failure::new("BROKER_REFUSED", format_args!("the broker answered with status {status}")),
    }
}

/// What the broker says to `/auth`.
struct Challenge {
    nonce: String,
    /// Credential blob and encrypted secret.
    credential: Option<(Vec<u8>, Vec<u8>)>,
}

fn parse_challenge(body: &[u8]) -> Result<Challenge, JsonError> {
    let mut answer = Members::of("", strict::parse(body, MAX_DEPTH)?)?;
    let nonce = answer.string("nonce", 1, 1024)?;
    // A Trustee broker sends an empty string here.
    let credential = match answer.value("extra-params") {
        Ok(Value::Object(extra)) if extra.contains_key("tpm") => {
            let mut tpm = Members::of("extra-params", Value::Object(extra))?.object("tpm")?;
            Some((tpm.bytes("credential_blob", 4096)?, tpm.bytes("encrypted_secret", 4096)?))
        }
        _ => None,
    };
    Ok(Challenge { nonce, credential })
}

/// Attests and gives the key that everything is encrypted to. `done` hears of each step that ended.
fn prove(
    conversation: &mut Conversation,
    attester: &mut Attester,
    mut done: impl FnMut(&mut Session, &'static str),
) -> Result<GuestKey, Failure> {
    let key = GuestKey::generate().map_err(Failure::guest)?;
    let pubkey = tee_pubkey(&key);
    let auth = json!({
        "version": "0.4.0",
        "tee": "tpm",
        "extra-params": {
            "supported-hash-algorithms": ["sha256", "sha384", "sha512"],
            "tpm": attester.introduction(),
        },
    });
    let answer = conversation.ask("POST", "/auth", Some(&auth))?;
    let challenge = parse_challenge(&answer).map_err(|e| malformed("/auth", e))?;
    let data = report_data(&challenge.nonce, &pubkey);
    let activation = match &challenge.credential {
        Some((blob, secret)) => Some(attester.activate(blob, secret, &data)?),
        None => None,
    };
    let evidence = attester.evidence(&data, activation)?;
    done(conversation.session, "evidence");
    let attest = json!({
        "init-data": null,
        "runtime-data": { "nonce": challenge.nonce, "tee-pubkey": pubkey },
        "tee-evidence": { "primary_evidence": evidence, "additional_evidence": "" },
    });
    conversation.ask("POST", "/attest", Some(&attest))?;
    done(conversation.session, "verdict");
    Ok(key)
}

/// Tells the broker why this guest does not go on (docs/formats.md, "Testimony"). What the broker answers, or that
/// it cannot be reached, changes nothing: the guest has failed already.
pub fn testify(session: &mut Session, failure: &Failure) {
    let told = Attester::open().and_then(|mut attester| {
        attester.testify(crate::protocol::message::clip(&failure.to_string(), MAX_TESTIMONY).to_owned())?;
        let mut conversation = Conversation { session, cookie: None, next: 1 };
        prove(&mut conversation, &mut attester, |_, _| ())
    });
    // A refusal is what a testimony is answered with.
    drop(told);
}

/// Attests, and fetches the resources at these URIs, in their order.
pub fn fetch(
    session: &mut Session,
    step: &mut &'static str,
    uris: &[String],
) -> Result<Vec<Zeroizing<Vec<u8>>>, Failure> {
    *step = "evidence";
    let mut attester = Attester::open()?;
    let mut conversation = Conversation { session, cookie: None, next: 1 };
    let key = prove(&mut conversation, &mut attester, |session, ended| {
        report(session, ended);
        if ended == "evidence" {
            *step = "verdict";
        }
    })?;

    *step = "secrets";
    let mut resources = Vec::with_capacity(uris.len());
    for uri in uris {
        // The manifest has taken only kbs:///repository/type/tag.
        let path = uri.strip_prefix("kbs://").unwrap_or_default();
        let body = conversation.ask("GET", &format!("/resource{path}"), None).map_err(|mut failure| {
            failure.message = format!("{uri}: {}", failure.message);
            failure
        })?;
        resources.push(key.open(&body).map_err(|e| malformed(uri, e))?);
    }
    if !uris.is_empty() {
        report(conversation.session, step);
    }
    Ok(resources)
}

fn report(session: &mut Session, step: &str) {
    session.channel().say(&ToHost::Step { step, ms: uptime_ms() });
}
