// Preloaded by tests that run the client on another version of its peer: ICWS_CORE names the package that stands for
// @icp-sdk/core.

import { register } from "node:module";

const core = process.env.ICWS_CORE;
if (core) {
  const hook = `export const resolve = (name, context, next) =>
    next(name.replace(/^@icp-sdk\\/core(?=\\/)/, ${JSON.stringify(core)}), context);`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}
