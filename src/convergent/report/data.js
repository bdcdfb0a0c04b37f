"use strict";
// What the file holds: small things as JSON, large ones as base64 that is decoded when it is looked at.
const about = JSON.parse(document.getElementById("about-data").textContent);
const NAN = -32768; // a score that is not there

const bytesOf = (base64) => {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
};
const chunk = (id) => document.getElementById(id)?.textContent;
const part = (id) => JSON.parse(chunk(id) ?? "{}");
const int8 = (base64) => new Int8Array(bytesOf(base64).buffer);
const int16 = (base64) => new Int16Array(bytesOf(base64).buffer);
const int32 = (base64) => new Int32Array(bytesOf(base64).buffer);
const float32 = (base64) => new Float32Array(bytesOf(base64).buffer);

const cached = (make) => {
  const made = new Map();
  return (...key) => {
    const name = key.join("|");
    if (!made.has(name)) made.set(name, make(...key));
    return made.get(name);
  };
};

const mapsOf = cached((result, layer) => part(`maps ${result} ${layer}`));

// One ordered pair of nets under one result: arrays over the units of b.
const mapOf = cached((result, layer, a, b) => {
  const packed = mapsOf(result, layer)[`${a}>${b}`];
  if (!packed) return null;
  const scores = (name) => packed[name] && Array.from(int16(packed[name]), (x) => (x === NAN ? NaN : x / 1e4));
  const labels = (name) => packed[name] && int32(packed[name]);
  return {
    m: packed.listed, partner: int32(packed.partner), weight: float32(packed.weight), predictors: int32(packed.predictors),
    r: scores("r"), held: scores("r2_held_out"), best: scores("best_r"), excess: scores("excess"), corr: scores("corr"),
    labelsA: labels("labels_a"), labelsB: labels("labels_b"),
  };
});

const unitsOf = cached((layer, net) => {
  const packed = about.units[layer]?.[net] ?? {};
  const result = about.results.findIndex((r) => r.layers[layer]);
  const other = about.nets.find((name) => name !== net && mapsOf(result, layer)[`${name}>${net}`]);
  const count = packed.count ?? (other ? mapOf(result, layer, other, net).r.length : 0);
  return {
    count,
    mean: packed.mean ? float32(packed.mean) : null,
    pictures: Object.fromEntries(Object.entries(packed.pictures ?? {}).map(([kind, of]) =>
      [kind, { ...of, activation: float32(of.activation), image: int32(of.image) }])),
  };
});

// Correlations of net a's units (down) with net b's (across), as rows; null where they are not in the file.
const matrix = cached((layer, a, b) => {
  const there = chunk(`corr ${layer} ${a} ${b}`), back = there ?? chunk(`corr ${layer} ${b} ${a}`);
  if (!back) return null;
  const values = int8(back), p = unitsOf(layer, a).count, q = unitsOf(layer, b).count;
  return Array.from({ length: p }, (_, x) =>
    Float32Array.from({ length: q }, (_, y) => (there ? values[x * q + y] : values[y * p + x]) / 127));
});

const number = (value, digits = 2) => (value == null || Number.isNaN(value) ? "–" : value.toFixed(digits));
const percent = (value) => (value == null || Number.isNaN(value) ? "–" : `${Math.round(100 * value)}%`);
const count = (value) => value.toLocaleString("en");
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;
const byId = (id) => document.getElementById(id);
