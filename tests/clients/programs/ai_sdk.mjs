// Vercel's AI SDK.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, jsonSchema, streamText, tool } from "ai";
import { EMBEDDING, MODEL, QUESTION, URL, clean, refused, run } from "./common.mjs";

const provider = createOpenAICompatible({ name: "roundhouse", baseURL: URL, apiKey: "any", supportsStructuredOutputs: true, includeUsage: true });
const asked = { model: provider(MODEL), prompt: QUESTION, maxOutputTokens: 96, temperature: 0, maxRetries: 0 };
const schema = jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false });

await run({
  stream: async () => {
    const answer = streamText(asked);
    let text = "";
    for await (const piece of answer.textStream) text += piece;
    if (!(await answer.usage).outputTokens) throw new Error("no usage");
    return clean(text);
  },
  chat: async () => clean((await generateText(asked)).text),
  "structured output": async () => (await generateText({ ...asked, output: Output.object({ schema }) })).output.city,
  tools: async () => {
    const visit = tool({ description: "x", inputSchema: schema });
    return JSON.stringify((await generateText({ ...asked, tools: { visit }, toolChoice: "required" })).toolCalls[0].input);
  },
  embeddings: async () => (await embedMany({ model: provider.embeddingModel(EMBEDDING), values: ["one", "two"], maxRetries: 0 })).embeddings[1].length,
  "unknown model": () => refused(() => generateText({ ...asked, model: provider("nobody") })),
});
