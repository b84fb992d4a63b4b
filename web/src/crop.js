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
  const right = column + 1 < width ? 4 : 0, lower = row + 1 < height ? 4 * stride : 0;
  const at = 4 * ((top + row) * stride + left + column);
  const weights = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy];
  const red = mix(pixels, at, right, lower, weights);
  const green = mix(pixels, at + 1, right, lower, weights);
  const blue = mix(pixels, at + 2, right, lower, weights);
  if (value.length === 1) value[0] = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue;
  else [value[0], value[1], value[2]] = [red, green, blue];
}

const mix = (pixels, at, right, lower, [a, b, c, d]) =>
  a * pixels[at] + b * pixels[at + right] + c * pixels[at + lower] + d * pixels[at + lower + right];
