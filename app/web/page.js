import { watchCamera } from "./camera.js";
import { askClip, problemOf } from "./clip.js";
import { Timeline } from "./timeline.js";

const element = (id) => document.getElementById(id);
const video = element("video");
const select = element("model");
const cameraButton = element("camera");
const timeline = new Timeline(element("timeline"), (seconds) => {
  if (!video.srcObject) video.currentTime = seconds;
});

const TASKS = { classify: "Labels", caption: "In words" };
// What the service opens; by extension what systems often have no type for.
const VIDEOS = "video/*,image/gif,.mkv,.avi,.flv,.mxf,.ts,.mts,.m2ts,.vob,.ogv,.wmv,.asf,.h264,.264,.hevc,.h265,.265";
const SOUNDS = "audio/*,.mka,.ogg,.opus,.flac,.m4a,.aac,.wma";
let models = [];
let missing = "The models are not there yet."; // why nothing can be asked while there is none
let clip = null; // the file that is shown, for other models to be asked of it
let current = new AbortController(); // ends what is going on

const chosen = () => models.find((model) => model.name === select.value);
const taskOf = (model) => model.versions[0].task;
const listens = (model) => model.versions[0].media === "audio";
const answersLive = (model) => !listens(model) && model.versions[0].causal;
const isLive = () => cameraButton.getAttribute("aria-pressed") === "true";
const key = () => element("api-key").value.trim();

/** What a screen reader says too: not what changes many times a second. */
function say(text, isProblem = false) {
  if (element("status").textContent !== text) element("status").textContent = text;
  element("status").classList.toggle("problem", isProblem);
}

function refuse(problem) {
  if (problem.status === 401) {
    element("key").hidden = false;
    missing = "Enter the API key first.";
    if (!key()) return say(missing, true);
  }
  // `fetch` throws a TypeError, and does not say which of the two it was.
  const lost = `The service cannot be reached${clip ? ", or the clip not be read" : ""}.`;
  const message = problem instanceof TypeError ? lost : problem.message;
  say(problem.status ? `${problem.title}: ${problem.detail}` : message, true);
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function showLabels(labels) {
  element("labels").replaceChildren(
    ...labels.map(({ label, score }) => {
      const item = document.createElement("li");
      const name = document.createElement("span");
      const value = document.createElement("span"); // no <output>: it would be read out at every change
      const meter = document.createElement("meter");
      name.textContent = label;
      value.className = "score";
      value.textContent = `${Math.round(100 * score)} %`;
      meter.value = score;
      meter.setAttribute("aria-label", label);
      item.append(name, value, meter);
      return item;
    }),
  );
}

function showSegments(segments, first, last) {
  timeline.show(segments, first, last);
  element("end").textContent = clock(last);
  element("scale").firstElementChild.textContent = clock(first);
}

/** No empty headings stay below what is said where nothing was answered. */
function hideEmpty() {
  if (element("labels").hasChildNodes()) return;
  video.pause();
  element("result").hidden = true;
}

/** Ends what is going on, and begins with `file`, or else the camera; gives back the signal of its end. */
function begin(text, file = null) {
  current.abort();
  current = new AbortController();
  clip = file;
  video.removeAttribute("src");
  video.srcObject = null;
  showCamera(false);
  say(text);
  showLabels([]);
  showSegments([], 0, 0);
  element("labels-title").textContent = TASKS[taskOf(chosen())];
  element("stage").hidden = element("result").hidden = false;
  return current.signal;
}

function showCamera(isOn) {
  cameraButton.setAttribute("aria-pressed", isOn);
  cameraButton.textContent = isOn ? "Stop the camera" : "Start the camera";
  if (!isOn) element("pace").hidden = true;
  describeModel();
}

function describeModel() {
  const model = chosen();
  element("summary").textContent = model ? model.versions[0].summary : "";
  element("file").disabled = !model;
  element("file").accept = model && listens(model) ? `${VIDEOS},${SOUNDS}` : VIDEOS;
  cameraButton.disabled = !isLive() && !(model && answersLive(model));
  element("camera-hint").textContent = model && cameraButton.disabled ? "This model cannot answer live." : "";
}

/** Another model is asked of what is there, the camera or a clip; not one that looks of what is only a sound. */
function chooseModel() {
  describeModel();
  if (isLive()) return answersLive(chosen()) ? startCamera() : endCamera();
  if (!clip) return;
  if (listens(chosen()) || !clip.type.startsWith("audio/")) return openClip(clip);
  current.abort();
  showLabels([]);
  hideEmpty();
  say(`${clip.name} is a sound, and ${select.value} looks at pictures.`);
}

async function loadModels() {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  const response = await fetch("models", { headers });
  if (!response.ok) return refuse(await problemOf(response));
  const served = (await response.json()).models;
  models = Object.keys(TASKS).flatMap((task) => served.filter((model) => taskOf(model) === task));
  select.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  select.value = (models.find((model) => model.default) ?? models[0])?.name ?? "";
  describeModel();
  missing = models.length ? "" : "No model for the page is served.";
  say(missing);
}

async function openClip(file) {
  if (!chosen()) return say(missing, true);
  const signal = begin(`Sending ${file.name} …`, file);
  const address = URL.createObjectURL(file);
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  video.src = address;
  video.controls = true;
  video.muted = false;
  const segments = [];
  try {
    const asked = { name: select.value, task: taskOf(chosen()) };
    const kind = listens(chosen()) ? "sound" : "video";
    for await (const event of askClip(file, asked, key(), signal)) {
      if (event.type === "waiting") say(event.detail);
      if (event.type === "problem") throw event;
      if (!event.results) continue;
      const [result] = event.results;
      showLabels(result.labels);
      if (event.type === "result") {
        const length = event.media.duration_seconds ?? 0;
        showSegments(result.segments ?? [], 0, length);
        const { total_seconds: total, upload_seconds: upload } = event.timing;
        say(`${clock(length)} of ${kind} in ${(total - upload).toFixed(1)} s, by ${result.model.name}.`);
      } else {
        segments.push(...result.segments);
        showSegments(segments, 0, Math.max(result.seconds, video.duration || 0));
        say(`${clock(result.seconds)} judged …`);
      }
    }
  } catch (problem) {
    if (signal.aborted) return;
    hideEmpty();
    refuse(problem);
  }
}

function endCamera() {
  current.abort();
  showCamera(false);
  hideEmpty();
  say("The camera is off.");
}

async function startCamera() {
  const { name } = chosen();
  const signal = begin("Asking for the camera …");
  showCamera(true);
  try {
    for await (const news of watchCamera(video, name, key(), signal)) {
      showLabels(news.labels);
      showSegments(news.segments, news.first, news.last);
      say(`Live: ${news.rate} pictures a second, by ${name}.`);
      element("pace").textContent = `The last one was answered within ${Math.round(news.milliseconds)} ms.`;
      element("pace").hidden = false;
    }
    if (!signal.aborted) endCamera(); // else something else may be going on by now
  } catch (problem) {
    if (signal.aborted) return;
    endCamera();
    refuse(problem);
  }
}

element("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // else there is no change where the same file is chosen again
  if (file) openClip(file);
});
cameraButton.addEventListener("click", () => (isLive() ? endCamera() : startCamera()));
select.addEventListener("change", chooseModel);
element("api-key").addEventListener("change", () => loadModels().catch(refuse));
element("choice").addEventListener("submit", (event) => event.preventDefault());
video.addEventListener("error", () => (element("stage").hidden = true)); // browsers play less than the service takes
video.addEventListener("timeupdate", () => timeline.point(video.srcObject ? null : video.currentTime));

const drop = element("drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) openClip(event.dataTransfer.files[0]);
  });
}

loadModels().catch(refuse);
