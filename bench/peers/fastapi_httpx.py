"""The relay that most people would write: FastAPI and httpx. `python fastapi_httpx.py PORT ENGINE_PORT`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{sys.argv[2]}", limits=LIMITS, timeout=None) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    client = request.app.state.client
    asked = client.build_request(
        "POST", "/v1/chat/completions", content=await request.body(), headers={"content-type": "application/json"}
    )
    answer = await client.send(asked, stream=True)
    kind = answer.headers["content-type"]
    if "event-stream" in kind:
        return StreamingResponse(answer.aiter_raw(), media_type=kind)
    data = await answer.aread()
    await answer.aclose()
    return Response(data, media_type=kind)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop", http="httptools")
