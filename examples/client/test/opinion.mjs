// What this client says of frames, for examples/opinion. The name of the opinion is the argument.

import { Actor, Cbor } from "@icp-sdk/core/agent";
import { Ed25519KeyIdentity } from "@icp-sdk/core/identity";
import { Principal } from "@icp-sdk/core/principal";
import { bytes, serve } from "../../opinion/serve.mjs";
import { frames } from "../../opinion/session.mjs";
import { IcWebSocket, createWsConfig } from "@icws-gateway/client";

const judge = frames({ IcWebSocket, createWsConfig, Actor, Cbor, Principal, Ed25519KeyIdentity }, { rootKey: "fetch", reconnect: false }, () => {});

await serve({ [process.argv[2]]: judge });
