//! What a replica asks of a call, in the order of its validator, with the crates that it consists of where they are
//! published: reading and hashing of requests, all plain signatures, canister signatures.

use candid::Principal;
use ic_transport_types::{DelegationPermissions, Envelope, EnvelopeContent, SignedDelegation};
use serde::Deserialize;
use serde_bytes::ByteBuf;
use serde_cbor::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// How far ahead an ingress expiry may be: five minutes, and half a minute for clocks that drift.
const MAX_EXPIRY: u64 = 330_000_000_000;
const MAX_DELEGATIONS: usize = 20;
const MAX_TARGETS: usize = 1000;
const MAX_NONCE: usize = 32;

pub fn judge(raw: &[u8], root: &[u8], canister: &[u8], now: u64) -> Result<(), String> {
    let envelope: Envelope = serde_cbor::from_slice(raw).map_err(|e| e.to_string())?;
    let EnvelopeContent::Call {
        nonce, canister_id, ..
    } = envelope.content.as_ref()
    else {
        return Err("not a call".into());
    };
    if canister_id.as_slice() != canister {
        return Err("another canister".into());
    }
    if nonce.as_ref().is_some_and(|n| n.len() > MAX_NONCE) {
        return Err("nonce too long".into());
    }
    let expiry = envelope.content.ingress_expiry();
    if expiry < now || expiry > now + MAX_EXPIRY {
        return Err("ingress expiry out of range".into());
    }
    let sender = *envelope.content.sender();
    let (Some(key), Some(signature)) = (&envelope.sender_pubkey, &envelope.sender_sig) else {
        return Err("not signed".into());
    };
    if sender == Principal::anonymous() {
        return Err("anonymous".into());
    }
    if Principal::self_authenticating(key) != sender {
        return Err("sender is not of the key".into());
    }
    let links = envelope.sender_delegation.as_deref().unwrap_or_default();
    let last = chain(key, links, root, canister_id, now)?;
    let mut message = b"\x0Aic-request".to_vec();
    message.extend_from_slice(envelope.content.to_request_id().as_slice());
    verify(last, &message, signature, root)
}

/// Follows the delegations and returns the key that has to sign the request.
fn chain<'a>(
    key: &'a [u8],
    links: &'a [SignedDelegation],
    root: &[u8],
    canister: &Principal,
    now: u64,
) -> Result<&'a [u8], String> {
    if links.len() > MAX_DELEGATIONS {
        return Err("too many delegations".into());
    }
    let mut seen = HashSet::from([key]);
    for SignedDelegation { delegation, .. } in links {
        if delegation.expiration < now {
            return Err("delegation expired".into());
        }
        if !seen.insert(&delegation.pubkey) {
            return Err("delegations in a circle".into());
        }
        if delegation.permissions == Some(DelegationPermissions::Queries) {
            return Err("delegation for queries".into());
        }
        match &delegation.targets {
            Some(targets) if targets.len() > MAX_TARGETS => return Err("too many targets".into()),
            Some(targets) if !targets.contains(canister) => return Err("not a target".into()),
            _ => {}
        }
    }
    let mut key = key;
    for link in links {
        verify(key, &link.delegation.signable(), &link.signature, root)?;
        key = &link.delegation.pubkey;
    }
    Ok(key)
}

/// Verifies a signature by a key in DER form, of whatever kind it is.
fn verify(key: &[u8], message: &[u8], signature: &[u8], root: &[u8]) -> Result<(), String> {
    let ok = |good: bool| {
        if good {
            Ok(())
        } else {
            Err("signature".to_string())
        }
    };
    if let Ok(k) = ic_ed25519::PublicKey::deserialize_rfc8410_der(key) {
        return k
            .verify_signature(message, signature)
            .map_err(|e| format!("{e:?}"));
    }
    if let Ok(k) = ic_secp256k1::PublicKey::deserialize_der(key) {
        if k.serialize_der() != key {
            return Err("another encoding of the key".into());
        }
        return ok(k.verify_ecdsa_signature_with_malleability(message, signature));
    }
    if let Ok(k) = ic_secp256r1::PublicKey::deserialize_canonical_der(key) {
        return ok(k.verify_signature(message, signature));
    }
    if let Some(cose) = cose_key(key) {
        return webauthn(cose, message, signature);
    }
    let raw = root.get(root.len() - 96..).expect("a root key");
    ic_signature_verification::verify_canister_sig(message, signature, key, raw)
}

/// The COSE key in a public key of that kind.
fn cose_key(der: &[u8]) -> Option<&[u8]> {
    const ALGORITHM: &[u8] = b"\x30\x0c\x06\x0a\x2b\x06\x01\x04\x01\x83\xb8\x43\x01\x01\x03";
    let at = der.windows(ALGORITHM.len()).position(|w| w == ALGORITHM)? + ALGORITHM.len();
    let rest = &der[at..];
    let head = match *rest.first()? {
        n if n < 0x80 => 1,
        0x81 => 2,
        0x82 => 3,
        _ => return None,
    };
    rest.get(head + 1..) // behind the count of unused bits
}

#[derive(Deserialize)]
struct Assertion {
    authenticator_data: ByteBuf,
    client_data_json: ByteBuf,
    signature: ByteBuf,
}

/// Verifies an assertion. The replica's own code for it is not published as a crate; this does what that does.
fn webauthn(cose: &[u8], message: &[u8], signature: &[u8]) -> Result<(), String> {
    let assertion: Assertion = serde_cbor::from_slice(signature).map_err(|e| e.to_string())?;
    let client: serde_json::Value =
        serde_json::from_slice(&assertion.client_data_json).map_err(|e| e.to_string())?;
    let challenge = client["challenge"].as_str().ok_or("no challenge")?;
    if challenge != base64url(message) {
        return Err("another challenge".into());
    }
    let mut signed = assertion.authenticator_data.to_vec();
    signed.extend_from_slice(&Sha256::digest(&assertion.client_data_json));
    let fields: BTreeMap<Value, Value> = serde_cbor::from_slice(cose).map_err(|e| e.to_string())?;
    let bytes = |label: i128| match fields.get(&Value::Integer(label)) {
        Some(Value::Bytes(b)) => Ok(b.as_slice()),
        _ => Err("cose key lacks a part".to_string()),
    };
    let number = |label: i128| match fields.get(&Value::Integer(label)) {
        Some(Value::Integer(n)) => *n,
        _ => 0,
    };
    match (number(1), number(3)) {
        (2, -7) if number(-1) == 1 => {
            let key = ic_secp256r1::PublicKey::deserialize_from_xy(bytes(-2)?, bytes(-3)?)
                .map_err(|e| format!("{e:?}"))?;
            if key.verify_signature_with_der_encoded_sig(&signed, &assertion.signature) {
                Ok(())
            } else {
                Err("signature".into())
            }
        }
        (3, -257) => {
            let number = rsa::BigUint::from_bytes_be;
            let key = rsa::RsaPublicKey::new(number(bytes(-1)?), number(bytes(-2)?))
                .map_err(|e| e.to_string())?;
            key.verify(
                rsa::Pkcs1v15Sign::new::<Sha256>(),
                &Sha256::digest(&signed),
                &assertion.signature,
            )
            .map_err(|e| e.to_string())
        }
        _ => Err("algorithm not supported".into()),
    }
}

fn base64url(b: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in b.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, x| n << 8 | u32::from(*x)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(DIGITS[(n >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}
