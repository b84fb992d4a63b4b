// The program that finds faces: here in the browser itself, in a worker.

import { Tracker } from "./tracker.js";

export class Offline extends Error {}

export const PRIVACY =
  "Classifies the expression of faces. All is done inside this browser: no picture leaves this machine; none is kept.";

export class Engine {
  constructor(onState) {
    this.onState = onState;
    this.sent = 0;
    this.pending = new Map();
    this.smoothing = 0.4;
    this.size = "";
    this.metadata = new Promise((resolve, reject) => { this.loaded = { resolve, reject }; });
    this.metadata.then((metadata) => { this.tracker = new Tracker(metadata); }).catch(() => {});
    this.worker = makeWorker();
    this.worker.onmessage = ({ data }) => this.take(data);
    this.worker.onerror = (event) => this.take({ failed: event.message ?? "The program cannot be loaded." });
    navigator.serviceWorker?.register("./sw.js");
  }

  take(answer) {
    if (answer.metadata) return this.loaded.resolve(answer.metadata);
    if (answer.failed) {
      this.loaded.reject(new Error(answer.failed));
      for (const request of this.pending.values()) request.reject(new Error(answer.failed));
      return this.pending.clear();
    }
    const request = this.pending.get(answer.id);
    this.pending.delete(answer.id);
    if (answer.error) request.reject(new Error(answer.error));
    else request.resolve(answer);
  }

  async readClasses() { return (await this.metadata).classes; }

  setSmoothing(seconds) { this.smoothing = seconds; }

  // A frame of a camera or video, in a canvas: its faces, with tracks.
  async readFrame(canvas) {
    const answer = await this.ask(canvas, false);
    const size = `${canvas.width}x${canvas.height}`;
    if (size !== this.size) this.tracker.forget(); // most likely another picture
    this.size = size;
    this.tracker.smoothing = this.smoothing;
    return { ...answer, faces: this.tracker.update(answer.faces, performance.now() / 1000) };
  }

  // A photograph: its faces, small ones too.
  readPhoto(canvas) { return this.ask(canvas, true); }

  async ask(canvas, isStill) {
    await this.metadata;
    const { width, height } = canvas;
    const { data: pixels } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const id = ++this.sent;
    const answer = await new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, isStill, width, height, pixels }, [pixels.buffer]);
    });
    return { ...answer, width, height };
  }
}

// From a blob, for such a worker keeps to the page's Content-Security-Policy.
function makeWorker() {
  const source = new URL("./worker.js", import.meta.url);
  source.search = location.search;
  const code = new Blob([`import ${JSON.stringify(source.href)};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(code), { type: "module" });
}
