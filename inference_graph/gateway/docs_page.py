"""The HTML of the documentation page; :mod:`inference_graph.gateway.docs` fills it in."""

PAGE = r"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@title@</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8885; --soft: #8881; --link: #0b57d0 }
@media (prefers-color-scheme: dark) { :root { --link: #8ab4f8 } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid;
  grid-template-columns: 17rem minmax(0, 50rem); gap: 2rem }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1rem; font-size: 14px;
  border-right: 1px solid var(--line); box-sizing: border-box }
nav a { display: block; overflow-wrap: anywhere } a { color: var(--link) } main { padding: 1rem }
section { border-top: 1px solid var(--line); padding: .5rem 0 1rem }
h2 { margin-top: 2.5rem } h3 b { border: 1px solid var(--line); border-radius: 4px;
  padding: 0 .4em; font-size: .8em }
code, pre, textarea { font: 14px/1.45 ui-monospace, monospace; background: var(--soft);
  border-radius: 4px }
code { padding: .1em .3em } pre { padding: .8rem; overflow-x: auto } pre code { background: none }
table { border-collapse: collapse } caption { text-align: left; font-weight: 600 }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; font-weight: 400 }
label { display: block; margin: .3rem 0 } textarea { width: 100%; box-sizing: border-box }
summary { cursor: pointer; font-weight: 600; margin: .5rem 0 }
@media (max-width: 50rem) { body { display: block } nav { position: static; height: auto } }
</style></head><body>
<nav aria-label="Operations"></nav>
<main><h1>@title@</h1><p>@about@</p>
<p>For programs: <a href="openapi.json">openapi.json</a>.</p>
<label>Token for the requests of this page; it is not kept
<input id="token" type="password" autocomplete="off" size="40"></label>
<div id="first"></div>@more@<div id="rest"></div></main>
<script type="application/json" id="document">@document@</script>
<script>
"use strict";
const api = JSON.parse(document.getElementById("document").textContent);
const origin = location.origin === "null" ? "" : location.origin;

function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}
const code = (text) => make("code", {}, text);
const block = (text) => make("pre", { tabIndex: 0 }, text);
const resolve = (schema) =>
  schema.$ref ? resolve(schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api)) : schema;

function typeOf(given) {
  const schema = resolve(given ?? {});
  if (schema.anyOf) return schema.anyOf.map(typeOf).filter((one) => one !== "null").join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `array of ${typeOf(schema.items)}`;
  const bounds = [["at least", schema.minimum], ["above", schema.exclusiveMinimum],
    ["at most", schema.maximum], ["below", schema.exclusiveMaximum]];
  const range = bounds.filter(([, bound]) => bound !== undefined).map((one) => one.join(" "));
  return [schema.type ?? "any", ...range].join(", ");
}

function example(given, depth = 0) {
  const schema = resolve(given ?? {});
  if (schema.examples) return schema.examples[0];
  if (schema.example !== undefined) return schema.example;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (schema.anyOf) return example(schema.anyOf[0], depth);
  if (schema.type === "array") return depth > 4 ? [] : [example(schema.items, depth + 1)];
  if (schema.type === "object" || schema.properties)
    return Object.fromEntries(Object.entries(schema.properties ?? {})
      .map(([name, one]) => [name, example(one, depth + 1)]));
  return { string: "…", integer: 0, number: 0, boolean: true }[schema.type] ?? null;
}

function table(caption, rows) {
  const body = make("tbody", {}, ...rows.map(([head, ...cells]) => make("tr", {},
    make("th", { scope: "row" }, head), ...cells.map((cell) => make("td", {}, cell)))));
  return make("table", {}, make("caption", {}, caption), body);
}

function fields(given) {
  const schema = resolve(given);
  if (!schema.properties) return [];
  return Object.entries(schema.properties).map(([name, one]) =>
    [code(name), typeOf(one), one.description ?? resolve(one).description ?? ""]);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function samples(method, path, operation, kind, body) {
  const url = origin + path, binary = kind && kind !== "application/json";
  const guarded = operation.security !== undefined, verb = method.toUpperCase();
  const headers = [...(guarded ? [["Authorization", "Bearer TOKEN"]] : []),
    ...(kind ? [["Content-Type", kind]] : [])];
  const file = kind?.startsWith("image/") ? "frame.jpg" : "file";
  const text = body && JSON.stringify(body);
  const asText = (pairs) => `{${pairs.map(([name, value]) => `"${name}": "${value}"`).join(", ")}}`;
  return {
    curl: [`curl -X ${verb} ${quoted(url)}`,
      ...headers.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`),
      ...(binary ? [`--data-binary @${file}`] : text ? [`-d ${quoted(text)}`] : []),
    ].join(" \\\n  "),
    Python: [`import httpx`, ``, `answer = httpx.request("${verb}", "${url}",`,
      ...(headers.length ? [`    headers=${asText(headers)},`] : []),
      ...(binary ? [`    content=open("${file}", "rb").read(),`]
        : text ? [`    content='''${text}''',`] : []),
      `)`, `answer.raise_for_status()`, `print(answer.text)`].join("\n"),
    JavaScript: [`const answer = await fetch("${url}", {`, `  method: "${verb}",`,
      ...(headers.length ? [`  headers: ${asText(headers)},`] : []),
      ...(binary ? [`  body: file, // a Blob`] : text ? [`  body: JSON.stringify(${text}),`] : []),
      `});`, `console.log(await answer.text());`].join("\n"),
  };
}

function tryIt(method, path, operation, kind, body) {
  const form = make("form"), inputs = [];
  for (const one of operation.parameters ?? []) {
    const input = make("input", { required: Boolean(one.required) });
    inputs.push([one, input]);
    form.append(make("label", {}, `${one.name} `, input));
  }
  const binary = kind && kind !== "application/json";
  const content = !kind ? null : binary ? make("input", { type: "file", required: true })
    : make("textarea", { rows: 6, value: JSON.stringify(body, null, 1) });
  if (content) form.append(make("label", {}, `body (${kind}) `, content));
  const output = block("");
  output.setAttribute("role", "status");
  form.append(make("button", {}, "Send"), output);
  form.onsubmit = async (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams(), headers = {};
    const token = document.getElementById("token").value;
    if (token && operation.security) headers.Authorization = `Bearer ${token}`;
    for (const [one, input] of inputs) {
      if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(input.value));
      else if (input.value && one.in === "query") query.append(one.name, input.value);
      else if (input.value) headers[one.name] = input.value;
    }
    const file = binary ? content.files[0] : null;
    if (kind) headers["Content-Type"] = (kind.startsWith("image/") && file?.type) || kind;
    output.textContent = "…";
    try {
      const sent = { method: method.toUpperCase(), headers, body: file ?? content?.value };
      const answer = await fetch(query.size ? `${url}?${query}` : url, sent);
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 1); } catch { /* not JSON: figures */ }
      output.textContent = `${answer.status} ${answer.statusText}\n${shown}`;
    } catch (error) {
      output.textContent = String(error);
    }
  };
  return make("details", {}, make("summary", {}, "Try it"), form);
}

function shown(method, path, operation) {
  const content = operation.requestBody?.content ?? {}, kinds = Object.keys(content);
  const kind = kinds[0], json = content["application/json"]?.schema, body = json && example(json);
  const section = make("section", { id: operation.operationId },
    make("h3", {}, make("b", {}, method.toUpperCase()), " ", code(path)),
    make("p", {}, `${operation.summary ?? ""}. ${operation.description ?? ""}`));
  if (operation.parameters?.length)
    section.append(table("Parameters", operation.parameters.map((one) =>
      [code(one.name), `${one.in}, ${typeOf(one.schema)}`, one.description ?? ""])));
  if (kinds.length)
    section.append(
      make("p", {}, "Body: ", ...kinds.flatMap((one, at) => [at ? ", " : "", code(one)])));
  if (json) section.append(table("Fields of the JSON body", fields(json)));
  for (const [language, text] of Object.entries(samples(method, path, operation, kind, body)))
    section.append(make("details", { open: language === "curl" },
      make("summary", {}, language), block(text)));
  const all = Object.entries(operation.responses);
  const [good, answer] = all.find(([status]) => status < 300) ?? [];
  const schema = answer?.content?.["application/json"]?.schema;
  if (schema && Object.keys(schema).length)
    section.append(table(`Answer ${good}`, fields(schema)),
      block(JSON.stringify(example(schema), null, 1)));
  const refusals = all.filter(([status]) => status >= 300);
  if (refusals.length)
    section.append(make("details", {}, make("summary", {}, "Refusals"),
      table("JSON with detail, a sentence",
        refusals.map(([status, one]) => [status, one.description]))));
  section.append(tryIt(method, path, operation, kind, body));
  return section;
}

const nav = document.querySelector("nav"), first = document.getElementById("first");
const rest = document.getElementById("rest"), operations = [];
for (const [path, methods] of Object.entries(api.paths))
  for (const [method, one] of Object.entries(methods)) operations.push([method, path, one]);
const named = api.tags ?? [], groups = [...named];
for (const [, , operation] of operations)
  for (const name of operation.tags ?? ["operations"])
    if (!groups.some((group) => group.name === name)) groups.push({ name });
let apart = false;
for (const [at, group] of groups.entries()) {
  const own = operations.filter(([, , one]) => (one.tags ?? ["operations"])[0] === group.name);
  if (!own.length) continue;
  const target = at === 0 ? first : rest;
  if (group["x-operators"] && !apart) {
    apart = true;
    target.append(make("h2", { id: "operators" }, "For operators"));
    nav.append(make("h2", {}, "For operators"));
  }
  const title = group.name[0].toUpperCase() + group.name.slice(1);
  target.append(make(apart ? "h3" : "h2", {}, title), make("p", {}, group.description ?? ""));
  nav.append(make("strong", {}, title));
  for (const [method, path, operation] of own) {
    target.append(shown(method, path, operation));
    nav.append(make("a", { href: `#${operation.operationId}` }, `${method.toUpperCase()} ${path}`));
  }
  if (at === 0 && document.getElementById("stream"))
    nav.append(make("a", { href: "#stream" }, "WS /v1/stream"));
}
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
</script></body></html>
"""
