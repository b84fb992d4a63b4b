// Sends frames to the server, one at a time, and draws what it answers.

const COLORS = {
  angry: "#d55e00", disgust: "#5a8f29", fear: "#b45fa0", happy: "#e6a800",
  sad: "#2f7fc1", surprise: "#17b0c4", neutral: "#8a939c",
};
const OTHER = "#8a939c";
const LONGEST = 640; // pixels of the longer side that is sent from a camera
const HISTORY = 30; // seconds

const $ = (id) => document.getElementById(id);
const picture = $("picture").getContext("2d");
const strip = $("history").getContext("2d");
const reduce = document.createElement("canvas");

let socket = null;
let video = null; // what plays, camera or file
let waiting = null; // {bitmap, sent}: the frame that the server has
let history = []; // {time, probabilities}
let answers = []; // times of the last answers
let still = null; // a picture, shown until something else is chosen

const color = (name) => COLORS[name] ?? OTHER;
const percent = (p) => `${Math.round(100 * p)} %`;

function say(text, isError = false) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  // Behind the # it is in no server's log.
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const query = token ? `?token=${encodeURIComponent(token)}` : "";
  socket = new WebSocket(`${scheme}://${location.host}/v1/stream${query}`);
  socket.onopen = () => { sendSmoothing(); send(); };
  socket.onmessage = (event) => answered(JSON.parse(event.data));
  socket.onclose = () => {
    waiting = null;
    say("The program does not answer; trying again.", true);
    setTimeout(connect, 1000);
  };
}

function sendSmoothing() {
  if (socket?.readyState === WebSocket.OPEN)
    socket.send(JSON.stringify({ smoothing: Number($("smoothing").value) }));
}

async function send() {
  const source = video ?? still;
  if (waiting || !source || socket?.readyState !== WebSocket.OPEN) return;
  const width = source.videoWidth ?? source.width;
  const height = source.videoHeight ?? source.height;
  if (!width || !height || (video && video.readyState < 2)) {
    if (video) setTimeout(send, 50);
    return;
  }
  if (video?.ended) return;
  const longest = video ? LONGEST : 1920;
  const scale = Math.min(1, longest / Math.max(width, height));
  reduce.width = Math.max(1, Math.round(width * scale));
  reduce.height = Math.max(1, Math.round(height * scale));
  reduce.getContext("2d").drawImage(source, 0, 0, reduce.width, reduce.height);
  waiting = { bitmap: await createImageBitmap(reduce), sent: performance.now() };
  const blob = await new Promise((done) => reduce.toBlob(done, "image/jpeg", 0.9));
  if (socket.readyState === WebSocket.OPEN) socket.send(blob);
}

function answered(answer) {
  if (answer.frame === undefined) { say(answer.error, true); return; }
  const { bitmap, sent } = waiting ?? {};
  waiting = null;
  const now = performance.now();
  if (answer.error) {
    say(answer.error, true);
    if (answer.code === "busy" && still) setTimeout(send, 1000);
  } else if (bitmap && (video || still)) {
    show(bitmap, answer.faces);
    count(now, sent, answer.milliseconds);
    tell(answer.faces);
    remember(now, answer.faces);
  }
  bitmap?.close();
  if (video && !video.ended) requestAnimationFrame(send);
}

function show(bitmap, faces) {
  const canvas = $("picture");
  $("stage").classList.remove("empty");
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  picture.drawImage(bitmap, 0, 0);
  for (const face of faces) drawFace(face, canvas);
}

function drawFace(face, canvas) {
  const [left, top, right, bottom] = face.box;
  // Of the size that it has on the screen, whatever the picture's own.
  const unit = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width));
  const named = face.unsure ? "unsure" : face.label;
  const tint = face.unsure ? OTHER : color(face.label);
  picture.lineWidth = 3 * unit;
  picture.strokeStyle = tint;
  picture.strokeRect(left, top, right - left, bottom - top);

  const row = 17 * unit, wide = 148 * unit, pad = 7 * unit;
  const names = Object.keys(face.probabilities);
  const high = row * (names.length + 1) + 2 * pad;
  let x = right + 6 * unit;
  if (x + wide > canvas.width) x = left - wide - 6 * unit;
  x = Math.max(0, Math.min(x, canvas.width - wide));
  const y = Math.max(0, Math.min(top, canvas.height - high));
  picture.fillStyle = "rgb(12 14 17 / 72%)";
  picture.beginPath();
  picture.roundRect(x, y, wide, high, 6 * unit);
  picture.fill();
  picture.textBaseline = "middle";
  picture.fillStyle = "#fff";
  picture.font = `600 ${13 * unit}px system-ui, sans-serif`;
  picture.fillText(`${named} ${percent(face.probability)}`, x + pad, y + pad + row / 2);
  picture.font = `${12 * unit}px system-ui, sans-serif`;
  names.forEach((name, i) => {
    const middle = y + pad + row * (i + 1.5);
    picture.fillStyle = "#fff";
    picture.fillText(name, x + pad, middle);
    picture.fillStyle = "rgb(255 255 255 / 18%)";
    picture.fillRect(x + pad + 58 * unit, middle - 4 * unit, 76 * unit, 8 * unit);
    picture.fillStyle = color(name);
    picture.fillRect(x + pad + 58 * unit, middle - 4 * unit, 76 * unit * face.probabilities[name], 8 * unit);
  });
}

function count(now, sent, milliseconds) {
  answers = answers.filter((time) => now - time < 2000);
  answers.push(now);
  const span = now - answers[0];
  $("rate").textContent = answers.length > 1 ? Math.round((1000 * (answers.length - 1)) / span) : "–";
  $("latency").textContent = `${Math.round(now - sent)} ms`;
  $("inside").textContent = `${milliseconds.toFixed(1)} ms`;
}

let told = 0;
function tell(faces) {
  const now = performance.now();
  if (now - told < 500 && video) return;
  told = now;
  if (!faces.length) { say("No face."); return; }
  const texts = faces.map((f) => f.unsure
    ? "unsure"
    : `${f.label} ${percent(f.probability)}`);
  say(`${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${texts.join(", ")}`);
}

function remember(now, faces) {
  const area = (f) => (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]);
  const largest = faces.reduce((a, b) => (a && area(a) >= area(b) ? a : b), null);
  history.push({ time: now, probabilities: largest?.probabilities ?? null });
  history = history.filter((moment) => now - moment.time < 1000 * HISTORY);
  const { width, height } = strip.canvas;
  strip.clearRect(0, 0, width, height);
  const place = (time) => width * (1 - (now - time) / (1000 * HISTORY));
  history.forEach((moment, i) => {
    if (!moment.probabilities) return;
    const next = history[i + 1];
    const start = place(moment.time);
    const end = next ? place(next.time) : width;
    let base = height;
    for (const [name, p] of Object.entries(moment.probabilities)) {
      strip.fillStyle = color(name);
      strip.fillRect(start, base - p * height, Math.max(end - start, 1) + 0.5, p * height);
      base -= p * height;
    }
  });
}

function stop() {
  video?.srcObject?.getTracks().forEach((track) => track.stop());
  if (video?.src) URL.revokeObjectURL(video.src);
  video?.pause();
  video = null;
  still = null;
  answers = [];
  $("camera").setAttribute("aria-pressed", "false");
}

async function play(set) {
  stop();
  const element = document.createElement("video");
  element.muted = true;
  element.playsInline = true;
  set(element);
  video = element;
  await element.play();
  send();
}

async function toggleCamera() {
  if (video?.srcObject) { stop(); say("The camera is off."); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    await play((element) => { element.srcObject = stream; });
    $("camera").setAttribute("aria-pressed", "true");
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
  }
}

async function open(file) {
  if (!file) return;
  try {
    if (file.type.startsWith("video/")) {
      await play((element) => { element.src = URL.createObjectURL(file); });
    } else {
      const bitmap = await createImageBitmap(file);
      stop();
      still = bitmap;
      send();
    }
  } catch {
    say(`${file.name} is no picture or video that this browser can show.`, true);
  }
}

$("camera").addEventListener("click", toggleCamera);
$("file").addEventListener("change", (event) => open(event.target.files[0]));
$("file-label").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("file").click(); }
});
$("smoothing").addEventListener("change", sendSmoothing);
const stage = $("stage");
document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
document.addEventListener("dragleave", () => stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  open(event.dataTransfer.files[0]);
});
for (const [name, tint] of Object.entries(COLORS)) {
  const item = document.createElement("li");
  const patch = document.createElement("span");
  patch.style.background = tint;
  item.append(patch, name);
  $("legend").append(item);
}
connect();
if (new URLSearchParams(location.search).has("camera")) toggleCamera();
