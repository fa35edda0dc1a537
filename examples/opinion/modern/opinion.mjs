// What the agents of newer front ends say of certificates, and of frames when the SDK's checks are made with their
// functions, as everybody does who moves the SDK to them.

import * as agent3 from "@dfinity/agent";
import * as principal3 from "@dfinity/principal";
import * as agent5 from "core5/agent";
import * as principal5 from "core5/principal";
import * as agent6 from "core6/agent";
import * as principal6 from "core6/principal";
import { bytes, remembering, serve } from "../serve.mjs";

/** Verifies a certificate and returns it. */
function verified(lib, Principal, raw, c) {
  const canisterId = Principal.fromUint8Array(bytes(c.canister));
  return lib.Certificate.create({
    certificate: raw,
    rootKey: bytes(c.root),
    canisterId, // until 3
    principal: { canisterId }, // since 4
    blsVerify: lib.remembered,
  });
}

const isBytes = (v) => v instanceof Uint8Array && v.length > 0;

/** Throws unless the frame proves its content. */
async function frame(lib, Principal, c) {
  const f = lib.Cbor.decode(bytes(c.frame));
  if (typeof f.key !== "string" || !isBytes(f.content) || !isBytes(f.cert) || !isBytes(f.tree)) {
    throw new Error("not a canister frame");
  }
  const m = lib.Cbor.decode(f.content);
  const numeric = (v) => typeof v === "number" || typeof v === "bigint";
  if (
    !(m.client_key?.client_principal instanceof Uint8Array) ||
    !numeric(m.client_key.client_nonce) ||
    !numeric(m.sequence_num) ||
    !numeric(m.timestamp) ||
    typeof m.is_service_message !== "boolean" ||
    !(m.content instanceof Uint8Array)
  ) {
    throw new Error("not a message");
  }
  if (BigInt(m.sequence_num) !== 1n || BigInt(m.client_key.client_nonce) !== BigInt(c.nonce)) {
    throw new Error("a number was misread");
  }
  const cert = await verified(lib, Principal, f.cert, c);
  const tree = lib.Cbor.decode(f.tree);
  const found = (result) => {
    if (!(result.value instanceof Uint8Array)) throw new Error(`lookup is ${result.status}`);
    return Buffer.from(result.value);
  };
  const certified = found(cert.lookup_path(["canister", bytes(c.canister), "certified_data"]));
  if (!certified.equals(Buffer.from(await lib.reconstruct(tree)))) throw new Error("witness is not certified");
  const leaf = found(lib.lookup_path(["websocket", f.key], tree));
  const digest = Buffer.from(await crypto.subtle.digest("SHA-256", f.content));
  if (!leaf.equals(digest)) throw new Error("content is not in the witness");
}

const judge = (module, { Principal }) => {
  // The library's own check of a signature, made once for each: the same delegation comes with many certificates.
  const lib = { ...module, remembered: remembering(module.blsVerify) };
  return async (c) => {
    if (c.frame) await frame(lib, Principal, c);
    else await verified(lib, Principal, bytes(c.certificate), c);
  };
};

const all = {
  agent3: judge(agent3, principal3),
  core5: judge(agent5, principal5),
  core6: judge(agent6, principal6),
};
const wanted = process.argv.slice(2);
await serve(Object.fromEntries(Object.entries(all).filter(([name]) => wanted.length === 0 || wanted.includes(name))));
