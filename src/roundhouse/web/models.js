// One model in full: settings, facts, command line, and its log as it comes.
import { attempt, call, get, modelPath } from "./api.js";
import { bytes, h, put } from "./dom.js";
import { picture, watch } from "./feed.js";

const LINES = 2000;

function table(values) {
  return h("dl", {}, ...Object.entries(values).filter(([, value]) => value !== null && value !== "" && !(typeof value === "object" && !Object.keys(value).length))
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", { class: "mono" }, typeof value === "object" ? JSON.stringify(value) : String(value))]));
}

function logOf(id) {
  const view = h("pre", { class: "log", tabindex: "0", "aria-label": `Log of ${id}` }), search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the log", oninput: () => draw() });
  const follow = h("input", { type: "checkbox", checked: true }), stop = new AbortController();
  let lines = [], rest = "", waiting = 0;
  function draw() {
    waiting = 0;
    const word = search.value.toLowerCase();
    put(view, lines.filter((line) => line.toLowerCase().includes(word)).join("\n") || (word ? "No line has this." : "Nothing was written yet."));
    if (follow.checked) view.scrollTop = view.scrollHeight;
  }
  async function read() {
    const reply = await call(`${modelPath(id)}/log?follow=1`, { signal: stop.signal });
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      lines = lines.concat(parts).slice(-LINES);
      waiting ||= requestAnimationFrame(draw);
    }
  }
  draw();
  attempt(read());
  return { element: h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Log"), search, h("label", {}, follow, "Follow")), view), end: () => stop.abort() };
}

export function models(page, wanted) {
  const choose = h("select", { "aria-label": "Model", onchange: () => { location.hash = `#models/${encodeURIComponent(choose.value)}`; } });
  const body = h("div", { class: "card" });
  page.append(h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Model"), choose)), body);
  let log = null, shown = null;
  async function show(id) {
    shown = id;
    log?.end();
    const told = await attempt(get(`${modelPath(id)}/details`));
    if (!told || shown !== id) return;
    const facts = told.facts && { ...told.facts, weights: bytes(told.facts.weights) };
    const needs = Object.entries(told.claim).filter(([device]) => !device.includes("port:") && !device.includes("unit:")).map(([device, size]) => `${bytes(size)} on ${device}`).join(", ");
    body.replaceChildren(...[told.problem && h("p", { class: "bad" }, told.problem), h("h2", {}, "From its file"), facts ? table(facts) : h("p", { class: "soft" }, "Its files say nothing."),
      h("h2", {}, "Memory"), h("p", {}, needs || "none of this machine's"), h("h2", {}, "Command line"), told.command ? h("pre", {}, told.command) : h("p", { class: "soft" }, "It does not run now."),
      h("h2", {}, "Settings"), table(told.settings)].filter(Boolean));
    log = logOf(id);
    body.before(log.element);
  }
  const stop = watch(() => {
    const ids = Object.keys(picture.models);
    if (choose.options.length === ids.length || !ids.length) return;
    const now = wanted && ids.includes(wanted) ? wanted : ids[0];
    choose.replaceChildren(...ids.map((id) => h("option", { value: id, selected: id === now }, id)));
    if (!shown) show(now);
  });
  return () => { stop(); shown = ""; log?.end(); };
}
