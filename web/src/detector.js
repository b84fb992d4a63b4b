// Finds faces: letter box, anchors and suppression, as deepfer_jax/faces/detector.py,
// around a network that is given. A view is a part of a picture: {pixels (RGBA), stride
// (the picture's width), left, top, width, height}; all results are in its pixels.

const NUM_CANDIDATES = 128;
const MAX_OVERLAP = 0.3;
const MAX_LOGIT = 100;
// Whole numbers are mixed faster than others; 255 of these are below 2 ** 31.
const ONE = 2 ** 22;

const { imul } = Math;

const clip = (x, low, high) => Math.min(Math.max(x, low), high);

// The view in the middle of a black square, as large as it fits: Float32Array
// [side, side, 3] in 0..255, and how points come back: (point - corner) * scale.
export function letterBox(view, side) {
  const { width, height } = view;
  const scale = Math.max(width, height) / side;
  const corner = [(side - width / scale) / 2, (side - height / scale) / 2];
  const columns = columnTaps(width, scale, corner[0], side);
  const images = new Float32Array(side * side * 3);
  const row = new Float64Array(width * 3);
  for (let i = 0; i < side; i++) {
    const taps = rowTaps(height, scale, corner[1], i);
    if (!taps.length) continue;
    mixRows(view, taps, row);
    mixColumns(row, columns, images, 3 * i * side);
  }
  return { images, scale, corner };
}

// Of each column of the square: the columns of the view that it is made of, from
// firsts[j] on nums[j], and their weights at j * stride.
function columnTaps(width, scale, left, side) {
  const reach = Math.max(scale, 1);
  const stride = Math.ceil(2 * reach) + 1;
  const firsts = new Int32Array(side), nums = new Int32Array(side);
  const weights = new Float64Array(side * stride);
  for (let j = 0; j < side; j++) {
    const centre = (j + 0.5 - left) * scale;
    if (!(centre > 0 && centre < width)) continue;
    const near = clip(centre, 0.5, width - 0.5);
    const first = Math.max(0, Math.ceil(near - reach - 0.5));
    const num = Math.min(width - 1, Math.floor(near + reach - 0.5)) - first + 1;
    const weight = (k) => Math.max(1 - Math.abs(first + k + 0.5 - near) / reach, 0);
    let sum = 0;
    for (let k = 0; k < num; k++) sum += weight(k);
    for (let k = 0; k < num; k++) weights[j * stride + k] = weight(k) / Math.max(sum, 1e-6) / ONE;
    [firsts[j], nums[j]] = [first, num];
  }
  return { firsts, nums, weights, stride };
}

// Of row i of the square: the rows of the view that it is made of, four with weights in
// parts of ONE, as the mean of two that are interpolated; none where it is black.
function rowTaps(height, scale, top, i) {
  const taps = [];
  for (const half of [0.25, 0.75]) {
    const y = (i + half - top) * scale;
    if (!(y > 0 && y < height)) continue;
    const inner = clip(y - 0.5, 0, height - 1);
    const upper = Math.floor(inner);
    const weight = Math.round((ONE * (inner - upper)) / 2);
    taps.push([upper, ONE / 2 - weight], [Math.min(upper + 1, height - 1), weight]);
  }
  return taps.length === 2 ? [...taps, [0, 0], [0, 0]] : taps;
}

function mixRows({ pixels, stride, left, top }, taps, row) {
  const [a, b, c, d] = taps.map(([y]) => 4 * ((top + y) * stride + left));
  const [wa, wb, wc, wd] = taps.map(([, weight]) => weight);
  mixSpans(pixels, a, b, c, d, wa | 0, wb | 0, wc | 0, wd | 0, row);
}

function mixSpans(pixels, a, b, c, d, wa, wb, wc, wd, row) {
  for (let to = 0, k = 0; to < row.length; k += 4) {
    for (let i = k; i < k + 3; i++)
      row[to++] = (imul(wa, pixels[a + i]) + imul(wb, pixels[b + i]) + imul(wc, pixels[c + i]) + imul(wd, pixels[d + i])) | 0;
  }
}

function mixColumns(row, { firsts, nums, weights, stride }, images, to) {
  for (let j = 0; j < nums.length; j++) {
    let red = 0, green = 0, blue = 0, at = 3 * firsts[j];
    const end = j * stride + nums[j];
    for (let k = j * stride; k < end; k++, at += 3) {
      const weight = weights[k];
      red += weight * row[at];
      green += weight * row[at + 1];
      blue += weight * row[at + 2];
    }
    images[to++] = red;
    images[to++] = green;
    images[to++] = blue;
  }
}

// Centres of all anchors, x and y in [0, 1], one after the other.
export function makeAnchors({ size, levels }) {
  const anchors = [];
  for (const [stride, num] of levels) {
    const side = size / stride;
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        for (let k = 0; k < num; k++) anchors.push((x + 0.5) / side, (y + 0.5) / side);
  }
  return Float32Array.from(anchors);
}

// Candidates that score enough, best first: {score, points}, of points upper left,
// lower right and six landmarks, x and y in turn, in pixels of the view.
export function decode(boxes, logits, anchors, about, { scale, corner }) {
  const scored = [];
  for (let i = 0; i < logits.length; i++) {
    const score = 1 / (1 + Math.exp(-clip(logits[i], -MAX_LOGIT, MAX_LOGIT)));
    if (score >= about.min_score) scored.push({ i, score });
  }
  scored.sort((a, b) => b.score - a.score);
  return scored.slice(0, NUM_CANDIDATES).map(({ i, score }) => {
    const raw = boxes.subarray(16 * i, 16 * i + 16);
    const points = new Float32Array(16);
    for (let k = 0; k < 16; k++) {
      const axis = k % 2;
      const origin = anchors[2 * i + axis] * about.size;
      let place = origin + raw[k];
      if (k < 2) place = origin + raw[axis] - raw[2 + axis] / 2;
      else if (k < 4) place = origin + raw[axis] + raw[2 + axis] / 2;
      points[k] = (place - corner[axis]) * scale;
    }
    return { score, points };
  });
}

// Faces of candidates that overlap: their mean, weighted by their scores.
export function suppress(candidates, maxFaces) {
  const faces = [];
  let left = candidates;
  while (left.length && faces.length < maxFaces) {
    const best = left[0];
    const isOfBest = left.map((other) => other === best || overlap(best.points, other.points) > MAX_OVERLAP);
    const group = left.filter((_, i) => isOfBest[i]);
    left = left.filter((_, i) => !isOfBest[i]);
    const total = group.reduce((sum, { score }) => sum + score, 0);
    const points = new Float64Array(16);
    for (const { score, points: some } of group)
      for (let k = 0; k < 16; k++) points[k] += (score / total) * some[k];
    const [box, landmarks] = [Array.from(points.subarray(0, 4)), []];
    for (let k = 4; k < 16; k += 2) landmarks.push([points[k], points[k + 1]]);
    faces.push({ box, score: best.score, landmarks });
  }
  return faces;
}

const area = ([left, top, right, bottom]) => Math.max(right - left, 0) * Math.max(bottom - top, 0);

export const intersection = (a, b) =>
  area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);

// Intersection over union.
export function overlap(a, b) {
  const both = intersection(a, b);
  return both / Math.max(area(a) + area(b) - both, 1e-9);
}

// The part of the smaller box that both have.
export const shared = (a, b) => intersection(a, b) / Math.max(Math.min(area(a), area(b)), 1e-9);
