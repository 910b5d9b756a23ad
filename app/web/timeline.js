const LANE_REM = 2.25; // height of one row
const HUES = [18, 200, 95, 280, 48, 160, 330, 235];

/** Segments as buttons, side by side; those that overlap lie in rows below each other. */
export class Timeline {
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.hues = new Map();
    this.buttons = new Map(); // by label and start
    this.first = this.last = 0;
    this.marker = document.createElement("i");
    this.marker.hidden = true;
  }

  show(segments, first, last) {
    [this.first, this.last] = [first, last];
    const lanes = []; // when the last segment of each ends
    const shown = new Map();
    for (const segment of [...segments].sort((one, other) => one.start_seconds - other.start_seconds)) {
      let lane = lanes.findIndex((end) => end <= segment.start_seconds + 1e-6);
      if (lane < 0) lane = lanes.push(0) - 1;
      lanes[lane] = segment.end_seconds;
      const name = `${segment.label} ${segment.start_seconds}`;
      const button = this.buttons.get(name) ?? this.make(segment);
      this.place(button, segment, lane);
      shown.set(name, button);
    }
    for (const [name, button] of this.buttons) if (!shown.has(name)) button.remove();
    for (const button of shown.values()) if (!button.isConnected) this.root.append(button);
    this.buttons = shown;
    this.root.style.height = `${LANE_REM * Math.max(1, lanes.length)}rem`;
    this.root.append(this.marker);
  }

  /** Marks a moment; null: none. */
  point(seconds) {
    this.marker.hidden = seconds === null || this.last <= this.first;
    if (!this.marker.hidden) this.marker.style.left = this.percent(seconds);
  }

  make(segment) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => this.onChoose(segment.start_seconds));
    return button;
  }

  place(button, { label, start_seconds: start, end_seconds: end, score }, lane) {
    const text = `${label}, ${start.toFixed(1)} to ${end.toFixed(1)} s` + (score ? `, ${Math.round(100 * score)} %` : "");
    button.textContent = label;
    button.title = text;
    button.setAttribute("aria-label", text);
    button.style.left = this.percent(Math.max(start, this.first));
    button.style.width = `calc(${this.percent(end)} - ${this.percent(Math.max(start, this.first))})`;
    button.style.top = `${LANE_REM * lane}rem`;
    button.style.height = `${LANE_REM}rem`;
    button.style.background = `hsl(${this.hue(label)} 70% 78%)`;
  }

  percent(seconds) {
    return `${(100 * (seconds - this.first)) / Math.max(this.last - this.first, 1e-6)}%`;
  }

  hue(label) {
    if (!this.hues.has(label)) this.hues.set(label, HUES[this.hues.size % HUES.length]);
    return this.hues.get(label);
  }
}
