// Past requests, newest first: filters, and what each spent its time with.
import { attempt, get, requestPath } from "./api.js";
import { clock, h, LongList, put, seconds } from "./dom.js";

const PAGE = 500, MOST = 20_000;

function requestRow(item, open) {
  const element = h("div", { class: "row request" }, h("button", { type: "button", "aria-label": `${item.model || item.wanted}, ${clock(item.at)}, status ${item.status}, ${seconds(item.total_s)} in all`, onclick: () => open(item) },
    h("span", { class: "c1" }, clock(item.at)), h("span", { class: "c2" }, item.model || item.wanted),
    h("span", { class: item.status < 400 && !item.error ? "c3" : "c3 bad" }, String(item.status)),
    h("span", { class: "c4 soft" }, item.key || item.task || ""),
    h("span", { class: "num mid soft" }, seconds(item.queue_s)), h("span", { class: "num mid soft" }, seconds(item.ttft_s)),
    h("span", { class: "num" }, seconds(item.total_s))));
  return { element, update() {} };
}

/** Parts of a request's time as [name, start, length] in seconds. */
export function waterfall(r) {
  const queue = r.queue_s ?? 0, load = r.load_s ?? 0, total = r.total_s ?? queue + load;
  const first = Math.max(0, Math.min(r.ttft_s ?? total, total - queue - load));  // counted from the grant
  return [["Queue", 0, queue], ["Load", queue, load], ["First token", queue + load, first],
    ["Generation", queue + load + first, Math.max(0, total - queue - load - first)]];
}

function detail(r) {
  const total = Math.max(r.total_s ?? 0, 1e-6), why = h("ul", { class: "plain small" }, h("li", { class: "soft" }, "…"));
  const sent = h("div", { class: "sent" });
  // Copies are kept only where somebody wants them, and only admins may see them: else nothing is said of them.
  get(`${requestPath(r.id)}/capture`).then((kept) => sent.replaceChildren(h("h2", {}, "What was sent"),
    ...[["Request", kept.request], ["Answer", kept.answer]].map(([name, text]) => h("details", {}, h("summary", {}, name), h("pre", { tabindex: "0", "aria-label": name }, text ?? "")))), () => {});
  get(`${requestPath(r.id)}/why`).then(
    (told) => why.replaceChildren(...told.lines.map((line) => h("li", {}, `${clock(line.at)} ${line.text}`))),
    (error) => why.replaceChildren(h("li", { class: "soft" }, error.status === 404 ? "No reasons are recorded for it." : error.message)));
  return [h("div", { class: "head" }, h("h2", {}, r.id)),
    h("div", { class: "fall" }, waterfall(r).map(([name, start, length]) => {
      const bar = h("i");
      bar.style.left = `${(100 * start) / total}%`;
      bar.style.width = `${(100 * length) / total}%`;
      return h("div", {}, h("span", {}, name), h("span", { class: "bar" }, bar), h("span", {}, seconds(length)));
    })),
    h("dl", {}, ...Object.entries({ Asked: r.wanted, "Served by": r.model, Key: r.key || "none", Task: r.task, Outcome: `${r.status} ${r.error || (r.status === 499 ? "its client left" : "")}`,
      Tokens: r.prompt_tokens == null ? "" : `${r.prompt_tokens} in, ${r.completion_tokens ?? 0} out` }).filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("h2", {}, "Why"), why, sent];
}

export function requests(page) {
  let items = [], ended = false, busy = false, asked = 0;
  const side = h("section", { class: "card", "aria-live": "polite", "aria-label": "Request" }, h("p", { class: "soft" }, "Choose a request to see where its time went."));
  const open = (item) => side.replaceChildren(...detail(item));
  const list = new LongList({ label: "Requests", id: (item) => item.id + item.at, make: (item) => requestRow(item, open), height: 40, onEnd: () => more() });
  const fit = () => { list.element.style.height = `min(60vh, ${Math.max(3, items.length) * list.height + 2}px)`; };
  const field = (name) => h("input", { type: "search", placeholder: name, "aria-label": name, onchange: () => begin() });
  const model = field("Model"), key = field("Key"), count = h("span", { class: "soft small", role: "status" });
  const outcome = h("select", { "aria-label": "Outcome", onchange: () => begin() }, h("option", { value: "" }, "Any outcome"), h("option", { value: "ok" }, "Answered"), h("option", { value: "failed" }, "Failed"));
  const until = h("input", { type: "datetime-local", onchange: () => begin() });

  async function more() {
    if (busy || ended || items.length >= MOST) return;
    busy = true;
    const mine = asked, query = new URLSearchParams({ limit: PAGE });
    if (model.value.trim()) query.set("model", model.value.trim());
    if (key.value.trim()) query.set("key", key.value.trim());
    if (outcome.value) query.set("outcome", outcome.value);
    const before = items.length ? items.at(-1).at : until.value && new Date(until.value).getTime() / 1000;
    if (before) query.set("before", before);
    const found = await attempt(get(`/api/v1/requests?${query}`));
    busy = false;
    if (mine !== asked) return more();
    ended = !found || found.requests.length < PAGE;
    items = items.concat(found?.requests ?? []);
    put(count, `${items.length}${ended ? "" : " and more"}`);
    fit();
    list.show(items);
  }
  function begin() { asked += 1; items = []; ended = false; fit(); list.show(items); list.element.scrollTop = 0; more(); }

  page.append(h("div", { class: "two" },
    h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Requests"), count, h("button", { type: "button", onclick: begin }, "Refresh")),
      h("div", { class: "head" }, model, key, outcome, h("label", { class: "small soft" }, "Until ", until)),
      h("div", { class: "columns small soft", "aria-hidden": "true" }, ...[["c1", "Came"], ["c2", "Model"], ["c3", "Status"], ["c4", "Key or task"], ["num mid", "Queue"], ["num mid", "1st token"], ["num", "Total"]].map(([kind, name]) => h("span", { class: kind }, name))), list.element), side));
  begin();
  return () => list.end();
}
