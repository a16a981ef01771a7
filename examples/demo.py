"""What Burnish is, in one screen: `make demo`. Each part begins with the command that shows this, and more of it."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

import burnish
from burnish.debug.controllers import PrintChanges
from burnish.debug.folding import fold_changes
from burnish.passes.engine import Application
from burnish.passes.pipelines import run_passes
from burnish.runtime.evaluation import Variant, evaluate_variants, read_documents
from burnish.runtime.executable import Executable
from burnish.runtime.parts import Plan
from burnish.runtime.sources import tokenizer_of

MODEL, OUT = Path("examples/tiny-lm"), Path("build/tiny-lm")
HELDOUT, DOCUMENTS, TOKENS = MODEL / "heldout.jsonl", 40, 64
PROMPT = "The capital of Bulavia is"
WIDTH = 80


def title(command: str) -> None:
    print(f"$ burnish {command}")


def show(line: str) -> None:
    """A line of a part, cut to the screen."""
    print("  " + (line if len(line) <= WIDTH - 2 else f"{line[: WIDTH - 3]}…"))


def rewrite(module: burnish.Module) -> None:
    """The first of the rewrites that optimise the model, and where it is applied too."""
    changes: list[tuple[Application, str]] = []
    copy = module.copy()
    run_passes(copy, "default", observers=[PrintChanges(lambda a, text: changes.append((a, text)), copy)])
    application, text = fold_changes(changes)[0]
    show(f"{application.pass_name}/{application.rule} at {application.scope}")
    for line in text.splitlines():
        show(line.replace(f"{application.scope.replace('[0]', '.0')}.", "…"))


def tokens_a_second(model: Executable, prompt: list[int]) -> float:
    """Of decoding, once all is compiled."""
    list(model.generate(prompt, 2, stop=()))
    times: list[float] = []
    list(model.generate(prompt, TOKENS, stop=(), watch=lambda step, logits: times.append(time.perf_counter())))
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    module, tokenizer = burnish.load(MODEL), tokenizer_of(MODEL)
    assert tokenizer is not None

    title(f"opt {MODEL} --print-after-change")
    rewrite(module)

    title(f"compile {MODEL} -o {OUT} --quantize q4_0")
    small = burnish.optimize(module, "recover,quantize-weights{recipe=q4_0},fuse")
    report = burnish.compile(small, OUT, tokenizer=MODEL / "tokenizer.json", force=True)
    before, after = Plan.of(module).nbytes, report.nbytes
    show(f"{before:,} bytes became {after:,}, {100 * after / before:.0f} %")

    title(f"eval {MODEL} --data {HELDOUT}")
    documents = read_documents(HELDOUT, tokenizer, module.facts.context)[:DOCUMENTS]
    asked = sum(len(d.answers) for d in documents)
    prompt = tokenizer.encode(PROMPT)
    models = burnish.executable(module), burnish.executable(burnish.load(OUT))
    with Console(stderr=True).status("measuring, once the kernels are compiled"):
        measures = evaluate_variants(module, documents, [Variant(), Variant("q4_0", "int8")])
        speeds = [tokens_a_second(model, prompt) for model in models]
    show(f"{f'{asked} questions':24}{'right':>8}{'wrong':>8}{'loss':>10}{'tokens/s':>12}")
    for label, m, speed in zip(("bf16, run in f32", "q4_0, run in integers"), measures, speeds, strict=True):
        counts = [sum(kind == k for d in documents for *_, kind in d.answers) for k in m.right]
        right = round(sum(e.mean * n for e, n in zip(m.right.values(), counts, strict=True)))
        show(f"{label:24}{right:>8}{asked - right:>8}{m.loss.mean:>10.3f}{speed:>12,.0f}")

    title(f'run {OUT} --prompt "{PROMPT}"')
    answer = tokenizer.decode(list(models[1].generate(prompt, 16)))
    show(answer.partition(".")[0].strip() + ".")


if __name__ == "__main__":
    main()
