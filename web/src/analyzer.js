// Finds faces and reads them, as deepfer_jax/faces/analyzer.py, by ONNX Runtime Web.

import { cropFace } from "./crop.js";
import { decode, letterBox, makeAnchors, suppress } from "./detector.js";
import { describe, measureFace } from "./face.js";
import { isWhole, makeTiles, mergeFaces, MIN_SCORE } from "./tiles.js";

export class Analyzer {
  // base is the address of the models' folder; detector "auto", "short" or "full".
  static async load(base, detector = "auto") {
    const { ort, providers } = await loadRuntime();
    const metadata = await (await fetch(new URL("metadata.json", base))).json();
    const name = detector === "short" ? "short" : "full";
    const about = metadata.faces.detectors[name];
    const open = async (file) => {
      const model = new Uint8Array(await (await fetch(new URL(file, base))).arrayBuffer());
      return ort.InferenceSession.create(model, { executionProviders: providers, graphOptimizationLevel: "all" });
    };
    const sessions = [await open(about.file), await open("classifier.onnx")];
    return new Analyzer(ort, metadata, about, sessions, detector === "auto");
  }

  constructor(ort, metadata, about, [detector, classifier], hasTiles) {
    Object.assign(this, { ort, metadata, about, detector, classifier, hasTiles });
    this.anchors = makeAnchors(about);
  }

  // Faces of a frame {pixels, width, height}, best first.
  async readFrame(frame) {
    const view = { ...frame, stride: frame.width, left: 0, top: 0 };
    return this.#read((await this.#find(view)).map((face) => ({ ...face, view })));
  }

  // Faces of a photograph, in tiles too.
  async readPhoto(photo) {
    if (!this.hasTiles) return this.readFrame(photo);
    const whole = { ...photo, stride: photo.width, left: 0, top: 0 };
    const found = (await this.#find(whole)).map((face) => ({ ...face, view: whole, place: face.box }));
    for (const view of makeTiles(whole))
      for (const face of await this.#find(view))
        if (face.score >= MIN_SCORE && isWhole(face.box, view, whole)) {
          const place = face.box.map((x, i) => x + (i % 2 ? view.top : view.left));
          found.push({ ...face, view, place });
        }
    return this.#read(mergeFaces(found));
  }

  async #find(view) {
    const { size } = this.about;
    const boxed = letterBox(view, size);
    const images = new this.ort.Tensor("float32", boxed.images, [1, size, size, 3]);
    const { boxes, logits } = await this.detector.run({ images });
    const candidates = decode(boxes.data, logits.data, this.anchors, this.about, boxed);
    return suppress(candidates, this.metadata.faces.max_faces);
  }

  // Faces, each with its view, as the page is told of them.
  async #read(faces) {
    if (!faces.length) return [];
    const { shape } = this.metadata.input;
    const size = shape[0] * shape[1] * shape[2];
    const pixels = new Uint8Array(faces.length * size);
    faces.forEach((face, i) =>
      cropFace(face.view, face, this.about.framing, shape, pixels.subarray(i * size, (i + 1) * size)));
    const crops = new this.ort.Tensor("uint8", pixels, [faces.length, ...shape]);
    const { probabilities, strengths } = await this.classifier.run({ crops });
    const row = ({ data }, i) => Array.from(data.subarray((i * data.length) / faces.length, ((i + 1) * data.length) / faces.length));
    return faces.map((face, i) => {
      const measured = measureFace(face, row(strengths, i));
      return describe(moved(face), row(probabilities, i), measured, this.metadata);
    });
  }
}

// In pixels of the picture.
function moved({ box, score, landmarks, view: { left, top } }) {
  return {
    box: box.map((x, i) => x + (i % 2 ? top : left)),
    score,
    landmarks: landmarks.map(([x, y]) => [x + left, y + top]),
  };
}

// WebGPU where there is an adapter, otherwise WebAssembly with SIMD, in one thread.
async function loadRuntime() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const [kind, build] = adapter ? ["webgpu", "asyncify.wasm"] : ["wasm", "wasm"];
  const ort = await import(`./ort/ort.${kind}.bundle.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL(`./ort/ort-wasm-simd-threaded.${build}`, import.meta.url).href };
  ort.env.logLevel = "error";
  return { ort, providers: adapter ? ["webgpu", "wasm"] : ["wasm"] };
}
