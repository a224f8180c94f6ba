// The picture of the box, kept by one feed of events, which goes on where it was cut. Counts of requests are not in the
// feed (they change with each request), so the picture is read again every few seconds while somebody looks.
import { call, get, note } from "./api.js";
import { eachFrame } from "./dom.js";

export const picture = { models: {}, devices: {}, queue: { waiting: [], answering: [], total: 0, loads: {}, pinned: [], holders: {} }, events: [], live: "waiting", at: 0 };
const readers = new Set();
const changed = eachFrame(() => readers.forEach((read) => read(picture)));
const EVENTS_KEPT = 100, RETRY_MOST = 15_000;
let last = null, reading = false, again = 0, began = false, told403 = false;

/** Calls `read` after each change, at most once a frame; returns what ends that. */
export function watch(read) {
  readers.add(read);
  changed();
  return () => readers.delete(read);
}

/** A key that may not manage sees models and memory; who else waits is not its business. */
function withoutQueue(error) {
  if (error.status !== 403) throw error;
  if (!told403) note(error.message);
  told403 = true;
  return picture.queue;
}

export async function refresh() {
  if (reading) return;
  reading = true;
  try {
    const [state, queue] = await Promise.all([get("/api/v1/state"), get("/api/v1/queue").catch(withoutQueue)]);
    Object.assign(picture, state, { queue, at: Date.now() });
    changed();
  } catch { /* the feed tells that nobody answers */ } finally { reading = false; }
}
const soon = () => { again ||= setTimeout(() => { again = 0; refresh(); }, 250); };

const words = {
  loading: () => "begins to load", ready: (d) => `is ready after ${d.seconds} s`, unloading: (d) => `leaves: ${d.why}`,
  exited: (d) => (d.expected ? "has left" : `ended: ${d.reason}`), refused: (d) => `refused: ${d.error}`,
  switch: (d) => `switched in ${d.total_s} s, ${d.verdict}`, prefetching: () => "is read ahead",
};

function take(kind, data) {
  const model = picture.models[data.model];
  // Its `queue` is a bare count; who waits is read apart.
  if (kind === "snapshot") Object.assign(picture, data, { queue: picture.queue, at: Date.now() });
  else if (kind === "devices") for (const [id, told] of Object.entries(data)) Object.assign(picture.devices[id] ?? {}, told);
  else if (kind === "progress" && model) model.progress = { fraction: data.fraction, stage: data.stage };
  else if (kind === "loading" && model) Object.assign(model, { state: "loading", error: null, progress: null });
  else if (kind === "ready" && model) Object.assign(model, { state: "ready", progress: null });
  if (words[kind]) {
    picture.events.unshift({ at: Date.now() / 1000, kind, model: data.model, text: words[kind](data), bad: kind === "refused" || (kind === "exited" && !data.expected) });
    picture.events.length = Math.min(picture.events.length, EVENTS_KEPT);
  }
  if (kind !== "devices" && kind !== "progress") soon();
  changed();
}

function live(how) { picture.live = how; changed(); }

async function read() {
  const reply = await call("/api/v1/events", { headers: last ? { "last-event-id": last } : {} });
  const lines = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  live("live");
  let rest = "";
  for (;;) {
    const { value, done } = await lines.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => line && line[0] !== ":").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (!fields.data) continue;
      last = fields.id;
      take(fields.event, JSON.parse(fields.data));
    }
  }
}

export async function follow() {
  if (began) return;
  began = true;
  setInterval(() => { if (!document.hidden && picture.live === "live") refresh(); }, 2000);
  for (let wait = 500; ; wait = Math.min(wait * 2, RETRY_MOST)) {
    try { await read(); wait = 500; } catch { /* told below */ }
    live("cut");
    await new Promise((done) => setTimeout(done, wait));
  }
}
