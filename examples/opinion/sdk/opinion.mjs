// What the published IC WebSocket SDK says of a frame. Nothing of it is changed: each case is a session of its own over a
// socket that goes nowhere, with the handshake first and then the frame, and the verdict is what an application sees.

import { Actor, Cbor, Certificate } from "@dfinity/agent";
import { IDL } from "@dfinity/candid";
import { Ed25519KeyIdentity } from "@dfinity/identity";
import { Principal } from "@dfinity/principal";
import { IcWebSocket, createWsConfig } from "ic-websocket-js";
import { createRequire } from "node:module";
import { bytes, remembering, serve } from "../serve.mjs";

// The agent's own check of a signature, made once for each: the same delegation comes with many certificates.
const require = createRequire(import.meta.url);
const bls = require(require.resolve("@dfinity/agent").replace(/index\.js$/, "utils/bls.js"));
bls.blsVerify = remembering(bls.blsVerify);

globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
  }
};

/** A socket that tells what the SDK does with it. */
class Socket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  static last;
  readyState = Socket.OPEN;
  constructor() {
    Socket.last = this;
  }
  send() {
    this.sent();
  }
  close(code, reason) {
    this.closed(`${code} ${reason}`);
  }
}
globalThis.WebSocket = Socket;

// The SDK draws the nonce of its client key and asks the network for the root key; the case knows both.
let drawn = 0n;
const getRandomValues = crypto.getRandomValues.bind(crypto);
crypto.getRandomValues = (array) => {
  if (array instanceof BigUint64Array) array[0] = drawn;
  else getRandomValues(array);
  return array;
};
let rootKey;
globalThis.fetch = async () => new Response(Cbor.encode({ root_key: rootKey }));

const Key = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
const Message = IDL.Record({
  client_key: Key,
  sequence_num: IDL.Nat64,
  timestamp: IDL.Nat64,
  is_service_message: IDL.Bool,
  content: IDL.Vec(IDL.Nat8),
});
const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
const service = ({ IDL }) =>
  IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: Message }), IDL.Opt(IDL.Record({ text: IDL.Text }))], [Result], []),
  });

/** Delivers one frame to a new session; throws unless the application gets it. */
async function frame(c) {
  drawn = BigInt(c.nonce);
  rootKey = bytes(c.root);
  const identity = Ed25519KeyIdentity.generate(bytes(c.seed));
  const canisterId = Principal.fromUint8Array(bytes(c.canister));
  const ws = new IcWebSocket(
    "wss://gateway.example",
    undefined,
    createWsConfig({
      canisterId,
      canisterActor: Actor.createActor(service, { agent: {}, canisterId }),
      identity,
      networkUrl: "https://network.example",
    }),
  );
  await ws._httpAgent.fetchRootKey(); // the SDK does not wait for its own
  const socket = Socket.last;
  const sent = new Promise((resolve, reject) => ([socket.sent, socket.closed] = [resolve, reject]));
  socket.onopen();
  socket.onmessage({ data: bytes(c.handshake).buffer });
  await sent;
  let why = "";
  ws.onerror = (e) => (why = String(e.error.message));
  await new Promise((resolve, reject) => {
    ws.onopen = resolve;
    ws.onmessage = resolve;
    socket.closed = (how) => reject(new Error(`${how}: ${why}`));
    socket.onmessage({ data: bytes(c.frame).buffer });
  });
  ws._cancelOpenTimeout();
}

/** Judges a certificate alone, as the agent in the SDK does. */
async function certificate(c) {
  await Certificate.create({
    certificate: bytes(c.certificate).buffer,
    rootKey: bytes(c.root).buffer,
    canisterId: Principal.fromUint8Array(bytes(c.canister)),
  });
}

await serve({ sdk: (c) => (c.frame ? frame(c) : certificate(c)) });
