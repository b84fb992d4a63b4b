// Squares that stills are searched in too, as deepfer_jax/faces/tiles.py.

import { rint } from "./crop.js";
import { shared } from "./detector.js";

const SIDES = [0.4, 0.18];
const SHARED = 0.3;
const SMALLEST = 150;
const MAX_SHARED = 0.6;
const MARGIN = 0.02;
export const MIN_SCORE = 0.62;

export function makeTiles(picture) {
  const { width, height } = picture;
  const tiles = [];
  for (const part of SIDES) {
    const side = rint(part * Math.max(width, height));
    if (side < SMALLEST) continue;
    for (const top of starts(height, side))
      for (const left of starts(width, side))
        tiles.push({ ...picture, left, top, width: Math.min(side, width), height: Math.min(side, height) });
  }
  return tiles;
}

function starts(length, side) {
  if (length <= side) return [0];
  const steps = Math.ceil((length - side) / (side * (1 - SHARED)));
  return Array.from({ length: steps + 1 }, (_, i) => rint((i * (length - side)) / steps));
}

// Whether the tile cuts nothing off a box: an edge of the picture may.
export function isWhole([left, top, right, bottom], tile, picture) {
  const margin = MARGIN * (right - left);
  return (tile.left === 0 || left >= margin)
    && (tile.top === 0 || top >= margin)
    && (tile.left + tile.width === picture.width || right <= tile.width - margin)
    && (tile.top + tile.height === picture.height || bottom <= tile.height - margin);
}

// Of faces (with `place`, their box in the picture) that are one the surest is kept.
export function mergeFaces(faces) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score))
    if (kept.every((other) => shared(face.place, other.place) <= MAX_SHARED)) kept.push(face);
  return kept;
}
