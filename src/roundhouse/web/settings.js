// The configuration as resolved, what applying its file would change, and the keys.
import { attempt, get, note, post } from "./api.js";
import { h } from "./dom.js";

/** What this key may not see, or what there is none of (no keys, no file), is left out. */
const optional = (path) => get(path).catch((error) => { if ([403, 404, 409].includes(error.status)) return null; throw error; });
const shown = (value) => (value === null || value === undefined ? "unset" : typeof value === "object" ? JSON.stringify(value) : String(value));
const cells = (tag, values) => values.map((value) => h(tag, tag === "th" ? { scope: "col" } : {}, value));
const table = (names, lines) => h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": names.join(", ") },
  h("table", {}, h("thead", {}, h("tr", {}, cells("th", names))), h("tbody", {}, lines.map((line) => h("tr", {}, cells("td", line))))));

const atOnce = (one) => one.effect !== "needs a restart of Roundhouse";

function plan(told, read) {
  const apply = h("button", { type: "button", class: "primary", onclick: async () => {
    apply.disabled = true;
    const done = await attempt(post("/api/v1/reload"));
    const held = done?.changes.filter(atOnce).map((one) => one.name);
    if (done) note(held.length ? `Applied: ${held.join(", ")}.` : "There was nothing to apply.", "good");
    await read();
  } }, "Apply");
  const changes = told.changes.map((one) => [`${one.what} ${one.name}`, one.change, one.effect,
    h("ul", { class: "plain small mono" }, one.settings.map((each) => h("li", {}, `${each.name}: ${shown(each.old)} → ${shown(each.new)}`)))]);
  return [h("div", { class: "head" }, h("h2", {}, "Configuration file"), h("button", { type: "button", onclick: read }, "Look again"), told.changes.some(atOnce) && !told.error ? apply : null),
    h("p", { class: "soft small mono" }, told.file),
    told.error && h("p", { class: "bad", role: "alert" }, told.error.line && !told.error.message.includes(`:${told.error.line}:`) ? `Line ${told.error.line}: ${told.error.message}` : told.error.message),
    ...(told.warnings ?? []).map((text) => h("p", { class: "warn small" }, text)),
    told.restarts.length ? h("p", {}, `Applying it loads anew, after running answers: ${told.restarts.join(", ")}.`) : null,
    changes.length ? table(["What", "Change", "Takes effect", "Settings"], changes) : !told.error && h("p", { class: "soft" }, "Nothing has changed since it was read.")].filter(Boolean);
}

function keys(told) {
  const may = (key) => [key.admin ? "admin" : key.manage && "manage", key.trusted && "trusted"].filter(Boolean).join(", ") || "ask";
  const used = (use) => `${use.requests} requests, ${use.prompt_tokens + use.completion_tokens} tokens`;
  const limits = (of) => Object.entries(of).map(([kind, one]) => `${kind} ${one.limit}, ${one.left} left`).join("; ");
  return [h("h2", {}, "Keys"), table(["Name", "May", "Models", "Limits", "Today", "In all", "Last used", "Ends"], told.map((key) => [key.name, may(key), key.models.join(", "), limits(key.limits) || "none",
    used(key.today), used(key.total), key.last_used ? new Date(key.last_used).toLocaleString([], { hour12: false }) : "never", key.expired ? "expired" : key.expires ?? "never"]))];
}

export function settings(page) {
  const file = h("section", { class: "card", hidden: true }), ring = h("section", { class: "card", hidden: true }), whole = h("pre", { tabindex: "0", "aria-label": "Configuration" });
  const card = h("section", { class: "card" }, h("h2", {}, "Configuration in force"), h("p", { class: "soft small" }, "As it holds now, with what was not set filled in; secrets are hidden. Models have a page of their own."), whole);
  page.append(file, ring, card);
  const fill = (place, content) => { place.hidden = !content; if (content) place.replaceChildren(...content); };
  const read = () => attempt(Promise.all([optional("/api/v1/plan"), optional("/api/v1/keys"), get("/api/v1/config")]).then(([planned, held, config]) => {
    fill(file, planned && plan(planned, read));
    fill(ring, held?.keys.length ? keys(held.keys) : null);
    whole.textContent = JSON.stringify(config, null, 2);
  }));
  read();
  return () => {};
}
