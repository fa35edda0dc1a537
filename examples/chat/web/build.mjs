// Bundles src/ into dist/, which Caddy serves beside icws. Run by `go run ./examples/chat` when dist/ is missing or old.
import { copyFile, mkdir } from "node:fs/promises";
import { build } from "esbuild";

await mkdir("dist", { recursive: true });
await build({
  entryPoints: ["src/chat.js"],
  outfile: "dist/chat.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  // The client from its sources, beside this page; on the one @icp-sdk/core that is installed here. A project of your own
  // installs the package, and needs no alias.
  alias: {
    "@icws-gateway/client": "../../client/src/index.ts",
    "@icp-sdk/core": "@icp-sdk/core",
  },
  logLevel: "warning",
});
for (const file of ["index.html", "chat.css", "icon.svg"]) await copyFile(`src/${file}`, `dist/${file}`);
