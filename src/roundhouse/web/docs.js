// `/docs`: what can be asked, from /openapi.json. Served from here, as boxes with models are often without internet.
import { h } from "./dom.js";

const page = document.getElementById("page");

/** A schema in a few words. */
function kind(schema, whole) {
  if (!schema) return "";
  if (schema.$ref) return kind(schema.$ref.split("/").slice(1).reduce((part, name) => part[name], whole), whole);
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.map((one) => kind(one, whole)).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  const type = [schema.type ?? "any"].flat().join(" or ");
  return schema.items ? `${type} of ${kind(schema.items, whole)}` : type;
}

function row(name, what, text) {
  return h("tr", {}, h("td", {}, h("code", {}, name)), h("td", {}, what), h("td", {}, text ?? ""));
}

function table(title, rows) {
  return rows.length ? [h("h4", {}, title), h("table", {}, h("tbody", {}, rows))] : [];
}

function parameters(operation, whole) {
  return (operation.parameters ?? []).map((one) =>
    row(one.name, `${kind(one.schema, whole)}, in ${one.in}${one.required ? "" : ", optional"}`, one.description));
}

function body(operation, whole) {
  const [type, told] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (!told) return [];
  const required = new Set(told.schema.required ?? []);
  const fields = Object.entries(told.schema.properties ?? {});
  const more = told.schema.additionalProperties ? [row("…", "any", "whatever else the engine knows")] : [];
  return table(`Body, ${Object.keys(operation.requestBody.content).join(" or ") || type}`, [
    ...fields.map(([name, one]) => row(name, `${kind(one, whole)}${required.has(name) ? "" : ", optional"}`, one.description)),
    ...more]);
}

function answers(operation) {
  return table("Answers", Object.entries(operation.responses).map(([status, one]) =>
    row(status === "default" ? "errors" : status, Object.keys(one.content ?? {}).join(", "), one.description)));
}

function operation(method, path, told, whole) {
  return h("details", { class: "card", id: `${method}-${path}` },
    h("summary", {}, h("strong", {}, method.toUpperCase()), " ", h("code", {}, path), " ", told.summary ?? ""),
    told.description ? h("p", {}, told.description) : null,
    table("Parameters", parameters(told, whole)), body(told, whole), answers(told));
}

async function show() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`/openapi.json answers ${answer.status}`);
  const whole = await answer.json();
  const groups = new Map();
  for (const [path, operations] of Object.entries(whole.paths)) {
    for (const [method, told] of Object.entries(operations)) {
      const name = told.tags?.[0] ?? "others";
      groups.set(name, [...(groups.get(name) ?? []), operation(method, path, told, whole)]);
    }
  }
  const order = [...groups.keys()].sort((one, other) => (other === "engines") - (one === "engines"));
  page.replaceChildren(
    h("p", {}, "Where keys are configured, each call needs one: ", h("code", {}, "Authorization: Bearer KEY"), "."),
    ...order.flatMap((name) => [h("h2", {}, name === "engines" ? "Answered by engines" : name), ...groups.get(name)]));
}

show().catch((error) => page.replaceChildren(h("p", { class: "error", role: "alert" }, String(error.message))));
