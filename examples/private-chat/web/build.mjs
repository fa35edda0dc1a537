// Bundles src/ into dist/, which Caddy serves beside icws. Run by `go run ./examples/private-chat` when dist/ is missing or old.
import { copyFile, mkdir } from "node:fs/promises";
import { build } from "esbuild";
import { options } from "./bundle.mjs";

await mkdir("dist", { recursive: true });
await build({ ...options, entryPoints: ["src/private-chat.js"], outfile: "dist/private-chat.js", minify: true, sourcemap: true });
for (const file of ["index.html", "private-chat.css", "icon.svg"]) await copyFile(`src/${file}`, `dist/${file}`);
