"""Writes a chat model of ten million random weights that SGLang and vLLM load: FOLDER [SEED].

Run with the Python of an engine's environment (torch, transformers). The tokenizer knows `<think>`, without which vLLM's
reasoning parsers don't start; the template is ChatML. What it says is nonsense.
"""

from __future__ import annotations

import json
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN, LAYERS, HEAD = 512, 4, 64
SHARD = "2MB"  # a dozen shards, so that loading them has a course
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
TEXT = (
    "The capital city of France is Paris. The quick brown fox jumps over the lazy dog. "
    "A router loads a model, streams status and counts tokens per second. "
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    corpus = [TEXT + json.dumps({"name": "get_weather", "arguments": {"city": "Paris"}})] * 50
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=512, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    found = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>")
    found.chat_template = TEMPLATE
    return found


def model(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=(len(words) + 63) // 64 * 64,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 2,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD // 2,
        head_dim=HEAD,
        max_position_embeddings=4096,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def main(folder: str, seed: str = "1") -> None:
    torch.manual_seed(int(seed))
    words = tokenizer()
    model(words).save_pretrained(folder, max_shard_size=SHARD)
    words.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
