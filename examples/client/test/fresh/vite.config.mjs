import { defineConfig } from "vite";

// `vite build` makes the page, `vite build --mode client` what the client adds to one: without its peers, and minified as pages are.
export default defineConfig(({ mode }) => ({
  build:
    mode === "client"
      ? {
          outDir: "dist-client",
          modulePreload: false,
          rollupOptions: { input: "client.mjs", preserveEntrySignatures: "strict", external: /^(@icp-sdk\/core\/|react$)/ },
        }
      : {},
}));
