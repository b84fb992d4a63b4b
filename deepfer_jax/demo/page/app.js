// The page: what is looked at, what is found in it, and what is said of it.

import { color, drawFaces, drawHistory, percent, title, toBox } from "./draw.js";
import { Engine, Offline, PRIVACY } from "./engine.js";

const LONGEST = 640; // pixels of the longer side of a frame that is sent
const LONGEST_STILL = 1920;
const HISTORY = 30; // seconds of a camera
const SAMPLES = [["astronaut", "An astronaut"], ["hopper", "A rear admiral"], ["camera", "A man with a camera"]];

const $ = (id) => document.getElementById(id);
const canvas = $("picture");

let source = null; // {kind: "camera" | "video" | "still", element, generation, ...}
let generation = 0; // of the source: answers of an earlier one are thrown away
let shown = null; // {bitmap, faces, time}: what is on the canvas
let selected = null; // the key of a face: its track, or its index in a still
let explained = null; // {key, source, label}: the picture that says why
let histories = new Map(); // of each key: [{time, probabilities}]
let answers = []; // times of the last answers
let saved = []; // {time, faces} of a video, for CSV and JSON
let isBusy = false;

const engine = new Engine((state) => {
  if (state === "offline") setState("offline", "The program does not answer; trying again.");
  else if ($("stage").dataset.state === "offline") {
    setState(source ? "preparing" : "empty");
    if (source?.kind === "still") readStill();
    else if (source) next();
  }
});

const MESSAGES = {
  empty: "Start the camera, drop a picture or video here, or try one of these.",
  preparing: "Preparing …",
};

function setState(state, text = MESSAGES[state] ?? "") {
  $("stage").dataset.state = state;
  if ($("message-text").textContent !== text) $("message-text").textContent = text;
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

// Reading.

// What is read, and what is shown of it: a canvas and its bitmap.
async function take(element, width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const reduced = document.createElement("canvas");
  reduced.width = Math.max(1, Math.round(width * scale));
  reduced.height = Math.max(1, Math.round(height * scale));
  reduced.getContext("2d", { willReadFrequently: true }).drawImage(element, 0, 0, reduced.width, reduced.height);
  return { bitmap: await createImageBitmap(reduced), reduced };
}

async function readStill() {
  const { element, generation: mine } = source;
  setState("preparing");
  const { bitmap, reduced } = await take(element, element.width, element.height, LONGEST_STILL);
  try {
    const answer = await engine.readPhoto(reduced);
    if (mine !== generation) return;
    const scale = bitmap.width / answer.width;
    const faces = answer.faces.map((face, i) => ({ ...face, key: i, box: face.box.map((x) => x * scale) }));
    show({ bitmap, faces, time: 0 });
  } catch (error) { failed(error, mine); }
}

async function readFrame(time) {
  const { element, generation: mine } = source;
  if (isBusy || !element.videoWidth) return;
  isBusy = true;
  const sent = performance.now();
  let taken = null;
  try {
    taken = await take(element, element.videoWidth, element.videoHeight, LONGEST);
    const answer = await engine.readFrame(taken.reduced);
    if (mine !== generation) return;
    const faces = answer.faces.map((face) => ({ ...face, key: face.track }));
    shown?.bitmap.close?.();
    show({ bitmap: taken.bitmap, faces, time });
    count(sent, answer.milliseconds);
    remember(time, faces);
  } catch (error) {
    failed(error, mine);
  } finally {
    isBusy = false;
  }
}

function failed(error, mine) {
  if (mine !== generation) return;
  if (error instanceof Offline) return; // the engine says when it is back
  if (error.code === "busy") {
    say("The program is busy; trying again.");
    setTimeout(() => mine === generation && (source.kind === "still" ? readStill() : next()), 1000);
  } else setState("error", error.message);
}

// Asks for the next frame that is new; each is sent once.
function next() {
  const mine = source;
  if (!mine || mine.kind === "still" || mine.isAsked) return;
  const { element } = mine;
  const wait = (callback) => element.requestVideoFrameCallback
    ? element.requestVideoFrameCallback((_, about) => callback(about.mediaTime))
    : requestAnimationFrame(() => callback(element.currentTime));
  mine.isAsked = true;
  wait(async (time) => {
    mine.isAsked = false;
    if (mine !== source) return;
    if (time !== mine.last || mine.kind === "camera") {
      mine.last = time;
      await readFrame(mine.kind === "camera" ? performance.now() / 1000 : time);
    }
    if (mine === source) next();
  });
}

// Showing.

const isMirrored = () => source?.kind === "camera" && $("mirror").checked;

function show(what) {
  shown = what;
  const { bitmap, faces } = what;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  // Whom someone looks at stays chosen while they are away for a moment.
  if (!faces.some((face) => face.key === selected) && !histories.has(selected))
    selected = faces[0]?.key ?? null;
  setState(faces.length ? "faces" : "none", faces.length ? "" : "No face.");
  draw();
  showCards();
  tell(faces);
  $("downloads").hidden = false;
}

function draw() {
  if (!shown) return;
  canvas.classList.toggle("mirrored", isMirrored());
  canvas.getContext("2d").drawImage(shown.bitmap, 0, 0);
  drawFaces(canvas, shown.faces, { selected, mirrored: isMirrored() });
}

function showCards() {
  const cards = $("cards");
  while (cards.children.length > shown.faces.length) cards.lastChild.remove();
  while (cards.children.length < shown.faces.length) cards.append(makeCard());
  shown.faces.forEach((face, i) => fillCard(cards.children[i], face));
}

function makeCard() {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "card";
  const picture = document.createElement("canvas");
  picture.width = picture.height = 72;
  picture.setAttribute("aria-hidden", "true");
  const text = document.createElement("span");
  text.className = "card-text";
  button.append(picture, text);
  button.addEventListener("click", () => select(button.dataset.key));
  item.append(button);
  if (engine.explain) item.append(makeWhy(button));
  return item;
}

// Under a card: where the face was seen for its label.
function makeWhy(card) {
  const part = document.createElement("div");
  part.className = "why";
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Why?";
  const picture = document.createElement("img");
  picture.alt = "The face as it was read, and where it was seen for its label: hiding what is red takes from it";
  picture.hidden = true;
  part.append(button, picture);
  button.addEventListener("click", () => explain(card.dataset.key));
  return part;
}

async function explain(key) {
  const mine = generation;
  const face = shown.faces.find((other) => String(other.key) === key);
  if (explained?.key === face.key) { explained = null; showCards(); return; }
  const picture = document.createElement("canvas");
  picture.width = shown.bitmap.width;
  picture.height = shown.bitmap.height;
  picture.getContext("2d").drawImage(shown.bitmap, 0, 0);
  say("Looking again …");
  try {
    const { faces } = await engine.explain(picture);
    if (mine !== generation) return;
    const best = faces.filter((other) => other.explanation)
      .sort((a, b) => overlap(b.box, face.box) - overlap(a.box, face.box))[0];
    const isFound = best && overlap(best.box, face.box) > 0.3;
    explained = isFound ? { key: face.key, source: best.explanation, label: best.label } : null;
    say(isFound ? `${best.label}: red is where it was seen` : "That face was not found again.");
    showCards();
  } catch (error) { failed(error, mine); }
}

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const both = Math.max(width, 0) * Math.max(height, 0);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return both / (area(a) + area(b) - both);
}

function fillCard(item, face) {
  const button = item.firstChild;
  const [picture, text] = button.children;
  button.dataset.key = face.key;
  button.setAttribute("aria-pressed", String(face.key === selected));
  const { x, y, w, h } = toBox(face.box);
  const context = picture.getContext("2d");
  context.clearRect(0, 0, 72, 72);
  context.drawImage(shown.bitmap, x, y, Math.max(w, 1), Math.max(h, 1), 0, 0, 72, 72);
  const highest = Object.entries(face.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 3);
  const rows = highest.map(([name, p]) => {
    const row = document.createElement("span");
    row.className = "bar";
    const fill = document.createElement("span");
    fill.className = "fill";
    fill.style.width = percent(p).replace(" ", "");
    fill.style.background = color(name);
    const said = document.createElement("span");
    said.textContent = `${name} ${percent(p)}`;
    row.append(fill, said);
    return row;
  });
  const head = document.createElement("strong");
  head.textContent = face.track === undefined ? title(face) : `${title(face)} · face ${face.track}`;
  const note = document.createElement("small");
  const why = face.reason ? `: ${face.reason}, so not sure` : "";
  note.textContent = `${Math.round(w)} pixels wide, quality ${percent(face.quality)}${why}`;
  text.replaceChildren(head, ...rows, note);
  if (button.nextSibling) fillWhy(button.nextSibling, face);
}

function fillWhy(part, face) {
  const [button, picture] = part.children;
  const isOpen = explained?.key === face.key;
  button.setAttribute("aria-expanded", String(isOpen));
  button.setAttribute("aria-label", `Why ${title(face)}?`);
  picture.hidden = !isOpen;
  if (isOpen && picture.src !== explained.source) picture.src = explained.source;
}

function select(key) {
  selected = Number(key);
  draw();
  showCards();
  showHistory();
}

let told = 0;
function tell(faces) {
  const now = performance.now();
  if (now - told < 500 && source?.kind !== "still") return;
  told = now;
  const many = faces.length === 1 ? "1 face" : `${faces.length} faces`;
  say(faces.length ? `${many}: ${faces.slice(0, 8).map(title).join(", ")}` : "No face.");
}

function count(sent, milliseconds) {
  const now = performance.now();
  answers = answers.filter((time) => now - time < 2000);
  answers.push(now);
  const span = now - answers[0];
  $("rate").textContent = answers.length > 1 ? Math.round((1000 * (answers.length - 1)) / span) : "–";
  $("latency").textContent = `${Math.round(now - sent)} ms`;
  $("inside").textContent = `${milliseconds.toFixed(1)} ms`;
}

function remember(time, faces) {
  for (const face of faces) {
    const moments = histories.get(face.key) ?? [];
    const at = moments.findIndex((moment) => moment.time >= time);
    const moment = { time, probabilities: face.probabilities };
    if (at < 0) moments.push(moment);
    else moments.splice(at, moments[at].time === time ? 1 : 0, moment);
    histories.set(face.key, moments);
  }
  saved.push({ time, faces });
  if (source.kind === "camera") {
    for (const [key, moments] of histories) {
      const left = moments.filter((moment) => time - moment.time < HISTORY);
      if (left.length) histories.set(key, left); else histories.delete(key);
    }
    saved = saved.filter((moment) => time - moment.time < HISTORY);
  }
  showHistory();
}

function showHistory() {
  const isMoving = source && source.kind !== "still";
  $("history-part").hidden = !isMoving;
  if (!isMoving) return;
  const whose = selected === null ? "" : `, face ${selected}`;
  const moments = histories.get(selected) ?? [];
  if (source.kind === "camera") {
    const now = performance.now() / 1000;
    $("history-title").textContent = `The last 30 seconds${whose}`;
    drawHistory($("history"), moments, now - HISTORY, now);
  } else {
    $("history-title").textContent = `The whole clip${whose}`;
    drawHistory($("history"), moments, 0, source.element.duration || 1);
  }
}

// Sources.

function stop() {
  source?.element.srcObject?.getTracks().forEach((track) => track.stop());
  if (source?.url) URL.revokeObjectURL(source.url);
  source?.element.pause?.();
  source = null;
  generation += 1;
  [answers, saved, histories, selected, explained] = [[], [], new Map(), null, null];
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Start the camera";
  for (const id of ["camera-options", "player", "numbers", "smoothing-label", "history-part"]) $(id).hidden = true;
  $("cards").replaceChildren();
}

function start(what) {
  stop();
  source = { ...what, generation };
  const isMoving = what.kind !== "still";
  $("numbers").hidden = $("smoothing-label").hidden = !isMoving;
  $("camera-options").hidden = what.kind !== "camera";
  $("player").hidden = what.kind !== "video";
  for (const id of ["rate", "latency", "inside"]) $(id).textContent = "–";
  setState("preparing");
}

let facing = "user";
async function startCamera() {
  if (!navigator.mediaDevices) {
    setState("error", "Cameras need a secure address: https, or localhost.");
    return;
  }
  const mine = generation;
  setState("preparing", "Waiting for the camera …");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
    if (mine !== generation) { stream.getTracks().forEach((track) => track.stop()); return; }
    const element = makeVideo();
    start({ kind: "camera", element });
    element.srcObject = stream;
    $("mirror").checked = facing === "user";
    $("camera").setAttribute("aria-pressed", "true");
    $("camera").textContent = "Stop the camera";
    await element.play();
    next();
  } catch (error) {
    const texts = {
      NotAllowedError: "The camera is not allowed. Allow it beside the address above, then start it again.",
      NotFoundError: "There is no camera.",
      NotReadableError: "The camera is used by another program.",
    };
    setState("error", texts[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
}

function makeVideo() {
  const element = document.createElement("video");
  element.muted = element.playsInline = true;
  return element;
}

async function open(file) {
  if (!file) return;
  try {
    if (file.type.startsWith("video/")) await openVideo(file);
    else {
      const element = await createImageBitmap(file);
      start({ kind: "still", element });
      await readStill();
    }
  } catch {
    stop();
    setState("error", `${file.name ?? "This"} is no picture or video that this browser can show.`);
  }
}

async function openVideo(file) {
  const element = makeVideo();
  const url = URL.createObjectURL(file);
  await new Promise((resolve, reject) => {
    element.onloadeddata = resolve;
    element.onerror = reject;
    element.src = url;
  });
  start({ kind: "video", element, url });
  $("seek").max = element.duration;
  element.addEventListener("timeupdate", showClock);
  element.addEventListener("seeked", next);
  for (const event of ["play", "pause", "ended"])
    element.addEventListener(event, () => { $("play").textContent = element.paused ? "Play" : "Pause"; });
  next();
  await element.play();
}

function showClock() {
  if (source?.kind !== "video") return;
  const { currentTime, duration } = source.element;
  const clock = (t) => `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;
  $("clock").textContent = `${clock(currentTime)} of ${clock(duration)}`;
  if (document.activeElement !== $("seek")) $("seek").value = currentTime;
}

// Saving.

function save(kind) {
  const moments = source?.kind === "still" || !saved.length ? [{ time: 0, faces: shown.faces }] : saved;
  if (kind === "png") canvas.toBlob((blob) => offer(blob, "faces.png"));
  const faces = moments.flatMap(({ time, faces }) => faces.map(({ key, ...face }) => ({ time, ...face })));
  if (kind === "json") offer(new Blob([JSON.stringify(faces, null, 1)], { type: "application/json" }), "faces.json");
  if (kind === "csv") offer(new Blob([toCsv(faces)], { type: "text/csv" }), "faces.csv");
}

function toCsv(faces) {
  const names = faces.length ? Object.keys(faces[0].probabilities) : [];
  const head = ["time", "track", "left", "top", "right", "bottom", "score", "yaw", "roll"];
  head.push("label", "probability", "unsure", "quality", "reason", ...names);
  const rows = faces.map((f) => [
    f.time.toFixed(3), f.track ?? "", ...f.box.map((x) => x.toFixed(1)), f.score, f.yaw, f.roll,
    f.label, f.probability, f.unsure === null ? "" : Number(f.unsure), f.quality, f.reason ?? "",
    ...names.map((name) => f.probabilities[name]),
  ]);
  return [head, ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Controls.

$("camera").addEventListener("click", () => {
  if (source?.kind === "camera") { stop(); shown = null; setState("empty"); say("The camera is off."); }
  else startCamera();
});
$("turn").addEventListener("click", () => { facing = facing === "user" ? "environment" : "user"; stop(); startCamera(); });
$("mirror").addEventListener("change", draw);
$("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
$("smoothing").addEventListener("change", () => engine.setSmoothing(Number($("smoothing").value)));
$("play").addEventListener("click", () => {
  const { element } = source;
  if (element.paused) element.play(); else element.pause();
});
$("seek").addEventListener("input", () => { source.element.currentTime = Number($("seek").value); next(); });
for (const button of document.querySelectorAll("[data-save]"))
  button.addEventListener("click", () => shown && save(button.dataset.save));
canvas.addEventListener("click", (event) => {
  if (!shown) return;
  const scale = canvas.width / canvas.clientWidth;
  let x = event.offsetX * scale;
  const y = event.offsetY * scale;
  if (isMirrored()) x = canvas.width - x;
  const hit = shown.faces.find(({ box: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom);
  if (hit) select(hit.key);
});
const stage = $("stage");
document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
document.addEventListener("dragleave", () => stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  open(event.dataTransfer.files[0]);
});
for (const [name, text] of SAMPLES) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sample";
  const image = document.createElement("img");
  image.src = `samples/${name}.jpg`;
  image.alt = text;
  button.append(image);
  button.addEventListener("click", async () => open(await (await fetch(image.src)).blob()));
  $("samples").append(button);
}
function showLegend(names) {
  $("legend").replaceChildren(...names.map((name) => {
    const item = document.createElement("li");
    const patch = document.createElement("span");
    patch.style.background = color(name);
    item.append(patch, name);
    return item;
  }));
}
$("privacy").textContent = PRIVACY;
engine.readClasses().then(showLegend).catch((error) => failed(error, generation));
window.deepfer = { engine, get shown() { return shown; }, get saved() { return saved; } }; // for tests
if (new URLSearchParams(location.search).has("camera")) startCamera();
