// The API's page: /openapi.json as a list that is read from top to bottom. Knows OpenAPI 3.1; no route by name.

import { by, make, say } from "./dom.js";
import { get } from "./token.js";

const DEEP = 5; // schemas in schemas

try {
  const api = await (await get("openapi.json")).json();
  by("groups").append(...groups(api));
  by("search").oninput = () => filter(by("search").value.trim().toLowerCase());
  if (location.hash) document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
} catch (error) {
  by("notice").hidden = false;
  say(by("notice"), error.message);
}

function groups(api) {
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  const tags = Object.groupBy(operations, ({ operation }) => operation.tags?.[0] ?? "other");
  return Object.entries(tags).map(([tag, own]) =>
    make("section", "", make("h2", "", tag), ...own.map((one) => described(one, api))));
}

function described({ path, method, operation }, api) {
  const [first, ...rest] = (operation.description ?? operation.summary ?? "").split("\n\n");
  const head = make("summary", "", make("b", `method ${method}`, method.toUpperCase()), make("code", "", path),
    make("span", "quiet", first.split("\n").join(" ")));
  const details = make("details", "card", head,
    ...rest.map((text) => make("p", "", text)), ...parameters(operation, api), ...body(operation, api),
    make("h3", "", "Answers"), answers(operation, api));
  details.id = `${method}${path}`.replace(/[^a-z0-9]+/gi, "-");
  details.dataset.words = details.textContent.toLowerCase();
  return details;
}

function parameters({ parameters: given }, api) {
  if (!given?.length) return [];
  const terms = given.map((one) =>
    term(`${one.name} (${one.in})`, one.schema, api, one.required, one.description, 0));
  return [make("h3", "", "Parameters"), make("dl", "", ...terms)];
}

function body({ requestBody }, api) {
  const content = Object.entries(requestBody?.content ?? {});
  return content.flatMap(([type, { schema, examples }]) => [
    make("h3", "", "Body ", make("code", "", type)),
    schemaOf(schema, api, 0),
    ...Object.values(examples ?? {}).slice(0, 1).map(({ value }) => example(value)),
  ]);
}

function answers({ responses }, api) {
  const terms = Object.entries(responses).map(([status, { description, content }]) => {
    const [type, inside] = Object.entries(content ?? {})[0] ?? [];
    const deep = inside?.schema && !type.includes("problem") ? schemaOf(inside.schema, api, 0) : null;
    return make("div", "", make("dt", "", make("code", "", status)), make("dd", "", description ?? "", deep));
  });
  return make("dl", "answers", ...terms);
}

/** A schema: its members, or one line. */
function schemaOf(given, api, depth) {
  const schema = resolved(given, api);
  const members = Object.entries(schema.properties ?? {});
  if (!members.length || depth > DEEP) return make("p", "quiet", [typeOf(given, api), meaning(schema, api)].filter(Boolean).join(": "));
  const required = new Set(schema.required ?? []);
  return make("dl", "", ...members.map(([name, one]) => term(name, one, api, required.has(name), null, depth + 1)));
}

function term(name, given, api, required, said, depth) {
  const schema = resolved(given ?? {}, api);
  const text = said ?? meaning(schema, api);
  const inner = inside(schema, api);
  const value = make("dd", "", make("span", "type", typeOf(given ?? {}, api)), required ? make("b", "", " required") : null,
    text ? ` ${text}` : null);
  if (inner && depth <= DEEP) value.append(make("details", "", make("summary", "", "its members"), schemaOf(inner, api, depth)));
  return make("div", "", make("dt", "", make("code", "", name)), value);
}

/** The schema with members that a schema is, lists, or is one of. */
function inside(schema, api) {
  const candidates = [schema, schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  return candidates.filter(Boolean).map((one) => resolved(one, api)).find((one) => one.properties);
}

function resolved(schema, api) {
  const name = schema.$ref?.split("/").at(-1);
  return name ? { ...api.components.schemas[name], ...schema, $ref: undefined } : schema;
}

function typeOf(schema, api) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map((one) => typeOf(one, api)))].join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.items) return `list of ${typeOf(schema.items, api)}`;
  return [schema.type ?? "any"].flat().join(" or ");
}

/** A schema's description, or those of what it may be. */
function meaning(schema, api) {
  const choices = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].map((one) => resolved(one, api).description);
  return schema.description ?? choices.filter(Boolean).join("; or ");
}

function example(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return make("details", "", make("summary", "", "an example"), make("pre", "", text));
}

function filter(text) {
  for (const details of document.querySelectorAll("#groups details.card"))
    details.hidden = !details.dataset.words.includes(text);
  for (const section of document.querySelectorAll("#groups section"))
    section.hidden = !section.querySelector("details.card:not([hidden])");
}
