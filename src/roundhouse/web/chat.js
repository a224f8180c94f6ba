// A conversation with any model. What models write is shown as text, never as HTML.
import { attempt, call, get } from "./api.js";
import { h, put, seconds } from "./dom.js";

const talk = [];  // stays while the tab is open, whatever page is looked at

export function chat(page) {
  const choose = h("select", { "aria-label": "Model" });
  const view = h("div", { class: "talk", tabindex: "0", role: "log", "aria-label": "Conversation" });
  const status = h("p", { class: "soft small", role: "status" });
  const text = h("textarea", { "aria-label": "Message", placeholder: "Message (Enter sends, Shift+Enter begins a line)", onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); } } });
  const file = h("input", { type: "file", accept: "image/*", "aria-label": "Attach an image" });
  const go = h("button", { type: "button", class: "primary", onclick: () => (running ? running.abort() : send()) }, "Send");
  let running = null;

  function turn(message) {
    const body = h("div"), thought = h("div"), fold = h("details", { hidden: true }, h("summary", {}, "Reasoning"), thought), line = h("span", { class: "line" });
    const parts = Array.isArray(message.content) ? message.content : [{ type: "text", text: message.content }];
    const image = parts.find((part) => part.type === "image_url");
    body.textContent = parts.find((part) => part.type === "text")?.text ?? "";
    const element = h("div", { class: `turn ${message.role}` }, fold, image && h("img", { src: image.image_url.url, alt: "Attached image" }), body, line);
    view.append(element);
    return { body, thought, fold, line };
  }

  async function send() {
    const words = text.value.trim();
    if (running || !words || !choose.value) return;
    const image = file.files[0] && await new Promise((done) => { const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(file.files[0]); });
    const said = { role: "user", content: image ? [{ type: "text", text: words }, { type: "image_url", image_url: { url: image } }] : words };
    talk.push(said);
    turn(said);
    text.value = file.value = "";
    const shown = turn({ role: "assistant", content: "" }), answer = { role: "assistant", content: "" };
    running = new AbortController();
    put(go, "Stop");
    const began = performance.now();
    let first = 0, reasoning = "", usage = null, failed = "", frame = 0;
    const draw = () => {
      frame = 0;
      put(shown.body, answer.content);
      put(shown.thought, reasoning);
      shown.fold.hidden = !reasoning;
      view.scrollTop = view.scrollHeight;
    };
    try {
      const reply = await call("/v1/chat/completions", { method: "POST", signal: running.signal, headers: { "content-type": "application/json", "x-roundhouse-status": "event" },
        body: JSON.stringify({ model: choose.value, messages: talk, stream: true, stream_options: { include_usage: true } }) });
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const data = block.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
          if (!data || data === "[DONE]") continue;
          const told = JSON.parse(data);
          if (told.error) { failed = told.error.message; continue; }
          const said = told.event?.data ?? told.roundhouse;
          if (said?.description) put(status, said.description);
          usage = told.usage ?? usage;
          const delta = told.choices?.[0]?.delta ?? {};
          if (delta.content || delta.reasoning_content) { first ||= performance.now(); put(status, ""); }
          answer.content += delta.content ?? "";
          reasoning += delta.reasoning_content ?? "";
          frame ||= requestAnimationFrame(draw);
        }
      }
    } catch (error) { failed = error.name === "AbortError" ? "Stopped." : error.message; }
    draw();
    running = null;
    put(go, "Send");
    put(status, "");
    if (answer.content) talk.push(answer);
    const took = (performance.now() - (first || began)) / 1000, tokens = usage?.completion_tokens;
    put(shown.line, [failed, first && `first token after ${seconds((first - began) / 1000)}`, tokens && `${tokens} tokens, ${(tokens / Math.max(took, .001)).toFixed(1)} per second`].filter(Boolean).join(" · "));
  }

  page.append(h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Chat"), choose,
    h("button", { type: "button", onclick: () => { running?.abort(); talk.length = 0; view.replaceChildren(); } }, "New")),
  view, status, h("div", { class: "say" }, text, go), file));
  talk.forEach(turn);
  attempt(get("/v1/models").then((found) => choose.replaceChildren(...found.data.filter((model) => !model.kind || model.kind === "chat").map((model) => h("option", { value: model.id }, model.name)))));
  return () => running?.abort();
}
