// What happens now: models, memory, queue, and the last events.
import { attempt, modelPath, post, requestPath } from "./api.js";
import { bytes, clock, h, LongList, put, rows, seconds } from "./dom.js";
import { refresh, watch } from "./feed.js";

const narrow = matchMedia("(max-width: 760px)");
const rank = { loading: 0, draining: 1, ready: 2, stopping: 3, failed: 4, unloaded: 5 };

function modelRow(item) {
  const state = h("span", { class: "state" }), engine = h("span"), what = h("span");
  const bar = h("progress", { max: "1", "aria-label": `Loading ${item.id}` });
  const act = (path) => () => attempt(post(`${modelPath(item.id)}/${path}`).then(refresh, (error) => { refresh(); throw error; }));
  let does = "load", pinned = false;
  const go = h("button", { type: "button", onclick: () => act(does)() });
  const pin = h("button", { type: "button", "aria-label": `Pin ${item.id}`, title: "Keep it: it neither makes room nor leaves idle", onclick: () => act(pinned ? "unpin" : "pin")() }, "Pin");
  const element = h("div", { class: "row model" }, state,
    h("div", { class: "name" }, h("b", {}, h("a", { href: `#models/${encodeURIComponent(item.id)}` }, item.id)), engine),
    h("div", { class: "what" }, bar, what), h("div", { class: "does" }, go, pin));
  return { element, update(now) {
    const m = now.model;
    state.className = `state ${m.state}`;
    put(state, m.state);
    const memory = Object.entries(m.device ?? {}).map(([device, size]) => `${bytes(size)} on ${device}`).join(", ");
    put(engine, [m.engine, memory].filter(Boolean).join(" · "));
    const loading = m.state === "loading";
    bar.hidden = !loading;
    if (loading && m.progress?.fraction != null) bar.value = m.progress.fraction; else bar.removeAttribute("value");
    put(what, tell(m, now.load));
    what.title = m.error ?? "";
    what.className = m.state === "failed" ? "bad" : "";
    does = ["ready", "loading", "draining"].includes(m.state) ? "unload" : "load";
    put(go, loading ? "Cancel" : does === "load" ? "Load" : "Unload");
    go.setAttribute("aria-label", `${go.textContent} ${now.id}`);
    go.disabled = m.state === "stopping";
    pinned = now.pinned;
    pin.setAttribute("aria-pressed", pinned);
  } };
}

function tell(m, load) {
  if (m.state === "loading") {
    const left = load && load.expected_s - load.elapsed_s;
    return [m.progress?.fraction != null && `${Math.round(m.progress.fraction * 100)} %`, m.progress?.stage,
      load && `${seconds(load.elapsed_s)} of about ${seconds(load.expected_s)}${left < 0 ? ", slower than expected" : ""}`,
      m.waiting && `${m.waiting} waiting`].filter(Boolean).join(" · ") || "starting";
  }
  if (m.state === "failed") return [m.error, m.retry_in && `again in ${seconds(m.retry_in)}`].filter(Boolean).join(" · ");
  const parts = [];
  if (m.slots) parts.push(m.active ? `${m.active} of ${m.slots} answering` : "idle");
  if (m.waiting) parts.push(`${m.waiting} waiting`);
  if (m.leaving) parts.push(m.leaving);
  else if (m.since != null && m.state === "ready") parts.push(`for ${seconds(m.since)}`);
  return parts.join(" · ");
}

/** A request that waits or is being answered, with a button that ends it. */
function requestRow(item, tell, why) {
  const what = h("span"), reason = h("div", { class: "soft small" });
  const end = h("button", { type: "button", class: "small", title: "End it; its client is told", "aria-label": `Cancel the request ${item.request}`,
    onclick: () => { end.disabled = true; attempt(post(`${requestPath(item.request)}/cancel`)).then(refresh).then(() => { end.disabled = false; }); } }, "Cancel");
  const element = h("li", { class: "asked" }, h("div", {}, h("b", {}, item.model), what, reason), end);
  return { element, update(now) { put(what, [" ", tell(now), now.key, now.task && "background task"].filter(Boolean).join(" · ")); put(reason, why(now)); } };
}
const waitingRow = (item) => requestRow(item, (one) => `place ${one.place} · ${seconds(one.waited_s)}`, (one) => one.why.join(" · ") || (one.load ? `its model loads, ${seconds(one.load.elapsed_s)} of about ${seconds(one.load.expected_s)}` : "begins any moment"));
const answeringRow = (item) => requestRow(item, (one) => `for ${seconds(one.answering_s)}`, (one) => (one.waited_s >= .5 ? `waited ${seconds(one.waited_s)}` : ""));

/** What each model on a device was reckoned with, and what it holds: a difference is worth a look at its settings. */
function sizes(held, id) {
  const size = (count) => h("td", { class: "num" }, count ? bytes(count) : "–");
  return h("table", { class: "small sizes" }, h("thead", {}, h("tr", {}, ["Model", "Reckoned", "Measured"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, held.map(([name, m]) => h("tr", {}, h("th", { scope: "row" }, name), size(m.estimate?.[id]), size(m.measured?.[id])))));
}

function memory(picture) {
  return Object.entries(picture.devices).map(([id, device]) => {
    const held = Object.entries(picture.models).filter(([, m]) => m.device?.[id] && !["unloaded", "failed"].includes(m.state));
    const total = Math.max(device.total, device.used, 1);
    const part = (size, kind, words) => {
      const piece = h("i", { class: kind, title: words });
      piece.style.width = `${(100 * size) / total}%`;
      return piece;
    };
    const others = (picture.queue.holders?.[id] ?? []).join(", ");
    const words = [...held.map(([name, m]) => `${name} ${bytes(m.device[id])}`), `other programs ${bytes(device.foreign)}`, `free ${bytes(Math.max(0, device.total - device.used))}`].join(", ");
    return h("div", { class: "device" }, h("span", { class: "small" }, `${id} · ${bytes(device.used)} of ${bytes(device.total)}`),
      h("div", { class: "map", role: "img", "aria-label": `${id}: ${words}` },
        held.map(([name, m]) => part(m.device[id], m.state === "loading" ? "coming" : "", `${name}: ${bytes(m.device[id])}`)),
        part(device.foreign, "foreign", `other programs: ${bytes(device.foreign)}`)), held.length ? sizes(held, id) : null,
      h("p", { class: "small soft" }, [`Other programs ${bytes(device.foreign)}`, others && `(${others})`, `· free ${bytes(Math.max(0, device.total - device.used))}`].filter(Boolean).join(" ")));
  });
}

export function now(page) {
  const list = new LongList({ label: "Models", id: (item) => item.id, make: modelRow, height: narrow.matches ? 92 : 56 });
  const find = h("input", { type: "search", placeholder: "Filter (press /)", "aria-label": "Filter models", oninput: () => draw(shown) });
  const count = h("span", { class: "soft small" }), room = h("div", { class: "device" });
  const first = h("button", { type: "button", "aria-pressed": "false", onclick: () => { first.setAttribute("aria-pressed", first.getAttribute("aria-pressed") !== "true"); draw(shown); } }, "Active first");
  const queue = h("ul", { class: "plain", "aria-label": "Waiting" }), answering = h("ul", { class: "plain", "aria-label": "Being answered" });
  const id = (one) => one.ticket, showQueue = rows(queue, { id, make: waitingRow, empty: "Nobody waits." }), showAnswering = rows(answering, { id, make: answeringRow, empty: "Nothing." });
  const queued = h("span", { class: "soft small", role: "status" });
  const events = h("ul", { class: "plain events", tabindex: "0", "aria-label": "Events" });
  page.append(
    h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Models"), count, first, find), list.element),
    h("div", { class: "two" },
      h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Queue"), queued), queue, h("h2", {}, "Being answered"), answering),
      h("section", { class: "card" }, h("h2", {}, "Memory"), room)),
    h("section", { class: "card" }, h("h2", {}, "Since this page was opened"), events));
  let shown = null, told = "";
  function draw(picture) {
    shown = picture;
    if (!picture) return;
    const wanted = find.value.trim().toLowerCase(), pinned = new Set(picture.queue.pinned);
    const items = Object.entries(picture.models).filter(([id]) => id.toLowerCase().includes(wanted))
      .map(([id, model]) => ({ id, model, load: picture.queue.loads[id], pinned: pinned.has(id) }));
    // Only if wanted: a row that moves while somebody aims at its button is a wrong click.
    if (first.getAttribute("aria-pressed") === "true") items.sort((a, b) => rank[a.model.state] - rank[b.model.state]);
    list.element.style.height = `${Math.min(420, Math.max(1, items.length) * list.height + 2)}px`;
    list.show(items);
    const all = Object.values(picture.models);
    put(count, `${all.filter((m) => m.state === "ready").length} loaded of ${all.length}`);
    put(queued, picture.queue.total ? `${picture.queue.total} waiting` : "");
    showQueue(picture.queue.waiting.slice(0, 100).map((one) => ({ ...one, load: picture.queue.loads[one.model] })));
    showAnswering((picture.queue.answering ?? []).slice(0, 100));
    const key = JSON.stringify([picture.devices, picture.queue.holders, picture.events[0], all.map((m) => [m.state, m.estimate, m.measured])]);
    if (key === told) return;
    told = key;
    room.replaceChildren(...memory(picture));
    events.replaceChildren(...(picture.events.length ? picture.events.slice(0, 40).map((one) =>
      h("li", { class: one.bad ? "bad" : "" }, h("time", {}, clock(one.at)), h("span", {}, `${one.model ?? ""} ${one.text}`))) : [h("li", { class: "soft" }, "Nothing yet.")]));
  }
  const stop = watch(draw);
  return () => { stop(); list.end(); };
}
