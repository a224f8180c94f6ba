// Which model was loaded when, and what each switch cost.
import { attempt, get } from "./api.js";
import { clock, h, put, seconds } from "./dom.js";
import { picture, watch } from "./feed.js";

const LEAST_WAIT = .5;  // seconds that are worth a mark

/** Stays of models as {model, from, to, left, told}; `to` is null where only an unrecorded unload can have ended it. */
export function stays(switches, loaded, now) {
  const found = [];
  for (const told of [...switches].sort((a, b) => a.at - b.at)) {
    for (const gone of told.left) {
      const stay = found.findLast((one) => one.model === gone && one.to === null);
      if (stay) stay.to = told.at - told.total_s;
    }
    const before = found.findLast((one) => one.model === told.model && one.to === null);
    if (before) before.unsure = true;
    found.push({ model: told.model, from: told.at - told.total_s, to: null, told });
  }
  for (const stay of found) if (stay.to === null && !stay.unsure && loaded.has(stay.model)) stay.to = now;
  return found;
}

/** Waits for models as {model, from, to, all}: those that overlap are one, so that a busy hour is not a thousand bars. */
export function waits(requests) {
  const found = [];
  for (const told of [...requests].sort((a, b) => a.at - b.at)) {
    // Who never came to an engine waited all of its time.
    const model = told.wanted || told.model, long = told.service_s == null ? told.total_s : (told.queue_s ?? 0) + (told.load_s ?? 0), to = told.at + long;
    const before = found.findLast((one) => one.model === model);
    if (before && told.at <= before.to) {
      before.to = Math.max(before.to, to);
      before.all.push({ ...told, long });
    } else found.push({ model, from: told.at, to, all: [{ ...told, long }] });
  }
  return found;
}

export function timeline(page) {
  const lanes = h("div", { class: "lanes", tabindex: "0", role: "group", "aria-label": "Residency; arrow keys move, plus and minus zoom" });
  const axis = h("div", { class: "axis", "aria-hidden": "true" }), side = h("section", { class: "card", "aria-live": "polite", "aria-label": "Switch" }, h("p", { class: "soft" }, "Choose a bar to see what its switch cost."));
  let all = [], waited = [], end = Date.now() / 1000, span = 0;
  const zoom = (by) => { const middle = end - span / 2; span = Math.min(30 * 86400, Math.max(20, span * by)); end = middle + span / 2; draw(); };
  const move = (by) => { end += span * by; draw(); };
  lanes.addEventListener("keydown", (event) => {
    const does = { ArrowLeft: () => move(-.2), ArrowRight: () => move(.2), "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1.6) }[event.key];
    if (does) { event.preventDefault(); does(); }
  });
  lanes.addEventListener("wheel", (event) => { if (event.ctrlKey || event.shiftKey) { event.preventDefault(); zoom(event.deltaY + event.deltaX > 0 ? 1.25 : .8); } }, { passive: false });
  lanes.addEventListener("pointerdown", (event) => {
    let x = event.clientX;
    const drag = (moved) => { end -= ((moved.clientX - x) / lanes.clientWidth) * span; x = moved.clientX; draw(); };
    addEventListener("pointermove", drag);
    addEventListener("pointerup", () => removeEventListener("pointermove", drag), { once: true });
  });
  function open({ told }) {
    side.replaceChildren(h("h2", {}, `${told.model}, ${clock(told.at)}`), h("p", {}, told.verdict), h("dl", {}, ...Object.entries({
      Total: seconds(told.total_s), Left: told.left.join(", ") || "nobody", ...Object.fromEntries(Object.entries(told.parts).map(([name, value]) => [name.replaceAll("_", " "), seconds(value)])),
      Load: seconds(told.load_s), ...Object.fromEntries(Object.entries(told.stages).map(([name, value]) => [`· ${name}`, seconds(value)])), "First token": seconds(told.first_token_s), "What the machine needs": seconds(told.floor_s) })
      .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }
  function openWait({ model, all: asked }) {
    side.replaceChildren(h("h2", {}, `${asked.length} waited for ${model}`), h("ul", { class: "plain" }, asked.slice(0, 50).map((one) =>
      h("li", {}, `${clock(one.at)} · ${seconds(one.long)}${one.key ? ` · ${one.key}` : ""}${one.task ? ` · ${one.task}` : ""}`,
        h("div", { class: "soft small" }, [`queue ${seconds(one.queue_s)}`, `load ${seconds(one.load_s)}`, one.error || (one.status === 499 ? "its client left" : "")].filter(Boolean).join(" · "))))));
  }
  function place(bar, from, to) {
    bar.style.left = `${Math.max(0, (100 * (from - (end - span))) / span)}%`;
    bar.style.width = `${(100 * (Math.min(to, end) - Math.max(from, end - span))) / span}%`;
    return bar;
  }
  function draw() {
    const within = lanes.contains(document.activeElement);
    const from = end - span, names = [...new Set([...all, ...waited].map((one) => one.model))];
    lanes.replaceChildren(...names.map((name) => h("div", { class: "lane" }, h("span", { title: name }, name), h("div", { class: "track" },
      all.filter((one) => one.model === name && one.from < end && (one.to ?? one.from + span) > from).map((one) => {
        const to = one.to ?? Math.min(one.from + span / 30, end), bar = h("button", { type: "button", class: one.to === null ? "open" : "", "aria-label": `${name} from ${clock(one.from)}${one.to === null ? "" : ` to ${clock(to)}`}`, title: one.told.verdict, onclick: () => open(one) });
        return place(bar, one.from, to);
      }), waited.filter((one) => one.model === name && one.from < end && one.to > from).map((one) => {
        const words = `${one.all.length} waited for ${name}, the longest ${seconds(Math.max(...one.all.map((each) => each.long)))}`;
        return place(h("button", { type: "button", class: "wait", "aria-label": `${words}, from ${clock(one.from)}`, title: words, onclick: () => openWait(one) }), one.from, one.to);
      })))));
    if (!names.length) lanes.append(h("p", { class: "soft" }, "No model was loaded yet."));
    if (within) lanes.focus();  // the bar that had it is another one now
    axis.replaceChildren(...[0, .25, .5, .75, 1].map((part) => h("span", {}, clock(from + part * span))));
  }
  const load = async () => {
    const found = await attempt(get("/api/v1/switches?limit=1000"));
    if (!found) return;
    // A key that may not manage sees the bars alone.
    const asked = await get(`/api/v1/requests?limit=1000&waited=${LEAST_WAIT}`).catch(() => ({ requests: [] }));
    waited = waits(asked.requests);
    all = stays(found.switches, new Set(Object.entries(picture.models).filter(([, m]) => m.state === "ready").map(([id]) => id)), Date.now() / 1000);
    // At first all of the last day, or what there is of it.
    span ||= Math.min(86400, Math.max(300, 1.1 * (end - Math.min(end, ...[...all, ...waited].map((one) => one.from)))));
    draw();
  };
  page.append(h("div", { class: "two" }, h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Timeline"),
    ...[["Earlier", () => move(-.5)], ["Later", () => move(.5)], ["Closer", () => zoom(.6)], ["Wider", () => zoom(1.6)], ["Now", () => { end = Date.now() / 1000; load(); }]].map(([name, does]) => h("button", { type: "button", onclick: does }, name))),
  lanes, axis, h("p", { class: "soft small" }, "A fading bar: when it left is not recorded. The line below: somebody waited for the model.")), side));
  let seen = "";
  const stop = watch(() => { const now = picture.events.filter((one) => one.kind === "switch").length + JSON.stringify(Object.keys(picture.models).length); if (now !== seen) { seen = now; load(); } });
  return stop;
}
