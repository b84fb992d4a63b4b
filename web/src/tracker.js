// Follows faces from frame to frame and steadies what is read from them, as
// deepfer_jax/faces/tracking.py.

import { overlap } from "./detector.js";
import { nameClass } from "./face.js";

const LOST_AFTER = 0.5; // seconds
const MIN_OVERLAP = 0.3;
const MAX_MISSED = 2; // frames

export class Tracker {
  constructor(metadata) {
    this.metadata = metadata;
    this.smoothing = 0.4; // seconds
    this.last = 0;
    this.seen = new Map(); // of each track {face, time, missed}
  }

  forget() { this.seen.clear(); }

  // Faces of the next frame with their tracks, and those that are carried on.
  update(faces, time) {
    for (const [track, seen] of this.seen)
      if (time - seen.time > LOST_AFTER) this.seen.delete(track);
    const tracks = this.#match(faces);
    const tracked = faces.map((face, i) => tracks[i] === undefined
      ? { track: ++this.last, ...face }
      : { track: tracks[i], ...this.#smooth(face, this.seen.get(tracks[i]), time) });
    const carried = this.#carry(tracked);
    for (const face of tracked) this.seen.set(face.track, { face, time, missed: 0 });
    return [...tracked, ...carried];
  }

  // The track of each face, if any: pairs that overlap most come first.
  #match(faces) {
    const pairs = [];
    faces.forEach((face, i) => {
      for (const [track, seen] of this.seen) pairs.push([overlap(face.box, seen.face.box), i, track]);
    });
    pairs.sort((a, b) => b[0] - a[0] || b[1] - a[1] || b[2] - a[2]);
    const tracks = Array(faces.length).fill(undefined);
    for (const [value, i, track] of pairs)
      if (value >= MIN_OVERLAP && tracks[i] === undefined && !tracks.includes(track)) tracks[i] = track;
    return tracks;
  }

  #carry(tracked) {
    const carried = [];
    for (const [track, seen] of this.seen) {
      if (tracked.some((face) => face.track === track)) continue;
      const isFree = tracked.every((face) => overlap(seen.face.box, face.box) < MIN_OVERLAP);
      if (isFree && seen.missed < MAX_MISSED) carried.push(seen.face);
      seen.missed += 1;
    }
    return carried.sort((a, b) => a.track - b.track);
  }

  #smooth(face, seen, time) {
    if (this.smoothing === 0) return face;
    const weight = 1 - Math.exp(-(time - seen.time) / this.smoothing);
    const { classes } = this.metadata;
    const smoothed = classes.map((name) => {
      const old = seen.face.probabilities[name];
      return old + weight * (face.probabilities[name] - old);
    });
    return {
      ...face,
      ...nameClass(smoothed, face.quality, this.metadata),
      probabilities: Object.fromEntries(classes.map((name, i) => [name, smoothed[i]])),
    };
  }
}
