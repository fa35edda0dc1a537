//! What the network's own crates say of certificates and envelopes: one JSON case per line in, one verdict per line out.

mod envelope;

use ic_cbor::CertificateToCbor;
use ic_certificate_verification::VerifyCertificate;
use ic_certification::Certificate;
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Five minutes in nanoseconds, to either side of now.
const CERTIFICATE_OFFSET: u128 = 300_000_000_000;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let stdin = std::io::stdin();
    let mut stdout = std::io::stdout().lock();
    for line in stdin.lock().lines() {
        let case: Value = serde_json::from_str(&line.expect("a line")).expect("a case");
        let verdict = catch_unwind(AssertUnwindSafe(|| judge(&case)))
            .unwrap_or_else(|_| Err("panic".into()))
            .err()
            .unwrap_or_default();
        let answer = json!({ "id": case["id"], "verdicts": { "network": verdict } });
        writeln!(stdout, "{answer}").expect("standard output is open");
    }
}

fn hex_field(case: &Value, name: &str) -> Vec<u8> {
    hex::decode(case[name].as_str().unwrap_or_default()).expect("hexadecimal")
}

fn judge(case: &Value) -> Result<(), String> {
    let root = hex_field(case, "root");
    let canister = hex_field(case, "canister");
    let now: u64 = case["now"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("a time");
    if case["envelope"].is_string() {
        return envelope::judge(&hex_field(case, "envelope"), &root, &canister, now);
    }
    let certificate =
        Certificate::from_cbor(&hex_field(case, "certificate")).map_err(|e| e.to_string())?;
    certificate
        .verify(&canister, &root, &u128::from(now), &CERTIFICATE_OFFSET)
        .map_err(|e| e.to_string())
}
