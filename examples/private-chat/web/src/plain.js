// In place of sealed.js when encryption is switched off, to show what the gateway would see. A page that encrypts does not read
// what this makes.

import { utf8 } from "./bytes.js";

export const isProtected = false;

export const seal = async (_key, _about, text) => utf8(text);

export const open = async (_key, _about, bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);
