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
  define: {
    global: "globalThis", // some dependencies of the agent still say so
    "process.env.LOG_LEVEL": '"warn"', // read by ic-websocket-js, without a check that there is a process
  },
  logLevel: "warning",
});
for (const file of ["index.html", "chat.css", "icon.svg"]) await copyFile(`src/${file}`, `dist/${file}`);
