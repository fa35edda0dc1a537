// What the published IC WebSocket SDK says of frames and certificates.

import { Actor, Cbor, Certificate } from "@dfinity/agent";
import { Ed25519KeyIdentity } from "@dfinity/identity";
import { Principal } from "@dfinity/principal";
import { IcWebSocket, createWsConfig } from "ic-websocket-js";
import { createRequire } from "node:module";
import { bytes, remembering, serve } from "../serve.mjs";
import { frames } from "../session.mjs";

// The agent's own check of a signature, made once for each: the same delegation comes with many certificates.
const require = createRequire(import.meta.url);
const bls = require(require.resolve("@dfinity/agent").replace(/index\.js$/, "utils/bls.js"));
bls.blsVerify = remembering(bls.blsVerify);

const judgeFrames = frames({ IcWebSocket, createWsConfig, Actor, Cbor, Principal, Ed25519KeyIdentity }, {}, async (ws) => {
  await ws._httpAgent.fetchRootKey(); // the SDK does not wait for its own
});

/** Judges a certificate alone, as the agent in the SDK does. */
async function certificate(c) {
  await Certificate.create({
    certificate: bytes(c.certificate).buffer,
    rootKey: bytes(c.root).buffer,
    canisterId: Principal.fromUint8Array(bytes(c.canister)),
  });
}

await serve({ sdk: (c) => (c.frame ? judgeFrames(c) : certificate(c)) });
