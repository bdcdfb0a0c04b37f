// Nets merged into one: loss and accuracy on the line between two nets, by alignment.
const NATS = [-4, -3, -2, -1, 0, 1].flatMap((power) => [1, 2, 5].map((first) => Number(`${first}e${power}`)));
const NATS_LOG = { type: "log", tickmode: "array", tickvals: NATS, ticktext: NATS.map(String), minor: { ticks: "" } };

function merges() {
  const all = about.merging;
  byId("merging").hidden = !all.length;
  document.querySelector('nav a[href="#merging"]').hidden = !all.length;
  if (!all.length) return;
  byId("merge").innerHTML = options(all.map((_, n) => n), all.map(({ label }) => label));
  const chosen = () => all[Number(byId("merge").value)], figure = () => byId("merging-figure").value;
  const line = charted(() => draw("line", chosen().curves.map((curve) => ({
    name: curve.words, x: curve.share, y: curve[figure()], mode: curve.share.length > 3 ? "lines" : "markers", showlegend: !curve.repair, legendgroup: curve.words,
    line: { color: curve.colour, width: 2, dash: curve.repair ? "dot" : "solid" },
    hovertemplate: `<b>%{y:.3f}</b><extra>${escaped(curve.words)}${curve.repair ? ", repaired" : ""}</extra>`,
  })), {
    xaxis: { ...AXIS, title: { text: "share of net b" }, range: [0, 1], zeroline: false },
    yaxis: { ...AXIS, title: { text: figure() === "loss" ? "loss (nats)" : "accuracy" }, ...(figure() === "loss" ? NATS_LOG : {}) },
  }));
  const table = () => table_("barriers", chosen().headings.map((title) => ({ title: escaped(title) })), chosen().rows, { order: [] });
  byId("merging-figure").addEventListener("change", line);
  byId("merge").addEventListener("change", () => { line(); table(); });
  later("merging", "line", line);
  later("merging", "table", table);
}
