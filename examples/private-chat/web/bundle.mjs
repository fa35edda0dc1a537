// How the page is bundled, and the same modules for the tests in Node.js.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

export const options = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  bundle: true,
  format: "esm",
  target: "es2022",
  // The client from its sources, on the one @icp-sdk/core that is installed here. A project of your own installs the package, and
  // needs no alias.
  alias: { "@icws-gateway/client": "../../client/src/index.ts", "@icp-sdk/core": "@icp-sdk/core" },
  logLevel: "warning",
};

/** The modules of the page, all in one, and what the tests need to play others. */
export async function modules() {
  const dir = await mkdtemp(join(tmpdir(), "icws-private-chat-"));
  try {
    const outfile = join(dir, "modules.mjs");
    await build({
      ...options,
      platform: "node",
      outfile,
      stdin: {
        resolveDir: options.absWorkingDir,
        contents: `
          export { Member } from "./src/member.js";
          export { KeyOpener } from "./src/keys.js";
          export * as bytes from "./src/bytes.js";
          export * as sealed from "./src/sealed.js";
          export * as plain from "./src/plain.js";
          export { actor } from "./src/canister.js";
          export { Principal } from "@icp-sdk/core/principal";
          export { MasterPublicKey, TransportSecretKey } from "@dfinity/vetkeys";
          export { IcWebSocket, createWsConfig, generateRandomIdentity } from "@icws-gateway/client";`,
      },
    });
    return await import(pathToFileURL(outfile));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
