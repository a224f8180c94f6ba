// The configuration as resolved, and where there are such routes: what a reload would change, and keys.
import { attempt, get } from "./api.js";
import { h } from "./dom.js";

const optional = (path) => get(path).catch((error) => { if (error.status === 404) return null; throw error; });

export function settings(page) {
  const show = (title, value) => page.append(h("section", { class: "card" }, h("h2", {}, title), h("pre", { tabindex: "0", "aria-label": title }, JSON.stringify(value, null, 2))));
  attempt(Promise.all([optional("/api/v1/plan"), optional("/api/v1/keys"), get("/api/v1/config")]).then(([plan, keys, config]) => {
    if (plan) show("What a reload would change", plan);
    if (keys) show("Keys", keys);
    show("Configuration", config);
  }));
  return () => {};
}
