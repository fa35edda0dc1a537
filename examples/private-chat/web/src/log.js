// A list whose newest line stays in view unless the reader has scrolled up.

export class Log {
  #list;
  #most;
  #atEnd = true;

  /** Keeps the last so many lines. */
  constructor(list, most) {
    this.#list = list;
    this.#most = most;
    list.addEventListener("scroll", () => (this.#atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40));
    new ResizeObserver(() => this.#follow()).observe(list);
  }

  append(line) {
    this.#list.append(line);
    if (this.#list.children.length > this.#most) this.#list.firstElementChild.remove();
    this.#follow();
  }

  #follow() {
    if (this.#atEnd) this.#list.scrollTo({ top: this.#list.scrollHeight });
  }
}

/** An element with a text, which is never markup whoever wrote it. */
export function element(tag, className, text) {
  const it = document.createElement(tag);
  if (className) it.className = className;
  if (text !== undefined) it.textContent = text;
  return it;
}
