/** What an answer that is not ok says; one that is not the service's own, as of a proxy, has only its status. */
export const problemOf = (response) =>
  response.json().catch(() => new Error(`The service answered with status ${response.status}.`));

/** The events of POST /classify or /caption for a file, as they come. Throws the problem where it is refused. */
export async function* askClip(file, { name, task }, key, signal) {
  const headers = { Accept: "application/x-ndjson" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const query = new URLSearchParams({ model: name, timeline: "true" });
  const response = await fetch(`${task}?${query}`, { method: "POST", body: file, headers, signal });
  if (!response.ok) throw await problemOf(response);
  let rest = "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) yield task === "caption" ? asLabels(JSON.parse(line)) : JSON.parse(line);
  }
}

/** What is said in words in the form of what is said in labels. */
function asLabels(event) {
  if (!event.segments) return event;
  const { comments = [], segments, seconds, model } = event;
  const labelled = ({ text, ...rest }) => ({ label: text, ...rest });
  return { ...event, results: [{ labels: comments.map(labelled), segments: segments.map(labelled), seconds, model }] };
}
