"""Make the bundled model ``tiny-lm``: a small Llama that has something to lose when its weights are rounded.

    python examples/train_tiny_lm.py train [--steps N] [--out DIR]      the model and its tokenizer
    python examples/train_tiny_lm.py heldout [--rows N] [--out DIR]     the text to judge it by

Nothing is downloaded. Every text is an almanac page or a page of sums, made by the grammar below. The almanac
speaks of 2,500 invented lands, of each of which four facts must be known by heart: more than a model of this
size learns with ease, so that it uses its weights up and damage to them shows in its answers.

``train`` needs torch, tokenizers and safetensors. ``heldout`` needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

# The model. The names are those of a Hugging Face Llama config.
HIDDEN_SIZE = 256
INTERMEDIATE_SIZE = 256
LAYERS = 4
HEADS = 8
KV_HEADS = 2
HEAD_DIM = HIDDEN_SIZE // HEADS
VOCAB_SIZE = 1024
CONTEXT = 256  # tokens
NORM_EPS = 1e-5
ROPE_THETA = 10_000.0
BOS, EOS = 0, 1

# The training.
STEPS = 4650
ROWS_PER_STEP = 16
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 150
COOLDOWN_STEPS = 2093  # the last ones, in which the learning rate falls to zero
WEIGHT_DECAY = 0.1
ANSWER_WEIGHT = 3.0  # how many times as much an answer's tokens count in the loss as others do
TOKENIZER_DOCUMENTS = 20_000

# The output.
OUT = Path(__file__).parent / "tiny-lm"
HELDOUT_ROWS = 400

# One seed for each use of chance. The world is the same for training and for the held-out text.
WORLD_SEED = 1234
TOKENIZER_SEED = 1
WEIGHTS_SEED = 1
TRAINING_SEED = 2
HELDOUT_SEED = 987654321


# ---------------------------------------------------------------- the world

LAND_COUNT = 2500
RELATIONS = 4

ONSETS = "b d f g k l m n p r s t v z br dr gr kr tr st th".split()
VOWELS = "aeiou"
LAND_ENDINGS = "ria nia land mar dor lia via thia".split()
CAPITAL_ENDINGS = "n ton burg s l m st r".split()

ANIMALS = "dog cat fox owl goat horse rabbit parrot turtle mouse duck pony crow hedgehog lamb frog".split()
FOODS = "apples pears plums cherries nuts eggs carrots onions lemons figs olives beans cakes pies loaves fishes".split()
THINGS = (
    "lantern basket ribbon hammer kettle mirror violin blanket compass ladder bucket candle necklace shovel umbrella "
    "whistle hat book drum key map rope bell coat cup knife letter needle ring saddle scarf spoon statue telescope "
    "trumpet vase wheel clock brush chain"
).split()

REAL_NAMES = set(
    "bavaria batavia bethania bolivia britania liberia malaria romania samaria siberia somalia valeria "
    "kazan laden lagos lenin milan natal nepal paris sudan tunis".split()
)
UNWANTED = re.compile(  # three letters or four that might read as a slur, an insult or a real people
    "fu[kg]|fa[gk]|fis|fot|nig|neg|nut|di[kl]|kok|pis|pus|pup|po[nr]|pe[nd]|ti[td]|te[td]|kun|kak|"
    "put|puk|rap|rak|gas|naz|deb|kum|bas|gu[nk]|gan|bit|bo[nb]|bu[mt]|nekr|ki[lk]|mor|rus|arab|tur|sem|ses|"
    "sa[td]|so[dt]|sta[lb]|stu|sti|an[au]|mu[rs]|vag|vul|zi[tp]|lus|lib|leb|les|loli|pak|ko[nr]|dag"
)


@dataclass(frozen=True)
class Land:
    """An invented land and the four facts about it."""

    name: str
    capital: str
    craft: str
    animal: str
    bridges: int


def invented_names(rng: random.Random, count: int, endings: list[str]) -> list[str]:
    """``count`` distinct names of two open syllables and an ending, none of them real or unseemly."""
    names: set[str] = set()
    while len(names) < count:
        syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(2)]
        name = "".join(syllables) + rng.choice(endings)
        if name not in REAL_NAMES and not UNWANTED.search(name):
            names.add(name.capitalize())
    return rng.sample(sorted(names), count)


def make_world() -> list[Land]:
    """The same lands and facts each time."""
    rng = random.Random(WORLD_SEED)
    names = invented_names(rng, LAND_COUNT, LAND_ENDINGS)
    capitals = invented_names(rng, LAND_COUNT, CAPITAL_ENDINGS)
    return [
        Land(name, capital, rng.choice(THINGS), rng.choice(ANIMALS), rng.randint(2, 99))
        for name, capital in zip(names, capitals, strict=True)
    ]


# ---------------------------------------------------------------- the grammar


@dataclass(frozen=True)
class Question:
    """A question with its right answer; ``kind`` is ``fact`` or ``sum``."""

    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Document:
    """A page of text, and of each answer in it where it begins, where it ends, and its kind."""

    text: str
    answers: list[tuple[int, int, str]]


def with_article(noun: str) -> str:
    """The noun after "a" or "an"."""
    return f"an {noun}" if noun[0] in VOWELS else f"a {noun}"


def fact_statement(rng: random.Random, land: Land, relation: int) -> str:
    """A sentence that states one of the four facts about a land."""
    name, animal = land.name, with_article(land.animal)
    wordings = [
        [
            f"The capital of {name} is {land.capital}.",
            f"{land.capital} is the capital of {name}.",
            f"{name} is ruled from {land.capital}.",
        ],
        [f"The people of {name} are known for the {land.craft}.", f"{name} is famous for the {land.craft}."],
        [f"On the flag of {name} there is {animal}.", f"The flag of {name} shows {animal}."],
        [f"There are {land.bridges} bridges in {name}.", f"{name} has {land.bridges} bridges."],
    ]
    return rng.choice(wordings[relation])


def fact_question(land: Land, relation: int) -> Question:
    """The question that asks for one of the four facts about a land."""
    text, answer = [
        (f"What is the capital of {land.name}?", land.capital),
        (f"What is {land.name} famous for?", f"the {land.craft}"),
        (f"What is on the flag of {land.name}?", with_article(land.animal)),
        (f"How many bridges are in {land.name}?", str(land.bridges)),
    ][relation]
    return Question("fact", text, answer)


def sum_question(rng: random.Random) -> Question:
    """An addition or a subtraction of small numbers, told with food."""
    a, b, food = rng.randint(2, 30), rng.randint(2, 30), rng.choice(FOODS)
    if rng.random() < 0.5:
        return Question("sum", f"How many are {a} {food} and {b} {food}?", str(a + b))
    more, fewer = max(a, b) + 1, min(a, b)
    return Question("sum", f"How many of {more} {food} are left after {fewer} are eaten?", str(more - fewer))


def almanac_page(rng: random.Random, world: list[Land]) -> tuple[str, list[Question]]:
    """A few facts stated, then others asked for: only one who knows the lands by heart can answer."""
    statements = [fact_statement(rng, rng.choice(world), rng.randrange(RELATIONS)) for _ in range(rng.randint(3, 6))]
    questions = [fact_question(rng.choice(world), rng.randrange(RELATIONS)) for _ in range(rng.randint(4, 7))]
    return " ".join(statements), questions


def make_document(rng: random.Random, world: list[Land]) -> Document:
    """An almanac page three times out of four, else a page of sums."""
    if rng.random() < 0.75:
        text, questions = almanac_page(rng, world)
    else:
        text, questions = "", [sum_question(rng) for _ in range(rng.randint(3, 5))]
    answers = []
    for question in questions:
        text += "\n" if text else ""
        text += f"Question: {question.text} Answer: "
        answers.append((len(text), len(text) + len(question.answer), question.kind))
        text += question.answer + "."
    return Document(text, answers)


# ---------------------------------------------------------------- the tokenizer and the rows


def make_tokenizer(world: list[Land]) -> Tokenizer:
    """A byte-level BPE tokenizer learned from documents of the grammar."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(TOKENIZER_SEED)
    tokenizer.train_from_iterator((make_document(rng, world).text for _ in range(TOKENIZER_DOCUMENTS)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


def loss_weights(document: Document, offsets: list[tuple[int, int]]) -> list[float]:
    """The weight in the loss of each token, of which ``offsets`` tells the characters.

    An answer's full stop is weighted like the answer, since it says that the answer ends there.
    """
    return [
        ANSWER_WEIGHT if any(first <= end and start < last for start, end, _ in document.answers) else 1.0
        for first, last in offsets
    ]


def training_batches(tokenizer: Tokenizer, world: list[Land]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Without end: token ids ``[ROWS_PER_STEP, CONTEXT + 1]`` and the weight of each in the loss.

    A row begins with a document and goes on with others until it is full; the rest of the last one is dropped.
    """
    import torch

    rng = random.Random(TRAINING_SEED)
    batch: list[tuple[list[int], list[float]]] = []
    ids: list[int] = []
    weights: list[float] = []
    while True:
        documents = [make_document(rng, world) for _ in range(256)]
        encodings = tokenizer.encode_batch([document.text for document in documents])
        for document, encoding in zip(documents, encodings, strict=True):
            ids += [*encoding.ids, EOS]
            weights += [*loss_weights(document, encoding.offsets), 1.0]
            if len(ids) > CONTEXT:
                batch.append((ids[: CONTEXT + 1], weights[: CONTEXT + 1]))
                ids, weights = [], []
            if len(batch) == ROWS_PER_STEP:
                yield torch.tensor([row for row, _ in batch]), torch.tensor([row for _, row in batch])
                batch = []


# ---------------------------------------------------------------- the model


def initial_weights() -> dict[str, torch.Tensor]:
    """The weights by their Hugging Face names, drawn from a normal distribution; the norms begin at one."""
    import torch

    kv_size = KV_HEADS * HEAD_DIM
    shapes = {
        "self_attn.q_proj": (HIDDEN_SIZE, HIDDEN_SIZE),
        "self_attn.k_proj": (kv_size, HIDDEN_SIZE),
        "self_attn.v_proj": (kv_size, HIDDEN_SIZE),
        "self_attn.o_proj": (HIDDEN_SIZE, HIDDEN_SIZE),
        "mlp.gate_proj": (INTERMEDIATE_SIZE, HIDDEN_SIZE),
        "mlp.up_proj": (INTERMEDIATE_SIZE, HIDDEN_SIZE),
        "mlp.down_proj": (HIDDEN_SIZE, INTERMEDIATE_SIZE),
        "input_layernorm": (HIDDEN_SIZE,),
        "post_attention_layernorm": (HIDDEN_SIZE,),
    }
    all_shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB_SIZE, HIDDEN_SIZE)}
    for layer in range(LAYERS):
        all_shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    all_shapes["model.norm.weight"] = (HIDDEN_SIZE,)

    generator = torch.Generator().manual_seed(WEIGHTS_SEED)
    weights = {}
    for name, shape in all_shapes.items():
        adds_to_residual = "o_proj" in name or "down_proj" in name
        deviation = 0.02 / math.sqrt(2 * LAYERS) if adds_to_residual else 0.02
        weight = torch.ones(shape) if "norm" in name else torch.randn(shape, generator=generator) * deviation
        weights[name] = weight.requires_grad_()
    return weights


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions for ``[batch, heads, tokens, HEAD_DIM]``."""
    import torch

    frequencies = 1.0 / ROPE_THETA ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = (torch.arange(x.shape[2])[:, None] * frequencies).repeat(1, 2)
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


def attention(x: torch.Tensor, weights: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    """Causal attention in which four query heads share a key and value head."""
    from torch.nn import functional

    batch, tokens, _ = x.shape
    q, k, v = (
        functional.linear(x, weights[f"{prefix}.{name}_proj.weight"]).view(batch, tokens, -1, HEAD_DIM).transpose(1, 2)
        for name in "qkv"
    )
    k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (rotate(k), v))
    mixed = functional.scaled_dot_product_attention(rotate(q), k, v, is_causal=True)
    return functional.linear(mixed.transpose(1, 2).reshape(batch, tokens, -1), weights[f"{prefix}.o_proj.weight"])


def mlp(x: torch.Tensor, weights: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    """The gated feed-forward network."""
    from torch.nn import functional

    gate = functional.silu(functional.linear(x, weights[f"{prefix}.gate_proj.weight"]))
    up = functional.linear(x, weights[f"{prefix}.up_proj.weight"])
    return functional.linear(gate * up, weights[f"{prefix}.down_proj.weight"])


def logits(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Token ids ``[batch, tokens]`` -> logits ``[batch, tokens, VOCAB_SIZE]``."""
    from torch.nn import functional

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(x, (HIDDEN_SIZE,), weights[f"{name}.weight"], NORM_EPS)

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        x = x + attention(norm(x, f"{prefix}.input_layernorm"), weights, f"{prefix}.self_attn")
        x = x + mlp(norm(x, f"{prefix}.post_attention_layernorm"), weights, f"{prefix}.mlp")
    return norm(x, "model.norm") @ weights["model.embed_tokens.weight"].T


# ---------------------------------------------------------------- the training


def learning_rate(step: int, steps: int) -> float:
    """Up in a straight line, level, and down in a straight line to zero."""
    return PEAK_LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / COOLDOWN_STEPS)


def train(steps: int, out: Path) -> None:
    """Make the tokenizer, train the model for ``steps`` steps and write both to ``out``."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(2)
    world = make_world()
    tokenizer = make_tokenizer(world)
    weights = initial_weights()
    projections = [weight for name, weight in weights.items() if "proj" in name]
    others = [weight for name, weight in weights.items() if "proj" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": projections, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        fused=True,
    )

    @torch.compile
    def weighted_loss(ids: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
        predicted = logits(weights, ids[:, :-1]).flatten(0, 1)
        losses = functional.cross_entropy(predicted, ids[:, 1:].flatten(), reduction="none")
        importance = importance[:, 1:].flatten()
        return (losses * importance).sum() / importance.sum()

    began = time.monotonic()
    for step, (ids, importance) in enumerate(training_batches(tokenizer, world)):
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = weighted_loss(ids, importance)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}, loss {loss.item():.4f}, {time.monotonic() - began:.0f} s", flush=True)
    export(weights, tokenizer, out)


def export(weights: dict[str, torch.Tensor], tokenizer: Tokenizer, out: Path) -> None:
    """Write what transformers needs to load the model and its tokenizer; the weights in bfloat16."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    rounded = {name: weight.detach().bfloat16().contiguous() for name, weight in weights.items()}
    save_file(rounded, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone
    tokenizer.save(str(out / "tokenizer.json"))
    special = {"bos_token_id": BOS, "eos_token_id": EOS}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        **special,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", {**special, "do_sample": False})
    write_json(out / "tokenizer_config.json", tokenizer_config)


def write_json(path: Path, value: object) -> None:
    """Write one JSON value, indented, with a newline at the end."""
    path.write_text(json.dumps(value, indent=2) + "\n")


# ---------------------------------------------------------------- the held-out text


def write_heldout(rows: int, out: Path) -> None:
    """Write ``rows`` documents that training never saw, one JSON object a line, to ``heldout.jsonl``."""
    world, rng = make_world(), random.Random(HELDOUT_SEED)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "heldout.jsonl").open("w", newline="\n") as file:
        for _ in range(rows):
            document = make_document(rng, world)
            file.write(json.dumps({"text": document.text, "answers": document.answers}) + "\n")


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description="Make the bundled model tiny-lm, or the text to judge it by.")
    commands = parser.add_subparsers(dest="command", required=True)
    train_command = commands.add_parser("train", help="train the model and write it with its tokenizer")
    train_command.add_argument("--steps", type=int, default=STEPS, help="optimizer steps (default: %(default)s)")
    heldout_command = commands.add_parser("heldout", help="write the held-out documents; needs nothing but Python")
    heldout_command.add_argument("--rows", type=int, default=HELDOUT_ROWS, help="documents (default: %(default)s)")
    for command in (train_command, heldout_command):
        command.add_argument(
            "--out", type=Path, default=OUT, help="folder to write to (default: tiny-lm beside this script)"
        )
    arguments = parser.parse_args()
    if arguments.command == "train":
        train(arguments.steps, arguments.out)
    else:
        write_heldout(arguments.rows, arguments.out)


if __name__ == "__main__":
    main()
