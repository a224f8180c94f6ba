#!/usr/bin/env python3
"""Multi-backend router, shortened to what an import reads. Running it is a mistake that a test would notice."""

import subprocess

import uvicorn
from fastapi import FastAPI

app = FastAPI(title="Multi-Backend Router", version="3.2.0")

SGLANG_PORT = 30000
TABBY_PORT = 5000
LLAMACPP_PORT = 8085

SGLANG_URL = f"http://localhost:{SGLANG_PORT}"
TABBY_URL = f"http://localhost:{TABBY_PORT}"
LLAMACPP_URL = f"http://localhost:{LLAMACPP_PORT}"

SCRIPTS = "/home/user/sglang"

MODELS = {
    "mistral-large-2411-awq": {
        "backend": "sglang",
        "script": "/home/user/sglang/start_sglang_mistral_blackwell.sh",
        "service": "sglang.service",
    },
    "llama-3.3-70b-awq": {
        "backend": "sglang",
        "script": "/home/user/sglang/start_sglang_llama33_blackwell.sh",
        "service": "sglang.service",
    },
    "deepseek-r1-distill-70b-awq": {
        "backend": "sglang",
        "script": "/home/user/sglang/start_sglang_deepseek_blackwell.sh",
        "service": "sglang.service",
    },
    "magnum-v4-123b-awq": {
        "backend": "sglang",
        "script": "/home/user/sglang/start_sglang_magnum_blackwell.sh",
        "service": "sglang.service",
    },
    "kat-dev-awq-8bit": {
        "backend": "sglang",
        "script": SCRIPTS + "/start_sglang_katdev_blackwell.sh",
        "service": "sglang.service",
    },
    "monstral-123b-exl2-4bpw": {
        "backend": "tabby",
        "script": None,
        "service": "tabbyapi.service",
        "model_name": "Monstral-123B-v2-exl2-4.0bpw",
    },
    "behemoth-r1-123b-iq4nl": {
        "backend": "llamacpp",
        "script": f"{SCRIPTS}/start_llamacpp_behemoth_blackwell.sh",
        "service": "llamacpp.service",
    },
    "magnum-diamond-123b-iq4nl": {
        "backend": "llamacpp",
        "script": f"{SCRIPTS}/start_llamacpp_magnum_blackwell.sh",
        "service": "llamacpp.service",
    },
}

MODEL_LOAD_TIMEOUT = 180
current_model = None


def update_tabby(model_name):
    config_path = "/home/user/tabbyAPI/config.yml"
    with open(config_path) as file:
        return file.read().replace("NAME", model_name)


def stop_all():
    subprocess.run(["pkill", "-9", "llama-server"])


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=8002, log_level="info")
