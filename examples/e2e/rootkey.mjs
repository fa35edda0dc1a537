// The SDK asks a network of one's own for its root key and does not wait for the answer. On a network that executes calls at once the
// first message may be there before it, and would look forged: TestSDKRootKeyLate shows that. Other tests must not depend on it.

/** Has ws sign nothing, and so not open, until it has the root key. To be called before anything else happens. */
export function waitForRootKey(ws, identity) {
  const keyed = ws._httpAgent.fetchRootKey();
  const sign = identity.sign.bind(identity);
  identity.sign = async (bytes) => {
    await keyed;
    return sign(bytes);
  };
}
