"""The engines of benchmarks/cpu_peers.py that are Python: each is a process that stays, and answers lines.

    python -m benchmarks.peers ENGINE MODEL THREADS

The first line of standard output is {"ready": true}, or {"error": …}. Then each line "batch context new" of standard
input is answered with one of JSON: seconds by the clock and of CPU time of a prefill of `batch` texts of `context`
tokens, and of `new` steps after it, and the most bytes of memory that the process has held. Tokens are other ones in
each turn, since some engines keep what they have read.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = (3, 3993)  # which every vocabulary has


class Engine:
    """Loads a model, and makes logits of the last token, or an encoder's results of which nobody looks at."""

    def __init__(self, model: Path, threads: int) -> None:
        raise NotImplementedError

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        """Begin with ids: i64[B, S], behind which `new` tokens have room."""
        raise NotImplementedError

    def decode(self, token: int) -> Any:
        """Go on with a token."""
        raise NotImplementedError


class Burnish(Engine):
    """The NumPy backend."""

    backend = "numpy"

    def __init__(self, model: Path, threads: int) -> None:
        names = "BURNISH_THREADS OPENBLAS_NUM_THREADS NPROC"
        os.environ.update(dict.fromkeys(names.split(), str(threads)))
        import burnish

        self.model = burnish.executable(burnish.load(model), self.backend)
        _ = self.model.stateful if self.model.is_generative else self.model.plain

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        if not self.model.is_generative:
            return self.model.forward(ids.astype(np.int32))
        self.session = self.model.start(1, ids.shape[1] + new)
        return self.model.prefill(ids.astype(np.int32), self.session)

    def decode(self, token: int) -> Any:
        return self.model.decode(np.array([token], np.int32), self.session)


class BurnishXla(Burnish):
    """The XLA backend."""

    backend = "xla"


class Transformers(Engine):
    """With PyTorch, in f32."""

    def __init__(self, model: Path, threads: int) -> None:
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.generates = "CausalLM" in AutoConfig.from_pretrained(model).architectures[0]
        kind = AutoModelForCausalLM if self.generates else AutoModel
        self.model = kind.from_pretrained(model, dtype=torch.float32).eval()

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        import torch

        more: dict[str, Any] = {"use_cache": True, "logits_to_keep": 1} if self.generates else {}
        result = self.model(torch.from_numpy(ids), **more)
        self.cache = getattr(result, "past_key_values", None)
        return result.logits[:, -1].numpy() if self.generates else result.last_hidden_state

    def decode(self, token: int) -> Any:
        import torch

        result = self.model(torch.tensor([[token]]), past_key_values=self.cache, use_cache=True)
        return result.logits[:, -1].numpy()


class OnnxRuntime(Engine):
    """An encoder's ONNX file."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return self.session.run(None, {i.name: given[i.name] for i in self.session.get_inputs()})


class OnnxRuntimeGenAi(Engine):
    """A folder of its own builder."""

    def __init__(self, model: Path, threads: int) -> None:
        import onnxruntime_genai as genai

        self.genai, config = genai, genai.Config(str(model))  # without the overlay it runs on one thread
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self.model = genai.Model(config)

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        parameters = self.genai.GeneratorParams(self.model)
        parameters.set_search_options(max_length=ids.shape[1] + new + 1, do_sample=False)
        self.generator = self.genai.Generator(self.model, parameters)
        return self._put(ids[0])

    def decode(self, token: int) -> Any:
        return self._put(np.array([token]))

    def _put(self, ids: np.ndarray) -> Any:
        self.generator.append_tokens(ids.astype(np.int32))
        return self.generator.get_logits()[:, -1]


class OpenVino(Engine):
    """A stateful model, as optimum-intel exports it and OpenVINO GenAI runs it."""

    def __init__(self, model: Path, threads: int) -> None:
        import openvino

        compiled = openvino.Core().compile_model(
            model / "openvino_model.xml", "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        )
        self.request = compiled.create_infer_request()

    def prefill(self, ids: np.ndarray, new: int) -> Any:
        self.request.reset_state()
        self.past = 0
        return self._put(ids)

    def decode(self, token: int) -> Any:
        return self._put(np.array([[token]]))

    def _put(self, ids: np.ndarray) -> Any:
        past, self.past = self.past, self.past + ids.shape[1]
        given = {"input_ids": ids, "attention_mask": np.ones((1, self.past), np.int64)}
        given |= {"position_ids": np.arange(past, self.past)[None], "beam_idx": np.zeros(1, np.int32)}
        names = {name for port in self.request.model_inputs for name in port.names}
        return self.request.infer({k: v for k, v in given.items() if k in names})["logits"][:, -1]


ENGINES: dict[str, type[Engine]] = {
    "burnish": Burnish,
    "burnish-xla": BurnishXla,
    "onnxruntime": OnnxRuntime,
    "onnxruntime-genai": OnnxRuntimeGenAi,
    "openvino": OpenVino,
    "transformers": Transformers,
}


def peak_memory() -> int:
    """The most bytes that this program held: `ru_maxrss` would begin with what its parent held."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) << 10 if found else 0


def turn(engine: Engine, ids: np.ndarray, new: int) -> dict[str, float]:
    """One answer."""
    clocks = [(time.perf_counter(), time.process_time())]
    logits = engine.prefill(ids, new)
    clocks.append((time.perf_counter(), time.process_time()))
    for _ in range(new):
        logits = engine.decode(TOKENS[0] + int(np.argmax(logits)) % (TOKENS[1] - TOKENS[0]))
    clocks.append((time.perf_counter(), time.process_time()))
    (prefill, prefill_cpu), (decode, decode_cpu) = ((b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(clocks))
    times = {"prefill_s": prefill, "prefill_cpu_s": prefill_cpu, "decode_s": decode, "decode_cpu_s": decode_cpu}
    return {**times, "memory": peak_memory()}


def answers(name: str, model: str, threads: str) -> Iterator[dict[str, Any]]:
    """What is printed."""
    try:
        engine = ENGINES[name](Path(model), int(threads))
    except Exception as error:  # whatever a library that is not there, or not fit, raises
        yield {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        return
    yield {"ready": True}
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        batch, context, new = map(int, line.split())
        yield turn(engine, rng.integers(*TOKENS, (batch, context)), new)


if __name__ == "__main__":
    for answer in answers(*sys.argv[1:]):
        print(json.dumps(answer), flush=True)
