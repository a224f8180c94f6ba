// Calls of Roundhouse's own API, with the key that was typed, if one is needed. The key lives as long as the tab.
const dialog = document.querySelector("#key");
const kept = "roundhouse-key";
let asking = null;

export const headers = (more = {}) => {
  const key = sessionStorage.getItem(kept);
  return key ? { authorization: `Bearer ${key}`, ...more } : more;
};

/** Asks for a key; whoever else needs one meanwhile waits for the same answer. */
function askForKey(why) {
  asking ??= new Promise((done) => {
    dialog.querySelector(".error").textContent = sessionStorage.getItem(kept) ? why : "";
    dialog.showModal();
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(kept, dialog.querySelector("input").value.trim());
      dialog.querySelector("input").value = "";
      asking = null;
      done();
    };
  });
  return asking;
}
dialog.addEventListener("cancel", (event) => event.preventDefault());

/** A response; asks for a key on 401, throws with the server's own words on every other failure. */
export async function call(path, options = {}) {
  for (;;) {
    const sent = sessionStorage.getItem(kept);
    const reply = await fetch(path, { ...options, headers: headers(options.headers) });
    if (reply.ok) return reply;
    const words = await reply.json().then((body) => body.error?.message ?? body.error, () => reply.statusText);
    if (reply.status === 401) {
      if (sent === sessionStorage.getItem(kept)) await askForKey(words);
      continue;
    }
    throw Object.assign(new Error(words), { status: reply.status });
  }
}

export const get = async (path, options) => (await call(path, options)).json();
export const post = async (path) => (await call(path, { method: "POST" })).json();
export const requestPath = (id) => `/api/v1/requests/${encodeURIComponent(id)}`;
export const modelPath = (id) => `/api/v1/models/${id.split("/").map(encodeURIComponent).join("/")}`;

/** Says a failure (or, "good", what was done) to whoever looks, for as long as it takes to read. */
export function note(text, kind = "") {
  const told = document.createElement("div");
  told.className = kind;
  told.textContent = text;
  document.querySelector("#notes").append(told);
  setTimeout(() => told.remove(), 9000);
}
export const attempt = (doing) => doing.catch((error) => { if (error.name !== "AbortError") note(error.message); });
