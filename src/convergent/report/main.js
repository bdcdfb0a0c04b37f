// The page: the answer first, then what is chosen.
const tables = {};
let DataTable = null, charts = null;
// A chart is drawn once its library runs, of what is chosen then.
const charted = (draw) => () => (window.Plotly ? draw() : charts.then(draw));

// A sortable, filterable table in place of whatever table was there.
function table_(id, columns, rows, options = {}) {
  tables[id]?.destroy();
  byId(id).replaceChildren();
  const old = byId(id), fresh = old.cloneNode(false);
  old.replaceWith(fresh);
  tables[id] = new DataTable(fresh, {
    data: rows, columns, deferRender: true, autoWidth: false, pageLength: 10, lengthMenu: [10, 25, 50, 100],
    layout: {
      top2Start: rows.length > 40 ? { searchBuilder: { conditions: {} } } : null,
      topStart: rows.length > 10 ? "pageLength" : null, topEnd: rows.length > 10 ? "search" : null,
      bottomStart: rows.length > 10 ? "info" : null, bottomEnd: rows.length > 10 ? { paging: { numbers: 5, firstLast: false } } : null,
    },
    language: {
      searchBuilder: { title: { 0: "", _: "" }, add: "Filter", clearAll: "Clear", data: "column" }, search: "Find",
      lengthMenu: "_MENU_ rows", info: "_START_–_END_ of _TOTAL_", infoFiltered: "(_MAX_ in all)", infoEmpty: "none",
    },
    ...options,
  });
  return tables[id];
}

// The heading of a column, with what it means.
const heading = (title, name = title) => {
  const meaning = about.columns[name];
  return meaning ? `<span class="help" title="${escaped(meaning)}">${escaped(title)}</span>` : escaped(title);
};

// What is out of sight is drawn when it is about to be seen, so that the page opens at once.
const waiting = {}, near = {};
function later(section, name, draw) {
  waiting[section] ??= {};
  waiting[section][name] = draw;
  drawNear(section);
}
function drawNear(section) {
  if (!near[section] || !DataTable) return;
  const drawn = Object.values(waiting[section] ?? {});
  waiting[section] = {};
  drawn.forEach((draw) => draw());
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    near[entry.target.id] = entry.isIntersecting;
    drawNear(entry.target.id);
  }
  if (document.body.dataset.ready) return;
  document.body.dataset.ready = "yes"; // all that is in sight is there, but for charts
  performance.mark("ready");
}, { rootMargin: "300px" });

// To begin with, the method that comes closest to one partner for each unit, none shared.
function mostOneToOne() {
  const lonely = (result) => mean(Object.values(result.layers).map((x) => (x.predictors > 1.01 ? 1e6 : 0) + (x.unshared_a ?? 0)));
  const base = about.results.filter((result) => result.images === about.images);
  return about.results.indexOf(base.reduce((best, result) => (lonely(result) < lonely(best) ? result : best)));
}

const state = { layer: about.layers[0], a: about.nets[0], b: about.nets[1], result: mostOneToOne(), images: about.images, unit: 0 };

function select(change) {
  const before = { ...state };
  Object.assign(state, change);
  if (state.a === state.b) state[change.b ? "a" : "b"] = about.nets.find((net) => net !== state[change.b ? "b" : "a"]);
  if (!about.results[state.result].layers[state.layer]) state.result = about.results.findIndex((r) => r.layers[state.layer]);
  state.unit = Math.min(state.unit, Math.max(0, unitsOf(state.layer, state.b).count - 1));
  state.images = about.results[state.result].images;
  const changed = (...names) => names.some((name) => before[name] !== state[name]) || change.all;
  showControls();
  if (changed("layer", "a", "b", "images")) later("layer", "curves", charted(() => drawCurves(state)));
  if (changed("layer", "a", "b", "result")) {
    later("layer", "matrices", charted(() => drawMatrices(state)));
    later("units", "list", () => showUnits(state));
  }
  if (changed("layer", "a", "b", "unit", "images")) later("units", "unit", () => showUnit(state));
}

function showControls() {
  document.querySelectorAll("[data-tabs=layer] button").forEach((button) => {
    button.classList.toggle("on", button.textContent === state.layer);
    button.setAttribute("aria-pressed", button.textContent === state.layer);
  });
  document.querySelectorAll("select[data-net]").forEach((box) => (box.value = state[box.dataset.net]));
  document.querySelectorAll("select[data-method]").forEach((box) => (box.value = state.result));
}

// A result by its words; with the images where not all read the same.
const named = (result) => result.words + (about.results.some((other) => other.images !== about.images) ? `, ${count(result.images)} images` : "");

const options = (values, texts = values) => values.map((value, i) => `<option value="${escaped(value)}">${escaped(texts[i])}</option>`).join("");

function fillControls() {
  document.querySelectorAll("[data-tabs=layer]").forEach((box) => {
    box.innerHTML = about.layers.map((layer) => `<button>${escaped(layer)}</button>`).join("");
    box.addEventListener("click", (event) => event.target.tagName === "BUTTON" && select({ layer: event.target.textContent }));
  });
  document.querySelectorAll("select[data-net]").forEach((box) => {
    box.innerHTML = options(about.nets);
    box.addEventListener("change", () => select({ [box.dataset.net]: box.value }));
  });
  document.querySelectorAll("select[data-method]").forEach((box) => {
    box.innerHTML = options(about.results.map((_, i) => i), about.results.map(named));
    box.addEventListener("change", () => select({ result: Number(box.value) }));
  });
  const there = Object.keys(FIGURES).filter((name) => about.results.some((result) => result.pairs.some((pair) => pair[name] != null)));
  byId("figure").innerHTML = options(there, there.map((name) => FIGURES[name]));
  const images = [...new Set(about.results.map((result) => result.images))];
  byId("images").innerHTML = options(images, images.map(count));
  const compare = charted(() => drawComparison(byId("figure").value, Number(byId("images").value)));
  byId("figure").addEventListener("change", compare);
  byId("images").addEventListener("change", compare);
  later("methods", "chart", compare);
  byId("unit").addEventListener("click", (event) => {
    const partner = event.target.closest(".partner");
    if (partner) select({ b: partner.dataset.net, a: state.b, unit: Number(partner.dataset.unit) });
  });
}

// The answer in numbers: per layer what one unit accounts for, what the best method does, and what chance gives.
function answer() {
  const nets = about.nets.length, base = about.results.filter((result) => result.images === about.images);
  const methods = new Set(base.map((result) => result.words.split(",")[0])).size;
  const by = `${methods} method${methods > 1 ? "s" : ""}${base.length > methods ? ` in ${base.length} settings` : ""}`;
  byId("opening").textContent = about.opening;
  byId("lead").innerHTML = `${nets} nets (${about.nets.map(escaped).join(", ")}), compared unit by unit on ${count(about.images)} images by ${by}: ` +
    "how much of what a unit of one net does can be predicted from the units of another? " +
    'The question and most methods are those of <a href="https://arxiv.org/abs/1511.07543">Li, Yosinski, Clune, Lipson, Hopcroft: Convergent Learning (ICLR 2016)</a>.';
  byId("cards").innerHTML = about.layers.map((layer) => {
    const there = base.filter((result) => result.layers[layer]?.r2_held_out != null)
      .map((result) => ({ words: result.words, ...result.layers[layer] })).sort((x, y) => y.r2_held_out - x.r2_held_out);
    const single = there.find((x) => x.predictors <= 1.0001), best = there[0];
    const chance = there.find((x) => x.mean_best_r_rotated != null), across = about.across[layer];
    let html = `<div class="card"><h3>${escaped(layer)}</h3>`;
    if (single) html += `<div class="big">${percent(single.r2_held_out)}</div><p>of a unit's variance is explained by its best-matching unit of another net</p>`;
    if (best && best !== single) html += `<p><b>${percent(best.r2_held_out)}</b> by ${escaped(best.words)}, from ${number(best.predictors, best.predictors < 10 ? 1 : 0)} units</p>`;
    if (chance) html += `<p>best partner: r <b>${number(chance.mean_best_r)}</b>, with random rotation <b>${number(chance.mean_best_r_rotated)}</b>; ` +
      `<b>${percent(chance.above_rotated)}</b> of the units exceed what 95% of rotated units reach</p>`;
    const swap = there.find((x) => x.predictors <= 1.0001 && x.kept_restored != null) ?? there.find((x) => x.kept_restored != null);
    if (swap) html += `<p>with the units of another net in their place (${escaped(swap.words)}, variance restored) <b>${percent(swap.kept_restored)}</b> of the decisions are kept` +
      `${swap.kept_untrained_restored != null ? `, with those of an untrained net <b>${percent(swap.kept_untrained_restored)}</b>` : ""}</p>`;
    if (across) {
      const rotated = (m) => (across.found_in_rotated ? ` (${percent(across.found_in_rotated.at(m))})` : "");
      html += `<p>a partner above chance in every other net: <b>${percent(across.found_in.at(-1))}</b>${rotated(-1)} of the units, in none: <b>${percent(across.found_in[0])}</b>${rotated(0)}` +
        `${across.found_in_rotated ? "; in brackets the same with random rotation" : ""}</p>`;
    }
    return `${html}</div>`;
  }).join("");
  byId("function").innerHTML = about.function.map((sentence) => `<li>${escaped(sentence)}</li>`).join("");
  byId("cards-legend").textContent = "Shares of variance are on held-out images; means over all active units, no score clipped, and over the ordered pairs of nets, which share nets.";
  byId("nulls").innerHTML = about.nulls.map(({ words, meaning }) => `<dt>${escaped(words)}</dt><dd>${escaped(meaning)}</dd>`).join("");
  byId("nulls").closest("div").hidden = !about.nulls.length;
}

function summaryTable() {
  const rows = [];
  for (const layer of about.layers) for (const result of about.results) {
    const x = result.layers[layer];
    if (x) rows.push([layer, result.words, result.images, x.mean_r ?? NaN, x.mean_r_rotated ?? NaN, x.r2_in_sample ?? NaN, x.r2_held_out ?? NaN, x.r2_held_out_median ?? NaN, x.predictors ?? NaN]);
  }
  const digits = (value, type) => (type === "display" ? number(value) : Number.isNaN(value) ? -9 : value);
  const bar = (value, type) => type !== "display" ? (Number.isNaN(value) ? -9 : value)
    : `<span class="bar"><span><i style="width:${Math.max(0, Math.min(1, value || 0)) * 100}%"></i></span>${number(value)}</span>`;
  const held = rows.some((row) => !Number.isNaN(row[6]));  // with folds=0 nothing is held out
  table_("summary", [
    { title: heading("layer"), render: (x, type) => (type === "sort" ? about.layers.indexOf(x) : escaped(x)) }, { title: heading("method"), render: escaped }, { title: heading("images"), render: (x, type) => (type === "display" ? count(x) : x) },
    { title: heading("mean r", "mean_r"), render: digits }, { title: heading("random rotation", "mean_r_rotated"), render: digits },
    { title: heading("R² fitted", "r2_in_sample"), render: bar }, { title: heading("R² held out", "r2_held_out"), render: bar, visible: held },
    { title: heading("median", "r2_held_out_median"), render: digits, visible: held }, { title: heading("predictors per unit", "predictors"), render: digits },
  ], rows, { order: [], pageLength: 25 });
}

function ownTables() {
  const all = about.results.flatMap((result, i) => result.tables.map((name) => ({ i, name })));
  byId("tables").hidden = !all.length;
  document.querySelector('nav a[href="#tables"]').hidden = !all.length;
  if (!all.length) return;
  byId("own-table").innerHTML = options(all.map((_, n) => n), all.map(({ i, name }) => `${named(about.results[i])}: ${name.replaceAll("_", " ")}`));
  const show = () => {
    const { i, name } = all[Number(byId("own-table").value)], { headings, rows, total } = part(`table ${i} ${name}`);
    byId("own-legend").textContent = `${count(total)} rows${rows.length < total ? `, the first ${count(rows.length)} here` : ""}; the file is outputs/align/${about.name}/${about.results[i].label}/${name}.csv.`;
    const shown = (x, type) => (type !== "display" ? x : typeof x === "number" ? (Number.isInteger(x) ? x : Number(x.toPrecision(4))) : escaped(x));
    table_("own", headings.map((title) => ({ title: heading(title), render: shown })), rows, { order: [] });
  };
  byId("own-table").addEventListener("change", show);
  later("tables", "own", show);
}

function made() {
  const made = about.made, list = (pairs) => `<dl>${pairs.map(([k, v]) => `<dt>${escaped(k)}</dt><dd>${escaped(v)}</dd>`).join("")}</dl>`;
  let html = list(made.facts) + "<h3>Again</h3>" + `<pre>${escaped(made.commands.join("\n"))}</pre>`;
  html += "<h3>Configurations</h3>" + made.configs.map(([name, text]) => `<details><summary>${escaped(name)}</summary><pre>${escaped(text)}</pre></details>`).join("");
  byId("about").innerHTML = html;
}

// Libraries are kept compressed; from an address of their own the browser compiles them beside the page.
async function library(id) {
  const script = new Blob([bytesOf(chunk(id))]).stream().pipeThrough(new DecompressionStream("gzip"));
  return URL.createObjectURL(new Blob([await new Response(script).blob()], { type: "text/javascript" }));
}

function run(address) {
  const script = document.createElement("script");
  script.src = address;
  return new Promise((done, failed) => {
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
}

const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

// The answer is on the screen while the rest of the file is still read.
async function start() {
  answer();
  made();
  performance.mark("answer");
  if (document.readyState === "loading") await new Promise((read) => document.addEventListener("DOMContentLoaded", read));
  ({ default: DataTable } = await import(await library("datatables")));
  charts = painted().then(() => library("plotly")).then(run); // it takes the longest to start
  fillControls();
  select({ all: true });
  later("methods", "summary", summaryTable);
  ownTables();
  merges();
  document.querySelectorAll("section").forEach((section) => watcher.observe(section));
}
start();
