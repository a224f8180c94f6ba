// Small tools for building pages. Text always goes in as text: nothing here, or anywhere, uses innerHTML.

/** An element: h("p", {class: "soft", onclick: f}, "text", child, …); null children are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Changes text only where it differs, so that screen readers and selections are left in peace. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  if (count >= 2 ** 30) return `${(count / 2 ** 30).toFixed(1)} GiB`;
  return `${Math.round(count / 2 ** 20)} MiB`;
}

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value >= 5400) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 100) return `${Math.round(value / 60)} min`;
  return value >= 10 ? `${Math.round(value)} s` : `${value.toFixed(value < 1 ? 2 : 1)} s`;
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });

/** Calls `draw` at most once a frame, however often it is asked to. */
export function eachFrame(draw) {
  let waiting = 0;
  return () => {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); });
  };
}

/** A list whose rows stay with their items, so that focus and a button under the pointer do: `make(item)` as below. */
export function rows(element, { id, make, empty }) {
  const kept = new Map(), nobody = h("li", { class: "soft" }, empty);
  return (items) => {
    const seen = new Set(items.map(id));
    for (const [key, row] of kept) if (!seen.has(key)) { row.element.remove(); kept.delete(key); }
    items.forEach((item, place) => {
      let row = kept.get(id(item));
      if (!row) kept.set(id(item), row = make(item));
      row.update(item);
      if (element.children[place] !== row.element) element.insertBefore(row.element, element.children[place] ?? null);
    });
    if (items.length) nobody.remove(); else element.append(nobody);
  };
}

/**
 * A list of which only what is seen exists. Rows belong to ids, so focus stays with its item.
 * `make(item)` returns {element, update(item)}; `height` is that of a row in px.
 */
export class LongList {
  constructor({ label, id, make, height, onEnd }) {
    Object.assign(this, { id, make, height, onEnd, items: [], rows: new Map() });
    this.inner = h("div", { class: "inner", role: "list", "aria-label": label });
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, this.inner);
    this.draw = eachFrame(() => this.drawNow());
    this.element.addEventListener("scroll", this.draw, { passive: true });
    this.sizes = new ResizeObserver(this.draw);
    this.sizes.observe(this.element);
  }

  show(items) { this.items = items; this.draw(); }

  end() { this.sizes.disconnect(); }

  drawNow() {
    const { element, height, items, rows } = this;
    this.inner.style.height = `${items.length * height}px`;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - 4);
    const last = Math.min(items.length, Math.ceil((element.scrollTop + element.clientHeight) / height) + 4);
    const seen = new Set();
    for (let place = first; place < last; place += 1) {
      const item = items[place], id = this.id(item);
      seen.add(id);
      let row = rows.get(id);
      if (!row) {
        row = this.make(item);
        row.element.setAttribute("role", "listitem");
        row.element.style.height = `${height}px`;
        rows.set(id, row);
      }
      row.update(item);
      row.element.style.top = `${place * height}px`;
      row.element.setAttribute("aria-posinset", place + 1);
      row.element.setAttribute("aria-setsize", items.length);
      if (!row.element.isConnected) this.inner.append(row.element);
    }
    for (const [id, row] of rows) if (!seen.has(id)) { row.element.remove(); rows.delete(id); }
    if (last === items.length && items.length) this.onEnd?.();
  }
}
