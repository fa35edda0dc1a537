// Bytes from what is not bytes.

export const utf8 = (text) => new TextEncoder().encode(text);

export const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** Eight bytes, big-endian, for each number. */
export function numbers(...list) {
  const view = new DataView(new ArrayBuffer(8 * list.length));
  list.forEach((n, i) => view.setBigUint64(8 * i, n));
  return new Uint8Array(view.buffer);
}

export function join(...parts) {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
