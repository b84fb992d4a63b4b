// What is said of a face: pose and quality as deepfer_jax/faces/pose.py, label and
// reason as deepfer_jax/inference.py, and their form as deepfer_jax/faces/face.py.

const SIDE = 20; // pixels of a face's side, and degrees, at which a face is half lost
const YAW = 45;
const DEGREES = 180 / Math.PI;

const clip = (x) => Math.min(Math.max(x, 0), 1);

// Yaw and roll in degrees, and strengths with those of size and yaw behind them.
export function measureFace({ box, landmarks }, strengths) {
  const [x, y] = [landmarks[1][0] - landmarks[0][0], landmarks[1][1] - landmarks[0][1]];
  const roll = Math.atan2(y, x);
  const along = landmarks.map((point) => point[0] * Math.cos(roll) + point[1] * Math.sin(roll));
  const [left, right] = [along[4], along[5]];
  const yaw = DEGREES * Math.atan2(along[2] - (left + right) / 2, Math.max((right - left) / 2, 0));
  const side = Math.max(box[2] - box[0], box[3] - box[1]);
  const geometric = [clip(1 - side / (2 * SIDE)), clip(Math.abs(yaw) / (2 * YAW))];
  return { yaw, roll: DEGREES * roll, strengths: [...strengths, ...geometric] };
}

const rounded = (x, digits) => Number(x.toFixed(digits));

export function indexOfLargest(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

// Label, probability and unsure, of probabilities and a quality.
export function nameClass(probabilities, quality, metadata) {
  const best = indexOfLargest(probabilities);
  const { threshold } = metadata;
  const unsure = threshold === null ? null
    : probabilities[best] < threshold || quality < metadata.quality_threshold;
  return { label: metadata.classes[best], probability: rounded(probabilities[best], 5), unsure };
}

export function describe({ box, score, landmarks }, probabilities, { yaw, roll, strengths }, metadata) {
  const worst = indexOfLargest(strengths);
  const quality = 1 - strengths[worst];
  const named = metadata.classes.map((name, i) => [name, rounded(probabilities[i], 5)]);
  return {
    ...nameClass(probabilities, quality, metadata),
    quality: rounded(quality, 3),
    reason: quality < metadata.quality_threshold ? metadata.faces.causes[worst] : null,
    yaw: rounded(yaw, 1),
    roll: rounded(roll, 1),
    box: box.map((x) => rounded(x, 1)),
    score: rounded(score, 4),
    landmarks: landmarks.map((point) => point.map((x) => rounded(x, 1))),
    probabilities: Object.fromEntries(named),
  };
}
