"""Roles and facts: what they are in text, what each is of, and what is refused."""

from typing import Any

import pytest

from burnish.ir import Facts, Module, TextError, Type, VerifyError, parse, verify
from burnish.ir import signature as sig
from burnish.ir.signature import Carry, Length, Linked, Ring, Role, Rows, SignatureError, State, make_facts, make_role

INPUTS = {
    "tokens": sig.TOKENS,
    "count": sig.COUNT,
    "past": sig.PAST,
    "mask": sig.MASK,
    "token_types": sig.TOKEN_TYPES,
    "positions": sig.POSITIONS,
    "length(limit=4096, each=true)": Length(4096, each=True),
    'linked(graph="an encoder", name="hidden")': Linked("an encoder", "hidden"),
    "rows(batch=0, axis=1)": Rows(batch=0, axis=1),
    "ring(batch=1, axis=0, most=7)": Ring(batch=1, axis=0, most=7),
    "carry(batch=2)": Carry(batch=2),
}
OUTPUTS = {"logits": sig.LOGITS, "hidden": sig.HIDDEN, "embedding": sig.EMBEDDING}


@pytest.mark.parametrize(("text", "role"), (INPUTS | OUTPUTS).items())
def test_a_role_reads_back_equal(text: str, role: Role) -> None:
    assert str(role) == text
    sides = parse(f"module {{ graph f(%x: f32[] is {text}) {{ return y=%x is {text} }} }}").graphs["f"]
    assert sides.inputs[0].role == role and sides.roles == {"y": role}
    assert f"%x: f32[] is {text})" in str(sides) and f"y=%x is {text}\n" in str(sides)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("token", {}, "there is no role 'token'"),
        ("state", {"batch": 0}, "there is no role 'state' with fields"),  # what states have in common is none
        ("plain", {"name": "tokens"}, "there is no role 'plain' with fields"),
        ("tokens", {"batch": 0}, "there is no role 'tokens' with fields"),
        ("rows", {}, r"the role rows is rows\(batch: int, axis: int\), not with {}"),
        ("rows", {"batch": 0, "axis": 1, "most": 2}, r"rows\(batch: int, axis: int\), not with"),
        ("rows", {"batch": 0, "axis": "1"}, r"rows\(batch: int, axis: int\), not with"),
        ("rows", {"batch": False, "axis": True}, r"rows\(batch: int, axis: int\), not with"),
        ("ring", {"batch": 0, "axis": 1}, r"ring\(batch: int, axis: int, most: int\), not with"),
        ("carry", {"batch": 0.0}, r"carry\(batch: int\), not with"),
        ("length", {"limit": 7, "each": 1}, r"length\(limit: int, each: bool\), not with"),
        ("linked", {"graph": "encoder", "name": 1}, r"linked\(graph: str, name: str\), not with"),
    ],
)
def test_what_is_no_role(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        make_role(name, fields)


def test_stacked_states_have_their_axes_further_back() -> None:
    stacked = [r.stacked() for r in (Rows(batch=0, axis=1), Ring(batch=1, axis=0, most=7), Carry(batch=0))]
    assert stacked == [Rows(batch=1, axis=2), Ring(batch=2, axis=1, most=7), Carry(batch=1)]


# ------------------------------------------------------------------------------------------------------ what fits them


def refusal(inputs: str, outputs: str = "") -> str:
    """Why a graph with those inputs and outputs is refused; "" where it is not."""
    encoder = 'graph encoder(%given: i32[B, T] is tokens) { %0: f32[B, T] = cast(%given, to="f32") return made=%0 }'
    try:
        verify(parse(f"module {{ {encoder} graph f({inputs}) {{ return {outputs} }} }}"))
    except VerifyError as e:
        return str(e)
    return ""


GOOD = [
    ("%i: i32[B, S] is tokens, %c: i32[B] is count, %p: i32[B] is past", ""),
    ("%i: i64[1, 8] is tokens, %m: i64[1, 8] is mask, %t: u8[1, 8] is token_types, %p: i32[1, 8] is positions", ""),
    ("%p: i32[B] is past", ""),
    ("%k: f32[B, C, 2] is rows(batch=0, axis=1)", "k=%k is rows(batch=0, axis=1)"),
    ("%k: f32[L, B, C] is rows(batch=1, axis=2)", "k=%k is rows(batch=1, axis=2)"),
    ("%k: q8_0[R, B, 32] is ring(batch=1, axis=0, most=7)", "k=%k is ring(batch=1, axis=0, most=7)"),
    ("%a: f32[B] is carry(batch=0), %b: f32[B] is carry(batch=0)", "b=%a is carry(batch=0), a=%b is carry(batch=0)"),
    ('%h: f32[B, T] is linked(graph="encoder", name="made")', ""),
    ('%h: i32[B, T] is linked(graph="encoder", name="given")', ""),
    ("%x: f32[B]", "a=%x is logits, b=%x is hidden, c=%x is embedding, d=%x is logits"),
    ("%x: i32[B]", "x=%x"),
]


@pytest.mark.parametrize(("inputs", "outputs"), GOOD)
def test_what_fits_its_role_is_sound(inputs: str, outputs: str) -> None:
    assert refusal(inputs, outputs) == ""


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("%i: i32[S] is tokens", "graph f: input i, i32[S], is not tokens: tokens are integers [B, S]"),
        ("%i: f32[B, S] is tokens", "tokens are integers"),
        ("%c: i32[B, 1] is count", "count is i32[B], a number for each sequence"),
        ("%c: i64[B] is count", "count is i32[B], a number for each sequence"),
        ("%i: i32[B, S] is tokens, %p: i32[S] is past", "past is i32[B], a number for each sequence"),
        ("%m: i32[B, S] is mask", "mask lies beside the tokens, [B, S]"),
        ("%i: i32[B, S] is tokens, %t: i32[B, T] is token_types", "token_types lies beside the tokens"),
        ("%i: i32[B, S] is tokens, %p: i32[S] is positions", "positions lies beside the tokens"),
        *((f"%x: f32[B] is {role}", "that is a role of outputs") for role in OUTPUTS),
        ("%i: i32[B, S] is tokens, %j: i32[B, S] is tokens", "input j, i32[B, S], is not tokens: another input is"),
        (
            ", ".join(f'%{n}: f32[B, T] is linked(graph="encoder", name="made")' for n in "xy"),
            "another input is",
        ),
        ("%c: i32[B] is count, %d: i32[B] is count", "input d, i32[B], is not count: another input is"),
    ],
)
def test_an_input_that_does_not_fit_its_role(inputs: str, message: str) -> None:
    assert message in refusal(inputs)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        *((f"y=%x is {role}", f"graph f: output y, i32[B], is not {role}: {role} are floats") for role in OUTPUTS),
        *((f"y=%x is {role}", "that is a role of inputs") for role in INPUTS if "batch" not in role),
        ("y=%x is carry(batch=0)", "output y is carry(batch=0), but no input of that name is"),
        ("x=%x is carry(batch=0)", "output x is carry(batch=0), but no input of that name is"),
    ],
)
def test_an_output_that_does_not_fit_its_role(output: str, message: str) -> None:
    assert message in refusal("%x: i32[B]", output)


@pytest.mark.parametrize(
    ("type", "role", "axes"),
    [
        ("f32[]", "carry(batch=0)", [0]),
        ("f32[B]", "carry(batch=-1)", [-1]),
        ("f32[B, C]", "rows(batch=0, axis=2)", [0, 2]),
        ("f32[B, C]", "rows(batch=1, axis=1)", [1, 1]),
        ("f32[B, C]", "ring(batch=2, axis=0, most=3)", [2, 0]),
    ],
)
def test_a_state_has_axes_of_its_own(type: str, role: str, axes: list[int]) -> None:
    message = f"input k, {type}, is not {role}: it has no axes {axes} of its own"
    assert message in refusal(f"%k: {type} is {role}", f"k=%k is {role}")


@pytest.mark.parametrize(
    "outputs",
    [
        "",
        "k=%k",
        "y=%k is carry(batch=0)",
        "k=%k is rows(batch=0, axis=1)",
        "k=%k is carry(batch=1)",
        "k=%x is carry(batch=0)",  # of another type
    ],
)
def test_a_state_goes_in_and_out(outputs: str) -> None:
    message = "input k, f32[B, C], is not carry(batch=0): no output of its name, type and role returns it"
    assert message in refusal("%k: f32[B, C] is carry(batch=0), %x: f32[B, D]", outputs)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ('graph="decoder", name="made"', "of 'made' in graph 'decoder', there is none"),
        ('graph="encoder", name="hidden"', "of 'hidden' in graph 'encoder', there is none"),
        ('graph="encoder", name="given"', "of 'given' in graph 'encoder', that is i32[B, T]"),
    ],
)
def test_a_link_is_to_something_of_its_type(link: str, message: str) -> None:
    assert message in refusal(f"%h: f32[B, T] is linked({link})")


@pytest.mark.parametrize("where", ["input", "output", "guard"])
def test_a_body_has_no_roles(where: str) -> None:
    given, returned = (" is tokens" * (where == "input"), " is hidden" * (where == "output"))
    bodies = f"graph then(%x: i32[B, S]{given}) {{ return y=%x{returned} }} graph else(%x: i32[B, S]) {{ return y=%x }}"
    guard = f'guard "why" graph all() {{ return all=bool(true){" is hidden" * (where == "guard")} }}'
    statement = f"%0: i32[B, S] = if(bool(true), %x) {{ {bodies} }}"
    module = parse(f"module {{ {guard} graph f(%x: i32[B, S]) {{ {statement} return y=%0 }} }}")
    with pytest.raises(VerifyError, match=f"graph {'all' if where == 'guard' else 'then'}: a body has no roles"):
        verify(module)


def test_a_role_is_taken_away_with_its_output() -> None:
    graph = Module().graph("f")
    x = graph.input("x", Type("f32", (2,)))
    graph.set_outputs({"x": x, "y": x}, {"y": sig.HIDDEN})
    graph.set_outputs({"x": x})
    assert graph.roles == {}


# --------------------------------------------------------------------------------------------------------------- facts

FACTS = {
    "architecture": "LlamaForCausalLM",
    "task": "text-generation",
    "context": 4096,
    "eos": (2, 3),
    "decoder_start": 0,
    "labels": ("bad", "good"),
    "passes": ("default", "fuse-fma"),
}


def test_facts_that_differ_from_the_defaults_are_written() -> None:
    facts = make_facts(FACTS)
    assert facts.given() == FACTS and facts.makes_text
    text = str(Module(facts=facts))
    assert 'context = 4096\n  eos = [2, 3]\n  decoder_start = 0\n  labels = ["bad", "good"]\n' in text
    assert parse(text).facts == facts
    assert make_facts({}) == Facts() and Facts().given() == {} and str(Module()) == "module {\n}\n"


@pytest.mark.parametrize("task", ["", *sig.TASKS])
def test_tasks_that_make_text(task: str) -> None:
    assert make_facts({"task": task}).makes_text == (task in ("text-generation", "text2text-generation"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("arch", "llama", "there is no fact 'arch'; there are architecture, task, "),
        ("architecture", 1, "the fact architecture is str, not 1"),
        ("architecture", None, "the fact architecture is str, not None"),
        ("task", "chess", "the fact task is one of text-generation, .*, not 'chess'"),
        ("task", 1, "the fact task is one of"),
        ("context", -1, "the fact context is int | None, not -1"),
        ("context", True, "the fact context is int | None, not True"),
        ("context", 1.0, "the fact context is int | None, not 1.0"),
        ("decoder_start", "0", "the fact decoder_start is int | None, not '0'"),
        ("eos", 2, r"the fact eos is tuple\[int, ...\], not 2"),
        ("eos", [2], r"the fact eos is tuple\[int, ...\], not \[2\]"),
        ("eos", (2, True), r"the fact eos is tuple\[int, ...\], not"),
        ("labels", ("a", 1), r"the fact labels is tuple\[str, ...\], not"),
        ("passes", "default", r"the fact passes is tuple\[str, ...\], not 'default'"),
    ],
)
def test_what_is_no_fact(name: str, value: Any, message: str) -> None:
    with pytest.raises(SignatureError, match=message.replace("|", r"\|")):
        make_facts({name: value})


def test_a_wrong_role_or_fact_in_text_is_a_text_error() -> None:
    for text in ("module { context = true }", "module { graph f(%x: f32[] is nothing) { return } }"):
        with pytest.raises(TextError, match="line 1: "):
            parse(text)


def test_every_state_is_a_role_that_can_be_written() -> None:
    for cls in State.__subclasses__():
        assert any(type(role) is cls for role in INPUTS.values()), cls
