// A canister and its gateway as a client sees them, for tests of one rule at a time: what is certified is signed with a real BLS
// key, what the client signs is read and its expiry judged as gateways do. examples/e2e has the real ones.

import { Cbor, reconstruct } from "@icp-sdk/core/agent";
import { IDL } from "@icp-sdk/core/candid";
import { Principal } from "@icp-sdk/core/principal";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { createHash } from "node:crypto";

const bls = bls12_381.shortSignatures;
const secret = new Uint8Array(32).fill(7);
const utf8 = (text) => new TextEncoder().encode(text);

const rootKey = Uint8Array.from([
  ...Buffer.from("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100", "hex"),
  ...bls.getPublicKey(secret).toBytes(),
]);

const leaf = (value) => [3, value];
const labeled = (label, tree) => [2, typeof label === "string" ? utf8(label) : label, tree];
const fork = (left, right) => [1, left, right];

/** A time in milliseconds as certificates have it: nanoseconds in LEB128. */
function certified(time) {
  const bytes = [];
  for (let n = BigInt(time) * 1_000_000n; ; n >>= 7n) {
    if (n < 0x80n) return Uint8Array.from([...bytes, Number(n)]);
    bytes.push(Number(n & 0x7fn) | 0x80);
  }
}

async function sign(tree) {
  const message = Uint8Array.from([...utf8("\x0dic-state-root"), ...(await reconstruct(tree))]);
  return Cbor.encode({ tree, signature: bls.Signature.toBytes(bls.sign(bls.hash(message), secret)) });
}

const Key = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
const Count = IDL.Record({ last_incoming_sequence_num: IDL.Nat64 });
const Reasons = Object.fromEntries(["WrongSequenceNumber", "InvalidServiceMessage", "KeepAliveTimeout", "ClosedByApplication"].map((r) => [r, IDL.Null]));
const Service = IDL.Variant({
  OpenMessage: IDL.Record({ client_key: Key }),
  AckMessage: Count,
  KeepAliveMessage: Count,
  CloseMessage: IDL.Record({ reason: IDL.Variant(Reasons) }),
});
const OpenArgs = IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal });
const MessageArgs = IDL.Record({
  msg: IDL.Record({ client_key: Key, sequence_num: IDL.Nat64, timestamp: IDL.Nat64, is_service_message: IDL.Bool, content: IDL.Vec(IDL.Nat8) }),
});
const Text = IDL.Record({ text: IDL.Text });

export class Canister {
  /** Of the network, DER. */
  rootKey = rootKey;
  id = Principal.fromUint8Array(Uint8Array.from([0x80, 0, 0, 0, 0, 0x10, 0, 1, 1, 1]));
  gateway = Principal.selfAuthenticating(utf8("a gateway's key"));
  /** The sockets of all sessions. */
  sockets = [];
  /** How often the network was asked for its time. */
  asked = 0;

  /** @param {object} o ahead: how far this device's clock is ahead of the network, in milliseconds; opens: whether ws_open is answered */
  constructor({ ahead = 0, opens = true } = {}) {
    Object.assign(this, { ahead, opens });
    const canister = this;
    /** For the configuration of a client. */
    this.WebSocket = class extends Socket {
      constructor(url) {
        super(canister, url);
      }
    };
  }

  /** The network's time, in milliseconds. */
  now() {
    return Date.now() - this.ahead;
  }

  /** The configuration of a Person who talks to it. */
  person(config = {}) {
    return {
      gateway: "wss://gateway.test/ws",
      network: "https://network.test",
      canister: this.id.toText(),
      config: { WebSocket: this.WebSocket, rootKey: this.rootKey, ...config },
    };
  }

  /** Stands for fetch: the network answers a read_state of its time. */
  fetch = async (url) => {
    this.asked++;
    if (!String(url).endsWith(`/api/v3/canister/${this.id}/read_state`)) return new Response(null, { status: 404 });
    return new Response(Cbor.encode({ certificate: await sign(labeled("time", leaf(certified(this.now())))) }));
  };

  /**
   * A frame with a message, certified at a time in milliseconds. certifies is what the witness has in its place; with forges the
   * witness is of another state than the certificate. fields are what the message has in place of its own.
   */
  async frame({ client, sequence, content, service = false, at = this.now(), certifies = content, forges = false, fields = {} }) {
    const message = (content) =>
      Cbor.encode({
        client_key: { client_principal: client.client_principal.toUint8Array(), client_nonce: client.client_nonce },
        sequence_num: sequence,
        timestamp: BigInt(at) * 1_000_000n,
        is_service_message: service,
        content,
        ...fields,
      });
    const key = "key";
    const tree = labeled("websocket", labeled(key, leaf(createHash("sha256").update(message(certifies)).digest())));
    const cert = await sign(
      fork(
        labeled("canister", labeled(this.id.toUint8Array(), labeled("certified_data", leaf(await reconstruct(forges ? [0] : tree))))),
        labeled("time", leaf(certified(at))),
      ),
    );
    return Cbor.encode({ key, content: message(content), cert, tree: Cbor.encode(tree) });
  }
}

/** The gateway's end of one session, in the form of the client's socket. */
class Socket {
  readyState = 0;
  bufferedAmount = 0;
  /** What the canister has got by ws_message: { sequence, service, content, expiry }. */
  got = [];
  #wake = [];
  #sequence = 0n;

  constructor(canister, url) {
    Object.assign(this, { canister, url });
    canister.sockets.push(this);
    queueMicrotask(() => this.#connected());
  }

  #connected() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.arrive(Cbor.encode({ gateway_principal: this.canister.gateway.toUint8Array() }));
  }

  /** Hands bytes, or something else, to the client. */
  arrive(bytes) {
    this.onmessage({ data: bytes instanceof Uint8Array ? bytes.slice().buffer : bytes });
  }

  /** The gateway, or the network, ends the connection. */
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  close(code, reason) {
    this.closed = { code, reason };
    this.readyState = 2;
    if (!this.canister.isSilent) queueMicrotask(() => this.end(code, reason));
  }

  send(frame) {
    const { content } = Cbor.decode(frame).envelope;
    const left = Number(BigInt(content.ingress_expiry) / 1_000_000n) - this.canister.now();
    if (left <= 0 || left > 330_000) {
      this.end(1008, `ingress_expiry is ${left} ms from now`);
    } else if (content.method_name === "ws_open") {
      const [{ client_nonce }] = IDL.decode([OpenArgs], content.arg);
      this.client = { client_principal: Principal.fromUint8Array(content.sender), client_nonce };
      if (this.canister.opens) void this.serve({ OpenMessage: { client_key: this.client } });
    } else {
      const [{ msg }] = IDL.decode([MessageArgs, IDL.Opt(IDL.Null)], content.arg);
      const { sequence_num: sequence, is_service_message: service } = msg;
      const said = Uint8Array.from(msg.content);
      this.got.push({ sequence, service, left, timestamp: msg.timestamp, content: service ? IDL.decode([Service], said)[0] : IDL.decode([Text], said)[0].text });
    }
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Waits until the canister has got so many messages. */
  async until(count) {
    while (this.got.length < count) await new Promise((wake) => this.#wake.push(wake));
  }

  /** Sends the next message of the protocol. */
  serve(message, odd) {
    return this.say(IDL.encode([Service], [message]), { service: true, ...odd });
  }

  /** Sends the next message, of a text or of bytes, with what is odd about it: see Canister.frame. */
  async say(message, odd) {
    const content = typeof message === "string" ? IDL.encode([Text], [{ text: message }]) : message;
    this.arrive(await this.canister.frame({ client: this.client, sequence: ++this.#sequence, content, ...odd }));
  }
}
