import { watchCamera } from "./camera.js";
import { askClip } from "./clip.js";
import { Timeline } from "./timeline.js";

const element = (id) => document.getElementById(id);
const video = element("video");
const select = element("model");
const cameraButton = element("camera");
const timeline = new Timeline(element("timeline"), (seconds) => {
  if (!video.srcObject) video.currentTime = seconds;
});

const TASKS = { classify: "Labels", caption: "In words" };
let models = [];
let stop = () => {}; // ends what is going on

const chosen = () => models.find((model) => model.name === select.value);
const taskOf = (model) => model.versions[0].task;
const key = () => element("api-key").value;

/** What a screen reader says too: not what changes many times a second. */
function say(text, isProblem = false) {
  if (element("status").textContent !== text) element("status").textContent = text;
  element("status").classList.toggle("problem", isProblem);
}

function refuse(problem) {
  if (problem.status === 401) element("key").hidden = false;
  say(problem.status ? `${problem.title}: ${problem.detail}` : problem.message, true);
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
      const value = document.createElement("output");
      const meter = document.createElement("meter");
      name.textContent = label;
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

function begin(text) {
  stop();
  say(text);
  showLabels([]);
  showSegments([], 0, 0);
  element("labels-title").textContent = TASKS[taskOf(chosen())];
  element("result").hidden = false;
}

function describeModel() {
  const model = chosen();
  element("summary").textContent = model ? model.versions[0].summary : "";
  cameraButton.disabled = !model || model.versions[0].media === "audio" || !model.versions[0].causal;
}

async function loadModels() {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  const response = await fetch("/models", { headers });
  if (!response.ok) return refuse(await response.json());
  const served = (await response.json()).models;
  models = Object.keys(TASKS).flatMap((task) => served.filter((model) => taskOf(model) === task));
  select.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  select.value = (models.find((model) => model.default) ?? models[0])?.name ?? "";
  describeModel();
  say(models.length ? "" : "No model for the page is served.");
}

async function openClip(file) {
  begin(`Sending ${file.name} …`);
  const address = URL.createObjectURL(file);
  const leaving = new AbortController();
  video.srcObject = null;
  video.src = address;
  video.controls = true;
  stop = () => {
    leaving.abort();
    URL.revokeObjectURL(address);
  };
  const segments = [];
  try {
    const asked = { name: select.value, task: taskOf(chosen()) };
    for await (const event of askClip(file, asked, key(), leaving.signal)) {
      if (event.type === "waiting") say(event.detail);
      if (event.type === "problem") return refuse(event);
      if (!event.results) continue;
      const [result] = event.results;
      showLabels(result.labels);
      if (event.type === "result") {
        const length = event.media.duration_seconds ?? 0;
        showSegments(result.segments ?? [], 0, length);
        const { total_seconds: total, upload_seconds: upload } = event.timing;
        say(`${clock(length)} of video in ${(total - upload).toFixed(1)} s, by ${result.model.name}.`);
      } else {
        segments.push(...result.segments);
        showSegments(segments, 0, Math.max(result.seconds, video.duration || 0));
        say(`${clock(result.seconds)} judged …`);
      }
    }
  } catch (problem) {
    if (problem.name !== "AbortError") refuse(problem);
  }
}

async function toggleCamera() {
  if (cameraButton.getAttribute("aria-pressed") === "true") return stop();
  begin("Asking for the camera …");
  cameraButton.setAttribute("aria-pressed", "true");
  cameraButton.textContent = "Stop the camera";
  const leaving = new AbortController();
  stop = () => leaving.abort();
  try {
    for await (const news of watchCamera(video, select.value, key(), leaving.signal)) {
      showLabels(news.labels);
      showSegments(news.segments, news.first, news.last);
      say(`Live: ${news.rate} pictures a second.`);
      element("pace").textContent = `The last one was answered within ${Math.round(news.milliseconds)} ms.`;
      element("pace").hidden = false;
    }
    say("The camera is off.");
  } catch (problem) {
    refuse(problem);
  } finally {
    stop = () => {};
    element("pace").hidden = true;
    cameraButton.setAttribute("aria-pressed", "false");
    cameraButton.textContent = "Start the camera";
  }
}

element("file").addEventListener("change", ({ target }) => target.files[0] && openClip(target.files[0]));
cameraButton.addEventListener("click", toggleCamera);
select.addEventListener("change", describeModel);
element("api-key").addEventListener("change", loadModels);
element("choice").addEventListener("submit", (event) => event.preventDefault());
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
