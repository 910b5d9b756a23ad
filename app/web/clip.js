/** The events of POST /classify for a file, as they come. Throws the problem where it is refused. */
export async function* classifyClip(file, model, key, signal) {
  const headers = { Accept: "application/x-ndjson" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const query = new URLSearchParams({ model, timeline: "true" });
  const response = await fetch(`/classify?${query}`, { method: "POST", body: file, headers, signal });
  if (!response.ok) throw await response.json();
  let rest = "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}
