// Units: their top-activating images, and their partners.
const pageUrl = cached((id) => URL.createObjectURL(new Blob([bytesOf(chunk(id))], { type: "image/webp" })));

// The patches of a unit, three in a row, `width` pixels wide; the tile's own pixels stay visible when it is magnified.
function patches(layer, net, unit, width, kind = "patches") {
  const units = unitsOf(layer, net), s = units.pictures[kind];
  if (!s || unit < 0) return "";
  const url = pageUrl(s.pages[Math.floor(unit / s.page)]), block = unit % s.page;
  const scale = (width - 2 * (s.columns - 1)) / s.columns / Math.max(s.width, s.height), w = s.width * scale, h = s.height * scale;
  const rows = Math.ceil(unitsOnPage(units.count, s.page, unit) / s.across);
  const size = `${s.columns * s.across * w}px ${s.down * rows * h}px`;
  let html = "";
  for (let k = 0; k < s.k; k++) {
    const x = ((block % s.across) * s.columns + (k % s.columns)) * w;
    const y = (Math.floor(block / s.across) * s.down + Math.floor(k / s.columns)) * h;
    const at = unit * s.k + k, activation = `activation ${number(s.activation[at])}`;
    const silent = s.image[at] < 0 || s.activation[at] === 0;
    const title = silent ? "silent" : kind === "ascent" ? activation : `image ${s.image[at]}, ${activation}`;
    const back = silent ? "background-color:#eceff1" : `background-image:url(${url});background-size:${size};background-position:-${x}px -${y}px`;
    html += `<div class="patch" title="${title}" style="width:${w}px;height:${h}px;${back}"></div>`;
  }
  return `<div class="patches ${scale > 1.2 ? "pixels" : ""}" style="grid-template-columns:repeat(${s.columns},${w}px)">${html}</div>`;
}

const unitsOnPage = (count, page, unit) => Math.min(page, count - Math.floor(unit / page) * page);

// The table of all units of a net, with their main partner under one method.
function unitRows(state) {
  const { layer, a, b, result } = state, map = mapOf(result, layer, a, b), units = unitsOf(layer, b);
  return Array.from({ length: units.count }, (_, u) => {
    const partner = map ? map.partner[u * map.m] : -1;
    return [
      u, units.mean ? units.mean[u] : NaN, partner, map ? map.r[u] : NaN, map?.held ? map.held[u] : NaN, map ? map.predictors[u] : NaN,
      map ? map.best[u] : NaN, map?.excess ? map.excess[u] : NaN,
    ];
  });
}

function showUnits(state) {
  const shown = (net) => (unit, type) => type !== "display" ? unit
    : unit < 0 ? "none" : `<span class="shown" style="align-items:center;gap:.6rem">${patches(state.layer, net, unit, 54)}<span>${unit}</span></span>`;
  const digits = (places) => (value, type) => (type === "display" ? number(value, places) : Number.isNaN(value) ? -9 : value);
  const columns = [
    { title: heading("unit"), className: "dt-left", render: shown(state.b) }, { title: "mean activation", render: digits(3) },
    { title: heading(`main partner in ${state.a}`, "partner"), className: "dt-left", render: shown(state.a) },
    { title: heading("r"), render: digits(2) },
    { title: heading("R² held out", "r2_held_out"), render: digits(2), visible: Boolean(mapOf(state.result, state.layer, state.a, state.b)?.held) },
    { title: heading("predictors per unit", "predictors") }, { title: heading("best r", "best_r"), render: digits(2) },
    { title: heading("best r less random rotation", "excess"), render: digits(2) },
  ];
  const table = table_("unit-table", columns, unitRows(state), {
    pageLength: 10, order: [[3, "desc"]], createdRow: (row, data) => {
      row.classList.toggle("on", data[0] === state.unit);
      row.tabIndex = 0;
    },
  });
  const choose = (row) => {
    const data = table.row(row).data();
    if (data) select({ unit: data[0] });
  };
  table.on("click", "tbody tr", (event) => choose(event.currentTarget));
  table.on("keydown", "tbody tr", (event) => {
    const { currentTarget: row, key } = event, next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[key];
    if (key !== "Enter" && !next) return;
    event.preventDefault();
    (next ?? row).focus();
    choose(next ?? row);
  });
}

// One unit: patches, and for every other net its partners under every method.
function showUnit(state) {
  const { layer, b, unit } = state, units = unitsOf(layer, b);
  document.querySelectorAll("#unit-table tbody tr").forEach((row) => {
    const data = tables["unit-table"]?.row(row).data();
    row.classList.toggle("on", data?.[0] === unit);
  });
  const facts = [units.mean ? `mean activation ${number(units.mean[unit], 3)}` : ""];
  const top = units.pictures.patches;
  if (top) facts.push(`highest ${number(top.activation[unit * top.k])}`);
  let html = `<h3>${escaped(b)}, ${escaped(layer)}, unit ${unit}</h3><p class="facts">${facts.filter(Boolean).join(" · ")}</p>`;
  const kinds = { patches: "", bottom: "least exciting", ascent: "made by gradient ascent" };
  html += `<div class="shown">${Object.entries(kinds).filter(([kind]) => units.pictures[kind]).map(([kind, words]) =>
    `<div>${patches(layer, b, unit, kind === "patches" ? 250 : 120, kind)}<p class="facts">${words}</p></div>`).join("")}</div>`;
  html += '<table class="partners">';
  for (const a of about.nets.filter((net) => net !== b)) {
    const methods = new Map(); // methods with the same partners stand together
    about.results.forEach((result, i) => {
      const shown = result.images === state.images ? partners(i, layer, a, b, unit) : null;
      if (shown) methods.set(shown, [...(methods.get(shown) ?? []), methodOf(i)]);
    });
    if (methods.size) html += `<tr><td colspan="2" class="net-head">in ${escaped(a)}</td></tr>`;
    for (const [shown, names] of methods) {
      html += `<tr><td>${names.map((name) => escaped(name).replaceAll("_", "_<wbr>")).join(",<br>")}</td><td>${shown}</td></tr>`;
    }
  }
  byId("unit").innerHTML = `${html}</table>`;
  byId("unit").dataset.unit = unit;
}

// The partners of a unit of b in net a by one method.
function partners(result, layer, a, b, unit) {
  const map = mapOf(result, layer, a, b);
  if (!map) return null;
  const buttons = [];
  for (let m = 0; m < map.m; m++) {
    const partner = map.partner[unit * map.m + m];
    if (partner < 0) continue;
    const r = map.corr ? map.corr[unit * map.m + m] : map.m === 1 ? map.r[unit] : NaN;
    const weight = map.predictors[unit] > 1 ? `<br>weight ${number(map.weight[unit * map.m + m])}` : "";
    buttons.push(`<button class="partner" data-net="${escaped(a)}" data-unit="${partner}">${patches(layer, a, partner, 54)}<br>${partner}: r ${number(r)}${weight}</button>`);
  }
  const rest = map.predictors[unit] - buttons.length;
  const facts = map.held ? [`explains ${percent(map.held[unit])}`] : [];
  if (map.predictors[unit] > 1) facts.push(`${map.predictors[unit]} units${rest > 0 ? `, ${buttons.length} shown` : ""}`);
  let text = facts.join(", ");
  if (map.labelsB && map.labelsB[unit] >= 0) {
    const label = map.labelsB[unit], size = (labels) => labels.filter((x) => x === label).length;
    text += `; cluster ${label}: ${size(map.labelsA)} units of ${escaped(a)}, ${size(map.labelsB)} of ${escaped(b)}`;
  }
  return `${buttons.join("") || "no partner"}<div class="facts" style="margin:0">${text}</div>`;
}
