// OpenAI's package for Node.
import OpenAI from "openai";
import { EMBEDDING, MODEL, QUESTION, URL, clean, refused, run } from "./common.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: "any", maxRetries: 0, timeout: 120000 });
const asked = { model: MODEL, messages: [{ role: "user", content: QUESTION }], max_tokens: 96, temperature: 0 };
const schema = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };

await run({
  stream: async () => {
    let text = "", usage;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    if (!usage) throw new Error("no usage");
    return clean(text);
  },
  chat: async () => clean((await client.chat.completions.create(asked)).choices[0].message.content),
  "structured output": async () => {
    const format = { type: "json_schema", json_schema: { name: "city", schema, strict: true } };
    return JSON.parse((await client.chat.completions.create({ ...asked, response_format: format })).choices[0].message.content).city;
  },
  tools: async () => {
    const visit = { type: "function", function: { name: "visit", description: "x", parameters: schema } };
    const found = await client.chat.completions.create({ ...asked, tools: [visit], tool_choice: "required" });
    return found.choices[0].message.tool_calls[0].function.arguments;
  },
  embeddings: async () => (await client.embeddings.create({ model: EMBEDDING, input: ["one", "two"] })).data[1].embedding.length,
  responses: async () => clean((await client.responses.create({ model: MODEL, input: QUESTION, max_output_tokens: 24 })).output_text),
  "unknown model": () => refused(() => client.chat.completions.create({ ...asked, model: "nobody" })),
});
