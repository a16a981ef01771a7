"""burnish run on models that say something of texts, and on files of lines."""

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from tests import models
from tests.cli.conftest import Cli
from tests.runtime.test_texts import LABELS, QUESTIONS, TEXTS, WORDS, writer


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny BERTs by what they are for, with one tokenizer."""
    heads: dict[str, tuple[str, dict[str, Any]]] = {
        "labels": ("ForSequenceClassification", {"id2label": {0: "bad", 1: "fair", 2: "good"}}),
        "rank": ("ForSequenceClassification", {"num_labels": 1}),
        "entities": ("ForTokenClassification", {"id2label": dict(enumerate(LABELS))}),
        "answers": ("ForQuestionAnswering", {}),
        "words": ("ForMaskedLM", {}),
    }
    tokenizer = models.word_tokenizer(*dict.fromkeys(WORDS))
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": 64} | models.SIZES
    made = {}
    for name, (head, config) in heads.items():
        folder = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(folder)
        made[name] = models.saved(models.made(f"Bert{head}", **size, **config), folder)
    return made


def test_what_is_printed_is_what_the_door_gives(cli: Cli, folders: dict[str, Path]) -> None:
    """For people in lines; the numbers themselves are compared in tests/runtime/test_texts.py."""
    labels = burnish.open(folders["labels"])(TEXTS[0])["labels"]
    lines = [f"{label}: {score:.4f}\n" for label, score in labels.items()]
    assert cli("run", folders["labels"], "-p", TEXTS[0]) == (0, "".join(lines), "")
    assert cli("run", folders["labels"], "-p", TEXTS[0], "--best", 1) == (0, lines[0], "")
    raw = burnish.open(folders["labels"], scores="raw")(TEXTS[0])["labels"]
    said = json.loads(cli("run", folders["labels"], "-p", TEXTS[0], "--scores", "raw", "--json").out)
    assert (said["labels"], len(said["prompt_ids"])) == (raw, 8)

    score = burnish.open(folders["rank"])((TEXTS[0], TEXTS[1]))["score"]
    assert cli("run", folders["rank"], "-p", TEXTS[0], "--pair", TEXTS[1]) == (0, f"{score:.4f}\n", "")

    found = burnish.open(folders["entities"], group="first")(TEXTS[1])["entities"]
    lines = [f"{f['text']}: {f['label']} {f['score']:.4f} [{f['start']}:{f['end']}]\n" for f in found]
    assert cli("run", folders["entities"], "-p", TEXTS[1], "--group", "first") == (0, "".join(lines), "")

    question, text = QUESTIONS[0]
    answers = burnish.open(folders["answers"], best=2)(QUESTIONS[0])["answers"]
    lines = [f"{a['answer']}: {a['score']:.4f} [{a['start']}:{a['end']}]\n" for a in answers]
    assert cli("run", folders["answers"], "-p", question, "--pair", text, "--best", 2) == (0, "".join(lines), "")

    masks = burnish.open(folders["words"], best=2)("the [MASK] sat")["masks"][0]
    lines = [f"{m['word'].strip()}: {m['score']:.4f}  {m['text']}\n" for m in masks]
    assert cli("run", folders["words"], "-p", "the [MASK] sat", "--best", 2) == (0, "".join(lines), "")


def test_windows_are_told_by_their_ids(cli: Cli, folders: dict[str, Path]) -> None:
    question, text = QUESTIONS[2]
    said = json.loads(cli("run", folders["answers"], "-p", question, "--pair", text, "--json").out)
    assert len(said["prompt_ids"]) > 2 and all(len(ids) <= 64 for ids in said["prompt_ids"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("answers", ("-p", "who?"), "a question alone has no answer"),
        ("words", ("-p", "the cat"), "the text has no [MASK], the word that is asked for"),
        ("labels", ("-p", "cat " * 70), "the prompt has 72 tokens; the model's context is 64"),
        ("labels", ("-p", "cat", "--pair", " "), "one of the two texts is empty"),
        ("labels", ("-p", "cat", "--language", "Berlin"), "--language is for a model that answers in a language"),
        ("labels", ("-p", "cat", "--group", "first"), "--group is not for a model of text-classification"),
        ("labels", ("-p", "cat", "--unanswerable"), "--unanswerable is not for a model of text-classification"),
        ("entities", ("-p", "cat", "--scores", "raw"), "--scores is not for a model of token-classification"),
        ("words", ("-p", "the [MASK]", "--scores", "raw"), "--scores is not for a model of fill-mask"),
        ("labels", ("-p", "cat", "--prompt-name", "query"), "the model has no prompt 'query'"),
        ("labels", ("--prompt-ids", "5", "--prompt-name", "query"), "--prompt-name is put before a text"),
        ("labels", ("--prompt-ids", "5", "--pair", "x"), "--pair is a text"),
        ("labels", ("-p", "cat", "--scores", "odds"), "is not one of"),
    ],
)
def test_what_does_not_fit_is_an_error_of_usage(
    cli: Cli, folders: dict[str, Path], name: str, options: tuple[str, ...], message: str
) -> None:
    code, out, err = cli("run", folders[name], *options)
    assert (code, out) == (2, "") and message in err


def test_a_text_that_is_too_long_can_be_cut(cli: Cli, folders: dict[str, Path]) -> None:
    long, whole = ("run", folders["labels"], "-p", "cat " * 70, "--cut"), ("run", folders["labels"], "-p", "cat " * 62)
    assert cli(*long) == cli(*whole)


def test_what_is_gone_on_from_is_not_cut(cli: Cli, llama: Path) -> None:
    code, _, err = cli("run", llama, "--prompt-ids", "5", "--cut")
    assert (code, err.startswith("error: --cut is not for a model that goes on from a text")) == (2, True)


# ---------------------------------------------------------------------------------------------------------------- lines


def test_each_line_has_a_line_in_order(cli: Cli, folders: dict[str, Path], tmp_path: Path) -> None:
    many = [f"{t} {u}" for t in TEXTS for u in TEXTS][:24]
    (tmp_path / "texts.txt").write_text("\n".join(many) + "\n")
    model = burnish.open(folders["labels"])
    for batch in (1, 5, 64):
        run = ("run", folders["labels"], "--lines", tmp_path / "texts.txt", "--batch", batch)
        lines = [json.loads(line) for line in cli(*run, "--json").out.splitlines()]
        assert [line["line"] for line in lines] == list(range(1, 25))
        for line, text in zip(lines, many, strict=True):
            alone = model(text)["labels"]
            assert list(line["labels"]) == list(alone)
            assert list(line["labels"].values()) == pytest.approx(list(alone.values()), abs=1e-5)
        plain = cli(*run)
        assert (plain.code, plain.err) == (0, "")
        assert plain.out.splitlines() == [
            "; ".join(f"{k}: {v:.4f}" for k, v in line["labels"].items()) for line in lines
        ]


def test_a_line_that_cannot_be_read_is_told_and_the_others_are_answered(
    cli: Cli, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"the cat\n\n" + b"dog " * 70 + b"\n\xff\xfe\nAnna\r\n ")
    first, last = (cli("run", folders["labels"], "-p", t).out.replace("\n", "; ")[:-2] for t in ("the cat", "Anna"))
    code, out, err = cli("run", folders["labels"], "--lines", file)
    assert (code, out) == (2, f"{first}\n\n\n\n{last}\n\n")
    told = err.splitlines()
    assert told[:2] == ["line 2: the prompt is empty", "line 3: the prompt has 72 tokens; the model's context is 64"]
    assert told[2].startswith("line 4: 'utf-8' codec can't decode") and told[3] == "line 6: the prompt is empty"
    assert told[4] == "error: 4 of 6 lines could not be read: 2, 3, 4, 6"
    objects = [json.loads(line) for line in cli("run", folders["labels"], "--lines", file, "--json").out.splitlines()]
    assert [o.get("error", "") for o in objects][1] == "the prompt is empty"
    assert ["labels" in o for o in objects] == [True, False, False, False, True, False]
    with file.open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert cli("run", folders["labels"], "--lines", "-").out == out


def test_pairs_are_lines_of_json(cli: Cli, folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    pairs = [QUESTIONS[0], ("where?", TEXTS[3]), (TEXTS[0], TEXTS[1])]
    rows = [list(pairs[0]), {"text": pairs[1][0], "pair": pairs[1][1]}, {"pair": TEXTS[1], "text": TEXTS[0]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("rank", "answers"):
        said = [json.loads(line) for line in cli("run", folders[name], "--lines", file, "--json").out.splitlines()]
        for row, expected in zip(said, burnish.open(folders[name])(pairs), strict=True):
            assert row.keys() == {"line", *expected}
            assert row["score"] == pytest.approx(expected["score"], abs=1e-6)
    for bad in ("5", '["a"]', '["a", "b", "c"]', '{"text": 5}', '{"text": "a", "other": "b"}', "{", '["a", null]'):
        file.write_text(bad)
        code, _, err = cli("run", folders["rank"], "--lines", file)
        assert code == 2 and ("line 1: is no JSON" in err or 'line 1: is no "text", ["first", "second"]' in err)


def test_what_is_not_kept_of_a_models_rules_is_told(cli: Cli, tmp_path: Path) -> None:
    writer("bart", tmp_path, guidance_scale=2.0, sequence_bias=[[[5], -1.0]], encoder_repetition_penalty=1.0)
    _, _, err = cli("run", tmp_path, "-p", TEXTS[0], "-n", 6)
    asked = "guidance_scale=2.0, sequence_bias=[[[5], -1.0]]"
    assert err == f"note: the model's makers ask for {asked}, which is not supported: the text may be another one\n"


def test_texts_of_lines_are_those_of_prompts(cli: Cli, tmp_path: Path) -> None:
    writer("bart", tmp_path, forced_bos_token_id=7, num_beams=4)
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS))
    note = "note: the model's makers advise to search 4 beams; one is searched\n"
    alone = [cli("run", tmp_path, "-p", t, "-n", 6) for t in TEXTS]
    assert alone[0].err == note
    together = cli("run", tmp_path, "--lines", tmp_path / "lines.txt", "-n", 6, "--batch", 2)
    assert together == (0, "".join(a.out for a in alone), note)
    berlin = cli("run", tmp_path, "-p", TEXTS[0], "-n", 6, "--language", "Berlin").out
    assert berlin.startswith("Berlin") and berlin != alone[0].out
    assert "--language 'Paris' is no token" in cli("run", tmp_path, "-p", "x", "--language", "Paris").err
    assert "--best is not for a model of text2text-generation" in cli("run", tmp_path, "-p", "x", "--best", 2).err
    for option in (("-p", "x"), ("--pair", "x"), ("--logprobs", 2), ("--dump-logits", "x.npy")):
        assert "--lines has the texts" in cli("run", tmp_path, "--lines", tmp_path / "lines.txt", *option).err
