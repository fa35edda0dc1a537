// What a client says of frames. Nothing of it is changed: each case is a session of its own over a socket that goes nowhere,
// with the handshake first and then the frames, and the verdict is what an application sees.

import { bytes } from "./serve.mjs";

globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
  }
};

/** A socket that tells what the client does with it. */
class Socket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  static last;
  readyState = Socket.OPEN;
  bufferedAmount = 0;
  constructor() {
    Socket.last = this;
  }
  send() {
    this.sent();
  }
  close(code, reason) {
    this.readyState = Socket.CLOSED;
    this.closed(`${code} ${reason}`);
    queueMicrotask(() => this.onclose({ code, reason }));
  }
}
globalThis.WebSocket = Socket;

// A client draws the nonce of its key and asks the network for the root key; the case knows both.
let drawn = 0n;
const getRandomValues = crypto.getRandomValues.bind(crypto);
crypto.getRandomValues = (array) => {
  if (array instanceof BigUint64Array) array[0] = drawn;
  else getRandomValues(array);
  return array;
};
let rootKey;
let encode;
globalThis.fetch = async () => new Response(encode({ root_key: rootKey }));

const service = ({ IDL }) => {
  const Key = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
  const Message = IDL.Record({
    client_key: Key,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: IDL.Vec(IDL.Nat8),
  });
  const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
  return IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: Message }), IDL.Opt(IDL.Record({ text: IDL.Text }))], [Result], []),
  });
};

/**
 * Makes the judge of frames: it throws unless the application gets the last one. lib has IcWebSocket and createWsConfig of
 * the client, and what the client is used with: Actor, Cbor, Principal, Ed25519KeyIdentity. config adds to the configuration,
 * ready is called with each session and waited for.
 */
export function frames({ IcWebSocket, createWsConfig, Actor, Cbor, Principal, Ed25519KeyIdentity }, config, ready) {
  encode = Cbor.encode;
  return async (c) => {
    drawn = BigInt(c.nonce);
    rootKey = bytes(c.root);
    const identity = Ed25519KeyIdentity.generate(bytes(c.seed));
    const principal = Principal.fromUint8Array(bytes(c.principal));
    identity.getPrincipal = () => principal; // of recorded sessions, whose keys nobody has
    const canisterId = Principal.fromUint8Array(bytes(c.canister));
    const ws = new IcWebSocket(
      "wss://gateway.example",
      undefined,
      createWsConfig({
        canisterId,
        canisterActor: Actor.createActor(service, { agent: {}, canisterId }),
        identity,
        networkUrl: "https://network.example",
        ...config,
      }),
    );
    await ready(ws);
    const socket = Socket.last;
    let why = "";
    ws.onerror = (e) => (why = String(e.error.message));
    socket.onopen?.();
    for (const frame of [c.handshake, ...(c.earlier ?? []), c.frame]) {
      await new Promise((resolve, reject) => {
        ws.onopen = resolve;
        ws.onmessage = resolve;
        socket.sent = resolve;
        socket.closed = (how) => reject(new Error(`${how}: ${why}`));
        socket.onmessage({ data: bytes(frame).buffer });
      });
    }
    socket.closed = () => {};
    ws.close();
  };
}
