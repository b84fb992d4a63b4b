// Cuts a face out of a view (see detector.js), upright and square, as
// deepfer_jax/faces/crop.py.

const SAMPLES = 3;
const LUMA = [0.299, 0.587, 0.114];

// To the nearest whole number, of two the even one, as numpy.rint.
export function rint(x) {
  const floor = Math.floor(x);
  const part = x - floor;
  if (part !== 0.5) return part < 0.5 ? floor : floor + 1;
  return floor % 2 ? floor + 1 : floor;
}

// Writes the crop of one face, of shape [height, width, channels], into `into`.
export function cropFace(view, { box, landmarks }, framing, shape, into) {
  const [left, top, right, bottom] = box;
  const side = framing.margin * Math.max(right - left, bottom - top);
  let across = [landmarks[1][0] - landmarks[0][0], landmarks[1][1] - landmarks[0][1]];
  const length = Math.hypot(...across);
  across = length > 0 ? across.map((x) => x / length) : [1, 0];
  const down = [-across[1], across[0]];
  const centre = [(left + right) / 2, (top + bottom) / 2].map((x, i) => x + framing.offset * side * down[i]);
  const [height, width, channels] = shape;
  const num = height * SAMPLES;
  const sums = new Float64Array(height * width * channels);
  const value = new Float64Array(channels);
  for (let i = 0; i < num; i++) {
    const v = side * ((i + 0.5) / num - 0.5);
    for (let j = 0; j < num; j++) {
      const u = side * ((j + 0.5) / num - 0.5);
      const x = centre[0] + u * across[0] + v * down[0] - 0.5;
      const y = centre[1] + u * across[1] + v * down[1] - 0.5;
      sample(view, x, y, value);
      const at = channels * (Math.floor(i / SAMPLES) * width + Math.floor(j / SAMPLES));
      for (let c = 0; c < channels; c++) sums[at + c] += value[c];
    }
  }
  for (let k = 0; k < sums.length; k++) into[k] = rint(sums[k] / SAMPLES ** 2);
}

// Bilinear; pixels outside repeat the edge. One channel is the luma.
function sample({ pixels, stride, left, top, width, height }, x, y, value) {
  x = Math.min(Math.max(x, 0), width - 1);
  y = Math.min(Math.max(y, 0), height - 1);
  const column = Math.floor(x), row = Math.floor(y);
  const fx = x - column, fy = y - row;
  const a = 4 * ((top + row) * stride + left + column);
  const b = column + 1 < width ? a + 4 : a;
  const lower = row + 1 < height ? 4 * stride : 0;
  const c = a + lower, d = b + lower;
  const wa = (1 - fx) * (1 - fy), wb = fx * (1 - fy), wc = (1 - fx) * fy, wd = fx * fy;
  const red = wa * pixels[a] + wb * pixels[b] + wc * pixels[c] + wd * pixels[d];
  const green = wa * pixels[a + 1] + wb * pixels[b + 1] + wc * pixels[c + 1] + wd * pixels[d + 1];
  const blue = wa * pixels[a + 2] + wb * pixels[b + 2] + wc * pixels[c + 2] + wd * pixels[d + 2];
  if (value.length === 1) {
    value[0] = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue;
  } else {
    value[0] = red;
    value[1] = green;
    value[2] = blue;
  }
}
