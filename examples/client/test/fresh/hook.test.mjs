// The hook in a real React, against the canister in this process. test/pack.test.mjs puts this beside an installed package.

import { Actor } from "@icp-sdk/core/agent";
import { Ed25519KeyIdentity } from "@icp-sdk/core/identity";
import { useIcWebSocket } from "@icws-gateway/client/react";
import { Window } from "happy-dom";
import assert from "node:assert/strict";
import { test } from "node:test";
import { Component, StrictMode, createElement, useEffect, version } from "react";
import { Canister } from "./canister.mjs";
import { service } from "./service.mjs";

// What React, and a client in a page, look for when they are loaded or used.
const window = new Window();
Object.assign(globalThis, { window, document: window.document });
globalThis.navigator ??= window.navigator;
for (const name of ["addEventListener", "removeEventListener"]) globalThis[name] = window[name].bind(window);
const { createRoot } = await import("react-dom/client");

class Boundary extends Component {
  state = {};
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    if (this.state.error) this.props.seen.error = this.state.error;
    return this.state.error ? null : this.props.children;
  }
}

/** A page with the hook, in strict mode. */
function page(t) {
  const canister = new Canister();
  t.mock.method(globalThis, "fetch", canister.fetch);
  const seen = { canister, mounts: 0, events: [] };
  let wake = () => {};
  const identities = [1, 2].map((seed) => Ed25519KeyIdentity.generate(new Uint8Array(32).fill(seed)));
  /** Always another object. */
  seen.config = (who = 0, odd = {}) => ({
    canisterId: canister.id,
    canisterActor: Actor.createActor(service, { agent: {}, canisterId: canister.id }),
    identity: identities[who],
    networkUrl: "https://network.test",
    WebSocket: canister.WebSocket,
    rootKey: canister.rootKey,
    ...odd,
  });
  function Page({ config, name }) {
    const handlers = {};
    for (const type of ["open", "message", "close"]) handlers[`on${type}`] = ({ data }) => seen.events.push(`${name}: ${type} ${data?.text ?? ""}`.trim()) && wake();
    const state = useIcWebSocket("wss://gateway.test/ws", config, handlers);
    useEffect(() => {
      seen.mounts++;
    }, []);
    useEffect(() => {
      Object.assign(seen, { state, name });
      wake();
    });
    return null;
  }
  const tree = (props) => createElement(StrictMode, null, createElement(Boundary, { seen }, createElement(Page, props)));
  const root = createRoot(document.createElement("div"));
  seen.show = (props) => root.render(tree(props));
  seen.leave = () => root.unmount();
  seen.until = async (check) => {
    while (!check()) await new Promise((resolve) => (wake = resolve));
  };
  t.after(() => seen.leave());
  return seen;
}

const isOpen = (seen) => () => seen.state?.status === "open";

test(`strict mode of React ${version} mounts twice, and one session is opened`, async (t) => {
  const seen = page(t);
  seen.show({ config: seen.config() });
  await seen.until(isOpen(seen));
  assert.deepEqual([seen.mounts, seen.canister.sockets.length], [2, 1]);
  void seen.state.ws.send({ text: "hello" });
  await seen.canister.sockets[0].until(1);
  assert.equal(seen.canister.sockets[0].got[0].content, "hello");
});

test("another render keeps the session, and the newest handlers are called", async (t) => {
  const seen = page(t);
  seen.show({ config: seen.config(), name: "first" });
  await seen.until(isOpen(seen));
  const { ws } = seen.state;
  seen.show({ config: seen.config(), name: "second" });
  await seen.until(() => seen.name === "second");
  await seen.canister.sockets[0].say("one");
  await seen.until(() => seen.events.length === 2);
  assert.deepEqual(seen.events, ["first: open", "second: message one"]);
  assert.deepEqual([seen.canister.sockets.length, seen.state.ws === ws], [1, true]);
});

test("a session that comes back is the same to the component", async (t) => {
  const seen = page(t);
  seen.show({ config: seen.config() });
  await seen.until(isOpen(seen));
  const { ws } = seen.state;
  seen.canister.sockets[0].end(1012, "over");
  await seen.until(() => seen.state.status === "reconnecting");
  assert.equal(seen.state.closeReason.text, "over");
  await seen.until(isOpen(seen));
  assert.deepEqual([seen.state.ws === ws, seen.state.closeReason, seen.canister.sockets.length], [true, undefined, 2]);
  seen.canister.sockets[1].end(1008, "no more");
  await seen.until(() => seen.state.status === "closed");
  assert.equal(seen.state.closeReason.text, "no more");
});

test("another identity has another session, and the first is closed", async (t) => {
  const seen = page(t);
  seen.show({ config: seen.config() });
  await seen.until(isOpen(seen));
  const { ws } = seen.state;
  seen.canister.isSilent = true;
  const config = seen.config(1);
  seen.show({ config });
  await seen.until(() => seen.state.ws !== ws && isOpen(seen)());
  const [first, second] = seen.canister.sockets;
  assert.deepEqual([first.closed.code, second.closed], [1000, undefined]);
  first.end(1000); // late, and nothing to the component any more
  seen.show({ config, name: "later" });
  await seen.until(() => seen.name === "later");
  assert.equal(seen.state.status, "open");
  assert.notEqual(first.client.client_principal.toText(), second.client.client_principal.toText());
  assert.equal(seen.events.filter((what) => what.endsWith("close")).length, 0, "an end that the component wanted is none of its events");
});

test("a component without a configuration has no session, and one that goes leaves none", async (t) => {
  const seen = page(t);
  seen.show({});
  await seen.until(() => seen.mounts === 2);
  assert.deepEqual([seen.state.status, seen.canister.sockets.length], ["idle", 0]);
  seen.canister.opens = false;
  seen.show({ config: seen.config() });
  await seen.until(() => seen.state.status === "connecting");
  seen.leave();
  const [socket] = seen.canister.sockets;
  while (socket.readyState !== 3) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([socket.closed.code, seen.canister.sockets.length], [1000, 1]);
});

test("a configuration that lacks something is an error of the component", async (t) => {
  t.mock.method(console, "error", () => {}); // React tells of it there as well
  const seen = page(t);
  seen.show({ config: seen.config(0, { networkUrl: "nowhere" }) });
  while (!seen.error) await new Promise((resolve) => setImmediate(resolve));
  assert.match(seen.error.message, /Network url nowhere is no URL/);
});
