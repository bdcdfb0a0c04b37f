// Charts: all methods over the layers, each layer's units, correlation matrices.
const FIGURES = {
  r2_held_out: "variance explained on held-out images",
  r2_in_sample: "variance explained on the images of the fit",
  mean_r: "mean correlation with what predicts a unit",
  predictors: "predictors per unit",
};
// A method looks the same everywhere, in the figures too: colour and mark come with the data.
const colour = (result) => about.results[result].colour;
const mark = (result) => about.results[result].mark;
const methodOf = (result) => about.results[result].words;
const NULL_MARKS = { shuffled: "line-ew-open", rotated_after: "circle-dot" }; // else the method's own mark, hollow

// Ticks of logarithmic axes, as whole numbers.
const TICKS = [0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((first) => first * 10 ** power));
const LOG = { type: "log", tickmode: "array", tickvals: TICKS, ticktext: TICKS.map((tick) => tick.toLocaleString("en")), minor: { ticks: "" } };

const LAYOUT = {
  font: { family: "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif", size: 13, color: "#1d2329" },
  margin: { l: 58, r: 14, t: 34, b: 46 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
  legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hoverlabel: { bgcolor: "#fff", font: { color: "#1d2329" } },
};
const AXIS = { gridcolor: "#eceff1", zerolinecolor: "#c9d0d5", linecolor: "#c9d0d5", ticks: "outside", tickcolor: "#c9d0d5" };
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const draw = (id, traces, layout) => Plotly.react(id, traces, { ...LAYOUT, ...layout }, CONFIG);

const shiftOf = (place, of) => (place - (of - 1) / 2) * Math.min(0.06, 0.6 / of); // side by side

function drawComparison(figure, images) {
  const shown = about.results.map((_, i) => i).filter((i) => about.results[i].images === images);
  const traces = shown.map((i, place) => {
    const layers = about.layers.filter((layer) => about.results[i].layers[layer]?.[figure] != null);
    const values = layers.map((layer) => about.results[i].pairs.filter((p) => p.layer === layer && p[figure] != null).map((p) => p[figure]));
    const means = values.map(mean), shift = shiftOf(place, shown.length);
    return {
      name: methodOf(i), x: layers.map((layer) => about.layers.indexOf(layer) + shift), y: means, mode: "lines+markers",
      marker: { color: colour(i), symbol: mark(i), size: 9 }, line: { color: colour(i), width: 1.6 },
      error_y: {
        type: "data", symmetric: false, color: colour(i), thickness: 1.2, width: 3,
        array: values.map((v, n) => Math.max(...v) - means[n]), arrayminus: values.map((v, n) => means[n] - Math.min(...v)),
      },
      customdata: layers, hovertemplate: "%{customdata}: <b>%{y:.3f}</b><extra>%{fullData.name}</extra>",
    };
  });
  const byChance = (figure === "predictors" ? [] : about.nulls).filter(({ name: null_ }) => shown.filter((i, place) => {
    const layers = about.layers.filter((layer) => about.results[i].layers[layer]?.[`${figure}_${null_}`] != null);
    if (layers.length) traces.push({
      name: `${methodOf(i)}, by chance`, x: layers.map((layer) => about.layers.indexOf(layer) + shiftOf(place, shown.length)),
      y: layers.map((layer) => about.results[i].layers[layer][`${figure}_${null_}`]), mode: "markers", showlegend: false,
      marker: { color: colour(i), symbol: NULL_MARKS[null_] ?? `${mark(i)}-open`, size: 8, line: { width: 1.6, color: colour(i) } },
      customdata: layers, hovertemplate: "%{customdata}: <b>%{y:.3f}</b><extra>%{fullData.name}</extra>",
    });
    return layers.length;
  }).length);
  draw("comparison", traces, {
    xaxis: { ...AXIS, tickvals: about.layers.map((_, i) => i), ticktext: about.layers, range: [-0.5, about.layers.length - 0.5], zeroline: false },
    yaxis: { ...AXIS, title: { text: FIGURES[figure] }, rangemode: "tozero", ...(figure === "predictors" ? LOG : {}) },
  });
  byId("comparison-legend").textContent =
    `Marks: means over all ordered pairs of nets, which share nets; bars: from the least to the greatest pair, no standard errors; ${count(images)} images.`
    + byChance.map(({ name, words }) => ` ${{ shuffled: "Dashes", rotated_after: "Dotted circles" }[name] ?? "Hollow marks"}: the same method with ${words}.`).join("");
}

function drawCurves(state) {
  const { layer, a, b } = state, traces = [], cloud = [];
  let best = null;
  about.results.forEach((result, i) => {
    const map = result.images === state.images ? mapOf(i, layer, a, b) : null;
    if (!map) return;
    best ??= { map, name: "best single partner" };
    const units = map.r.map((_, u) => u).filter((u) => map.predictors[u] > 0).sort((u, v) => map.r[v] - map.r[u]);
    const hover = "<b>%{y:.3f}</b>, unit %{customdata}<extra>%{fullData.name}</extra>";
    traces.push({
      name: methodOf(i), x: units.map((_, rank) => rank + 1), y: units.map((u) => map.r[u]), customdata: units,
      mode: "lines", line: { color: colour(i), width: 2 }, hovertemplate: hover,
    });
    if (map.held && units.some((u) => map.predictors[u] > 1)) {
      cloud.push({
        name: methodOf(i), x: units.map((u) => map.predictors[u]), y: units.map((u) => map.held[u]), customdata: units, mode: "markers",
        marker: { color: colour(i), symbol: mark(i), size: 6, opacity: 0.65 },
        hovertemplate: "%{x} units, <b>%{y:.3f}</b>, unit %{customdata}<extra>%{fullData.name}</extra>",
      });
    }
  });
  if (best) {
    const sorted = [...best.map.best].filter((r) => !Number.isNaN(r)).sort((x, y) => y - x);
    traces.push({ name: best.name, x: sorted.map((_, i) => i + 1), y: sorted, mode: "lines", line: { color: "#1d2329", dash: "dot", width: 1.3 }, hovertemplate: "<b>%{y:.3f}</b><extra>%{fullData.name}</extra>" });
  }
  draw("curves", traces, { xaxis: { ...AXIS, title: { text: "unit, sorted" } }, yaxis: { ...AXIS, title: { text: "correlation" }, rangemode: "tozero" } });
  byId("spread").closest("figure").hidden = !cloud.length;
  byId("curves").closest(".two").style.gridTemplateColumns = cloud.length ? "" : "1fr";
  if (cloud.length) {
    draw("spread", cloud, {
      xaxis: { ...AXIS, title: { text: "predictors per unit" }, ...LOG },
      yaxis: { ...AXIS, title: { text: "variance explained, held out" }, range: [-0.25, 1.02] },
    });
  }
  Plotly.Plots.resize("curves");
}

// Orders that put partners side by side, best first; who has none comes last.
function alignedOrders(map, p) {
  const q = map.r.length, bestA = new Float64Array(p).fill(-Infinity), partner = (u) => map.partner[u * map.m];
  for (let u = 0; u < q; u++) if (partner(u) >= 0) bestA[partner(u)] = Math.max(bestA[partner(u)], map.r[u]);
  const orderA = [...bestA.keys()].sort((x, y) => bestA[y] - bestA[x] || x - y), place = new Float64Array(p);
  orderA.forEach((unit, at) => (place[unit] = at));
  const key = (u) => (partner(u) >= 0 ? place[partner(u)] : p) - map.r[u] / 4;
  return [orderA, [...map.r.keys()].sort((x, y) => key(x) - key(y) || x - y)];
}

function drawMatrices(state) {
  const { layer, a, b } = state, between = matrix(layer, a, b), shown = ["before", "after", "within-a", "within-b"];
  byId("no-matrices").hidden = !!between;
  shown.forEach((id) => (byId(id).closest("figure").hidden = !between));
  if (!between) return;
  const map = mapOf(state.result, layer, a, b) ?? about.results.map((_, i) => mapOf(i, layer, a, b)).find(Boolean);
  const [orderA, orderB] = alignedOrders(map, between.length);
  heatmap("before", between, null, null, a, b);
  heatmap("after", orderA.map((x) => orderB.map((y) => between[x][y])), orderA, orderB, a, b);
  heatmap("within-a", matrix(layer, a, a), null, null, a, a);
  heatmap("within-b", matrix(layer, b, b), null, null, b, b);
  byId("within-a-caption").textContent = `Within ${a}.`;
  byId("within-b-caption").textContent = `Within ${b}.`;
}

const SCALE = [[0, "#053061"], [0.25, "#4393c3"], [0.4, "#d1e5f0"], [0.5, "#f7f7f7"], [0.6, "#fddbc7"], [0.75, "#d6604d"], [1, "#67001f"]];

function heatmap(id, z, namesA, namesB, a, b) {
  const text = namesA ? `unit %{customdata[0]} of ${escaped(a)}, unit %{customdata[1]} of ${escaped(b)}` : `unit %{y} of ${escaped(a)}, unit %{x} of ${escaped(b)}`;
  draw(id, [{
    type: "heatmap", z, zmin: -1, zmax: 1, colorscale: SCALE, colorbar: { thickness: 10, outlinewidth: 0, len: 0.7, tickvals: [-1, -0.5, 0, 0.5, 1] },
    customdata: namesA ? namesA.map((x) => namesB.map((y) => [x, y])) : undefined,
    hovertemplate: `<b>%{z:.2f}</b>, ${text}<extra></extra>`,
  }], {
    margin: { l: 58, r: 10, t: 10, b: 46 },
    xaxis: { ...AXIS, title: { text: namesB ? `unit of ${b}, by partner` : `unit of ${b}` }, showgrid: false, zeroline: false, constrain: "domain" },
    yaxis: { ...AXIS, title: { text: namesA ? `unit of ${a}, best first` : `unit of ${a}` }, showgrid: false, zeroline: false, autorange: "reversed", scaleanchor: "x", constrain: "domain" },
  });
}
