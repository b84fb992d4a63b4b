// Draws faces: boxes, tags that cover no other face, probabilities over time.

// Paul Tol's bright colours, told apart by the colour-blind; grey is neutral's alone.
export const COLORS = {
  angry: "#ee6677", disgust: "#228833", fear: "#aa3377", happy: "#ccbb44",
  sad: "#4477aa", surprise: "#66ccee", neutral: "#bbbbbb",
};
const OTHERS = ["#e69f00", "#009e73", "#56b4e9", "#f0e442", "#cc79a7", "#999933"];
let others = [];

export function color(name) {
  if (COLORS[name]) return COLORS[name];
  if (!others.includes(name)) others.push(name); // a model of other classes
  return OTHERS[others.indexOf(name) % OTHERS.length];
}

export const percent = (p) => `${Math.round(100 * p)} %`;
export const title = (face) =>
  `${face.label}${face.unsure ? "?" : ""} ${percent(face.probability)}`;

const shared = (a, b) =>
  Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) *
  Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));

// Above the box, below, beside, or within: the first that covers least.
export function findPlace(canvas, box, taken, w, h) {
  const corners = [
    [box.x, box.y - h], [box.x + box.w - w, box.y - h], [box.x, box.y + box.h],
    [box.x + box.w, box.y], [box.x - w, box.y],
    [box.x + box.w / 2 - w / 2, box.y + box.h - h],
  ];
  let best = null, least = Infinity;
  for (let [x, y] of corners) {
    x = Math.max(0, Math.min(x, canvas.width - w));
    y = Math.max(0, Math.min(y, canvas.height - h));
    const place = { x, y, w, h };
    const covered = taken.reduce((sum, other) => sum + shared(place, other), 0) + 0.1 * shared(place, box);
    if (covered < least) { best = place; least = covered; }
  }
  return best;
}

export const toBox = ([left, top, right, bottom]) =>
  ({ x: left, y: top, w: right - left, h: bottom - top });

// Draws on a canvas whose pixels are those of the boxes; mirrored says that it is shown
// mirrored by its style, so that letters must be too.
export function drawFaces(canvas, faces, { selected = null, mirrored = false } = {}) {
  const context = canvas.getContext("2d");
  // Of the size that it has on the screen, whatever the picture's own.
  const unit = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width));
  const flip = (box) => (mirrored ? { ...box, x: canvas.width - box.x - box.w } : box);
  context.save();
  if (mirrored) { context.translate(canvas.width, 0); context.scale(-1, 1); }
  const boxes = faces.map((face) => flip(toBox(face.box)));
  faces.forEach((face, i) => {
    const { x, y, w, h } = boxes[i];
    context.lineWidth = (face.key === selected ? 4 : 2.5) * unit;
    context.setLineDash(face.unsure ? [7 * unit, 5 * unit] : []);
    context.strokeStyle = color(face.label);
    context.strokeRect(x, y, w, h);
  });
  context.setLineDash([]);
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const tags = [];
  faces.forEach((face, i) => {
    const text = title(face);
    const w = context.measureText(text).width + 14 * unit, h = 24 * unit;
    const taken = [...boxes.filter((_, j) => j !== i), ...tags];
    const place = findPlace(canvas, boxes[i], taken, w, h);
    tags.push(place);
    context.fillStyle = "rgb(12 14 17 / 82%)";
    context.fillRect(place.x, place.y, w, h);
    context.fillStyle = color(face.label);
    context.fillRect(place.x, place.y + h - 3 * unit, w, 3 * unit);
    context.fillStyle = "#fff";
    context.fillText(text, place.x + 7 * unit, place.y + h / 2 - unit);
  });
  context.restore();
}

// moments: [{time, probabilities or null}] in order; drawn from start to end.
export function drawHistory(canvas, moments, start, end) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  const place = (time) => (width * (time - start)) / Math.max(end - start, 1e-6);
  moments.forEach((moment, i) => {
    if (!moment.probabilities) return;
    const next = moments[i + 1]?.time ?? moment.time + (end - start) / 300;
    const x = place(moment.time);
    // A gap stays one: what was not looked at is not known.
    const w = Math.min(place(next) - x, width / 30);
    let base = height;
    for (const [name, p] of Object.entries(moment.probabilities)) {
      context.fillStyle = color(name);
      context.fillRect(x, base - p * height, Math.max(w, 1) + 0.5, p * height);
      base -= p * height;
    }
  });
}
