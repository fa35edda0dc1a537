// What principals are called here. The names are this page's own: a principal is proved, a name is not.

const names = new Map();

export const name = (principal, text) => names.set(principal, text);

/** The name of somebody who is on this page, the beginning of the principal of others. */
export const nameOf = (principal) => names.get(principal) ?? principal.slice(0, 11);

/** A text with the principals in it named. */
export function named(text) {
  for (const [principal, name] of names) text = text.replaceAll(principal, name);
  return text;
}
