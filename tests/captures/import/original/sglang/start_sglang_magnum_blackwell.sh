#!/bin/bash
# magnum-v4-123b-awq on one GPU

source /home/user/sglang/sglang-env/bin/activate

export CUDA_VISIBLE_DEVICES=0

python -m sglang.launch_server \
    --model-path /home/user/models/magnum-v4-123b-awq \
    --host 0.0.0.0 \
    --port 30000 \
    --tp 1 \
    --attention-backend triton \
    --served-model-name magnum \
    --mem-fraction-static 0.88 \
    --chunked-prefill-size 8192 \
    --log-level info
