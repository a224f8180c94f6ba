// What the Node programs share: each feature is tried, and told as a line of JSON.
export const [URL, MODEL, EMBEDDING, ...ONLY] = process.argv.slice(2);
export const QUESTION = "What is the capital of France? Answer in one word.";

export async function run(features) {
  for (const [feature, attempt] of Object.entries(features)) {
    if (ONLY.length && !ONLY.includes(feature)) continue;
    try {
      console.log(JSON.stringify({ feature, ok: true, said: String(await attempt()).slice(0, 200) }));
    } catch (error) {
      console.log(JSON.stringify({ feature, ok: false, said: String(error?.stack ?? error).slice(-1500) }));
    }
  }
}

export function clean(text) {
  if (!text.trim() || /⏳|✓|\[Performance/.test(text)) throw new Error(`not an answer alone: ${text}`);
  return text;
}

export async function refused(call) {
  try {
    await call();
  } catch (error) {
    if (!String(error.message).includes("nobody")) throw error;
    return error.status ?? error.statusCode ?? error.name;
  }
  throw new Error("it was answered");
}
