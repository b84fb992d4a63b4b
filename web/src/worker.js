// Reads pictures beside the page, so that it stays at hand.

import { Analyzer } from "./analyzer.js";

const detector = new URL(import.meta.url).searchParams.get("detector") ?? "auto";
const loading = Analyzer.load(new URL("./models/", import.meta.url), detector);

self.onmessage = async ({ data: { id, isStill, width, height, pixels } }) => {
  try {
    const analyzer = await loading;
    const started = performance.now();
    const picture = { pixels, width, height };
    const faces = await (isStill ? analyzer.readPhoto(picture) : analyzer.readFrame(picture));
    self.postMessage({ id, faces, milliseconds: performance.now() - started });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};

loading.then(({ metadata }) => self.postMessage({ metadata }), (error) => self.postMessage({ failed: error.message }));
