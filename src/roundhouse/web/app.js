// The frame: pages by the address's hash, theme, shortcuts, and whether the feed lives.
import { chat } from "./chat.js";
import { h, put } from "./dom.js";
import { follow, watch } from "./feed.js";
import { models } from "./models.js";
import { now } from "./now.js";
import { requests } from "./requests.js";
import { settings } from "./settings.js";
import { timeline } from "./timeline.js";

const pages = { now, timeline, requests, models, chat, settings };
const titles = { now: "Now", timeline: "Timeline", requests: "Requests", models: "Models", chat: "Chat", settings: "Settings" };
const page = document.querySelector("#page"), nav = document.querySelector("nav"), link = document.querySelector("#link");
let leave = () => {};

nav.append(...Object.keys(pages).map((name, place) => h("a", { href: `#${name}`, title: `g then ${place + 1}` }, titles[name])));

function go() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const known = pages[name] ? name : "now";
  leave();
  page.replaceChildren();
  for (const one of nav.children) one.toggleAttribute("aria-current", one.hash === `#${known}`);
  nav.querySelector("[aria-current]").setAttribute("aria-current", "page");
  document.title = `${titles[known]} · Roundhouse`;
  leave = pages[known](page, decodeURIComponent(rest.join("/")));
}
addEventListener("hashchange", () => { go(); page.focus({ preventScroll: true }); });

const dark = matchMedia("(prefers-color-scheme: dark)"), theme = document.querySelector("#theme");
function paint() {
  const chosen = localStorage.getItem("roundhouse-theme") ?? "auto";
  document.documentElement.classList.toggle("dark", chosen === "dark" || (chosen === "auto" && dark.matches));
  put(theme, { auto: "Theme: system", dark: "Theme: dark", light: "Theme: light" }[chosen]);
}
theme.addEventListener("click", () => {
  const order = ["auto", "light", "dark"], at = order.indexOf(localStorage.getItem("roundhouse-theme") ?? "auto");
  localStorage.setItem("roundhouse-theme", order[(at + 1) % 3]);
  paint();
});
dark.addEventListener("change", paint);

// g, then a digit: a page. /: the page's first search field.
let before = "";
addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (before === "g" && Object.keys(pages)[event.key - 1]) location.hash = Object.keys(pages)[event.key - 1];
  if (event.key === "/") { event.preventDefault(); page.querySelector("input[type=search]")?.focus(); }
  before = event.key;
});

watch((picture) => {
  put(link, { live: "Live", cut: "Disconnected, trying again", waiting: "Connecting" }[picture.live]);
  link.className = picture.live === "live" ? "live" : picture.live === "cut" ? "cut" : "";
});
paint();
go();
follow();
